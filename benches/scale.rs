//! How cost and reaction grow with the size of the cluster: up to 500 agents (one process hosts them all), 1,000 apps and 5,000 tasks of
//! an executor that only pretends, and what 10,000 status updates in a burst take.
//!
//! The cluster stands for machines elsewhere, and so has the lower priority on this one: otherwise most of what is timed is waiting for a
//! processor that one of the agents uses, a whole slice of the scheduler (4 ms) at a time.
//!
//! And what one executor takes for 1,000 tasks that are processes.
//!
//! `cargo bench --bench scale [-- AGENTS…]` prints a table; the numbers go to `target/bench/scale.json` as well.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::cast_precision_loss)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use microscaler_testbed::{Agent, Cluster, marked};
use serde_json::{Value, json};
use support::onlooker::{Onlooker, percentile, sorted};
use support::pooled::{executor_pids, pool};
use support::usage::{cpu_seconds, load, memory_mebibytes, result_path, yield_to_others};
use support::{Scaler, app};

const SIZES: [usize; 3] = [50, 150, 500];
const APPS_PER_AGENT: usize = 2;
const TASKS_PER_APP: usize = 5;
/// Pushes that are timed; each is taken back, and these are all reactions that our own share is taken of.
const PUSHES: usize = 500;
const IDLE: Duration = Duration::from_secs(15);
/// Executors start by the hundred, on two cores.
const PATIENCE: Duration = Duration::from_mins(10);

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mut sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.extend(SIZES);
    }
    println!(
        "agents  apps  tasks  all running  memory  idle       +1: push→RUNNING  push→calls written  all down, all up\n\
         \x20                        s     MiB  % of core   ms, p50/p99       ms, p50/p99         updates: s, CPU s"
    );
    let rows: Vec<Value> = sizes.into_iter().map(measure).collect();
    let executor = one_executor();
    let report = json!({"load": load(), "sizes": rows, "executor": executor});
    let path = result_path("scale.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    println!("load {}; {}", load(), path.display());
}

fn measure(agents: usize) -> Value {
    let (apps, mesos) = (agents * APPS_PER_AGENT, cluster(agents));
    marked::processes(mesos.id()).into_iter().for_each(|process| yield_to_others(process.pid));
    let tasks = apps * TASKS_PER_APP;
    let program = tempfile::tempdir().unwrap();
    let manifests = manifests(&mesos, &pretender(&mesos, program.path()), apps);
    let start = Instant::now();
    let scaler = Scaler::start_quietly(&mesos, &[("pool.yaml", &manifests)]);
    push_all(&scaler, apps, TASKS_PER_APP);
    wait_running(&scaler, tasks);
    let all_running = start.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(5));

    let idle = share_of_a_core(scaler.pid(), IDLE);
    let memory = memory_mebibytes(scaler.pid());
    let reaction = reaction(&mesos, &scaler, apps);
    let own = own_share(&scaler);
    let (seconds, cpu) = burst(&scaler, apps, tasks);
    println!(
        "{agents:>6} {apps:>5} {tasks:>6} {all_running:>12.1} {memory:>7.1} {idle:>10.2}   {:>16} {:>19} {:>10} {seconds:.1}, {cpu:.1}",
        words(&reaction),
        words(&own),
        2 * tasks
    );
    json!({
        "agents": agents, "apps": apps, "tasks": tasks, "allRunningSeconds": all_running, "memoryMiB": memory, "idlePercent": idle,
        "pushToRunning": reaction, "pushToCallsWritten": own,
        "burst": {"updates": 2 * tasks, "seconds": seconds, "cpuSeconds": cpu}, "memoryAfterMiB": memory_mebibytes(scaler.pid()),
    })
}

/// A thousand processes of one executor: its memory without them and with them, and its own processor time for each launch.
fn one_executor() -> Value {
    const TASKS: u32 = 1000;
    let host = Agent::default().resources("cpus:12;mem:40000;disk:1000;ports:[31000-31999]");
    let mesos = Cluster::builder().agent(host).start().unwrap();
    let template = "launch: pooled\nshell: exec sleep 100000";
    let crowd = app("crowd", support::PUSHED, "{cpu: 10m, memory: 32Mi}", template);
    let manifests = [("pool.yaml", &*pool(&mesos, env!("CARGO_BIN_EXE_microscaler-executor"), "")), ("crowd.yaml", &crowd)];
    let scaler = Scaler::start_quietly(&mesos, &manifests);
    scaler.push("crowd", "load", 0.0);
    scaler.wait("the executor", || executor_pids(&mesos).len() == 1);
    let pid = executor_pids(&mesos)[0];
    let (empty, cpu) = (memory_mebibytes(pid), cpu_seconds(pid));
    scaler.push("crowd", "load", f64::from(10 * TASKS));
    wait_running(&scaler, TASKS as usize);
    let (full, launch) = (memory_mebibytes(pid), (cpu_seconds(pid) - cpu) / f64::from(TASKS) * 1000.0);
    println!(
        "one executor: {empty:.1} MiB, with {TASKS} tasks {full:.1} MiB; {launch:.2} ms of its own processor time for each launch"
    );
    json!({"tasks": TASKS, "memoryMiB": empty, "memoryWithTasksMiB": full, "launchCpuMilliseconds": launch})
}

