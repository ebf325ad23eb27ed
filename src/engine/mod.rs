//! The loop that turns what is seen into what is done.

pub mod clock;
pub mod report;
