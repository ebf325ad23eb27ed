//! Demand that is pushed: a desk that knows which metrics may be posted to, and on which board they belong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::Tally;
use super::board::{Board, Posted, amount};
use crate::api::validated::{App, Key};

/// So many names are listed in an error.
const LISTED: usize = 20;

/// Why a push had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("no app {app}; {exist}")]
    UnknownApp { app: Key, exist: String },
    #[error("app {app} has no metric {metric}; {exist}")]
    UnknownMetric { app: Key, metric: String, exist: String },
    #[error("metric {metric} of app {app} is not pushed: its source is {source_kind}")]
    NotPush { app: Key, metric: String, source_kind: &'static str },
    #[error("not an amount of demand: {problem}")]
    BadValue { problem: String },
}

/// Which metrics exist in all pools, and where pushed ones go.
#[derive(Debug, Default)]
pub struct PushDesk {
    apps: RwLock<BTreeMap<Key, Entry>>,
    tally: Tally,
    #[cfg(feature = "open-telemetry")]
    telemetry: Arc<super::telemetry::TelemetryDesk>,
}

#[derive(Debug)]
struct Entry {
    board: Arc<Board>,
    metrics: BTreeMap<Arc<str>, &'static str>,
}

impl PushDesk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Posts a value that arrived at `at`; it is on the board when this returns.
    ///
    /// # Errors
    /// When there is no such app or metric, the metric has another source, or the value is NaN, infinite or negative.
    pub fn push(&self, namespace: &str, app: &str, metric: &str, value: f64, at: Instant) -> Result<(), PushError> {
        let key = Key::new(namespace, app);
        let value = amount(value).map_err(|problem| PushError::BadValue { problem })?;
        self.find(&key, metric)?.post(&key, metric, Posted::Value(value), at);
        self.tally.of("push").fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a push to this metric would have an effect, without one.
    ///
    /// # Errors
    /// As for [`PushDesk::push`].
    pub fn check(&self, namespace: &str, app: &str, metric: &str) -> Result<(), PushError> {
        self.find(&Key::new(namespace, app), metric).map(|_| ())
    }

    /// Where metrics of OpenTelemetry go.
    #[cfg(feature = "open-telemetry")]
    #[must_use]
    pub fn telemetry(&self) -> &Arc<super::telemetry::TelemetryDesk> {
        &self.telemetry
    }

    /// Values that came in from all kinds of sources, for the metrics.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes in an app whose readings go to `board`, or its changed metrics.
    pub(super) fn register(&self, app: &App, board: &Arc<Board>) {
        let metrics = app.demand.iter().map(|metric| (metric.name.clone(), metric.source.kind())).collect();
        let entry = Entry { board: board.clone(), metrics };
        self.apps.write().unwrap_or_else(PoisonError::into_inner).insert(app.key.clone(), entry);
    }

    /// Forgets an app, unless it has moved to another board in the meantime.
    pub(super) fn remove(&self, app: &Key, board: &Arc<Board>) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        if apps.get(app).is_some_and(|entry| Arc::ptr_eq(&entry.board, board)) {
            apps.remove(app);
        }
    }

    fn find(&self, app: &Key, metric: &str) -> Result<Arc<Board>, PushError> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = apps.get(app) else {
            return Err(PushError::UnknownApp { app: app.clone(), exist: listed("apps", apps.keys()) });
        };
        match entry.metrics.get(metric) {
            Some(&"push") => Ok(entry.board.clone()),
            Some(source_kind) => Err(PushError::NotPush { app: app.clone(), metric: metric.to_owned(), source_kind }),
            None => {
                let exist = listed("metrics", entry.metrics.keys());
                Err(PushError::UnknownMetric { app: app.clone(), metric: metric.to_owned(), exist })
            }
        }
    }
}

/// "apps that exist: a, b, c and 7 more".
pub(crate) fn listed(what: &str, names: impl ExactSizeIterator<Item = impl std::fmt::Display>) -> String {
    let count = names.len();
    if count == 0 {
        return format!("there are no {what}");
    }
    let names: Vec<String> = names.take(LISTED).map(|name| name.to_string()).collect();
    let mut text = format!("{what} that exist: {}", names.join(", "));
    if count > LISTED {
        let _ = write!(text, " and {} more", count - LISTED);
    }
    text
}
