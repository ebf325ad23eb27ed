//! Times what happens on a Mesos from outside, by the master's own events.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use microscaler_testbed::wire::{Connection, Request};
use serde_json::Value;

use super::PATIENCE;

/// Sees the master's own events: which task came to which state, and when.
pub struct Onlooker {
    news: Receiver<Sight>,
    /// What has been seen since [`Onlooker::forget`], in order.
    seen: RefCell<Vec<Sight>>,
}

#[derive(Clone)]
struct Sight {
    task: String,
    state: String,
    at: Instant,
}

impl Onlooker {
    /// Subscribed when this returns.
    pub fn start(mesos: &Cluster) -> Self {
        let address = mesos.master_url().trim_start_matches("http://").parse().unwrap();
        let headers = "Content-Type: application/json\r\nAccept: application/json\r\n";
        let request = Request { method: "POST", path: "/api/v1", headers, body: br#"{"type":"SUBSCRIBE"}"# };
        let mut events = Connection::open(address, PATIENCE).unwrap().subscribe(request).unwrap().ok().unwrap();
        events.next().unwrap();
        let (send, news) = channel();
        std::thread::spawn(move || {
            while let Ok(Some(record)) = events.next() {
                let at = Instant::now();
                if sight(record, at).is_some_and(|sight| send.send(sight).is_err()) {
                    return;
                }
            }
        });
        Self { news, seen: RefCell::default() }
    }

    /// When the n-th task of the app began to run, of those seen since [`Onlooker::forget`].
    pub fn wait_running(&self, app: &str, n: usize) -> Instant {
        self.wait(app, "TASK_RUNNING", n)
    }

    /// When the n-th task of the app came to this state, of those seen since [`Onlooker::forget`].
    pub fn wait(&self, app: &str, state: &str, n: usize) -> Instant {
        let mut there = BTreeSet::new();
        self.find(&format!("{n} tasks of {app} to become {state}"), |sight| {
            let is_one = sight.state == state && is_of(&sight.task, app);
            is_one && there.insert(sight.task.clone()) && there.len() == n
        })
    }

    /// When the last of these tasks came to its state; each task's id with the state that is waited for.
    pub fn wait_all(&self, mut wanted: HashSet<(String, &str)>) -> Instant {
        self.find("tasks to come to their states", |sight| {
            wanted.retain(|(id, awaited)| *id != sight.task || *awaited != sight.state);
            wanted.is_empty()
        })
    }

    /// Forgets what has been seen.
    pub fn forget(&self) {
        while self.news.try_recv().is_ok() {}
        self.seen.borrow_mut().clear();
    }

    fn find(&self, what: &str, mut is_it: impl FnMut(&Sight) -> bool) -> Instant {
        let mut seen = self.seen.borrow_mut();
        if let Some(found) = seen.iter().find(|sight| is_it(sight)) {
            return found.at;
        }
        loop {
            let sight = self.news.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited in vain for {what}"));
            seen.push(sight.clone());
            if is_it(&sight) {
                return sight.at;
            }
        }
    }
}

/// Whether it is one of ours, `NAMESPACE.APP.…`, or one of Marathon's, `APP.instance-…`, where the app `/shop/web` is `shop_web`.
fn is_of(task: &str, app: &str) -> bool {
    let rest = task.strip_prefix(app);
    task.split('.').nth(1) == Some(app) || rest.is_some_and(|rest| rest.starts_with(".instance-"))
}

fn sight(record: &[u8], at: Instant) -> Option<Sight> {
    let event: Value = serde_json::from_slice(record).unwrap();
    let update = &event["task_updated"];
    let task = update["status"]["task_id"]["value"].as_str()?.to_owned();
    Some(Sight { task, state: update["state"].as_str()?.to_owned(), at })
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
