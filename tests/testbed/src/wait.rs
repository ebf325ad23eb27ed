//! Waiting for something to become so.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `is_so` says true; passes its last error on when `limit` is over.
pub(crate) fn wait(limit: Duration, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let found = is_so();
        if matches!(found, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return found.and_then(|_| bail!("not so after {limit:?}"));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
