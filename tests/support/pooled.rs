//! What tests and benches of pooled apps share.

use microscaler_testbed::{Cluster, marked};
use serde_json::{Value, json};

/// The pool `default` whose agents start executors from this program; `more` is further fields of `mesos`, indented by four.
pub fn pool(mesos: &Cluster, program: &str, more: &str) -> String {
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: default}}\nspec:\n  mesos:\n    \
         masters: [\"{}\"]\n    executor: {{path: {program}}}\n{more}",
        mesos.master_url(),
    )
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
