//! What is done when nothing else is.

use std::time::{Duration, Instant};

/// Nothing has been decided for so long: it may stay so.
const CALM: Duration = Duration::from_secs(5);

/// Gives memory back that a burst has taken, once after each.
///
/// The C library keeps it otherwise: of 1,000 apps and 5,000 tasks more than is in use. Another allocator (mimalloc 0.1) was tried, and took
/// more memory and twice the processor time.
#[derive(Debug, Default)]
pub struct Rest {
    /// When something was last decided, unless that has been seen to.
    stirred: Option<Instant>,
}

impl Rest {
    pub fn stir(&mut self, now: Instant) {
        self.stirred = Some(now);
    }

    /// Whether there was something to do.
    pub fn tidy(&mut self, now: Instant) -> bool {
        let due = self.stirred.take_if(|at| now.saturating_duration_since(*at) >= CALM).is_some();
        if due {
            give_back_memory();
        }
        due
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_back_memory() {
    // SAFETY: it takes the allocator's own locks, and moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back_memory() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock;

    #[test]
    fn once_after_each_burst() {
        let (start, second) = (clock::instant(), Duration::from_secs(1));
        let mut rest = Rest::default();
        let mut tidied = |stirs: bool, at: u32| {
            let now = start + second * at;
            if stirs {
                rest.stir(now);
            }
            rest.tidy(now)
        };
        let steps = [(false, 0), (true, 1), (true, 4), (false, 8), (false, 9), (false, 20), (true, 21), (false, 30)];
        assert_eq!(steps.map(|(stirs, at)| tidied(stirs, at)), [false, false, false, false, true, false, false, true]);
    }
}
