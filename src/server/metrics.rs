//! What is counted and timed where it happens, for /metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Shared;
use super::collector::Reports;
use super::pools::Pools;
use crate::api::validated::Key;
use crate::backend::End;
use crate::demand::PushDesk;

/// From a decision on a small pool to a convergence that had to wait for a slow image, in seconds.
const BUCKETS: [f64; 18] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0];

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, String); N];
type Timings = Family<Labels<2>, Histogram, fn() -> Histogram>;

/// The metrics of the process. All methods are cheap and may be called from anywhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decision: Histogram,
    reaction: Histogram,
    launch: Histogram,
    convergence: Timings,
    decisions: Counter<u64, AtomicU64>,
    calls: Family<Labels<1>, Counter>,
    endings: Family<Labels<1>, Counter>,
    push_errors: Counter,
    leader: Gauge<i64, AtomicI64>,
    lease_renewals: Counter,
    lease_renewal_failures: Counter,
    status_writes: Family<Labels<1>, Counter>,
    status_write_lag: Histogram,
    kubernetes_events: Family<Labels<1>, Counter>,
}

impl Metrics {
    /// What is known of apps and pools is read off their reports when asked for, unless this process stands by; what came in from sources
    /// off the desk's tally.
    #[must_use]
    pub fn new(pools: Arc<Pools>, desk: &PushDesk) -> Self {
        let mut registry = Registry::with_prefix("microscaler");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", version);
        let leader = Gauge::default();
        registry.register_collector(Box::new(Reports { pools, tally: desk.tally().clone(), leader: leader.clone() }));
        let mut metrics = Self {
            registry,
            decision: histogram(),
            reaction: histogram(),
            launch: histogram(),
            convergence: Family::new_with_constructor(histogram),
            decisions: Counter::default(),
            calls: Family::default(),
            endings: Family::default(),
            push_errors: Counter::default(),
            leader,
            lease_renewals: Counter::default(),
            lease_renewal_failures: Counter::default(),
            status_writes: Family::default(),
            status_write_lag: histogram(),
            kubernetes_events: Family::default(),
        };
        // Until there is an election, there is nobody else.
        metrics.leads(true);
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("decision_seconds", "Time that one decision over a pool takes", self.decision.clone());
        let reaction = "From the arrival of a reading or a spec until the calls that it leads to are written";
        registry.register("reaction_seconds", reaction, self.reaction.clone());
        let launch = "From the request for a replica until it runs, where a Marathon starts it";
        registry.register("launch_seconds", launch, self.launch.clone());
        let convergence = "From a change of what an app wants until it runs";
        registry.register("convergence_seconds", convergence, self.convergence.clone());
        registry.register("decisions", "Decisions over a pool", self.decisions.clone());
        registry.register("calls", "Calls written to Mesos masters and requests to Marathons", self.calls.clone());
        registry.register("endings", "Tasks that have ended, by how", self.endings.clone());
        registry.register("push_errors", "Pushes of demand that were refused", self.push_errors.clone());
        registry.register("leader", "1 if this process leads, 0 if it stands by", self.leader.clone());
        registry.register("lease_renewals", "Renewals of the lease that this process holds", self.lease_renewals.clone());
        let failures = "Renewals of the lease that the API server did not answer or refused";
        registry.register("lease_renewal_failures", failures, self.lease_renewal_failures.clone());
        let writes =
            "Statuses written to the API server, failed to be (conflict: another change came first), and overtaken by newer ones";
        registry.register("status_writes", writes, self.status_writes.clone());
        let lag = "From a report that changes a status until that is on the API server";
        registry.register("status_write_lag_seconds", lag, self.status_write_lag.clone());
        let events = "Events written to the API server, failed to be, and dropped to keep within limits";
        registry.register("kubernetes_events", events, self.kubernetes_events.clone());
    }

    /// A decision was made and took this long.
    pub fn decision(&self, took: Duration) {
        self.decisions.inc();
        self.decision.observe(took.as_secs_f64());
    }

    /// Calls were written this long after the reading or spec arrived that led to them.
    pub fn reaction(&self, took: Duration) {
        self.reaction.observe(took.as_secs_f64());
    }

    /// A replica runs this long after a Marathon was asked for it.
    pub fn launch(&self, took: Duration) {
        self.launch.observe(took.as_secs_f64());
    }

    /// An app reached what it wanted this long after it began to want it.
    pub fn convergence(&self, app: &Key, took: Duration) {
        self.convergence.get_or_create(&app_labels(app)).observe(took.as_secs_f64());
    }

    /// So many calls of this type (ACCEPT, KILL, REVIVE …) were written.
    pub fn calls(&self, kind: &str, count: u64) {
        self.calls.get_or_create(&[("type", kind.to_owned())]).inc_by(count);
    }

    /// A task has ended.
    pub fn ending(&self, how: End) {
        self.endings.get_or_create(&[("how", format!("{how:?}"))]).inc();
    }

    /// A push was refused.
    pub fn push_error(&self) {
        self.push_errors.inc();
    }

    /// Whether this process is the one that acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// The lease was renewed.
    pub fn lease_renewed(&self) {
        self.lease_renewals.inc();
    }

    /// The API server did not answer, or refused to renew the lease.
    pub fn lease_not_renewed(&self) {
        self.lease_renewal_failures.inc();
    }

    /// What became of so many statuses: written, conflict, failed or coalesced.
    pub fn status_writes(&self, result: &str, count: u64) {
        count_up(&self.status_writes, result, count);
    }

    /// A status was written this long after it changed.
    pub fn status_write_lag(&self, took: Duration) {
        self.status_write_lag.observe(took.as_secs_f64());
    }

    /// What became of so many events for Kubernetes: written, failed or dropped.
    pub fn kubernetes_events(&self, result: &str, count: u64) {
        count_up(&self.kubernetes_events, result, count);
    }

    /// Forgets an app that was deleted.
    pub fn forget(&self, app: &Key) {
        self.convergence.remove(&app_labels(app));
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn count_up(counters: &Family<Labels<1>, Counter>, result: &str, count: u64) {
    if count > 0 {
        counters.get_or_create(&[("result", result.to_owned())]).inc_by(count);
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn app_labels(app: &Key) -> Labels<2> {
    [("namespace", app.namespace().to_owned()), ("app", app.name().to_owned())]
}

pub(super) async fn scrape(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shared.state.metrics.text())
}
