//! Bursts: once demand is far above what it was, nothing is given up while that lasts, and afterwards the most that was asked for fades.
//! After Knative's panic mode (`knative.dev/serving/pkg/autoscaler/scaling/autoscaler.go`), but for two things. It is told from what was
//! asked for in the long run, not from replicas that are ready: these follow in milliseconds, and would end a panic as it begins. And it
//! has no end at which all that it held is given up at once.

use super::plan::Reason;
use super::target::{float, round_up};
use super::world::Millis;
use crate::api::validated::Panic;

/// What is remembered of what was asked for. Time goes in steps, so that within one nothing changes by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Bursts {
    /// What this was told by; where that changes, it begins anew.
    panic: Option<Panic>,
    /// What is known since the first step; `None`: nothing yet.
    course: Option<Course>,
    /// The fading maximum, in a panic.
    most: Option<Most>,
}

#[derive(Clone, Copy, Debug)]
struct Course {
    step: u64,
    /// What was asked for last.
    last: f64,
    /// Its exponential mean over the short window, and over the stable one.
    short: f64,
    long: f64,
}

#[derive(Clone, Copy, Debug)]
struct Most {
    level: f64,
    /// The last step in which demand was above the threshold.
    over_at: u64,
}

/// What is wanted because of a burst.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub replicas: i64,
    pub reason: Option<Reason>,
    /// When the next step begins, if that may change something.
    pub wake_at: Option<Millis>,
}

impl Bursts {
    /// What is wanted where so many replicas are asked for: never fewer.
    pub fn keep(&mut self, panic: Panic, asked: i64, now: Millis) -> Kept {
        if self.panic != Some(panic) {
            *self = Self { panic: Some(panic), ..Self::default() };
        }
        let (step, value) = (now / panic.step_ms, float(asked));
        let mut course = self.course.unwrap_or(Course { step, last: value, short: value, long: value });
        let past_ms = float_of(step.saturating_sub(course.step).saturating_mul(panic.step_ms));
        if let Some(most) = self.most.as_mut().filter(|_| step > course.step) {
            let fading = if course.is_over(panic) { 1.0 } else { (-past_ms / float_of(panic.half_life_ms())).exp2() };
            most.level = (most.level * fading).max(course.last);
        }
        course.pass(step, past_ms, panic);
        let last = std::mem::replace(&mut course.last, value);
        self.course = Some(course);
        let is_over = course.is_over(panic);
        if is_over {
            let level = self.most.map_or(last.max(value), |most| most.level);
            self.most = Some(Most { level, over_at: step });
        }
        let stable_steps = panic.stable_ms / panic.step_ms;
        let is_past = |most: &Most| step.saturating_sub(most.over_at) >= stable_steps && most.level.round() <= value;
        self.most = self.most.filter(|most| !is_past(most));
        let level = self.most.map_or(0.0, |most| most.level.max(value));
        self.most.iter_mut().for_each(|most| most.level = level);
        let replicas = asked.max(round_up(level.round()));
        let reason = (replicas > asked).then_some(Reason::Burst { asked, keeping: replicas, over: is_over });
        let changes = is_over || replicas > asked || value >= panic.threshold * course.long.max(1.0);
        Kept { replicas, reason, wake_at: changes.then(|| (step + 1).saturating_mul(panic.step_ms)) }
    }
}

impl Course {
    /// The short mean is so many times the long one. Below one replica there is no burst.
    fn is_over(&self, panic: Panic) -> bool {
        self.short >= panic.threshold * self.long.max(1.0)
    }

    /// Lets time go by, in which the last value held.
    fn pass(&mut self, step: u64, past_ms: f64, panic: Panic) {
        let mean = |mean: f64, window_ms: u64| self.last + (mean - self.last) * (-past_ms / float_of(window_ms)).exp();
        (self.short, self.long) = (mean(self.short, panic.window_ms), mean(self.long, panic.stable_ms));
        self.step = self.step.max(step);
    }
}

