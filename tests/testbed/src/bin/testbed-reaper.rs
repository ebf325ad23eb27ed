//! Ends a testbed whose owner is gone.   usage: `testbed-reaper ID DIRECTORY`
//!
//! Standard input is a pipe from the owner: a process that ends in whatever way, SIGKILL included, closes it. Then all processes
//! that carry the mark ID are ended, and DIRECTORY is removed. An owner that has cleaned up itself leaves it nothing to do.

#![allow(clippy::disallowed_methods, reason = "a real process takes real time")]

use microscaler_testbed::marked;
use std::io::Read;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(id), Some(directory)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: testbed-reaper ID DIRECTORY");
        std::process::exit(2);
    };
    let mut nothing = Vec::new();
    // Whatever ends the reading, the owner is gone.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    let left = marked::end(&id, Duration::from_secs(30));
    let _ = std::fs::remove_dir_all(directory);
    std::process::exit(i32::from(!left.is_empty()));
}
