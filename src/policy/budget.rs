//! How many replicas may have to give way in a time: a token bucket, in whole numbers, so that it is exact over any course of events.

use super::world::Millis;
use crate::api::protection::PreemptionBudget;

/// What was taken of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Another budget begins anew.
    budget: Option<PreemptionBudget>,
    /// Each replica costs the milliseconds of a period, and each millisecond gives back as many as the replicas of the budget. More than
    /// the bucket holds where one winner had to have several.
    spent: u64,
    at: Millis,
}

/// What may be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    left: u64,
    full: bool,
    /// When there is one more to take, if there is none.
    pub next_at: Millis,
}

impl Bucket {
    /// What is left by now; `None` without a budget.
    pub fn refill(&mut self, budget: Option<PreemptionBudget>, now: Millis) -> Option<Tokens> {
        if self.budget != budget {
            *self = Self { budget, spent: 0, at: now };
        }
        let (replicas, period) = budget.map(parts)?;
        let back = now.saturating_sub(self.at).saturating_mul(replicas);
        (self.spent, self.at) = (self.spent.saturating_sub(back), now);
        let all = replicas * period;
        let over = (self.spent + period).saturating_sub(all);
        let left = all.saturating_sub(self.spent) / period;
        Some(Tokens { left, full: self.spent == 0, next_at: now + over.div_ceil(replicas) })
    }

    /// A replica had to give way.
    pub fn take(&mut self) {
        self.spent += self.budget.map_or(0, |budget| parts(budget).1);
    }
}

fn parts(budget: PreemptionBudget) -> (u64, u64) {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0).max(1);
    (positive(budget.replicas.into()), positive(budget.period_milliseconds))
}

impl Tokens {
    /// Whether so many may go, beside those that this decision has taken already.
    pub fn allow(self, count: usize, taken: usize) -> bool {
        (count + taken) as u64 <= self.left
    }

    /// The same for one winner that can do with no fewer: of a full bucket it may have all that it needs, or it would wait for ever.
    pub fn allow_at_once(self, count: usize, taken: usize) -> bool {
        self.allow(count, taken) || (self.full && taken == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_span_of_time_sees_more_than_the_budget(
            replicas in 1..6_i32,
            period in 1..3000_i64,
            asks in prop::collection::vec((0..700_u64, 0..4_usize), 1..60),
        ) {
            let budget = PreemptionBudget { replicas, period_milliseconds: period };
            let (mut bucket, mut now, mut taken) = (Bucket::default(), 5, Vec::new());
            for (pause, count) in asks {
                now += pause;
                let tokens = bucket.refill(Some(budget), now).expect("there is a budget");
                for nth in 0..count {
                    if tokens.allow(1, nth) {
                        bucket.take();
                        taken.push(now);
                    }
                }
                // A little earlier there is none, and then there is.
                let later = |at: u64| bucket.clone().refill(Some(budget), at).is_some_and(|tokens| tokens.allow(1, 0));
                let next_at = bucket.clone().refill(Some(budget), now).expect("there is a budget").next_at;
                prop_assert!(later(next_at) && (next_at == now || !later(next_at - 1)));
            }
            for (first, from) in taken.iter().enumerate() {
                for (nth, to) in taken[first..].iter().zip(1_u64..).map(|(to, nth)| (nth, to)) {
                    let (replicas, period) = parts(budget);
                    prop_assert!(nth <= replicas + (to - from) * replicas / period, "{nth} from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn a_winner_that_needs_more_than_there_ever_is_waits_for_a_full_bucket() {
        let (mut bucket, budget) = (Bucket::default(), Some(PreemptionBudget { replicas: 2, period_milliseconds: 1000 }));
        let tokens = bucket.refill(budget, 10).expect("there is a budget");
        assert!(tokens.allow_at_once(3, 0) && !tokens.allow(3, 0) && !tokens.allow_at_once(3, 1));
        (0..3).for_each(|_| bucket.take());
        let mut at = |now| bucket.refill(budget, now).expect("there is a budget");
        assert_eq!((at(10).allow(1, 0), at(10).next_at), (false, 1010));
        assert!(at(1010).allow(1, 0) && !at(1010).allow_at_once(3, 0) && at(1510).allow_at_once(3, 0));
    }
}
