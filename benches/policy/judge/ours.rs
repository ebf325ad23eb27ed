//! Our own judgement, as it is, in the loop; and an oracle: the same with a sense for what comes.

use std::sync::Arc;

use microscaler::api::validated::{Metric, TargetValue, Wait};
use microscaler::policy::plan::Plan;
use microscaler::policy::world::{Foreseen, Reading};

use super::contenders::{Contender, Seen, is_due};
use super::foresight::Foreseer;
use super::pool::SEARCH;
use super::{BOUND_MS, SERVICE_RATE};
use crate::sim::{Sim, metric};

/// `policy::decide` with metrics that are pushed, every so often.
pub struct Ours {
    name: &'static str,
    push_ms: u64,
    metrics: Vec<Sense>,
    /// Of `behavior.scaleDown`, where it is not the default.
    down_window_ms: Option<u64>,
    decisions: u64,
}

/// One metric.
struct Sense {
    target: TargetValue,
    /// What it measures.
    value: fn(&Seen) -> u64,
    foreseer: Option<Foreseer>,
    pushed: Option<u64>,
}

impl Sense {
    fn new(target: TargetValue, value: fn(&Seen) -> u64) -> Self {
        Self { target, value, foreseer: None, pushed: None }
    }

    fn foreseen(self, step_ms: u64) -> Self {
        Self { foreseer: Some(Foreseer::new(step_ms)), ..self }
    }

    fn spec(&self, name: &str) -> Metric {
        let forecast = self.foreseer.as_ref().map(|foreseer| foreseer.terms);
        Metric { forecast, ..metric(name, self.target, u64::MAX) }
    }

    /// Whether that told something new.
    fn push(&mut self, seen: &Seen, reading: &mut Reading) -> bool {
        let value = (self.value)(seen);
        let curve = self.foreseer.as_mut().and_then(|foreseer| foreseer.observe(value as f64, seen.now));
        let is_news = self.pushed.replace(value) != Some(value) || curve.is_some();
        if is_news {
            let foreseen = curve.map(|curve| Foreseen(Arc::new(curve))).or(reading.foreseen.take());
            *reading = Reading { value: Some((value as f64, seen.now)), foreseen, ..Reading::default() };
        }
        is_news
    }
}

impl Ours {
    fn of(name: &'static str, push_ms: u64, metrics: Vec<Sense>) -> Self {
        Self { name, push_ms, metrics, down_window_ms: None, decisions: 0 }
    }

    /// With the same target as the others.
    pub fn average(push_ms: u64) -> Self {
        Self::of("ours: averageValue", push_ms, vec![concurrency()])
    }

    /// With a bound for how long requests wait, and the queue alone to go by.
    pub fn queue(push_ms: u64) -> Self {
        Self::of("ours: queue", push_ms, vec![Sense::new(wait(false), |seen| seen.waiting)])
    }

    /// The same, with what is being answered in the queue's length.
    pub fn in_flight(push_ms: u64) -> Self {
        Self::of("ours: queue in flight", push_ms, vec![Sense::new(wait(true), |seen| seen.in_system)])
    }

    /// With the same target as the others, but it gives back only what it has not needed for half a minute.
    pub fn patient(push_ms: u64) -> Self {
        Self { down_window_ms: Some(30_000), ..Self::of("ours: down after 30 s", push_ms, vec![concurrency()]) }
    }

    /// With the same target as the others, and what is foreseen of it besides.
    pub fn foreseeing(push_ms: u64, step_ms: u64) -> Self {
        Self::of("ours + forecast", push_ms, vec![concurrency().foreseen(step_ms)])
    }

    /// With the same target as the others, and what is foreseen of the requests that come besides: replicas that are too few do not
    /// add to these.
    pub fn foreseeing_rates(push_ms: u64, step_ms: u64) -> Self {
        let rate = Sense::new(TargetValue::Average(super::TARGET * SERVICE_RATE), |seen| seen.arrived);
        Self::of("ours + forecast of rate", push_ms, vec![concurrency(), rate.foreseen(step_ms)])
    }
}

fn concurrency() -> Sense {
    Sense::new(TargetValue::Average(super::TARGET), |seen| seen.in_system)
}

fn wait(counts_in_flight: bool) -> TargetValue {
    TargetValue::Wait(Wait { max_ms: BOUND_MS, service_ms: None, lag_ms: 0, counts_in_flight, arrivals: None })
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn target(&self) -> TargetValue {
        self.metrics[0].target
    }

    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan> {
        if self.decisions == 0 {
            sim.change(SEARCH, |app| {
                app.demand = self.metrics.iter().zip(["load", "rate"]).map(|(sense, name)| sense.spec(name)).collect();
                app.down.window_ms = self.down_window_ms.unwrap_or(app.down.window_ms);
            });
        }
        let readings = &mut sim.view(SEARCH).readings;
        let mut is_news = false;
        if is_due(seen.now, self.push_ms) {
            self.metrics.iter_mut().zip(readings).for_each(|(sense, reading)| is_news |= sense.push(seen, reading));
        }
        judge(is_news, seen, sim, &mut self.decisions)
    }

    fn decisions(&self) -> u64 {
        self.decisions
    }

    fn foreseer(&self) -> Option<&Foreseer> {
        self.metrics.iter().find_map(|sense| sense.foreseer.as_ref())
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
