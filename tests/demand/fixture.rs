//! What all of them need: sources of one app, and what they post.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use microscaler::api::MicroscaledApp;
use microscaler::api::validated::App;
use microscaler::demand::{Board, PushDesk, Sources, Update};
use microscaler::policy::world::Reading;
use microscaler::store::secrets::Secrets;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// A board with its sources.
pub struct Fixture {
    pub board: Arc<Board>,
    pub desk: Arc<PushDesk>,
    pub sources: Sources,
}

impl Fixture {
    pub fn new() -> Self {
        Self::reading(Arc::new(Secrets::in_files()))
    }

    fn reading(secrets: Arc<Secrets>) -> Self {
        let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
        Self { sources: Sources::new(board.clone(), desk.clone(), secrets), board, desk }
    }

    /// With one app of one metric.
    pub fn of(demand: Value) -> Self {
        let mut fixture = Self::new();
        fixture.sources.sync(&[app("search", json!([demand]))]);
        fixture
    }

    /// With one app of one metric, and secrets of its own.
    pub fn with(secrets: Arc<Secrets>, demand: Value) -> Self {
        let mut fixture = Self::reading(secrets);
        fixture.sources.sync(&[app("search", json!([demand]))]);
        fixture
    }

    /// The next updates, waiting no longer than a test may take.
    pub async fn next(&self) -> Vec<Update> {
        timeout(Duration::from_secs(90), self.board.changed()).await.expect("nothing was posted");
        self.board.take()
    }

    /// The first reading that fits.
    pub async fn until(&self, fits: impl Fn(&Reading) -> bool) -> Reading {
        let mut last = None;
        let fitting = async {
            loop {
                for update in self.next().await {
                    if fits(&update.reading) {
                        return update.reading;
                    }
                    last = Some(update);
                }
            }
        };
        let found = timeout(Duration::from_secs(90), fitting).await;
        found.unwrap_or_else(|_| panic!("no such reading came; the last one: {last:?}"))
    }

    /// With four metrics of one app and one of another, all of this spec, once each has its value.
    pub async fn of_many(source: &str, spec: &Value) -> Self {
        let metrics = ["m0", "m1", "m2", "m3"].map(|name| metric(name, source, spec));
        let apps = [app("search", json!(metrics)), app("find", json!(metrics[..1]))];
        let mut fixture = Self::new();
        fixture.sources.sync(&apps);
        let metrics_of =
            |app: &Arc<App>| app.demand.iter().map(|metric| (app.key.clone(), metric.name.clone())).collect::<Vec<_>>();
        let mut missing: Vec<_> = apps.iter().flat_map(metrics_of).collect();
        while !missing.is_empty() {
            for update in fixture.next().await.into_iter().filter(|update| update.reading.value.is_some()) {
                missing.retain(|(app, metric)| *app != update.app || *metric != update.metric);
            }
        }
        fixture
    }

    /// A metric that can be read and one that cannot do not disturb each other, in two apps.
    pub async fn side_by_side(source: &str, there: &Value, missing: &Value) {
        let mut fixture = Self::new();
        let metrics = json!([metric("there", source, there), metric("missing", source, missing)]);
        fixture.sources.sync(&[app("a", metrics.clone()), app("b", metrics)]);
        let mut seen = BTreeSet::new();
        while seen.len() < 4 {
            for update in fixture.next().await {
                assert_eq!(update.reading.failure.is_some(), &*update.metric == "missing", "{update:?}");
                seen.insert((update.app, update.metric));
            }
        }
    }

    pub async fn failure(&self) -> String {
        self.until(|reading| reading.failure.is_some()).await.failure.unwrap().to_string()
    }

    /// Waits for a failure beside which this value is kept.
    pub async fn failure_keeps(&self, expected: f64) {
        let reading = self.until(|reading| reading.failure.is_some()).await;
        assert!(reading.value.is_some_and(|(value, _)| is(expected)(value)), "the value was lost: {reading:?}");
    }

    /// The first value that fits.
    pub async fn until_value(&self, fits: impl Fn(f64) -> bool) -> f64 {
        let fits = |reading: &Reading| reading.failure.is_none() && reading.value.is_some_and(|(value, _)| fits(value));
        self.until(fits).await.value.unwrap().0
    }

    /// The first failure that says this.
    pub async fn until_failure(&self, says: &str) -> String {
        let reading = self.until(|reading| reading.failure.as_ref().is_some_and(|failure| failure.contains(says))).await;
        reading.failure.unwrap().to_string()
    }

    pub async fn value(&self) -> f64 {
        self.until(|reading| reading.failure.is_none()).await.value.unwrap().0
    }
}

/// Whether a value is this one.
pub fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |value| (value - expected).abs() < 1e-9
}

/// A spec to which `more` adds fields, or whose fields it replaces.
pub fn with(mut spec: Value, more: &Value) -> Value {
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// Arguments of a program, in which `{port}` and `{directory}` stand for its own.
pub fn arguments(words: &[&str]) -> impl Fn(u16, &Path) -> Vec<String> + Send + Sync + use<> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    move |port, directory| {
        let (port, directory) = (port.to_string(), directory.display().to_string());
        words.iter().map(|word| word.replace("{port}", &port).replace("{directory}", &directory)).collect()
    }
}

/// Secrets in files, which are gone with this.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A reference to one.
    pub fn named(&self, name: &str) -> Value {
        json!({"file": self.0.path().join(name)})
    }

    /// Makes or changes one.
    pub fn write(&self, name: &str, text: &str) -> Value {
        std::fs::write(self.0.path().join(name), text).unwrap();
        self.named(name)
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }
}

pub fn app(name: &str, demand: Value) -> Arc<App> {
    let raw: MicroscaledApp = serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "demand": demand,
            "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]},
        },
    }))
    .unwrap();
    Arc::new(App::read(&raw).unwrap())
}

pub fn metric(name: &str, source: &str, spec: &Value) -> Value {
    json!({"name": name, source: spec, "target": {"averageValue": 10}})
}
