//! How tasks are started.

use crate::bare::Executor;

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
