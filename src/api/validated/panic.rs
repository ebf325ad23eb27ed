//! Bursts of demand, in plain numbers.

use super::amount::unsigned;

/// How bursts are told from what is usual, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Panic {
    /// Over which demand has to be high.
    pub window_ms: u64,
    /// Over which it is known what is usual.
    pub stable_ms: u64,
    /// How many times as much demand has to be.
    pub threshold: f64,
    /// How often it is looked at.
    pub step_ms: u64,
}

impl Panic {
    /// In which the most of a burst fades by half.
    #[must_use]
    pub fn half_life_ms(&self) -> u64 {
        self.stable_ms / 2
    }
}

pub(super) fn read(panic: &crate::api::panic::Panic) -> Panic {
    let stable_ms = unsigned(panic.stable_window_milliseconds.into());
    let window_ms = panic.window_milliseconds.map_or(stable_ms / 10, |ms| unsigned(ms.into()));
    let threshold = f64::from(panic.threshold_percent) / 100.0;
    Panic { window_ms, stable_ms, threshold, step_ms: (window_ms / 8).max(1) }
}
