//! Knative's own autoscaler (KPA), from <https://knative.dev/docs/serving/autoscaling/> and knative/serving
//! `pkg/autoscaler/scaling/autoscaler.go`, with averages over windows of one-second buckets.

use std::collections::VecDeque;

use super::ceil;

#[derive(Clone, Debug)]
pub struct Kpa {
    /// Concurrency that one replica is to have.
    pub target: f64,
    pub max_up_rate: f64,
    pub max_down_rate: f64,
    /// So many times the ready replicas are wanted: panic.
    pub panic_threshold: f64,
    pub stable_ms: u64,
    pub panic_ms: u64,
    pub min: i64,
    pub max: i64,
    panicking_since: Option<u64>,
    most: i64,
    /// One average a second, newest last.
    buckets: VecDeque<f64>,
}

impl Kpa {
    /// The stock settings: windows of 60 s and 6 s, panic at 200 %, up a thousandfold and down by half at a time.
    pub fn new(target: f64, min: i64, max: i64) -> Self {
        Self {
            target,
            max_up_rate: 1000.0,
            max_down_rate: 2.0,
            panic_threshold: 2.0,
            stable_ms: 60_000,
            panic_ms: 6000,
            min,
            max,
            panicking_since: None,
            most: 0,
            buckets: VecDeque::new(),
        }
    }

    /// The average concurrency of the last second.
    pub fn record(&mut self, concurrency: f64) {
        self.buckets.push_back(concurrency);
        if self.buckets.len() as u64 > self.stable_ms / 1000 {
            self.buckets.pop_front();
        }
    }

    /// One tick, at this moment in milliseconds.
    pub fn tick(&mut self, ready: i64, now: u64) -> i64 {
        let [stable, panic] = [self.stable_ms, self.panic_ms].map(|window_ms| self.average(window_ms));
        self.scale(stable, panic, ready, now).clamp(self.min, self.max)
    }

    /// Over what there is of the window.
    fn average(&self, window_ms: u64) -> f64 {
        let window = self.buckets.iter().rev().take((window_ms / 1000) as usize);
        let count = window.len().max(1);
        window.sum::<f64>() / count as f64
    }

    fn scale(&mut self, stable: f64, panic: f64, ready: i64, now: u64) -> i64 {
        let ready = ready.max(1) as f64;
        let (up, down) = (ceil(self.max_up_rate * ready), (ready / self.max_down_rate) as i64);
        let [by_stable, by_panic] = [stable, panic].map(|observed| ceil(observed / self.target));
        let [stable, panic] = [by_stable, by_panic].map(|wanted| wanted.max(down).min(up));
        let is_over = by_panic as f64 / ready >= self.panic_threshold;
        if is_over {
            self.panicking_since = Some(now);
        } else if self.panicking_since.is_some_and(|since| since + self.stable_ms < now) {
            (self.panicking_since, self.most) = (None, 0);
        }
        if self.panicking_since.is_none() {
            return stable;
        }
        self.most = self.most.max(stable).max(panic);
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of `autoscaler_test.go`.
    fn kpa(target: f64) -> Kpa {
        Kpa { max_up_rate: 10.0, max_down_rate: 10.0, ..Kpa::new(target, 0, i64::MAX) }
    }

    fn once(target: f64, stable: f64, panic: f64, ready: i64) -> i64 {
        kpa(target).scale(stable, panic, ready, 0)
    }

    /// From the table of `TestAutoscalerScale`, and its neighbours.
    #[test]
    fn in_stable_mode() {
        assert_eq!(once(10.0, 50.0, 50.0, 5), 5, "StableModeNoChangeAlreadyScaled");
        assert_eq!(once(10.0, 50.0, 10.0, 1), 5, "StableModeIncreaseWithConcurrencyDefault");
        assert_eq!(once(181.0, 21.0, 26.0, 1), 1, "StableModeUnlimitedTBC");
        assert_eq!(once(10.0, 50.0, 50.0, 8), 5, "StableModeDecrease");
        assert_eq!((once(10.0, 1.0, 0.0, 1), once(10.0, 0.0, 0.0, 1)), (1, 0), "StableModeNoTrafficScaleToZero");
        let mut slow = Kpa { max_up_rate: 1.1, ..kpa(1.0) };
        assert_eq!(slow.scale(3.0, 3.1, 2, 0), 3, "StableModeIncreaseWithSmallScaleUpRate");
        let mut slow = Kpa { max_down_rate: 1.1, ..kpa(10.0) };
        assert_eq!(slow.scale(1.0, 1.0, 100, 0), 90, "StableModeDecreaseWithSmallScaleDownRate");
    }

    #[test]
    fn rates_are_limited() {
        assert_eq!((once(10.0, 1000.0, 1001.0, 1), once(10.0, 1000.0, 1001.0, 10)), (10, 100), "RateLimitScaleUp");
        assert_eq!((once(10.0, 1.0, 1.0, 100), once(10.0, 1.0, 1.0, 10)), (10, 1), "RateLimitScaleDown");
    }

    #[test]
    fn in_panic_mode() {
        assert_eq!(once(10.0, 50.0, 100.0, 1), 10, "PanicModeDoublePodCount");
        let panicking = |stable, panic| {
            let mut kpa = Kpa { panicking_since: Some(0), most: 5, ..kpa(1.0) };
            kpa.scale(stable, panic, 5, 5000)
        };
        assert_eq!(panicking(50.0, 30.0), 50, "PanicStableLargerThanPanic");
        assert_eq!(panicking(20.0, 30.0), 30, "PanicStableLessThanPanic");
    }

    #[test]
    fn panic_then_unpanic_scale_down() {
        let mut kpa = kpa(10.0);
        assert_eq!(kpa.scale(100.0, 100.0, 1, 0), 10);
        assert_eq!(kpa.scale(100.0, 1000.0, 10, 0), 100);
        assert_eq!(kpa.scale(1.0, 1.0, 10, 30_000), 100, "still in panic");
        assert_eq!(kpa.scale(1.0, 1.0, 10, 61_000), 1);
    }

    #[test]
    fn panic_mode_exponential_track_and_stabilize() {
        let mut kpa = kpa(1.0);
        let way = [(6.0, 1, 0), (36.0, 6, 0), (216.0, 36, 1000), (1296.0, 216, 1000), (1296.0, 1296, 2000)];
        let mut scale = |&(load, ready, now): &(f64, i64, u64)| kpa.scale(load, load, ready, now);
        assert_eq!(way.iter().map(&mut scale).collect::<Vec<_>>(), [6, 36, 216, 1296, 1296]);
    }

    #[test]
    fn unpanic_after_a_slow_increase() {
        let mut kpa = kpa(1.0);
        assert_eq!(kpa.scale(11.0, 25.0, 10, 0), 25);
        assert_eq!(kpa.scale(30.0, 41.0, 40, 30_000), 41);
        assert_eq!((kpa.scale(50.0, 56.0, 55, 62_000), kpa.panicking_since), (50, None));
    }

    #[test]
    fn windows_average_what_they_have() {
        let mut kpa = Kpa::new(1.0, 1, 100);
        (0..54).for_each(|_| kpa.record(2.0));
        (0..6).for_each(|_| kpa.record(12.0));
        assert_eq!((kpa.average(60_000), kpa.average(6000)), (3.0, 12.0));
        (0..3).for_each(|_| kpa.record(0.0));
        assert_eq!((kpa.buckets.len(), kpa.average(6000)), (60, 6.0));
        assert_eq!(kpa.tick(9, 0), 4, "half of nine at least, and no panic below eighteen");
    }
}
