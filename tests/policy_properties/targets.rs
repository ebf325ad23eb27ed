//! Constant demand, late values and late replicas: with every kind of target, what is wanted comes to rest.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::collections::VecDeque;
use std::ops::Range;

use microscaler::api::validated::{App, TargetValue, Wait};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::TaskPhase;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::sim::{Habits, Sim, app, key, metric};

const STEP_MS: u64 = 10;
/// Then it has come to rest, in steps.
const SETTLED: usize = 12_000;
const END_MS: u64 = 240_000;
/// What replicas are to be busy with.
const SHARE: f64 = 0.7;
const QUEUE: f64 = 50.0;

/// What is learnt is learnt from little, so that of some thousands of courses one is not as it should be. No build is to fail by that
/// chance: it plays the same ones each time, and others where `PROPTEST_RNG_SEED` says so.
fn config() -> ProptestConfig {
    let said = ProptestConfig::default();
    let rng_seed = if said.rng_seed == RngSeed::Random { RngSeed::Fixed(7) } else { said.rng_seed };
    ProptestConfig { failure_persistence: None, cases: 48, rng_seed, ..said }
}

/// Something that is measured, and what is made of it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Average,
    Value,
    Utilization,
    Rate,
    Queue,
    QueueLength,
    SimpleQueue,
}

/// Messages come evenly, and each replica does so many a second.
#[derive(Clone, Debug)]
struct Plant {
    kind: Kind,
    /// As many replicas would do.
    need: f64,
    service: f64,
    start_ms: u64,
    poll_ms: u64,
    /// So old are values when they come.
    lag_ms: u64,
}

impl Plant {
    /// Ten times what a message takes.
    fn longest_wait_ms(&self) -> u64 {
        (10_000.0 / self.service) as u64
    }

    fn target(&self) -> TargetValue {
        let max_ms = self.longest_wait_ms();
        let wait = Wait { max_ms, service_ms: None, lag_ms: 0, counts_in_flight: false, arrivals: None };
        match self.kind {
            Kind::Average => TargetValue::Average(SHARE),
            Kind::Value => TargetValue::Value(SHARE * self.service),
            Kind::Utilization => TargetValue::Utilization(100.0 * SHARE),
            Kind::Rate => TargetValue::Rate(SHARE * self.service),
            Kind::Queue => TargetValue::Wait(wait),
            Kind::QueueLength => TargetValue::QueueLength(QUEUE),
            Kind::SimpleQueue => TargetValue::SimpleQueue(QUEUE),
        }
    }

    /// What is measured where so many wait and so many replicas serve.
    fn measure(&self, waiting: f64, ready: f64) -> f64 {
        let arrivals = self.need * self.service;
        let busy = if waiting >= 1.0 { ready } else { self.need.min(ready) };
        match self.kind {
            Kind::Average => waiting + busy,
            Kind::Value => arrivals / ready.max(1.0),
            Kind::Utilization => 100.0 * busy / ready.max(1.0),
            Kind::Rate => arrivals,
            Kind::Queue | Kind::QueueLength | Kind::SimpleQueue => waiting.floor(),
        }
    }

