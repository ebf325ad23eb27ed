//! What Mesos itself takes: start of a cluster, ACCEPT to RUNNING, KILL to KILLED, with the bare client.
//!   usage: cargo run --release -p microscaler-testbed --example latency [ROUNDS] [command | run | pretend]
//! `command`: a command executor for each task. `run`, `pretend`: one bare-executor for all, with and without processes.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use anyhow::{Context, Result, bail};
use microscaler_testbed::Cluster;
use microscaler_testbed::bare::{Framework, executor_info, framework_info, pooled_task_info, task_info};
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_mins(1);
const COMMAND: &str = "exec sleep 1000";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let mode = match arguments.next().as_deref() {
        None | Some("command") => None,
        Some("run") => Some("--run"),
        Some("pretend") => Some("--pretend"),
        Some(other) => bail!("no such mode: {other}"),
    };
    let begin = Instant::now();
    let cluster = Cluster::builder().agents(1).master_flag("allocation_interval", "10ms").start()?;
    println!("cluster with an agent up after {:.2} s", begin.elapsed().as_secs_f64());
    let mut framework = Framework::subscribe(&cluster.master_url(), &framework_info("latency"))?;
    let (mut launches, mut kills) = (Vec::new(), Vec::new());
    // The first task starts the pool, and keeps it: it is not counted.
    for round in 0..=rounds {
        let id = format!("task-{round}");
        let offer = framework.take_offer(1.0, 64.0, LIMIT)?;
        let task = describe(&cluster, mode, &id, &offer)?;
        let begin = Instant::now();
        framework.launch(&offer, &[task])?;
        framework.wait_for_state(&id, &["TASK_RUNNING"], LIMIT)?;
        if round == 0 {
            continue;
        }
        launches.push(begin.elapsed());
        let begin = Instant::now();
        framework.calls.kill(&id, Some(Duration::ZERO));
        framework.calls.flush()?;
        framework.wait_for_state(&id, &["TASK_KILLED"], LIMIT)?;
        kills.push(begin.elapsed());
    }
    report("ACCEPT to RUNNING", launches);
    report("KILL to KILLED", kills);
    report_memory(&cluster, &framework.id)
}

fn describe(cluster: &Cluster, mode: Option<&str>, id: &str, offer: &Value) -> Result<Value> {
    let Some(mode) = mode else { return Ok(task_info(id, offer, COMMAND, 0.1, 32.0)) };
    let executor = executor_info("pool", offer, &cluster.program("bare-executor")?, mode, 0.1, 32.0);
    Ok(pooled_task_info(id, offer, &executor, COMMAND, 0.1, 32.0))
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what}: median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms", at(50), at(90), at(99));
}

/// Of the pool, if there is one.
fn report_memory(cluster: &Cluster, framework_id: &str) -> Result<()> {
    let Ok(_) = cluster.agent(0).sandbox(framework_id, "pool") else { return Ok(()) };
    for process in microscaler_testbed::marked::processes(cluster.id()) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        if status.starts_with("Name:\tbare-executor") {
            let lines: Vec<&str> =
                status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("Threads")).collect();
            println!("bare-executor: {}", lines.join(", "));
            return Ok(());
        }
    }
    None.context("the pool has ended")
}
