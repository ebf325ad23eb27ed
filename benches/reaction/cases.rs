//! What is measured, whoever does it.

use std::time::Duration;

use crate::bare::Executor;

/// How tasks are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    Isolated,
    Pooled,
}

impl Launch {
    pub const ALL: [Self; 2] = [Self::Pooled, Self::Isolated];

    pub fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Pooled => "pooled",
        }
    }

    /// What the bare client runs its tasks with.
    pub fn floor(self) -> Executor {
        match self {
            Self::Isolated => Executor::Fresh,
            Self::Pooled => Executor::Running,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// So many tasks at once; room is free, and nothing is held.
    Burst(usize),
    /// So many tasks at once in a pool that is full of work that can wait.
    Swap(usize),
}

impl Case {
    /// Swaps last: the pool is filled for them.
    pub const ALL: [Self; 5] = [Self::Burst(1), Self::Burst(10), Self::Burst(50), Self::Swap(1), Self::Swap(20)];

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

/// One for each round.
#[derive(Default)]
pub struct Times {
    /// From the wish (or the first call) to the last RUNNING.
    pub up: Vec<Duration>,
    /// From the wish to be rid of them (or the first KILL) to the last KILLED.
    pub down: Vec<Duration>,
}

impl Times {
    pub fn take(&mut self, other: Self) {
        self.up.extend(other.up);
        self.down.extend(other.down);
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
        let (up, down) = contender.round(case);
        times.up.push(up);
        times.down.push(down);
    }
    eprint!(".");
    times
}

/// Processes that end and logs that are written should not weigh on the next round.
fn rest() {
    std::thread::sleep(Duration::from_millis(150));
}
