//! What Mesos itself takes: start of a cluster, ACCEPT to RUNNING, KILL to KILLED, with the command executor and the bare client.
//!   usage: cargo run --release -p microscaler-testbed --example latency [ROUNDS]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use anyhow::Result;
use microscaler_testbed::Cluster;
use microscaler_testbed::bare::{Framework, framework_info, task_info};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let begin = Instant::now();
    let cluster = Cluster::builder().agents(2).master_flag("allocation_interval", "10ms").start()?;
    println!("cluster with 2 agents up after {:.2} s", begin.elapsed().as_secs_f64());
    let mut framework = Framework::subscribe(&cluster.master_url(), &framework_info("latency"))?;
    let (mut launches, mut kills) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let id = format!("task-{round}");
        let offer = framework.take_offer(1.0, 64.0, LIMIT)?;
        let task = task_info(&id, &offer, "exec sleep 1000", 0.1, 32.0);
        let begin = Instant::now();
        framework.launch(&offer, &[task])?;
        framework.wait_for_state(&id, &["TASK_RUNNING"], LIMIT)?;
        launches.push(begin.elapsed());
        let begin = Instant::now();
        framework.calls.kill(&id, Some(Duration::ZERO));
        framework.calls.flush()?;
        framework.wait_for_state(&id, &["TASK_KILLED"], LIMIT)?;
        kills.push(begin.elapsed());
    }
    report("ACCEPT to RUNNING", launches);
    report("KILL to KILLED", kills);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what}: median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms", at(50), at(90), at(99));
}
