//! Ends a testbed whose owner is gone.   usage: `testbed-reaper ID DIRECTORY`
//!
//! Standard input is a pipe from the owner: a process that ends in whatever way, SIGKILL included, closes it. Then all processes
//! that carry the mark ID are ended, their control groups and mounts go, and DIRECTORY is removed. An owner that has cleaned up itself leaves it nothing to do.

use microscaler_testbed::leftovers;
use std::io::Read;
use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(id), Some(directory)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: testbed-reaper ID DIRECTORY");
        std::process::exit(2);
    };
    let mut nothing = Vec::new();
    // Whatever ends the reading, the owner is gone.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    let left = leftovers::clear(&id, Path::new(&directory));
    if !left.is_mounted {
        let _ = std::fs::remove_dir_all(directory);
    }
    std::process::exit(i32::from(!left.problems.is_empty()));
}
