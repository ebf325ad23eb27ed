//! A namespace of an API server, the reporter under test, and an engine made by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use microscaler::api::status::{AppStatus, PoolStatus};
use microscaler::api::validated::Key;
use microscaler::api::{MicroscaledApp, MicroscalingPool, crd};
use microscaler::backend::Standing;
use microscaler::demand::PushDesk;
use microscaler::engine::clock;
use microscaler::engine::report::{AppReport, Event, EventKind, Handle, Report};
use microscaler::kubernetes::lease::Mandate;
use microscaler::kubernetes::objects::{Objects, Seen};
use microscaler::kubernetes::reporter::{Options, report};
use microscaler::kubernetes::schedule::Limits;
use microscaler::server::{Metrics, Pools};
use microscaler_testbed::ControlPlane;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Makes an object count as one whose spec cannot be taken over.
pub const FAULT: &str = "test/fault";

/// One for all tests that leave it alone. Its processes end with this one.
pub fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(control_plane)
}

/// One that knows our objects.
pub fn control_plane() -> ControlPlane {
    let plane = ControlPlane::start().unwrap();
    let definitions = crd::all().map(|definition| serde_json::to_string(&definition).unwrap());
    definitions.iter().for_each(|definition| plane.apply(definition).unwrap());
    let names = ["crd/microscaledapps.microscaling.dev", "crd/microscalingpools.microscaling.dev"];
    plane.kubectl(&["wait", "--for=condition=Established", names[0], names[1], "--timeout=60s"]).unwrap();
    plane
}

pub async fn client(kubeconfig: &Path) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A namespace with a pool `main`, whose engine is ready, and what is under test.
pub struct Rig<'a> {
    pub plane: &'a ControlPlane,
    pub namespace: String,
    pub client: Client,
    pub pools: Arc<Pools>,
    pub metrics: Arc<Metrics>,
    pub mandate: Mandate,
    pub engine: Arc<Engine>,
    stop: watch::Sender<bool>,
    reporter: JoinHandle<()>,
    helpers: Vec<JoinHandle<()>>,
}

/// The engine's ends of a [`Handle`].
pub struct Engine {
    pub reports: watch::Sender<Arc<Report>>,
    pub events: broadcast::Sender<Event>,
}

impl Engine {
    pub fn change(&self, change: impl FnOnce(&mut Report)) {
        self.reports.send_modify(|report| change(Arc::make_mut(report)));
    }

    /// Makes the engine judge an app so.
    pub fn judge(&self, app: &MicroscaledApp, change: impl FnOnce(&mut AppStatus)) {
        self.change(|report| {
            let name = app.name_any();
            let old = report.apps.iter().position(|app| app.spec.name_any() == name);
            let mut status = old.map_or_else(|| status(app), |at| Arc::unwrap_or_clone(report.apps.remove(at).status));
            change(&mut status);
            let key = Key::new(&app.namespace().unwrap(), &name);
            report.apps.push(AppReport { key, spec: Arc::new(app.clone()), status: Arc::new(status), bases: None, at: 0 });
            report.apps.sort_by(|one, other| one.key.cmp(&other.key));
        });
    }

    /// Makes it end an app: so many tasks are left.
    pub fn end(&self, key: &Key, tasks: usize) {
        self.change(|report| {
            report.apps.retain(|app| app.spec.name_any() != key.name());
            report.leaving.remove(key);
            if tasks > 0 {
                report.leaving.insert(key.clone(), tasks);
            }
        });
    }
}

impl<'a> Rig<'a> {
    pub async fn new(plane: &'a ControlPlane) -> Self {
        let rig = Self::with(plane, plane.kubeconfig(), Limits::default()).await;
        rig.lead();
        rig
    }

