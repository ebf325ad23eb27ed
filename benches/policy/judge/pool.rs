//! The pool that all of them have: eight agents with room for eight replicas each.

use microscaler::api::validated::{App, TargetValue};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{AppView, TaskPhase};

use super::STOP_MS;
use crate::sim::{Habits, Sim, app, metric};

pub const AGENTS: i64 = 8;
pub const PLACES: i64 = 64;
pub const SEARCH: &str = "search";
pub const ORDERS: &str = "orders";
pub const BATCH: &str = "batch";
/// `search` always has two, and all but what `orders` has at least.
pub const SEARCH_BOUNDS: (i64, i64) = (2, PLACES - ORDERS_LEAST);
pub const ORDERS_WANTED: i64 = 12;
pub const ORDERS_LEAST: i64 = 4;

/// One replica of any of them: half a core.
pub fn size() -> Resources {
    Resources::new(500, 64)
}

/// Nothing runs yet. `search` has one metric with this target.
pub fn pool(target: TargetValue, start_ms: u64) -> Sim {
    let mut sim = Sim::new(Habits { start_ms, stop_ms: STOP_MS, offer_ms: 0, ..Habits::default() });
    for _ in 0..AGENTS {
        sim.add_agent(size() * (PLACES / AGENTS), &[]);
    }
    let metric = |target| vec![metric("load", target, u64::MAX)];
    let sized = |name, priority| App { priority, size: size(), ..app(name) };
    let (min, max) = SEARCH_BOUNDS;
    sim.set_app(App { min, max, demand: metric(target), ..sized(SEARCH, 1) });
    let (min, max) = (ORDERS_LEAST, ORDERS_WANTED);
    sim.set_app(App { min, max, demand: metric(TargetValue::Average(1.0)), ..sized(ORDERS, 5) });
    sim.push(ORDERS, ORDERS_WANTED as f64);
    sim.set_app(App { min: 0, max: i64::MAX, remainder: Some(1), ..sized(BATCH, 9) });
    sim
}

/// Of an app, those in this phase.
pub fn count(view: &AppView, phase: TaskPhase) -> i64 {
    view.tasks.iter().filter(|task| task.phase == phase).count() as i64
}