    /// What was wanted from step to step.
    fn play(&self) -> Vec<i64> {
        let mut sim = Sim::new(Habits { start_ms: self.start_ms, stop_ms: 50, offer_ms: 0, ..Habits::default() });
        sim.add_agent(Resources::new(1_000_000, 1_000_000), &[]);
        sim.set_app(App { min: 1, max: 500, demand: vec![metric("load", self.target(), u64::MAX)], ..app("a") });
        let (mut waiting, mut past, mut wants) = (0.0_f64, VecDeque::new(), Vec::new());
        let mut ready = 0.0;
        for now in (1..END_MS / STEP_MS).map(|step| step * STEP_MS) {
            let mut is_news = false;
            if sim.next().is_some_and(|at| at <= now) {
                sim.advance(now);
                let tasks = &sim.world.apps[&key("a")].tasks;
                ready = tasks.iter().filter(|task| task.phase == TaskPhase::Running).count() as f64;
                is_news = true;
            }
            sim.now = now;
            let seconds = STEP_MS as f64 / 1000.0;
            waiting = (waiting + (self.need - ready) * self.service * seconds).max(0.0);
            past.push_back(self.measure(waiting, ready));
            if past.len() as u64 > self.lag_ms / STEP_MS + 1 {
                past.pop_front();
            }
            if now % self.poll_ms < STEP_MS {
                sim.push("a", past[0]);
                is_news = true;
            }
            if is_news || now == STEP_MS {
                sim.decide_fast();
            }
            wants.push(sim.last.verdicts[&key("a")].wanted);
        }
        wants
    }
}

/// The least and the most, and how often it changed.
fn course(wants: &[i64]) -> (i64, i64, usize) {
    let turns = wants.windows(2).filter(|two| two[0] != two[1]).count();
    (*wants.iter().min().unwrap(), *wants.iter().max().unwrap(), turns)
}

prop_compose! {
    fn a_plant(kinds: &'static [Kind], service: Range<f64>)(
        kind in prop::sample::select(kinds),
        need in 1.0..60.0_f64,
        service in service,
        start_ms in 20..2000_u64,
        poll_ms in 50..500_u64,
        lag_ms in prop_oneof![Just(0), 0..2000_u64],
    ) -> Plant {
        Plant { kind, need, service, start_ms, poll_ms, lag_ms }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_a_share_per_replica_comes_to_rest(
        plant in a_plant(&[Kind::Average, Kind::Value, Kind::Utilization, Kind::Rate], 0.2..20.0),
    ) {
        let wants = plant.play();
        let (least, most, turns) = course(&wants[SETTLED..]);
        let share = plant.need / SHARE;
        prop_assert!(turns == 0, "{turns} changes between {least} and {most}");
        prop_assert!((0.9 * share - 1.0..1.12 * share + 1.0).contains(&(most as f64)), "{most} of {share}");
    }

    /// But for trying now and then whether fewer are enough. The bound can be kept, or values are not late.
    #[test]
    fn a_bounded_wait_comes_to_rest(plant in a_plant(&[Kind::Queue], 0.2..20.0)) {
        let plant = Plant { lag_ms: plant.lag_ms.min(plant.longest_wait_ms().saturating_sub(plant.start_ms)), ..plant };
        let wants = plant.play();
        let settled = &wants[SETTLED..];
        let near = 0.85 * plant.need - 1.0..1.5 * plant.need + 3.0;
        let beyond = settled.iter().filter(|want| !near.contains(&(**want as f64))).count();
        prop_assert!(10 * beyond < settled.len(), "{:?}", course(settled));
    }

    /// The Microscaling Engine's gains are made for slow replicas: with such ones it comes near what is needed, and stays there.
    #[test]
    fn a_queue_length_is_held_by_slow_replicas(plant in a_plant(&[Kind::QueueLength], 0.1..0.3)) {
        let plant = Plant { start_ms: plant.start_ms / 4, lag_ms: plant.lag_ms / 2, need: plant.need.min(30.0), ..plant };
        let (least, most, _) = course(&plant.play()[SETTLED..]);
        let near = 0.6 * plant.need - 3.0..1.4 * plant.need + 3.0;
        prop_assert!(near.contains(&(least as f64)) && near.contains(&(most as f64)), "{least} to {most}");
    }

    /// One more or one fewer every half second, without a look at how the queue moves, swings: but within bounds.
    #[test]
    fn one_by_one_swings_within_bounds(plant in a_plant(&[Kind::SimpleQueue], 0.2..20.0)) {
        let (_, most, _) = course(&plant.play()[SETTLED..]);
        prop_assert!(most as f64 <= 3.0 * plant.need + 20.0, "{most}");
    }
}