    /// A standby, for now.
    pub async fn with(plane: &'a ControlPlane, kubeconfig: &Path, limits: Limits) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        plane.kubectl(&["create", "namespace", &namespace]).unwrap();
        plane.apply(&pool(&namespace, "main").to_string()).unwrap();
        let admin = client(plane.kubeconfig()).await;
        let (objects, feed) = watch::channel(Arc::default());
        let poller = tokio::spawn(poll(admin.clone(), namespace.clone(), objects));
        let pools = Arc::new(Pools::new());
        let (engine, heart) = start_engine(&pools, &namespace, "main");
        let metrics = Arc::new(Metrics::new(pools.clone(), &PushDesk::new()));
        let (mandate, (stop, stopped)) = (Mandate::default(), watch::channel(false));
        let options = Options { identity: "replica-1".to_owned(), limits };
        let under_test = client(kubeconfig).await;
        let reporter = report(under_test, feed, pools.clone(), mandate.clone(), metrics.clone(), options, stopped);
        let reporter = tokio::spawn(reporter);
        Self { plane, namespace, client: admin, pools, metrics, mandate, engine, stop, reporter, helpers: vec![poller, heart] }
    }

    pub fn lead(&self) {
        self.mandate.extend_to(u64::MAX);
    }

    pub fn key(&self, name: &str) -> Key {
        Key::new(&self.namespace, name)
    }

    /// Creates an app of the pool `main`, and gives it as it is on the API server.
    pub async fn app(&self, name: &str) -> MicroscaledApp {
        self.create(name, "main").await
    }

    pub async fn create(&self, name: &str, pool: &str) -> MicroscaledApp {
        let app = serde_json::from_value(app(&self.namespace, name, pool)).unwrap();
        self.apps().create(&kube::api::PostParams::default(), &app).await.unwrap()
    }

    pub fn apps(&self) -> Api<MicroscaledApp> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn get(&self, name: &str) -> MicroscaledApp {
        self.apps().get(name).await.unwrap()
    }

    pub async fn status(&self, name: &str) -> AppStatus {
        self.get(name).await.status.unwrap_or_default()
    }

    pub async fn pool_status(&self, name: &str) -> PoolStatus {
        let pools: Api<MicroscalingPool> = Api::namespaced(self.client.clone(), &self.namespace);
        pools.get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the app's status is such.
    pub async fn until(&self, name: &str, is: impl Fn(&AppStatus) -> bool) -> AppStatus {
        let mut last = AppStatus::default();
        for () in wait() {
            last = self.status(name).await;
            if is(&last) {
                return last;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{last:#?}")
    }

    /// Waits until the object is gone.
    pub async fn until_gone(&self, object: &str) {
        for () in wait() {
            if !self.exists(object).await {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{}", self.kubectl(&["get", object, "-o", "yaml"]).await);
    }

    /// Such as `msa/a`.
    pub async fn exists(&self, object: &str) -> bool {
        !self.kubectl(&["get", object, "--ignore-not-found", "-o", "name"]).await.is_empty()
    }

    pub async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = self.plane.kubectl_command(&[arguments, &["-n", &self.namespace]].concat());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// In the namespace, without blocking what is under test.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The value of a sample of the metrics, 0 when it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        sample.unwrap_or(0.0)
    }

    /// The same of what is counted.
    pub fn count(&self, name: &str) -> u64 {
        let text = self.metrics.text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    }

    pub fn written(&self) -> u64 {
        self.count("microscaler_status_writes_total{result=\"written\"}")
    }

    /// Waits until nothing has been written for a second.
    pub async fn quiet(&self) -> u64 {
        let mut before = None;
        for () in wait() {
            let written = self.written();
            if before.replace(written) == Some(written) {
                return written;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("writing does not end")
    }

    /// Mean and count of the time from a report to its status being acknowledged, in milliseconds.
    pub fn lag(&self) -> String {
        let name = "microscaler_status_write_lag_seconds";
        let (sum, count) = (self.metric(&format!("{name}_sum")), self.metric(&format!("{name}_count")));
        let within = |bucket: &str| self.metric(&format!("{name}_bucket{{le=\"{bucket}\"}}"));
        let [ten, twenty, fifty] = ["0.01", "0.02", "0.05"].map(within);
        format!("{count} writes, mean {:.1} ms, {ten} in 10 ms, {twenty} in 20 ms, {fifty} in 50 ms", sum / count * 1000.0)
    }

    pub fn tell(&self, app: Option<&str>, kind: EventKind, reason: &str, message: &str) {
        let pool = self.key("main").to_string();
        let app = app.map(|app| self.key(app).to_string());
        let event = Event { at: clock::timestamp(), pool, app, kind, reason: reason.to_owned(), message: message.to_owned() };
        self.engine.events.send(event).unwrap();
    }

    /// Ends what is under test.
    pub async fn end(self) {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(3), self.reporter).await.expect("it ends").unwrap();
        self.helpers.iter().for_each(JoinHandle::abort);
    }
}

/// Ticks until patience is over.
pub fn wait() -> impl Iterator<Item = ()> {
    let begun = Instant::now();
    std::iter::repeat_with(|| ()).take_while(move |()| begun.elapsed() < PATIENCE)
}

pub fn start_engine(pools: &Pools, namespace: &str, name: &str) -> (Arc<Engine>, JoinHandle<()>) {
    let report = Report {
        pool: Arc::new(serde_json::from_value(pool(namespace, name)).unwrap()),
        status: serde_json::from_value(json!({
            "observedGeneration": 1, "agents": 3, "message": "all is well", "used": "1 cpu",
            "conditions": [condition("Ready", "True"), condition("Connected", "True"), condition("Stalled", "False")],
        }))
        .unwrap(),
        standing: Standing { ready: true, connected: true, framework_id: Some("f-1".to_owned()), ..Standing::default() },
        apps: Vec::new(),
        leaving: BTreeMap::new(),
        executors: Some(0),
        problems: Vec::new(),
    };
    let (reports, seen) = watch::channel(Arc::new(report));
    let (events, _) = broadcast::channel(1024);
    let (asks, _) = mpsc::channel(1);
    let pool = Key::new(namespace, name);
    pools.insert(Handle { pool, reports: seen, events: events.clone(), journal: Arc::default(), asks });
    let engine = Arc::new(Engine { reports, events });
    // As engines do.
    let beating = engine.clone();
    let heart = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(500)).await;
            beating.reports.send_modify(|report| *report = Arc::new((**report).clone()));
        }
    });
    (engine, heart)
}

pub fn pool(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscalingPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"mesos": {"masters": ["http://127.0.0.1:5050"]}},
    })
}

