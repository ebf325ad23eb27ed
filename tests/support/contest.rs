//! What benches measure, whoever does it: Microscaler, or a bare client that sends the same and decides nothing.

use std::time::Duration;

use super::times::Times;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// So many tasks at once; room is free, and nothing is held.
    Burst(usize),
    /// So many tasks at once in a pool that is full of work that can wait.
    Swap(usize),
}

impl Case {
    pub fn name(self) -> String {
        match self {
            Self::Burst(n) => format!("+{n}"),
            Self::Swap(n) => format!("swap {n} for {n}"),
        }
    }

    pub fn tasks(self) -> usize {
        match self {
            Self::Burst(n) | Self::Swap(n) => n,
        }
    }
}

pub trait Contender {
    /// Before the first round of a case.
    fn prepare(&mut self, case: Case);
    /// Up and down again; afterwards all is as before.
    fn round(&mut self, case: Case) -> (Duration, Duration);
}

/// The first round warms up and does not count.
pub fn measure(contender: &mut impl Contender, case: Case, rounds: usize) -> Times {
    contender.prepare(case);
    contender.round(case);
    let mut times = Times::default();
    for _ in 0..rounds {
        rest();
        times.push(contender.round(case));
    }
    eprint!(".");
    times
}

/// Processes that end and logs that are written should not weigh on the next round.
pub fn rest() {
    std::thread::sleep(Duration::from_millis(150));
}

/// How many rounds a bench is told to make, and the words that name what it measures.
pub fn arguments(default: usize) -> (usize, Vec<String>) {
    let (mut rounds, mut words) = (default, Vec::new());
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        match argument.parse() {
            // A case such as `+1` would pass for a number, too.
            Ok(number) if !argument.starts_with('+') => rounds = number,
            _ => words.push(argument),
        }
    }
    (rounds, words)
}

/// Those of them that a word names, or all if none does.
pub fn named<T: Copy>(all: &[T], name: impl Fn(&T) -> String, words: &[String]) -> Vec<T> {
    let named: Vec<T> = all.iter().filter(|one| words.contains(&name(one))).copied().collect();
    if named.is_empty() { all.to_vec() } else { named }
}
