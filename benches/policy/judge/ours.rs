//! Our own judgement, as it is, in the loop; and an oracle: the same with a sense for what comes.

use microscaler::api::validated::{TargetValue, Wait};
use microscaler::policy::plan::Plan;

use super::BOUND_MS;
use super::contenders::{Contender, Seen, is_due};
use super::pool::SEARCH;
use crate::sim::Sim;

/// `policy::decide` with a metric that is pushed, every so often.
pub struct Ours {
    name: &'static str,
    push_ms: u64,
    target: TargetValue,
    /// What the metric measures.
    value: fn(&Seen) -> u64,
    /// Of `behavior.scaleDown`, where it is not the default.
    down_window_ms: Option<u64>,
    pushed: Option<u64>,
    decisions: u64,
}

impl Ours {
    /// With the same target as the others.
    pub fn average(push_ms: u64) -> Self {
        let target = TargetValue::Average(super::TARGET);
        let value = |seen: &Seen| seen.in_system;
        Self { name: "ours: averageValue", push_ms, target, value, down_window_ms: None, pushed: None, decisions: 0 }
    }

    /// With a bound for how long requests wait, and the queue alone to go by.
    pub fn queue(push_ms: u64) -> Self {
        let wait = Wait { max_ms: BOUND_MS, service_ms: None, lag_ms: 0, counts_in_flight: false, arrivals: None };
        Self { name: "ours: queue", target: TargetValue::Wait(wait), value: |seen| seen.waiting, ..Self::average(push_ms) }
    }

    /// The same, with what is being answered in the queue's length.
    pub fn in_flight(push_ms: u64) -> Self {
        let wait = Wait { max_ms: BOUND_MS, service_ms: None, lag_ms: 0, counts_in_flight: true, arrivals: None };
        Self { name: "ours: queue in flight", target: TargetValue::Wait(wait), ..Self::average(push_ms) }
    }

    /// The same, but it gives back only what it has not needed for half a minute.
    pub fn patient(push_ms: u64) -> Self {
        Self { name: "ours: down after 30 s", down_window_ms: Some(30_000), ..Self::average(push_ms) }
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn target(&self) -> TargetValue {
        self.target
    }

    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan> {
        if let Some(window_ms) = self.down_window_ms.take() {
            sim.change(SEARCH, |app| app.down.window_ms = window_ms);
        }
        let value = (self.value)(seen);
        let is_news = is_due(seen.now, self.push_ms) && self.pushed.replace(value) != Some(value);
        if is_news {
            sim.push(SEARCH, value as f64);
        }
        judge(is_news, seen, sim, &mut self.decisions)
    }

    fn decisions(&self) -> u64 {
        self.decisions
    }
}

/// Asks for what will be needed when it can run, and for nothing else.
#[derive(Default)]
pub struct Oracle {
    asked: Option<i64>,
    decisions: u64,
}

impl Contender for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn target(&self) -> TargetValue {
        TargetValue::Average(1.0)
    }

    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan> {
        let is_news = self.asked.replace(seen.needed_ahead) != Some(seen.needed_ahead);
        if is_news {
            sim.push(SEARCH, seen.needed_ahead as f64);
        }
        if self.decisions == 0 {
            sim.change(SEARCH, |app| app.down.window_ms = 0);
        }
        judge(is_news, seen, sim, &mut self.decisions)
    }

    fn decisions(&self) -> u64 {
        self.decisions
    }
}

/// Decides if anything is new: the metric, or what runs.
fn judge(is_news: bool, seen: &Seen, sim: &mut Sim, decisions: &mut u64) -> Option<Plan> {
    if !is_news && !seen.has_changed {
        return None;
    }
    *decisions += 1;
    Some(sim.decide_fast())
}
