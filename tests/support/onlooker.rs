//! Times what happens on a Mesos from outside, by the master's own events.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use microscaler_testbed::wire::{Connection, Request};
use serde_json::Value;

use super::PATIENCE;

/// Sees the master's own events: which task runs, and when.
pub struct Onlooker {
    seen: Receiver<(String, Instant)>,
}

impl Onlooker {
    /// Subscribed when this returns.
    pub fn start(mesos: &Cluster) -> Self {
        let address = mesos.master_url().trim_start_matches("http://").parse().unwrap();
        let headers = "Content-Type: application/json\r\nAccept: application/json\r\n";
        let request = Request { method: "POST", path: "/api/v1", headers, body: br#"{"type":"SUBSCRIBE"}"# };
        let mut events = Connection::open(address, PATIENCE).unwrap().subscribe(request).unwrap().ok().unwrap();
        events.next().unwrap();
        let (send, seen) = channel();
        std::thread::spawn(move || {
            while let Ok(Some(record)) = events.next() {
                let now = Instant::now();
                let event: Value = serde_json::from_slice(record).unwrap();
                let update = &event["task_updated"];
                let id = update["status"]["task_id"]["value"].as_str().filter(|_| update["state"] == "TASK_RUNNING");
                if id.is_some_and(|id| send.send((id.to_owned(), now)).is_err()) {
                    return;
                }
            }
        });
        Self { seen }
    }

    /// When the n-th task of the app began to run.
    pub fn wait_running(&self, app: &str, n: usize) -> Instant {
        let mut running = BTreeSet::new();
        loop {
            let (id, at) = self.seen.recv_timeout(PATIENCE).expect("tasks run in time");
            if id.split('.').nth(1) == Some(app) && running.insert(id) && running.len() == n {
                return at;
            }
        }
    }
}

/// The same in rising order.
pub fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// In milliseconds, of times in rising order.
pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1000.0
}
