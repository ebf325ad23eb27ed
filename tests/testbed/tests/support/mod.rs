//! What the tests of tasks share.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod local;

use microscaler_testbed::bare::{Framework, framework_info, task_info};
use microscaler_testbed::{Agent, Cluster};
use serde_json::Value;
use std::time::{Duration, Instant};

pub const LIMIT: Duration = Duration::from_mins(1);

/// One agent, one framework.
pub struct Rig {
    pub cluster: Cluster,
    pub framework: Framework,
}

impl Rig {
    pub fn start() -> Self {
        Self::with_framework(&framework_info("testbed"))
    }

    pub fn with_framework(info: &Value) -> Self {
        Self::with(Agent::default(), info)
    }

    pub fn with(agent: Agent, info: &Value) -> Self {
        let builder = Cluster::builder().agent(agent).fast_failure_detection().master_flag("allocation_interval", "50ms");
        let cluster = builder.start().unwrap();
        let framework = Framework::subscribe(&cluster.master_url(), info).unwrap();
        Self { cluster, framework }
    }

    pub fn with_agent(agent: Agent) -> Self {
        Self::with(agent, &framework_info("testbed"))
    }

    /// Launches one task, changed as wanted.
    pub fn launch(&mut self, id: &str, command: &str, change: impl FnOnce(&mut Value)) {
        let offer = self.framework.take_offer(0.5, 64.0, LIMIT).unwrap();
        let mut task = task_info(id, &offer, command, 0.1, 32.0);
        change(&mut task);
        self.framework.launch(&offer, &[task]).unwrap();
    }

    pub fn run(&mut self, id: &str, command: &str) {
        self.launch(id, command, |_| {});
        self.reaches(id, "TASK_RUNNING");
    }

    /// Runs a shell command, and waits until it has made the file `ready` in its sandbox.
    pub fn run_until_ready(&mut self, id: &str, command: &str) {
        self.run(id, command);
        let sandbox = self.cluster.agent(0).sandbox(&self.framework.id, id).unwrap();
        let deadline = Instant::now() + LIMIT;
        while !sandbox.join("ready").exists() {
            assert!(Instant::now() < deadline, "{id} is not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn reaches(&mut self, id: &str, state: &str) -> Value {
        let ends = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED"];
        let states: Vec<&str> = ends.into_iter().chain([state]).collect();
        let status = self.framework.wait_for_state(id, &states, LIMIT).unwrap();
        assert_eq!(status["state"], state, "{status}");
        status
    }

    pub fn kill(&mut self, id: &str, grace: Option<Duration>) {
        self.framework.calls.kill(id, grace);
        self.framework.calls.confirm().unwrap();
    }

    pub fn wait_for_processes(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.cluster.processes().len() != count {
            assert!(Instant::now() < deadline, "{:?} run, expected {count}", self.cluster.processes());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the executor of that id, and with it the task of that id, has written to standard output.
    pub fn output(&self, executor_id: &str) -> String {
        let sandbox = self.cluster.agent(0).sandbox(&self.framework.id, executor_id).unwrap();
        std::fs::read_to_string(sandbox.join("stdout")).unwrap()
    }
}
