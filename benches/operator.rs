//! What Kubernetes adds: `kubectl apply` → RUNNING beside the same in standalone mode, how late the status is, and what thousands of apps cost.
//!
//! The API server, its etcd, Mesos and the operator share one machine. The same onlooker times both modes: a subscription to the master's own
//! operator events.
//!
//! `cargo bench --bench operator [-- ROUNDS]` prints tables; the numbers go to `target/bench/operator.json` as well.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use microscaler::api::MicroscaledApp;
use microscaler_testbed::{Agent, Cluster};
use serde_json::{Value, json};
use support::onlooker::{Onlooker, percentile, sorted};
use support::operator::{Kubernetes, Operator};
use support::usage::{cpu_seconds, load, memory_mebibytes, result_path};
use support::{PATIENCE, Scaler, sleeper};
use tokio::runtime::Runtime;

const APPS: usize = 2000;
/// Changes a second, and for how long.
const RATE: u64 = 100;
const WINDOW: Duration = Duration::from_secs(20);

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(30);
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let starts = starts(rounds, &runtime);
    let scale = scale(&runtime);
    let load = load();
    let report = json!({"rounds": rounds, "load": load, "starts": starts, "scale": scale});
    std::fs::write(result_path("operator.json"), serde_json::to_string_pretty(&report).unwrap()).unwrap();
    println!("load {load}");
}

fn cluster() -> Cluster {
    let agent = || Agent::default().resources("cpus:8;mem:4096;disk:4096;ports:[31000-31999]");
    Cluster::builder().agent(agent()).agent(agent()).start().unwrap()
}

fn client(runtime: &Runtime, kubernetes: &Kubernetes) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubernetes.control.kubeconfig()).unwrap();
    runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    })
}

/// Processes that end and logs that are written should not weigh on the next round.
fn rest() {
    std::thread::sleep(Duration::from_millis(300));
}

// ---- from a manifest to a running task ----

/// One app with one replica, in the three ways in which it may be made known.
fn starts(rounds: usize, runtime: &Runtime) -> Value {
    let mesos = cluster();
    let files = {
        let scaler = Scaler::start_quietly(&mesos, &[]);
        (0..rounds).map(|_| from_a_file(&mesos, &scaler)).collect::<Vec<_>>()
    };
    let kubernetes = Kubernetes::start();
    kubernetes.apply_pool("default", &mesos);
    let _operator = Operator::start(&kubernetes);
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "mpool/default", "--timeout=60s"]);
    let api: Api<MicroscaledApp> = Api::default_namespaced(client(runtime, &kubernetes));
    let mut lags = Vec::new();
    let requests: Vec<_> = (0..rounds).map(|_| from_a_request(&mesos, &kubernetes, &api, runtime, &mut lags)).collect();
    let kubectl: Vec<_> = (0..rounds).map(|_| from_kubectl(&mesos, &kubernetes)).collect();
    let nothing: Vec<_> = (0..rounds).map(|_| kubectl_alone(&kubernetes)).collect();

    println!("\nmanifest → RUNNING of one replica, milliseconds; {rounds} rounds each");
    let rows = [
        ("file written, standalone", files),
        ("request to the API server", requests),
        ("kubectl apply", kubectl),
        ("kubectl apply of nothing new (no task)", nothing),
        ("status.running, after RUNNING", lags),
    ];
    let row = |(name, times): &(&str, Vec<Duration>)| {
        let times = sorted(times);
        let [median, p99] = [50, 99].map(|percent| percentile(&times, percent));
        println!("{name:<40} median {median:>8.1}   p99 {p99:>8.1}");
        json!({"case": name, "median": median, "p99": p99})
    };
    rows.iter().map(row).collect()
}

fn gone(mesos: &Cluster) {
    support::wait_for("the task to end", || support::alive(mesos).is_empty().then_some(()));
    rest();
}

fn from_a_file(mesos: &Cluster, scaler: &Scaler) -> Duration {
    let onlooker = Onlooker::start(mesos);
    let start = Instant::now();
    scaler.write("web.yaml", &sleeper("web", "replicas: 1"));
    let took = onlooker.wait_running("web", 1) - start;
    scaler.remove("web.yaml");
    gone(mesos);
    took
}

fn from_a_request(
    mesos: &Cluster,
    kubernetes: &Kubernetes,
    api: &Api<MicroscaledApp>,
    runtime: &Runtime,
    lags: &mut Vec<Duration>,
) -> Duration {
    let app: MicroscaledApp = serde_saphyr::from_str(&sleeper("web", "replicas: 1")).unwrap();
    let onlooker = Onlooker::start(mesos);
    let watch = runtime.block_on(api.watch(&WatchParams::default(), "0")).unwrap();
    let told = runtime.spawn(async move {
        let mut watch = watch.boxed();
        while let Some(Ok(event)) = watch.next().await {
            if let WatchEvent::Added(app) | WatchEvent::Modified(app) = event
                && app.status.is_some_and(|status| status.running == 1)
            {
                return Instant::now();
            }
        }
        panic!("the watch ended");
    });
    let start = Instant::now();
    runtime.block_on(api.create(&PostParams::default(), &app)).unwrap();
    let runs = onlooker.wait_running("web", 1);
    let told = runtime.block_on(async { tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap() });
    lags.push(told.saturating_duration_since(runs));
    kubernetes.kubectl(&["delete", "msa", "web"]);
    gone(mesos);
    runs - start
}

