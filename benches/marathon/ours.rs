//! Microscaler itself, driven through its push API.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::setting::Setting;
use crate::support::contest::{Case, Contender};
use crate::support::marathon::{Bed, adopted};
use crate::support::onlooker::Onlooker;
use crate::support::pusher::Pusher;
use crate::support::{PUSHED, REMAINDER, Scaler, wait_for};
use crate::{AGENTS, SLOTS};

/// What has happened meanwhile is read within this time.
const BACKLOG: Duration = Duration::from_millis(300);

pub struct Ours<'a> {
    bed: &'a Bed,
    setting: &'a Setting,
    scaler: Scaler,
    pusher: Pusher,
    onlooker: Onlooker,
    /// Work that can wait fills the pool.
    full: bool,
}

impl<'a> Ours<'a> {
    pub fn start(bed: &'a Bed, setting: &'a Setting) -> Self {
        let scaler = Scaler::start_quietly(&bed.cluster, &[("pool.yaml", &bed.pool("")), ("web.yaml", &web("Enforce"))]);
        scaler.push("web", "load", 0.0);
        let pusher = Pusher::open(&scaler, "web");
        Self { bed, setting, scaler, pusher, onlooker: Onlooker::start(&bed.cluster), full: false }
    }

    /// Medians and 99th percentiles in milliseconds, over all cases: our own share, and what Marathon takes after that.
    pub fn finish(self) -> (Value, Value) {
        self.signal(Signal::CONT);
        let status = self.scaler.get("/v1/pools").unwrap()["items"][0]["status"].clone();
        let of = |what: &str| json!({"p50": status[format!("median{what}")], "p99": status[format!("p99{what}")]});
        (of("ReactionMilliseconds"), of("LaunchMilliseconds"))
    }

    /// Goes on after the turn of another, takes note of what that has done, and acts.
    fn wake(&mut self) {
        self.signal(Signal::CONT);
        std::thread::sleep(BACKLOG);
        self.settle(0);
        self.enter("Enforce");
        self.settle(0);
    }

    /// Stands still while it is another's turn. What that does is not to be put back when this goes on.
    fn stand_still(&self) {
        self.enter("Observe");
        self.signal(Signal::STOP);
    }

    fn enter(&self, mode: &str) {
        self.scaler.write("web.yaml", &web(mode));
        if self.full {
            self.scaler.write("rest.yaml", &rest(mode));
        }
        self.scaler.wait(mode, || self.scaler.apps().iter().all(|app| json!(app.spec.mode) == mode));
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.scaler.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Until all is as it was: by our own count, by that of Mesos, and Marathon has nothing more to do.
    fn settle(&self, web: usize) {
        let rest = if self.full { AGENTS * SLOTS - web } else { 0 };
        let wanted = [("web", "/web", web), ("rest", "/rest", rest)];
        self.scaler.wait(&format!("{web} and {rest}"), || {
            wanted[..if self.full { 2 } else { 1 }].iter().all(|(name, id, count)| {
                let number = i64::try_from(*count).unwrap();
                self.scaler.counts(name) == Some((number, number, 0)) && self.bed.running(id).len() == *count
            })
        });
        wait_for("deployments to end", || (self.bed.marathon.get("/v2/deployments").ok()? == json!([])).then_some(()));
    }
}

impl Contender for Ours<'_> {
    fn prepare(&mut self, case: Case) {
        if matches!(case, Case::Swap(_)) && !self.full {
            self.signal(Signal::CONT);
            self.full = true;
            self.enter("Enforce");
        }
        self.wake();
        self.stand_still();
    }

    fn round(&mut self, case: Case) -> (Duration, Duration) {
        let n = case.tasks();
        self.wake();
        self.setting.pause();
        self.onlooker.forget();
        let start = Instant::now();
        self.pusher.push(n * 10);
        let up = self.onlooker.wait_running("web", n) - start;
        self.settle(n);
        let start = Instant::now();
        self.pusher.push(0);
        let down = self.onlooker.wait("web", "TASK_KILLED", n) - start;
        self.settle(0);
        self.stand_still();
        (up, down)
    }
}

fn web(mode: &str) -> String {
    let damping = "behavior: {scaleDown: {stabilizationWindowMilliseconds: 0}}";
    adopted("web", "/web", &format!("mode: {mode}\npriority: 1\n{damping}\n{PUSHED}"))
}

fn rest(mode: &str) -> String {
    adopted("rest", "/rest", &format!("mode: {mode}\npriority: 2\n{REMAINDER}"))
}
