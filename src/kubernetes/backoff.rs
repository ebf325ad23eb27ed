//! How long to wait before something that failed is tried again.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// From the first delay on, twice as long each time, up to the last one; up to a tenth shorter or longer.
#[derive(Clone, Debug)]
pub struct Doubling {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Doubling {
    #[must_use]
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (delay * 2).min(self.last);
        Some(delay.mul_f64(0.9 + 0.2 * fastrand::f64()))
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.next = self.first;
    }
}