fn from_kubectl(mesos: &Cluster, kubernetes: &Kubernetes) -> Duration {
    let manifest = sleeper("web", "replicas: 1");
    let onlooker = Onlooker::start(mesos);
    let start = Instant::now();
    kubernetes.apply(&manifest);
    let took = onlooker.wait_running("web", 1) - start;
    kubernetes.kubectl(&["delete", "msa", "web"]);
    gone(mesos);
    took
}

/// The share of kubectl itself.
fn kubectl_alone(kubernetes: &Kubernetes) -> Duration {
    let start = Instant::now();
    kubernetes.apply("{apiVersion: v1, kind: Namespace, metadata: {name: default}}");
    start.elapsed()
}

// ---- thousands of apps ----

fn scale(runtime: &Runtime) -> Value {
    let (mesos, kubernetes) = (cluster(), Kubernetes::start());
    kubernetes.apply_pool("default", &mesos);
    let api: Api<MicroscaledApp> = Api::default_namespaced(client(runtime, &kubernetes));
    runtime.block_on(create(&api));
    let mut operator = Operator::start(&kubernetes);
    // At its first start it has every status to write.
    support::wait_for("all to be told of", || {
        let written = operator.metric("microscaler_status_writes_total{result=\"written\"}")?;
        (written >= f64::from(u32::try_from(APPS).unwrap())).then_some(())
    });
    operator.stop();

    println!("\n{APPS} apps");
    let start = Instant::now();
    operator.run();
    support::wait_for("all objects to be read", || operator.get("/readyz").map(drop));
    let synced = start.elapsed().as_secs_f64();
    println!("start → all read                         {synced:>8.2} s");
    std::thread::sleep(Duration::from_secs(5));
    let idle = window(&operator, &kubernetes, "idle", || std::thread::sleep(WINDOW));
    let changes = format!("{RATE} changes/s");
    let busy = window(&operator, &kubernetes, &changes, || runtime.block_on(change(&api)));
    json!({"apps": APPS, "startToSyncedSeconds": synced, "idle": idle, "busy": busy})
}

fn name(i: usize) -> String {
    format!("app-{i}")
}

async fn create(api: &Api<MicroscaledApp>) {
    let create = |i: usize| async move {
        let app = sleeper(&name(i), "minReplicas: 0\ndemand:\n- {name: load, push: {}, target: {averageValue: 10}}");
        api.create(&PostParams::default(), &serde_saphyr::from_str(&app).unwrap()).await.unwrap();
    };
    futures::stream::iter(0..APPS).for_each_concurrent(16, create).await;
}

/// Changes of specs, evenly over the window.
async fn change(api: &Api<MicroscaledApp>) {
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / RATE));
    let changes = RATE * WINDOW.as_secs();
    let mut under_way = tokio::task::JoinSet::new();
    for i in 0..changes {
        tick.tick().await;
        let (api, priority) = (api.clone(), 101 + i);
        let name = name(usize::try_from(i).unwrap() * 7 % APPS);
        under_way.spawn(async move {
            let patch = json!({"spec": {"priority": priority}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        });
    }
    under_way.join_all().await;
}

/// What the operator uses, and asks of the API server, while something goes on.
fn window(operator: &Operator, kubernetes: &Kubernetes, name: &str, what: impl FnOnce()) -> Value {
    let (start, cpu, requests) = (Instant::now(), cpu_seconds(operator.pid()), requests(kubernetes));
    what();
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (cpu_seconds(operator.pid()) - cpu) / seconds * 100.0;
    let memory = memory_mebibytes(operator.pid());
    let requests: BTreeMap<String, f64> = self::requests(kubernetes)
        .into_iter()
        .map(|(kind, count)| (kind.clone(), (count - requests.get(&kind).unwrap_or(&0.0)) / seconds))
        .filter(|(_, rate)| *rate > 0.01)
        .collect();
    println!("{name:<16} {cpu:>6.1} % of a core, {memory:>6.1} MiB; requests/s: {}", shown(&requests));
    json!({"cpuPercent": cpu, "memoryMiB": memory, "requestsPerSecond": requests})
}

fn shown(requests: &BTreeMap<String, f64>) -> String {
    requests.iter().map(|(kind, rate)| format!("{kind} {rate:.1}")).collect::<Vec<_>>().join(", ")
}

/// What the API server has counted for everything that the operator writes or reads; the bench's own patches of specs among it.
fn requests(kubernetes: &Kubernetes) -> BTreeMap<String, f64> {
    let page = kubernetes.kubectl(&["get", "--raw", "/metrics"]);
    let mut counts = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| {
            let value = line.split_once(&format!("{name}=\""))?.1;
            Some(value.split_once('"')?.0.to_owned())
        };
        let (Some(resource), Some(verb), Some(sub)) = (label("resource"), label("verb"), label("subresource")) else { continue };
        if ["microscaledapps", "microscalingpools", "leases", "events", "secrets"].contains(&resource.as_str()) {
            let sub = if sub.is_empty() { sub } else { format!("/{sub}") };
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *counts.entry(format!("{verb} {resource}{sub}")).or_default() += count;
        }
    }
    counts
}
