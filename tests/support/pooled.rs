//! What tests and benches of pooled apps share.

use microscaler_testbed::{Agent, Builder, Cluster, marked};
use serde_json::{Value, json};

use super::{SLOT, app};

/// The pool `default` whose agents start executors from this program; `more` is further fields of `mesos`, indented by four.
pub fn pool(mesos: &Cluster, program: &str, more: &str) -> String {
    pool_with(mesos, &format!("path: {program}"), more)
}

/// The same, with any fields of `executor`.
pub fn pool_with(mesos: &Cluster, executor: &str, more: &str) -> String {
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: default}}\nspec:\n  mesos:\n    \
         masters: [\"{}\"]\n    executor: {{{executor}}}\n{more}",
        mesos.master_url(),
    )
}

/// An app of pooled replicas that sleep until they are ended.
pub fn pooled(name: &str, spec: &str) -> String {
    app(name, spec, SLOT, "launch: pooled\nshell: exec sleep 100000")
}

/// Room for eight replicas of [`SLOT`] and their executors.
pub fn agent() -> Agent {
    Agent::default().resources("cpus:4.1;mem:4096;disk:4096;ports:[31000-31999]")
}

pub fn cluster_of(agents: Vec<Agent>) -> Cluster {
    agents.into_iter().fold(Cluster::builder().fast_failure_detection(), Builder::agent).start().unwrap()
}

/// kill -9.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_microscaler");

/// The executors that the master knows.
pub fn executors(mesos: &Cluster) -> Vec<Value> {
    let answer = mesos.operator(&json!({"type": "GET_EXECUTORS"})).unwrap_or_default();
    answer["get_executors"]["executors"].as_array().cloned().unwrap_or_default()
}

/// The processes of executors of ours.
pub fn executor_pids(mesos: &Cluster) -> Vec<u32> {
    let is_executor = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"executor")
    };
    marked::processes(mesos.id()).into_iter().map(|process| process.pid).filter(is_executor).collect()
}
