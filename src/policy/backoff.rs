//! Crash back-off: a template that fails again and again is tried ever less often, and not again where only it fails.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::world::{AgentIx, Millis, Task, TaskPhase};
use crate::api::validated::Version;
use crate::backend::{End, Ending};

/// Delay before the second retry; it grows by half with each further failure.
const FIRST_DELAY_MS: u64 = 1000;
const LONGEST_DELAY_MS: u64 = 60_000;
/// A task that served for so long since the last failure ends the loop.
const GOOD_AFTER_MS: u64 = 60_000;
/// A refused request will be refused again: it counts as so many failures.
const REFUSED_COUNTS: u32 = 3;
/// More failures than this on one agent within [`AGENT_SPAN_MS`], while the app runs well elsewhere, bar the agent.
const AGENT_FAILURES: usize = 5;
const AGENT_SPAN_MS: u64 = 60_000;
const BARRED_MS: u64 = 300_000;
/// More tries than this that came to nothing on one agent within [`VAIN_SPAN_MS`], through no fault of the tasks, bar it for a while.
const VAIN_TRIES: usize = 5;
const VAIN_SPAN_MS: u64 = 10_000;
const VAIN_BARRED_MS: u64 = 60_000;

/// The crashes of one app.
#[derive(Clone, Debug, Default)]
pub(super) struct Crashes {
    by_version: BTreeMap<Version, Crash>,
    by_agent: BTreeMap<AgentIx, VecDeque<Millis>>,
    barred: BTreeMap<AgentIx, Millis>,
    /// Tries whose tasks were dropped or lost, which is nobody's crash, by agent. All that an executor takes along when it dies is one.
    vain: BTreeMap<AgentIx, VecDeque<Millis>>,
}

/// The failed tries of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// Tries that failed in a row; tasks that were started together are one try.
    pub failures: u32,
    pub last_at: Millis,
    /// When a failed try was last counted. What began before belongs to that try.
    counted_at: Millis,
    pub message: Arc<str>,
}

impl Crash {
    /// The first retry comes at once, then after 1 s, 1.5 s, 2.25 s … at most a minute.
    fn delay_ms(&self) -> u64 {
        let Some(steps) = self.failures.checked_sub(2) else { return 0 };
        (0..steps.min(20)).fold(FIRST_DELAY_MS, |delay, _| delay + delay / 2).min(LONGEST_DELAY_MS)
    }

    pub fn retry_at(&self) -> Millis {
        self.last_at + self.delay_ms()
    }
}

impl Crashes {
    /// Counts an ending, if it is the fault of the task.
    pub fn count(&mut self, ending: &Ending, now: Millis) {
        let weight = match ending.how {
            End::Failed | End::Finished => 1,
            End::Refused => REFUSED_COUNTS,
            End::Dropped | End::Lost => return self.note_vain(ending, now),
            End::Killed => return,
        };
        let Some(version) = ending.version else { return };
        let new = Crash { failures: 0, last_at: 0, counted_at: 0, message: Arc::clone(&ending.message) };
        let crash = self.by_version.entry(version).or_insert(new);
        let began = began(ending, now);
        if ending.ran_ms >= GOOD_AFTER_MS {
            (crash.failures, crash.counted_at) = (weight, now);
        } else if crash.failures == 0 || (began >= crash.counted_at && now > crash.counted_at) {
            (crash.failures, crash.counted_at) = (crash.failures.saturating_add(weight), now);
        }
        crash.last_at = now;
        crash.message = Arc::clone(&ending.message);
        let times = self.by_agent.entry(ending.agent).or_default();
        times.push_back(now);
        times.drain(..times.len().saturating_sub(AGENT_FAILURES + 1));
    }

    /// Where tasks get lost again and again no more are sent for now. What began before the last loss was noted belongs to that one.
    fn note_vain(&mut self, ending: &Ending, now: Millis) {
        let agent = ending.agent;
        let times = self.vain.entry(agent).or_default();
        times.retain(|at| at + VAIN_SPAN_MS > now);
        if times.back().is_some_and(|last| began(ending, now) < *last || now == *last) {
            return;
        }
        times.push_back(now);
        if times.len() > VAIN_TRIES {
            let until = self.barred.entry(agent).or_default();
            *until = (*until).max(now + VAIN_BARRED_MS);
            self.vain.remove(&agent);
        }
    }

