//! How fast the API server is written to. Pure: the time is an argument.

use crate::policy::world::Millis;

/// So much per time, and so much at once after a pause.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Microseconds in which one comes in.
    interval: u64,
    /// Microseconds in which an empty one is full.
    depth: u64,
    /// When it would be full.
    full_at: u64,
}

impl Bucket {
    /// Full, and holds `burst`; one comes in each `interval`, in microseconds.
    #[must_use]
    pub fn new(burst: u32, interval: u64) -> Self {
        let interval = interval.max(1);
        Self { interval, depth: interval * u64::from(burst.max(1)), full_at: 0 }
    }

    /// Full, holds as much as comes in within a second.
    #[must_use]
    pub fn per_second(rate: u32) -> Self {
        Self::new(rate, 1_000_000 / u64::from(rate.max(1)))
    }

    /// Whether there is one, without taking it.
    #[must_use]
    pub fn has_one(&self, now: Millis) -> bool {
        self.refilled_at() <= now
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Millis) -> bool {
        if !self.has_one(now) {
            return false;
        }
        self.full_at = self.full_at.max(now * 1000) + self.interval;
        true
    }

    /// From when on there is one.
    #[must_use]
    pub fn refilled_at(&self) -> Millis {
        (self.full_at + self.interval).saturating_sub(self.depth).div_ceil(1000)
    }
}

/// Waits of all while the server cannot serve: twice as long each time, unless it says how long.
#[derive(Clone, Debug, Default)]
pub struct Pause {
    failures: u32,
    until: Millis,
    /// When the last failure was heard of.
    failed_at: Millis,
}

impl Pause {
    /// The first wait, and the longest one.
    pub const FIRST: Millis = 500;
    pub const LONGEST: Millis = 8000;
    /// More than this is not waited for, whatever the server says.
    const LIMIT: Millis = 60_000;

    /// Whether the last request has failed: then one is tried at a time.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.failures > 0
    }

    /// Until when nothing is to be sent.
    #[must_use]
    pub fn until(&self) -> Millis {
        self.until
    }

    /// A request failed that was sent at `sent`. True: it is the first, so that it is news.
    pub fn failed(&mut self, sent: Millis, now: Millis, retry_after: Option<Millis>) -> bool {
        let first = self.failures == 0;
        // Those that were under way together count as one.
        if first || sent > self.failed_at {
            self.failures += 1;
        }
        self.failed_at = now;
        let wait = retry_after.map_or(doubled(Self::FIRST, self.failures, Self::LONGEST), |wait| wait.max(Self::FIRST));
        self.until = self.until.max(now + wait.min(Self::LIMIT));
        first
    }

    /// A request has succeeded. True: the first one after failures.
    pub fn succeeded(&mut self) -> bool {
        let over = self.failures > 0;
        *self = Self::default();
        over
    }
}

/// The wait after so many failures in a row.
#[must_use]
pub fn doubled(first: Millis, failures: u32, longest: Millis) -> Millis {
    first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::per_second(50);
        assert_eq!((0..100).filter(|_| bucket.take(1000)).count(), 50);
        assert_eq!(bucket.refilled_at(), 1020);
        assert!(!bucket.take(1019) && bucket.take(1020) && !bucket.take(1020));
        let taken = (1021..=2020).filter(|now| bucket.take(*now)).count();
        assert_eq!(taken, 50, "50 in a second");
        assert_eq!((0..100).filter(|_| bucket.take(9000)).count(), 50, "never more than the burst");
    }

    #[test]
    fn a_slow_bucket() {
        let mut bucket = Bucket::new(2, 10_000_000);
        assert!(bucket.take(5) && bucket.take(5) && !bucket.take(9999));
        assert_eq!(bucket.refilled_at(), 10_005);
        assert!(bucket.take(10_005) && !bucket.take(20_004) && bucket.take(20_005));
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut pause = Pause::default();
        assert!(!pause.is_on() && pause.until() == 0);
        assert!(pause.failed(100, 110, None));
        assert!(!pause.failed(100, 112, None), "sent together with the first");
        assert_eq!(pause.until(), 612);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let now = pause.until() + 5;
            assert!(!pause.failed(now - 4, now, None));
            waits.push(pause.until() - now);
        }
        assert_eq!(waits, [1000, 2000, 4000, 8000, 8000, 8000]);
        assert!(pause.succeeded() && !pause.succeeded() && !pause.is_on());
        pause.failed(1, 2, Some(3000));
        assert_eq!(pause.until(), 3002, "as the server says");
    }
}
