//! One contender with one load, from start to end.

use std::collections::VecDeque;

use microscaler::policy::plan::Plan;
use microscaler::policy::world::{TaskPhase, World};

use super::contenders::{Contender, Seen};
use super::load::{Arrivals, Load};
use super::measures::{Notes, Score};
use super::pool::{PLACES, SEARCH, SEARCH_BOUNDS, count, pool};
use super::service::Service;
use super::{BOUND_MS, STEP_MS, STOP_MS};
use crate::sim::{Sim, key};

/// From a wish to room in a full pool: others end, and it is seen.
const ROOM_MS: u64 = STOP_MS + 2 * STEP_MS;
const SEED: u64 = 1998;
/// In steps.
const SECOND: usize = (1000 / STEP_MS) as usize;

/// What came of a run, with demand and supply at each step that counts.
pub struct Run {
    pub score: Score,
    pub demand: Vec<i64>,
    pub supply: Vec<i64>,
}

/// Lets it pass.
pub fn run(load: &Load, contender: &mut dyn Contender) -> Run {
    let mut sim = pool(contender.target(), load.start_ms);
    let (mut arrivals, mut service) = (Arrivals::new(SEED), Service::default());
    let (mut notes, mut concurrency) = (Notes::default(), 0);
    let (mut last_second, mut of_last_second) = (VecDeque::new(), 0);
    let mut running = Running::default();
    for now in (1..=load.duration_ms() / STEP_MS).map(|step| step * STEP_MS) {
        let is_noted = Notes::is_noted(now);
        let is_event = sim.next().is_some_and(|at| at <= now);
        if is_event {
            sim.advance(now);
            running = Running::of(&sim.world);
        }
        sim.now = now;
        let arrived = arrivals.next(load, now);
        last_second.push_back(arrived);
        of_last_second += arrived;
        if last_second.len() > SECOND {
            of_last_second -= last_second.pop_front().unwrap_or(0);
        }
        service.step(now, arrived, running.search as u64, |wait, count| {
            if is_noted {
                notes.waits.add(wait, count);
            }
        });
        concurrency += service.in_system();
        let second = now.is_multiple_of(1000).then(|| std::mem::take(&mut concurrency) as f64 / (1000 / STEP_MS) as f64);
        let seen = Seen {
            now,
            waiting: service.waiting(),
            in_system: service.in_system(),
            arrived: of_last_second,
            second,
            has_changed: is_event || now == STEP_MS,
            needed_ahead: load.demand_until(now, now + ROOM_MS + load.start_ms),
        };
        if let Some(plan) = contender.act(&seen, &mut sim) {
            running = Running::of(&sim.world);
            if is_noted {
                note_victims(&mut notes, &plan, &sim);
            }
        }
        if is_noted {
            notes.demand.push(load.demand(now));
            notes.supply.push(running.search);
            notes.used += running.all as f64 / PLACES as f64;
            notes.moving[0] += running.starting as f64 / PLACES as f64;
            notes.moving[1] += running.stopping as f64 / PLACES as f64;
            let idle = running.search - running.search.min(service.in_hand() as i64);
            notes.worked += (running.all - idle) as f64 / PLACES as f64;
            let is_starved = service.longest_wait(now) > BOUND_MS && running.search < SEARCH_BOUNDS.1;
            notes.starved_steps += u64::from(is_starved);
        }
    }
    service.left(load.duration_ms()).for_each(|(wait, count)| notes.waits.add(wait, count));
    notes.decisions = contender.decisions();
    Run { score: notes.score(), demand: notes.demand, supply: notes.supply }
}

/// Replicas that run, and tasks on their way up and down.
#[derive(Default)]
struct Running {
    search: i64,
    all: i64,
    starting: i64,
    stopping: i64,
}

impl Running {
    fn of(world: &World) -> Self {
        let all = |phase| world.apps.values().map(|view| count(view, phase)).sum();
        Self {
            search: count(&world.apps[&key(SEARCH)], TaskPhase::Running),
            all: all(TaskPhase::Running),
            starting: all(TaskPhase::Starting),
            stopping: all(TaskPhase::Stopping),
        }
    }
}

fn note_victims(notes: &mut Notes, plan: &Plan, sim: &Sim) {
    for stop in plan.stops.iter().filter(|stop| stop.app.name() != SEARCH) {
        let task = sim.world.apps[&stop.app].tasks.iter().find(|task| task.id == stop.task);
        notes.victims += 1;
        notes.lost_ms += task.map_or(0, |task| sim.now - task.born);
    }
}

#[cfg(test)]
mod tests {
    use super::super::SERVICE_MS;
    use super::super::contenders::{Pace, all};
    use super::*;

    /// A minute of calm, one of rush, one of calm.
    fn rush() -> Load {
        let of = |rate| std::iter::repeat_n(rate, 600);
        Load::new("rush", of(80.0).chain(of(400.0)).chain(of(80.0)).collect(), false)
    }

    fn runs(pace: Pace) -> Vec<(&'static str, Run)> {
        all(pace).iter_mut().map(|contender| (contender.name(), run(&rush(), &mut **contender))).collect()
    }

    #[test]
    fn everybody_runs_and_fills_the_pool() {
        for pace in [Pace::Own, Pace::Second] {
            for (name, run) in runs(pace) {
                let Score { utilisation_percent, decisions, .. } = run.score;
                // The engine's gains are not made for replicas as quick as these.
                let least = if name == "Microscaling Engine" { 50.0 } else { 95.0 };
                assert!((least..100.01).contains(&utilisation_percent), "{name}: {:?}", run.score);
                assert!(decisions > 0 && run.supply.iter().all(|n| (2..=60).contains(n)), "{name}: {:?}", run.score);
                assert_eq!((run.demand[0], run.demand.len()), (8, 18_001), "{name}");
            }
        }
    }

    #[test]
    fn the_oracle_is_never_late() {
        let runs = runs(Pace::Own);
        let (_, oracle) = runs.iter().find(|(name, _)| *name == "oracle").unwrap();
        let Score { under_time_percent, starved_seconds, wait_p99_ms, over_accuracy_percent, .. } = oracle.score;
        assert!(under_time_percent < 1e-9 && starved_seconds < 1e-9, "{:?}", oracle.score);
        assert!(wait_p99_ms <= SERVICE_MS, "with just enough replicas, no longer than for one to be done: {:?}", oracle.score);
        assert!(over_accuracy_percent < 1.0, "{:?}", oracle.score);
    }

    #[test]
    fn the_same_twice() {
        let scores = || runs(Pace::Own).into_iter().map(|(name, run)| (name, run.score)).collect::<Vec<_>>();
        assert_eq!(format!("{:?}", scores()), format!("{:?}", scores()));
    }
}