    /// Whether no task has failed of late.
    pub fn is_none(&self) -> bool {
        self.by_version.is_empty() && self.by_agent.is_empty() && self.barred.is_empty()
    }

    /// Brings the account up to date with what runs. Returns the current template's crash, if it is in a loop or was.
    pub fn review(&mut self, version: Version, tasks: &[Task], now: Millis) -> Option<Crash> {
        self.vain.retain(|_, times| times.back().is_some_and(|at| at + VAIN_SPAN_MS > now));
        if self.is_none() {
            return None;
        }
        self.by_version.retain(|v, crash| {
            let good = |task: &Task| {
                let since = task.since.max(crash.last_at);
                task.version == Some(*v) && serves(task) && now.saturating_sub(since) >= GOOD_AFTER_MS
            };
            *v == version && !tasks.iter().any(good)
        });
        self.barred.retain(|_, until| *until > now);
        let barred = &mut self.barred;
        self.by_agent.retain(|agent, times| {
            times.retain(|at| at + AGENT_SPAN_MS > now);
            let well_elsewhere = || tasks.iter().any(|task| task.agent != *agent && serves(task));
            let bad = times.len() > AGENT_FAILURES && well_elsewhere();
            if bad {
                barred.insert(*agent, now + BARRED_MS);
            }
            !bad && !times.is_empty()
        });
        self.by_version.get(&version).cloned()
    }

    /// Agents on which the app is not tried for now.
    pub fn barred(&self) -> impl Iterator<Item = AgentIx> {
        self.barred.keys().copied()
    }

    /// When an agent comes back into question, or a loop may be over.
    pub fn wake_at(&self, tasks: &[Task], now: Millis) -> Option<Millis> {
        let loops = self.by_version.iter().flat_map(|(version, crash)| {
            let good = tasks.iter().filter(|task| task.version == Some(*version) && serves(task));
            good.map(|task| task.since.max(crash.last_at) + GOOD_AFTER_MS)
        });
        loops.chain(self.barred.values().copied()).filter(|at| *at > now).min()
    }
}

/// When the task began to run or, if it never did, to start.
fn began(ending: &Ending, now: Millis) -> Millis {
    if ending.ran_ms == 0 { ending.born.min(now) } else { now.saturating_sub(ending.ran_ms) }
}

