//! What all of them need: sources of one app, and what they post.

use std::sync::Arc;
use std::time::Duration;

use microscaler::api::MicroscaledApp;
use microscaler::api::validated::App;
use microscaler::demand::{Board, PushDesk, Sources, Update};
use microscaler::policy::world::Reading;
use microscaler::store::secrets::Secrets;
use serde_json::{Value, json};
use tokio::time::timeout;

/// A board with its sources.
pub struct Fixture {
    pub board: Arc<Board>,
    pub desk: Arc<PushDesk>,
    pub sources: Sources,
}

impl Fixture {
    pub fn new() -> Self {
        let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
        Self { sources: Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files())), board, desk }
    }

    /// With one app of one metric.
    pub fn of(demand: Value) -> Self {
        let mut fixture = Self::new();
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
                let mut updates = self.next().await.into_iter();
                match updates.find(|update| fits(&update.reading)) {
                    Some(update) => return update.reading,
                    None => last = updates.next_back().or(last.take()),
                }
            }
        };
        let found = timeout(Duration::from_secs(90), fitting).await;
        found.unwrap_or_else(|_| panic!("no such reading came; the last one: {last:?}"))
    }

    pub async fn failure(&self) -> String {
        self.until(|reading| reading.failure.is_some()).await.failure.unwrap().to_string()
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