fn cluster(agents: usize) -> Cluster {
    let hosts = Agent::default().copies(agents).resources("cpus:16;mem:16384;disk:1000;ports:[31000-31999]");
    Cluster::builder().agent(hosts).time_limit(Duration::from_mins(3)).start().unwrap()
}

/// A program that stands where agents look for our executor, and only pretends to run tasks.
fn pretender(mesos: &Cluster, directory: &Path) -> PathBuf {
    let path = directory.join("executor");
    let line = format!("#!/bin/sh\nexec {} --pretend\n", mesos.program("bare-executor").unwrap().display());
    std::fs::write(&path, line).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn manifests(mesos: &Cluster, executor: &Path, apps: usize) -> String {
    let mut text = pool(mesos, &executor.display().to_string(), "");
    let spec = "minReplicas: 0\nbehavior: {scaleDown: {stabilizationWindowMilliseconds: 0}}\n\
                demand:\n- {name: load, push: {}, target: {averageValue: 10}, staleAfterMilliseconds: 86400000}";
    for i in 0..apps {
        let template = "launch: pooled\nshell: exec sleep 100000";
        let _ = write!(text, "---\n{}", app(&name(i), spec, "{cpu: 500m, memory: 64Mi}", template));
    }
    text
}

fn name(i: usize) -> String {
    format!("app-{i}")
}

fn wait_running(scaler: &Scaler, tasks: usize) {
    let end = Instant::now() + PATIENCE;
    assert_eq!(scaler.get("/v1/apps").unwrap()["problems"], json!([]));
    while running(scaler) != tasks {
        assert!(Instant::now() < end, "{} of {tasks} tasks run\n{}", running(scaler), scaler.log());
        // Each look makes it write down all apps.
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn running(scaler: &Scaler) -> usize {
    let apps = scaler.apps().into_iter().filter_map(|app| app.status);
    apps.map(|status| usize::try_from(status.running).unwrap()).sum()
}

fn share_of_a_core(pid: u32, time: Duration) -> f64 {
    let before = cpu_seconds(pid);
    std::thread::sleep(time);
    (cpu_seconds(pid) - before) / time.as_secs_f64() * 100.0
}

/// One more replica of an app, again and again.
fn reaction(mesos: &Cluster, scaler: &Scaler, apps: usize) -> Value {
    let onlooker = Onlooker::start(mesos);
    let push = |app: usize, tasks: usize| scaler.push(&name(app), "load", (tasks * 10) as f64);
    let times: Vec<Duration> = (0..PUSHES)
        .map(|round| {
            let app = round * 7 % apps;
            onlooker.forget();
            let start = Instant::now();
            push(app, TASKS_PER_APP + 1);
            let took = onlooker.wait_running(&name(app), 1) - start;
            push(app, TASKS_PER_APP);
            onlooker.wait(&name(app), "TASK_KILLED", 1);
            took
        })
        .collect();
    let times = sorted(&times);
    json!({"p50": percentile(&times, 50), "p99": percentile(&times, 99)})
}

/// Of the latest thousand reactions, which are those to these pushes.
fn own_share(scaler: &Scaler) -> Value {
    let status = scaler.get("/v1/pools").unwrap()["items"][0]["status"].clone();
    json!({"p50": status["medianReactionMilliseconds"], "p99": status["p99ReactionMilliseconds"]})
}

/// Each app wants so many tasks.
fn push_all(scaler: &Scaler, apps: usize, tasks: usize) {
    (0..apps).for_each(|app| scaler.push(&name(app), "load", (tasks * 10) as f64));
}

/// All tasks end and start again: twice as many updates. Seconds, and seconds of processor time.
fn burst(scaler: &Scaler, apps: usize, tasks: usize) -> (f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_seconds(scaler.pid()));
    push_all(scaler, apps, 0);
    wait_running(scaler, 0);
    push_all(scaler, apps, TASKS_PER_APP);
    wait_running(scaler, tasks);
    (start.elapsed().as_secs_f64(), cpu_seconds(scaler.pid()) - cpu)
}

fn words(times: &Value) -> String {
    let number = |name: &str| times[name].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
    format!("{}/{}", number("p50"), number("p99"))
}
