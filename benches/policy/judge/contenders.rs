//! Who is judged. A further one takes an entry in [`all`] and a [`Scaler`].

use microscaler::api::validated::TargetValue;
use microscaler::policy::plan::Plan;

use super::engine::Engine;
use super::foresight::Foreseer;
use super::ours::{Oracle, Ours};
use super::pool::{BATCH, ORDERS, ORDERS_LEAST, PLACES, SEARCH, SEARCH_BOUNDS, size};
use super::scaled::{HpaScaler, KedaScaler, NomadScaler, Scaled, Scaler};
use super::{STEP_MS, TARGET};
use crate::peers::behavior::Behavior;
use crate::peers::hpa::Hpa;
use crate::peers::keda::Keda;
use crate::peers::kpa::Kpa;
use crate::peers::nomad::Nomad;
use crate::peers::orchestrator::{Orchestrator, Workload};
use crate::peers::victims::Rules;
use crate::sim::{Sim, key};

/// How often ours is told of its metric.
const PUSH_MS: u64 = 100;
/// The period of HPA, and of what collects metrics for it.
const HPA_MS: u64 = 15_000;

/// How often they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As their documentation has it.
    Own,
    /// All once a second, at fresh values: only the formulas differ.
    Second,
}

/// What can be known at a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub now: u64,
    /// Requests that wait, and all that are waiting or being answered.
    pub waiting: u64,
    pub in_system: u64,
    /// Requests that have come within the last second.
    pub arrived: u64,
    /// At the end of each second: the mean of the latter over it.
    pub second: Option<f64>,
    /// Tasks have started or ended, or a time that was asked for has come.
    pub has_changed: bool,
    /// What will be needed until what is asked for now can run. Only the oracle looks at it.
    pub needed_ahead: i64,
}

pub trait Contender {
    fn name(&self) -> &'static str;
    /// Neither ours nor the oracle.
    fn is_peer(&self) -> bool {
        true
    }
    /// Of the one metric of `search` in our terms.
    fn target(&self) -> TargetValue {
        TargetValue::Average(TARGET)
    }
    /// Looks, and does what is to be done; says what was done.
    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan>;
    fn decisions(&self) -> u64;
    /// What it foresees by, if it does.
    fn foreseer(&self) -> Option<&Foreseer> {
        None
    }
}

pub fn all(pace: Pace) -> Vec<Box<dyn Contender>> {
    let (min, max) = SEARCH_BOUNDS;
    let own = |own_ms| if pace == Pace::Own { own_ms } else { 1000 };
    let scaled = |name, (period_ms, late_ms), rules, scaler: Box<dyn Scaler>| -> Box<dyn Contender> {
        let orchestrator = Orchestrator { preempts: Some(rules) };
        Box::new(Scaled { name, period_ms, late_ms, orchestrator, scaler, desired: min, decisions: 0 })
    };
    let hpa =
        HpaScaler { hpa: Hpa::new(min, max, Behavior::default()), scrape_ms: (pace == Pace::Own).then_some(HPA_MS), value: 0.0 };
    let keda =
        KedaScaler { keda: Keda::new(min, max, TARGET, Behavior::default()), poll_ms: own(30_000), value: 0.0, polled: None };
    let nomad = NomadScaler { nomad: Nomad::new(TARGET, own(10_000), min, max), value: 0.0 };
    vec![
        // What it sees is half a period old, as it is on average.
        scaled("HPA", (own(HPA_MS), hpa.scrape_ms.unwrap_or(0) / 2), Rules::Kubernetes, Box::new(hpa)),
        scaled("KEDA + HPA", (own(HPA_MS), 0), Rules::Kubernetes, Box::new(keda)),
        scaled("Knative KPA", (own(2000), 0), Rules::Kubernetes, Box::new(Kpa::new(TARGET, min, max))),
        scaled("Nomad target-value", (own(10_000), 0), Rules::Nomad, Box::new(nomad)),
        Box::new(Engine::new(own(500))),
        Box::new(Ours::average(own(PUSH_MS))),
        Box::new(Ours::queue(own(PUSH_MS))),
        Box::new(Ours::in_flight(own(PUSH_MS))),
        Box::new(Ours::patient(own(PUSH_MS))),
        Box::new(Oracle::default()),
    ]
}

/// Ours with a forecast in steps of so long, and without.
pub fn foresighted(step_ms: u64) -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(Ours::average(PUSH_MS)),
        Box::new(Ours::foreseeing(PUSH_MS, step_ms)),
        Box::new(Ours::foreseeing_rates(PUSH_MS, step_ms)),
    ]
}

/// In the middle of each period: what happens at whole minutes is then seen after half a period, as it is on average.
pub fn is_due(now: u64, period_ms: u64) -> bool {
    now % period_ms == period_ms / 2 / STEP_MS * STEP_MS
}

/// What others are told to run.
pub fn workloads([search, orders, batch]: [i64; 3]) -> [Workload; 3] {
    let of =
        |name, priority, replicas, min_available| Workload { key: key(name), priority, replicas, size: size(), min_available };
    [of(SEARCH, 90, search, 0), of(ORDERS, 50, orders, ORDERS_LEAST), of(BATCH, 10, batch, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_looks_once_in_each_period() {
        let times = |period_ms| (0..30_000 / STEP_MS).filter(|step| is_due(step * STEP_MS, period_ms)).count();
        assert_eq!([100, 250, 500, 1000, 2000, 10_000, 15_000, 30_000].map(times), [300, 120, 60, 30, 15, 3, 2, 1]);
    }
}