fn serves(task: &Task) -> bool {
    task.phase == TaskPhase::Running && task.ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validated::Key;

    const V: Version = Version(7);

    fn ending(how: End, agent: u32, ran_ms: u64) -> Ending {
        let (app, task, message) = (Key::new("n", "a"), "t".into(), "exited with status 1".into());
        Ending { app, task, agent: AgentIx(agent), version: Some(V), how, message, born: 0, ran_ms }
    }

    fn task(agent: u32, since: Millis) -> Task {
        Task {
            id: "t".into(),
            agent: AgentIx(agent),
            version: Some(V),
            phase: TaskPhase::Running,
            ready: true,
            since,
            born: since,
            resources: crate::policy::resources::Resources::ZERO,
            executor: None,
        }
    }

    #[test]
    fn delays_grow_by_half() {
        let mut crashes = Crashes::default();
        let mut now = 1000;
        let mut delays = Vec::new();
        for _ in 0..14 {
            crashes.count(&ending(End::Failed, 0, 10), now);
            let retry = crashes.review(V, &[], now).map_or(0, |crash| crash.retry_at());
            delays.push(retry - now);
            now = retry + 20;
        }
        assert_eq!(delays[..6], [0, 1000, 1500, 2250, 3375, 5062]);
        assert_eq!(delays[13], 60_000);
    }

    #[test]
    fn tasks_started_together_are_one_try() {
        let mut crashes = Crashes::default();
        (0..10).for_each(|n| crashes.count(&ending(End::Failed, n, 50), 1000 + u64::from(n)));
        assert_eq!(crashes.review(V, &[], 1010).map(|c| c.failures), Some(1));
    }

    #[test]
    fn tasks_started_together_that_never_ran_are_one_try() {
        let mut crashes = Crashes::default();
        let started = |born| Ending { born, ..ending(End::Failed, 0, 0) };
        (1000..1010).for_each(|at| crashes.count(&started(900), at));
        assert_eq!(crashes.review(V, &[], 1010).map(|c| c.failures), Some(1));
        // It replaced the first to fail, and was on its way before the last had failed.
        crashes.count(&started(1001), 1100);
        assert_eq!(crashes.review(V, &[], 1100).map(|c| c.failures), Some(2), "the second try");
    }

    #[test]
    fn staggered_replicas_back_off_too() {
        let mut crashes = Crashes::default();
        let mut ends: Vec<Millis> = (0..10).map(|n| 10_000 + n * 500).collect();
        let mut longest = 0;
        for _ in 0..60 {
            ends.sort_unstable();
            let now = ends.remove(0);
            crashes.count(&ending(End::Failed, 0, 5000), now);
            let retry = crashes.review(V, &[], now).map_or(0, |crash| crash.retry_at());
            longest = longest.max(retry - now);
            ends.push(retry + 5000);
        }
        assert!(longest >= 2250, "{longest}");
    }

    #[test]
    fn an_agent_that_loses_tasks_again_and_again_is_barred_for_a_minute() {
        let mut crashes = Crashes::default();
        let lost = |how, born| Ending { born, ..ending(how, 3, 0) };
        (0..5).for_each(|n| crashes.count(&lost(End::Dropped, 999 + n), 1000 + n));
        crashes.count(&lost(End::Lost, 10_999), 11_000);
        assert_eq!(crashes.barred().count(), 0, "these are spread over more than ten seconds");
        (0..5).for_each(|n| crashes.count(&lost(End::Lost, 11_999 + n), 12_000 + n));
        assert_eq!(crashes.barred().collect::<Vec<_>>(), [AgentIx(3)]);
        assert_eq!(crashes.review(V, &[], 12_005), None, "no crash");
        assert_eq!(crashes.wake_at(&[], 12_005), Some(72_004));
        crashes.review(V, &[], 72_004);
        assert_eq!(crashes.barred().count(), 0);
    }

    #[test]
    fn tasks_lost_together_are_lost_once() {
        let mut crashes = Crashes::default();
        (1000..1020).for_each(|at| crashes.count(&ending(End::Lost, 3, 500), at));
        // What was sent to their executor before it was known to be dead.
        (1020..1040).for_each(|at| crashes.count(&Ending { born: 1001, ..ending(End::Dropped, 3, 0) }, at));
        assert_eq!(crashes.barred().count(), 0);
        assert_eq!(crashes.vain[&AgentIx(3)], [1000, 1020]);
    }

    #[test]
    fn only_the_tasks_own_fault_counts() {
        let mut crashes = Crashes::default();
        for how in [End::Killed, End::Dropped, End::Lost] {
            crashes.count(&ending(how, 0, 0), 1000);
        }
        assert_eq!(crashes.review(V, &[], 1000), None);
        crashes.count(&ending(End::Refused, 0, 0), 1000);
        assert_eq!(crashes.review(V, &[], 1000).map(|c| c.retry_at()), Some(2500));
        assert_eq!(crashes.review(Version(8), &[], 1000), None, "a new template starts afresh");
    }

    #[test]
    fn a_minute_of_service_ends_the_loop() {
        let mut crashes = Crashes::default();
        crashes.count(&ending(End::Failed, 0, 0), 1000);
        assert!(crashes.review(V, &[task(0, 0)], 60_999).is_some());
        assert!(crashes.review(V, &[task(0, 0)], 61_000).is_none());
    }

    #[test]
    fn an_agent_where_only_it_fails_is_barred() {
        let mut crashes = Crashes::default();
        (0..6).for_each(|n| crashes.count(&ending(End::Failed, 3, 0), 1000 + n * 10));
        crashes.review(V, &[], 1100);
        assert_eq!(crashes.barred().count(), 0, "nowhere does it run better");
        crashes.review(V, &[task(4, 0)], 1100);
        assert_eq!(crashes.barred().collect::<Vec<_>>(), [AgentIx(3)]);
        assert_eq!(crashes.wake_at(&[], 1100), Some(301_100));
        crashes.review(V, &[task(4, 0)], 301_100);
        assert_eq!(crashes.barred().count(), 0);
    }
}
