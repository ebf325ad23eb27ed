//! Whether to believe a forecast: what it said beside what came.

use std::collections::VecDeque;

/// So many steps are looked back on, and so many are enough for a verdict.
const WINDOW: usize = 12;
const ENOUGH: usize = 6;
/// Believed below an error of a fifth, as with Scryer; not believed any more above three tenths.
const GOOD: f64 = 0.2;
const BAD: f64 = 0.3;

/// The record of one forecast.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// What was foreseen for steps that have not been.
    pending: VecDeque<(u64, f64)>,
    /// What was foreseen, and what came; oldest first.
    compared: VecDeque<(f64, f64)>,
    trusted: bool,
}

impl Trust {
    /// For this step, this is foreseen. What was said first counts, as that is what replicas are started by.
    pub fn foresaw(&mut self, step: u64, value: f64) {
        if self.pending.back().is_none_or(|(last, _)| *last < step) {
            self.pending.push_back((step, value));
        }
    }

    /// This came in this step.
    pub fn came(&mut self, step: u64, value: Option<f64>) {
        let past = self.pending.partition_point(|(of, _)| *of <= step);
        let foreseen = self.pending.drain(..past).map(|(_, foreseen)| foreseen);
        self.compared.extend(foreseen.filter_map(|foreseen| Some((foreseen, value?))));
        while self.compared.len() > WINDOW {
            self.compared.pop_front();
        }
        self.trusted = self.error().is_some_and(|error| error < if self.trusted { BAD } else { GOOD });
    }

    /// The mean error, as a share of what came (weighted absolute percentage error); `None` as long as there is too little to compare.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        if self.compared.len() < ENOUGH {
            return None;
        }
        let missed: f64 = self.compared.iter().map(|(foreseen, came)| (foreseen - came).abs()).sum();
        let came: f64 = self.compared.iter().map(|(_, came)| came.abs()).sum();
        Some(if missed == 0.0 { 0.0 } else { missed / came.max(f64::MIN_POSITIVE) })
    }

    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_earned_lost_and_earned_again() {
        let mut trust = Trust::default();
        let mut after = |steps: std::ops::Range<u64>, came: f64| {
            for step in steps {
                trust.foresaw(step, 100.0);
                trust.foresaw(step, 1.0);
                trust.came(step, Some(came));
            }
            (trust.is_trusted(), trust.error().map(|error| (error * 100.0).round()))
        };
        assert_eq!(after(0..5, 100.0), (false, None), "too little to tell");
        assert_eq!(after(5..6, 100.0), (true, Some(0.0)));
        assert_eq!(after(6..8, 50.0), (true, Some(14.0)));
        assert_eq!(after(8..18, 50.0), (false, Some(100.0)));
        assert_eq!(after(18..40, 110.0), (true, Some(9.0)));
    }

    #[test]
    fn what_is_not_known_proves_nothing() {
        let mut trust = Trust::default();
        for step in 0..50 {
            trust.foresaw(step, 1.0);
            trust.came(step, None);
        }
        assert_eq!((trust.error(), trust.is_trusted()), (None, false));
        assert!(trust.pending.is_empty());
    }
}
