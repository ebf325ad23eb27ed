//! The Microscaling Engine's two controllers of a queue's length (github.com/microscaling/microscaling, `target/queue.go` and
//! `target/simpleQueue.go`), with its published gains and at its pace.

use super::world::Millis;

/// `constGetDemandSleep`.
const STEP_MS: Millis = 500;
/// 0.8 times the ultimate gain of 0.05 (Ziegler and Nichols, PD).
const PROPORTIONAL: f64 = 0.04;
/// An eighth of the ultimate period of 10 steps.
const DERIVATIVE: f64 = 1.25;
/// `queueLengthExceedingPercent`: replicas are given up only while the queue is shorter than this part of the target.
const MUCH_SHORTER: f64 = 0.7;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    ProportionalDerivative,
    OneByOne,
}

/// What the controllers remember: it is between steps that a queue's speed is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    next: Millis,
    last: Option<f64>,
    wanted: i64,
}

impl Pace {
    /// What is wanted, of which `current` is what was, and until when: in between nothing changes.
    pub fn replicas(&mut self, controller: Controller, length: f64, target: f64, current: i64, now: Millis) -> (i64, Millis) {
        if now >= self.next {
            let speed = self.last.replace(length).map_or(0.0, |last| length - last);
            let short = (MUCH_SHORTER * target).floor();
            let change = match controller {
                Controller::OneByOne if length > target => 1.0,
                Controller::OneByOne => -f64::from(u8::from(length < short)),
                Controller::ProportionalDerivative => {
                    let change = PROPORTIONAL * (length - target) + DERIVATIVE * speed;
                    change.clamp(if length <= short { f64::MIN } else { 0.0 }, if length > target { f64::MAX } else { 0.0 })
                }
            };
            self.wanted = (current + nearest(change)).max(0);
            self.next = now + STEP_MS;
        }
        (self.wanted, self.next)
    }
}

/// Halves are rounded up, as there.
#[allow(clippy::cast_possible_truncation)]
fn nearest(x: f64) -> i64 {
    (x + 0.5).floor().clamp(-1e9, 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted after each of these lengths, half a second apart, and what is wanted in between is the same.
    fn play(controller: Controller, from: i64, lengths: &[f64]) -> Vec<i64> {
        let (mut pace, mut current, mut now) = (Pace::default(), from, 1000);
        let mut step = |length: &f64| {
            (current, now) = pace.replicas(controller, *length, 50.0, current, now);
            assert_eq!(pace.replicas(controller, 9e9, 50.0, current, now - 1), (current, now));
            current
        };
        lengths.iter().map(&mut step).collect()
    }

    /// round(0.04 × 50) = 2 without a speed, then round(0.04 × 60 + 1.25 × 10) = round(14.9) more; at 40 neither long nor short; and
    /// at 30, round(-0.8 - 12.5) = -13.
    #[test]
    fn the_gains_are_those_that_were_published() {
        let lengths = [100.0, 110.0, 40.0, 30.0, 30.0, 0.0];
        assert_eq!(play(Controller::ProportionalDerivative, 3, &lengths), [5, 20, 20, 7, 6, 0]);
    }

    #[test]
    fn one_by_one() {
        assert_eq!(play(Controller::OneByOne, 3, &[900.0, 51.0, 50.0, 36.0, 35.0, 0.0, 0.0]), [4, 5, 5, 5, 5, 4, 3]);
    }
}
