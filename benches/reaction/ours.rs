//! Microscaler itself, driven through its push API.

use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use serde_json::{Value, json};

use crate::launch::Launch;
use crate::support::contest::{Case, Contender};
use crate::support::onlooker::Onlooker;
use crate::support::pooled::{PROGRAM, executors, pool};
use crate::support::pusher::Pusher;
use crate::support::{PUSHED, REMAINDER, Scaler, app};
use crate::{AGENTS, SLOTS};

const SIZE: &str = "{cpu: 500m, memory: 32Mi}";

pub struct Ours<'a> {
    mesos: &'a Cluster,
    launch: Launch,
    scaler: Scaler,
    pusher: Pusher,
    onlooker: Onlooker,
    /// Work that can wait fills the pool.
    full: bool,
}

impl<'a> Ours<'a> {
    pub fn start(mesos: &'a Cluster, launch: Launch) -> Self {
        let damping = "behavior: {scaleDown: {stabilizationWindowMilliseconds: 0}}";
        let web = sleeper("web", &format!("priority: 1\n{damping}\n{PUSHED}"), launch);
        let scaler = Scaler::start_quietly(mesos, &[("pool.yaml", &pool(mesos, PROGRAM, "")), ("web.yaml", &web)]);
        scaler.push("web", "load", 0.0);
        scaler.settle(mesos, &[("web", 0)]);
        if launch == Launch::Pooled {
            scaler.wait("executors on all agents", || executors(mesos).len() == AGENTS);
        }
        let pusher = Pusher::open(&scaler, "web");
        Self { mesos, launch, scaler, pusher, onlooker: Onlooker::start(mesos), full: false }
    }

    /// Ends all of it, as stopping alone leaves the tasks. Our own share of the time, in milliseconds.
    pub fn finish(self) -> Value {
        let status = self.scaler.get("/v1/pools").unwrap()["items"][0]["status"].clone();
        let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": status["frameworkId"]}}});
        self.mesos.operator(&teardown).unwrap();
        json!({"median": status["medianReactionMilliseconds"], "p99": status["p99ReactionMilliseconds"]})
    }
}

impl Contender for Ours<'_> {
    fn prepare(&mut self, case: Case) {
        if matches!(case, Case::Swap(_)) && !self.full {
            self.scaler.write("rest.yaml", &sleeper("rest", &format!("priority: 2\n{REMAINDER}"), self.launch));
            let slots = i64::try_from(AGENTS * SLOTS).unwrap();
            self.scaler.settle(self.mesos, &[("web", 0), ("rest", slots)]);
            self.full = true;
        }
    }

    fn round(&mut self, case: Case) -> (Duration, Duration) {
        let n = case.tasks();
        self.onlooker.forget();
        let start = Instant::now();
        self.pusher.push(n * 10);
        let up = self.onlooker.wait_running("web", n) - start;
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        self.pusher.push(0);
        let down = self.onlooker.wait("web", "TASK_KILLED", n) - start;
        if self.full {
            self.onlooker.wait_running("rest", n);
        }
        (up, down)
    }
}

fn sleeper(name: &str, spec: &str, launch: Launch) -> String {
    app(name, spec, SIZE, &format!("launch: {}\nshell: exec sleep 100000", launch.name()))
}
