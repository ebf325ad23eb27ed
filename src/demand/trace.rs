//! Recorded loads.

use super::pattern::float;
use crate::api::demand::Trace;

/// A trace that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    #[error("trace line {line}: {text:?} is not `milliseconds,value`")]
    Line { line: usize, text: String },
    #[error("trace line {line}: {at} ms comes after {previous} ms")]
    Order { line: usize, at: u64, previous: u64 },
    #[error("the trace is empty")]
    Empty,
}

/// A recorded load. Its times count from its first line.
#[derive(Debug)]
pub struct Table {
    points: Vec<(u64, f64)>,
    speed: f64,
    /// Length of one round, if it repeats: the last value holds for as long as the one before it did.
    round: Option<u64>,
}

impl Table {
    pub(super) fn read(trace: &Trace) -> Result<Self, BadTrace> {
        let mut points: Vec<(u64, f64)> = Vec::new();
        for (line, text) in trace.csv.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let line = line + 1;
            let (at, value) = point(text).ok_or_else(|| BadTrace::Line { line, text: text.to_owned() })?;
            if let Some(&(previous, _)) = points.last().filter(|(previous, _)| *previous >= at) {
                return Err(BadTrace::Order { line, at, previous });
            }
            points.push((at, value));
        }
        let start = points.first().ok_or(BadTrace::Empty)?.0;
        for (at, _) in &mut points {
            *at -= start;
        }
        let round = match points[..] {
            [.., (before, _), (last, _)] if trace.repeat => Some(last + (last - before)),
            _ => None,
        };
        Ok(Self { points, speed: trace.speed, round })
    }

    pub(super) fn at(&self, elapsed: u64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let recorded = (float(elapsed) * self.speed) as u64;
        let recorded = self.round.map_or(recorded, |round| recorded % round);
        let after = self.points.partition_point(|(at, _)| *at <= recorded);
        self.points[after.saturating_sub(1)].1
    }
}

fn point(line: &str) -> Option<(u64, f64)> {
    let (at, value) = line.split_once(',')?;
    Some((at.trim().parse().ok()?, value.trim().parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_played_back() {
        let trace = |speed, repeat| {
            let csv = "1000, 5\n1100,10.5\n1300, 20\n".to_owned();
            let table = Table::read(&Trace { csv, speed, repeat }).unwrap();
            move |moments: &[u64]| moments.iter().map(|&at| table.at(at)).collect::<Vec<f64>>()
        };
        let moments = [0, 99, 100, 299, 300, 499, 500, 600];
        assert_eq!(trace(1.0, false)(&moments), [5.0, 5.0, 10.5, 10.5, 20.0, 20.0, 20.0, 20.0]);
        assert_eq!(trace(1.0, true)(&moments), [5.0, 5.0, 10.5, 10.5, 20.0, 20.0, 5.0, 10.5]);
        assert_eq!(trace(2.0, false)(&[0, 49, 50, 150]), [5.0, 5.0, 10.5, 20.0]);
    }

    #[test]
    fn bad_traces_are_named() {
        let read = |csv: &str| {
            let trace = Trace { csv: csv.to_owned(), speed: 1.0, repeat: true };
            Table::read(&trace).unwrap_err().to_string()
        };
        assert_eq!(read("0,1\nx"), "trace line 2: \"x\" is not `milliseconds,value`");
        assert_eq!(read("5,1\n5,2"), "trace line 2: 5 ms comes after 5 ms");
        assert_eq!(read("\n"), "the trace is empty");
    }
}