pub fn app(namespace: &str, name: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"pool": pool, "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]}},
    })
}

pub fn condition(kind: &str, status: &str) -> Value {
    let (since, generation) = ("2026-01-01T00:00:00Z", 1);
    let (reason, message) = ("Because", "because");
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        "observedGeneration": generation})
}

/// As engines judge it at first: growing.
fn status(app: &MicroscaledApp) -> AppStatus {
    serde_json::from_value(json!({
        "observedGeneration": app.metadata.generation, "phase": "Growing", "wanted": 5, "granted": 5, "reason": "because",
        "demand": [{"name": "waiting", "value": 42.5, "ageMilliseconds": 1500, "state": "Fresh"}],
        "conditions": [condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "False")],
    }))
    .unwrap()
}

/// As when all of it runs.
pub fn converged(status: &mut AppStatus) {
    status.phase = Some(microscaler::api::status::Phase::Converged);
    (status.running, status.ready, status.replicas) = (5, 5, 5);
    for condition in &mut status.conditions {
        condition.status = if condition.type_ == "Ready" { "True" } else { "False" }.to_owned();
    }
}

/// In place of the index of the program: looks again and again.
async fn poll(client: Client, namespace: String, objects: watch::Sender<Arc<Objects>>) {
    let apps: Api<MicroscaledApp> = Api::namespaced(client.clone(), &namespace);
    let pools: Api<MicroscalingPool> = Api::namespaced(client, &namespace);
    loop {
        let all = ListParams::default();
        if let (Ok(apps), Ok(pools)) = (apps.list(&all).await, pools.list(&all).await) {
            let key = |name: String| Key::new(&namespace, &name);
            let apps = apps.into_iter().map(|app| {
                let pool = key(app.spec.pool.clone());
                (key(app.name_any()), Arc::new(seen(&app, app.status.clone(), pool)))
            });
            let pools = pools.into_iter().map(|pool| {
                let itself = key(pool.name_any());
                (itself.clone(), Arc::new(seen(&pool, pool.status.clone(), itself)))
            });
            objects.send_replace(Arc::new(Objects { apps: apps.collect(), pools: pools.collect() }));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn seen<S>(object: &impl kube::Resource, status: Option<S>, pool: Key) -> Seen<S> {
    let meta = object.meta();
    Seen {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        status,
        pool: Some(pool),
        fault: meta.annotations.as_ref().and_then(|annotations| annotations.get(FAULT)).cloned(),
    }
}
