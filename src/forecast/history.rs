//! What a metric was, in even steps.

use std::collections::VecDeque;

/// The most of a metric in each step, as far back as is kept. Steps are counted from the beginning of the wall clock's time, so that a
/// history can be stored, and be read from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The number of the first step that is kept.
    begins: u64,
    /// `None`: nothing was known.
    values: VecDeque<Option<f64>>,
    most: usize,
}

impl History {
    /// At most so many steps are kept.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { begins: 0, values: VecDeque::new(), most: most.max(1) }
    }

    /// Takes in what was in a step. Steps between the last one and this are unknown; of an older one it is too late.
    pub fn note(&mut self, step: u64, value: Option<f64>) {
        if self.values.is_empty() || step >= self.end() + self.most as u64 {
            (self.begins, self.values) = (step, VecDeque::from([value]));
            return;
        }
        if step < self.end() {
            return;
        }
        for _ in self.end()..step {
            self.push(None);
        }
        self.push(value);
    }

    fn push(&mut self, value: Option<f64>) {
        self.values.push_back(value);
        if self.values.len() > self.most {
            self.values.pop_front();
            self.begins += 1;
        }
    }

    /// The number of the step after the last one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.begins + self.values.len() as u64
    }

    /// What is known, oldest first, with the number of its step.
    pub fn known(&self) -> impl Iterator<Item = (u64, f64)> + use<'_> {
        (self.begins..).zip(&self.values).filter_map(|(step, value)| Some((step, (*value)?)))
    }

    /// All steps, oldest first, from the first on that is known; what is not known is taken to have been as before.
    #[must_use]
    pub fn filled(&self) -> Vec<f64> {
        let mut last = 0.0;
        let known = self.values.iter().skip_while(|value| value.is_none());
        let as_before = |value: &Option<f64>| {
            last = value.unwrap_or(last);
            last
        };
        known.map(as_before).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_as_before_and_the_oldest_goes() {
        let mut history = History::new(5);
        for (step, value) in [(100, None), (101, Some(3.0)), (104, Some(5.0)), (103, Some(9.0))] {
            history.note(step, value);
        }
        assert_eq!(history.filled(), [3.0, 3.0, 3.0, 5.0]);
        history.note(107, Some(1.0));
        assert_eq!(history.filled(), [5.0, 5.0, 5.0, 1.0]);
        assert_eq!(history.known().collect::<Vec<_>>(), [(104, 5.0), (107, 1.0)]);
        history.note(1000, Some(2.0));
        assert_eq!((history.filled(), history.end()), (vec![2.0], 1001));
    }
}