#[allow(clippy::cast_precision_loss, reason = "times of hours, in milliseconds, are exact")]
fn float_of(ms: u64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: Panic = Panic { window_ms: 6000, stable_ms: 60_000, threshold: 2.0, step_ms: 750 };

    /// What is wanted every 250 ms while so much is asked for, each for so long.
    fn play(asked: &[(i64, u64)]) -> Vec<(i64, Kept)> {
        let (mut bursts, mut now) = (Bursts::default(), 0);
        let mut all = Vec::new();
        for (asked, for_ms) in asked {
            for _ in 0..for_ms / 250 {
                all.push((*asked, bursts.keep(PANIC, *asked, now)));
                now += 250;
            }
        }
        all
    }

    fn last(asked: &[(i64, u64)]) -> i64 {
        play(asked).last().map_or(0, |(_, kept)| kept.replicas)
    }

    #[test]
    fn in_a_burst_nothing_is_given_up() {
        assert_eq!(last(&[(2, 60_000), (20, 5000), (2, 500)]), 20);
        assert_eq!(last(&[(0, 60_000), (20, 5000), (0, 500)]), 20, "from nothing, too");
        assert_eq!(last(&[(2, 60_000), (20, 500), (2, 500)]), 2, "what is over at once is no burst");
        assert_eq!(last(&[(10, 60_000), (18, 5000), (10, 500)]), 10, "nor is what is less than twice as much");
    }

    #[test]
    fn what_a_burst_asked_for_fades_without_a_cliff() {
        let all = play(&[(2, 60_000), (20, 30_000), (2, 300_000)]);
        assert!(all.windows(2).all(|two| two[0].1.replicas - two[1].1.replicas <= 1), "one after the other");
        let after = |ms: usize| all[(90_000 + ms) / 250].1.replicas;
        assert_eq!((after(0), after(120_000), after(299_000)), (20, 2, 2));
        assert!((8..=14).contains(&after(30_000)), "half of it, about, after half a minute: {}", after(30_000));
        let word = all[(90_000 + 30_000) / 250].1.reason.as_ref().map(ToString::to_string);
        assert_eq!(word, Some(format!("2 asked for, {} kept after a burst", after(30_000))));
    }

    #[test]
    fn long_after_a_burst_there_is_no_panic() {
        assert_eq!(last(&[(2, 60_000), (20, 300_000), (2, 500)]), 2);
        assert_eq!(play(&[(2, 60_000), (20, 300_000)]).last().map(|(_, kept)| kept.wake_at), Some(None));
    }

    #[test]
    fn with_other_windows_it_begins_anew() {
        let mut bursts = Bursts::default();
        let hasty = Panic { window_ms: 100, stable_ms: 1000, threshold: 2.0, step_ms: 12 };
        assert_eq!((bursts.keep(hasty, 2, 60_000).replicas, bursts.keep(hasty, 20, 60_100).replicas), (2, 20));
        assert_eq!(bursts.keep(hasty, 2, 60_200).replicas, 20);
        assert_eq!(bursts.keep(PANIC, 2, 60_210).replicas, 2);
        assert_eq!((bursts.keep(PANIC, 20, 61_000).replicas, bursts.keep(PANIC, 2, 66_000).replicas), (20, 20));
    }

    #[test]
    fn within_a_step_nothing_changes_by_itself() {
        let (mut bursts, mut random) = (Bursts::default(), fastrand::Rng::with_seed(5));
        let mut now = 0;
        for _ in 0..20_000 {
            let asked = if random.u8(..) < 8 { random.i64(0..60) } else { 3 };
            let kept = bursts.keep(PANIC, asked, now);
            assert!(kept.replicas >= asked, "never below what is asked for");
            let later = random.u64(0..750);
            if kept.wake_at.is_none_or(|at| at > now + later) {
                assert_eq!(
                    bursts.clone().keep(PANIC, asked, now + later),
                    kept,
                    "{asked} at {now} and {later} later: {bursts:?}"
                );
            }
            now += random.u64(0..3000);
        }
    }
}
