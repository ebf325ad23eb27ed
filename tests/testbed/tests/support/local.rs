//! `mesos-local` as the owner of a testbed, to be ended in one way or another.

use super::LIMIT;
use microscaler_testbed::marked;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub fn wait_until_nothing_is_left(id: &str, directory: &Path) {
    let deadline = Instant::now() + LIMIT;
    while directory.exists() || !marked::processes(id).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", marked::processes(id));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ended with the test that holds it, however that ends.
pub struct Owner(Child);

impl Owner {
    pub fn close_stdin(&mut self) {
        drop(self.0.stdin.take());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `mesos-local`, and what it says about itself.
pub fn start_local(options: &[&str]) -> (Owner, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesos-local"));
    let mut child = command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Owner(child), serde_json::from_str(&line).unwrap())
}

/// The mark of a cluster, from the environment of one of its daemons.
pub fn mark_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
    let environments =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    let prefix = format!("{}={name}-", marked::VARIABLE);
    let found = environments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let marks = found.filter_map(|text| text.split('\0').find(|entry| entry.starts_with(&prefix)).map(ToOwned::to_owned));
    let mark = marks.map(|entry| entry[marked::VARIABLE.len() + 1..].to_owned()).next();
    mark.expect("a marked process runs")
}
