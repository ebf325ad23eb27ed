//! Half an hour of flash crowds, and what becomes of the memory of Microscaler and its executors.
//!
//! Four agents full of pooled work that can wait; every second or two a crowd comes to an important app, and goes again. `cargo bench
//! --bench endurance [-- MINUTES]` prints a line a minute; the numbers go to `target/bench/endurance.json` as well. It is no part of
//! `make bench`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::cast_precision_loss)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use microscaler_testbed::{Agent, Cluster};
use serde_json::{Value, json};
use support::onlooker::{Onlooker, percentile, sorted};
use support::pooled::{PROGRAM, executor_pids, pool};
use support::usage::{cpu_seconds, load, memory_mebibytes, result_path};
use support::{PUSHED, REMAINDER, Scaler, app};

const AGENTS: usize = 4;
const SLOTS: i64 = 64;
const SIZE: &str = "{cpu: 500m, memory: 32Mi}";

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let minutes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(30);
    let mesos = cluster();
    let scaler = start(&mesos);
    let onlooker = Onlooker::start(&mesos);
    println!("minute  crowds  crowd→all RUNNING, ms p50/p99  memory, MiB  of the executors  CPU s");
    let mut random = fastrand::Rng::with_seed(1);
    let lines: Vec<Value> = (1..=minutes).map(|minute| one_minute(minute, &mesos, &scaler, &onlooker, &mut random)).collect();
    let path = result_path("endurance.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json!({"load": load(), "minutes": lines})).unwrap()).unwrap();
    println!("load {}; {}", load(), path.display());
    let memory = |minute: usize| lines.get(minute).and_then(|line| line["memoryMiB"].as_f64());
    if let (Some(early), Some(late)) = (memory(4), memory(lines.len() - 1)) {
        assert!(late <= 1.2 * early, "memory has grown from {early} to {late} MiB");
    }
}

fn cluster() -> Cluster {
    let agent = || Agent::default().resources("cpus:8.1;mem:4096;disk:4096;ports:[31000-31999]");
    (0..AGENTS).fold(Cluster::builder(), |builder, _| builder.agent(agent())).start().unwrap()
}

fn start(mesos: &Cluster) -> Scaler {
    let pool = pool(mesos, PROGRAM, "");
    let template = "launch: pooled\nshell: exec sleep 100000";
    let damping = "behavior: {scaleDown: {stabilizationWindowMilliseconds: 0}}";
    let web = app("web", &format!("priority: 1\n{damping}\n{PUSHED}"), SIZE, template);
    let rest = app("rest", &format!("priority: 2\n{REMAINDER}"), SIZE, template);
    let scaler = Scaler::start_quietly(mesos, &[("pool.yaml", &pool), ("web.yaml", &web), ("rest.yaml", &rest)]);
    scaler.push("web", "load", 0.0);
    scaler.settle(mesos, &[("web", 0), ("rest", SLOTS)]);
    scaler
}

fn one_minute(minute: u64, mesos: &Cluster, scaler: &Scaler, onlooker: &Onlooker, random: &mut fastrand::Rng) -> Value {
    let (end, cpu) = (Instant::now() + Duration::from_mins(1), cpu_seconds(scaler.pid()));
    let mut times = Vec::new();
    while Instant::now() < end {
        let crowd = random.usize(1..=40);
        onlooker.forget();
        let start = Instant::now();
        scaler.push("web", "load", (crowd * 10) as f64);
        times.push(onlooker.wait_running("web", crowd) - start);
        std::thread::sleep(Duration::from_millis(random.u64(200..800)));
        scaler.push("web", "load", 0.0);
        onlooker.wait_running("rest", crowd);
        std::thread::sleep(Duration::from_millis(random.u64(200..800)));
    }
    let crowds = times.len();
    let times = sorted(&times);
    let (median, p99) = (percentile(&times, 50), percentile(&times, 99));
    let (memory, executors, cpu) = (
        memory_mebibytes(scaler.pid()),
        executor_pids(mesos).into_iter().map(memory_mebibytes).collect::<Vec<_>>(),
        cpu_seconds(scaler.pid()) - cpu,
    );
    println!(
        "{minute:>6} {crowds:>7} {:>30} {memory:>12.1} {:>17} {cpu:>6.1}",
        format!("{median:.0}/{p99:.0}"),
        shown(&executors)
    );
    json!({"minute": minute, "crowds": crowds, "p50": median, "p99": p99, "memoryMiB": memory, "executorsMiB": executors, "cpuSeconds": cpu})
}

fn shown(sizes: &[f64]) -> String {
    sizes.iter().map(|size| format!("{size:.1}")).collect::<Vec<_>>().join(" ")
}
