//! What benches make of the times that they take.

use std::time::Duration;

use serde_json::{Value, json};

use super::onlooker::{percentile, sorted};

/// One for each round.
#[derive(Default)]
pub struct Times {
    /// From the wish (or the first call) to the last RUNNING.
    pub up: Vec<Duration>,
    /// From the wish to be rid of them (or the first call) to the last KILLED.
    pub down: Vec<Duration>,
}

impl Times {
    pub fn take(&mut self, other: Self) {
        self.up.extend(other.up);
        self.down.extend(other.down);
    }

    pub fn push(&mut self, (up, down): (Duration, Duration)) {
        self.up.push(up);
        self.down.push(down);
    }

    pub fn json(&self) -> Value {
        json!({"up": Summary::of(&self.up).json(), "down": Summary::of(&self.down).json()})
    }
}

/// In milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Summary {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

impl Summary {
    pub fn of(times: &[Duration]) -> Self {
        let times = sorted(times);
        Self { p50: percentile(&times, 50), p90: percentile(&times, 90), p99: percentile(&times, 99) }
    }

    pub fn words(self) -> String {
        let Self { p50, p90, p99 } = self;
        format!("{p50:.1}/{p90:.1}/{p99:.1}")
    }

    fn json(self) -> Value {
        json!({"p50": self.p50, "p90": self.p90, "p99": self.p99})
    }
}
