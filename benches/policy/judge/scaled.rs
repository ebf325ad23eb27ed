//! Autoscalers that only say how many replicas there are to be: something else carries that out.

use microscaler::policy::plan::Plan;
use microscaler::policy::world::TaskPhase;

use super::TARGET;
use super::contenders::{Contender, Seen, is_due, workloads};
use super::pool::{ORDERS_WANTED, PLACES, SEARCH, count};
use crate::peers::hpa::{Hpa, Metric};
use crate::peers::keda::Keda;
use crate::peers::kpa::Kpa;
use crate::peers::nomad::Nomad;
use crate::peers::orchestrator::Orchestrator;
use crate::sim::{Sim, key};

/// Says at each period how many replicas `search` is to have; others carry that out.
pub trait Scaler {
    /// At each step.
    fn observe(&mut self, seen: &Seen);
    fn scale(&mut self, current: i64, ready: i64, now: u64) -> i64;
}

pub struct Scaled {
    pub name: &'static str,
    pub period_ms: u64,
    /// So much after the middle of each period.
    pub late_ms: u64,
    pub orchestrator: Orchestrator,
    pub scaler: Box<dyn Scaler>,
    pub desired: i64,
    pub decisions: u64,
}

impl Contender for Scaled {
    fn name(&self) -> &'static str {
        self.name
    }

    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan> {
        self.scaler.observe(seen);
        let before = self.desired;
        if is_due(seen.now.saturating_sub(self.late_ms), self.period_ms) {
            let ready = count(&sim.world.apps[&key(SEARCH)], TaskPhase::Running);
            self.desired = self.scaler.scale(self.desired, ready, seen.now);
            self.decisions += 1;
        }
        if self.desired == before && !seen.has_changed {
            return None;
        }
        let plan = self.orchestrator.reconcile(&sim.world, &workloads([self.desired, ORDERS_WANTED, PLACES]));
        sim.carry_out(&plan);
        Some(plan)
    }

    fn decisions(&self) -> u64 {
        self.decisions
    }
}

pub struct HpaScaler {
    pub hpa: Hpa,
    /// How often the metric is collected; `None`: whenever it is asked for.
    pub scrape_ms: Option<u64>,
    pub value: f64,
}

impl Scaler for HpaScaler {
    fn observe(&mut self, seen: &Seen) {
        if self.scrape_ms.is_none_or(|scrape_ms| is_due(seen.now, scrape_ms)) {
            self.value = seen.in_system as f64;
        }
    }

    fn scale(&mut self, current: i64, _: i64, now: u64) -> i64 {
        self.hpa.scale(&[Metric::AverageValue { value: self.value, target: TARGET }], current, now)
    }
}

pub struct KedaScaler {
    pub keda: Keda,
    pub poll_ms: u64,
    pub value: f64,
    /// What the last poll found, if it has not been acted on.
    pub polled: Option<f64>,
}

impl Scaler for KedaScaler {
    fn observe(&mut self, seen: &Seen) {
        self.value = seen.in_system as f64;
        if is_due(seen.now, self.poll_ms) {
            self.polled = Some(self.value);
        }
    }

    fn scale(&mut self, current: i64, _: i64, now: u64) -> i64 {
        let active = self.polled.take().map_or(current, |value| self.keda.poll(value, current, now));
        self.keda.scale(self.value, active, now)
    }
}

impl Scaler for Kpa {
    fn observe(&mut self, seen: &Seen) {
        seen.second.into_iter().for_each(|mean| self.record(mean));
    }

    fn scale(&mut self, _: i64, ready: i64, now: u64) -> i64 {
        self.tick(ready, now)
    }
}

pub struct NomadScaler {
    pub nomad: Nomad,
    pub value: f64,
}

impl Scaler for NomadScaler {
    fn observe(&mut self, seen: &Seen) {
        self.value = seen.in_system as f64;
    }

    fn scale(&mut self, current: i64, _: i64, now: u64) -> i64 {
        self.nomad.evaluate(self.value / current.max(1) as f64, current, now)
    }
}
