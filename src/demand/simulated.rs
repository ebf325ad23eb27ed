//! Generated loads, on a steady grid of time.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::pattern::Curve;
use super::{DemandSource, Gauge};
use crate::api::demand::Simulated;
use crate::engine::clock;

impl DemandSource for Simulated {
    async fn run(self, gauge: Gauge) {
        let mut curve = match Curve::new(&self.pattern) {
            Ok(curve) => curve,
            Err(bad) => return gauge.failure(bad.to_string()),
        };
        let every = u64::try_from(self.every_milliseconds).unwrap_or(0).max(1);
        let mut grid = interval(Duration::from_millis(every));
        // A late value is given up rather than made up for: the next one comes at its time.
        grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let start = grid.tick().await;
        let mut tick = start;
        loop {
            let index = clock::whole_ms(tick - start) / every;
            gauge.value(curve.value(index * every, index));
            tick = grid.tick().await;
        }
    }
}
