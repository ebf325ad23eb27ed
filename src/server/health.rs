//! Whether the process lives, and whether it can do its work.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::watch;

use super::Shared;
use super::pools::Pools;

/// What the process needs, to be ready.
#[derive(Clone)]
pub enum Readiness {
    /// That orders can be given in every pool.
    Pools,
    /// That all objects have been read once: then it can lead. A standby gives no orders, and is as ready as the leader.
    Synced(watch::Receiver<bool>),
}

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the process can do its work; otherwise a line for each reason why not.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let reasons = match &shared.state.readiness {
        Readiness::Pools => unready(&shared.state.pools),
        Readiness::Synced(synced) if *synced.borrow() => String::new(),
        Readiness::Synced(_) => "the objects on the API server have not all been read yet\n".to_owned(),
    };
    if reasons.is_empty() { (StatusCode::OK, "ready\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, reasons) }
}

/// A line for each pool in which no orders can be given, with the reason.
fn unready(pools: &Pools) -> String {
    let mut reasons = String::new();
    for handle in pools.list() {
        let report = handle.reports.borrow();
        let standing = &report.standing;
        if !standing.ready {
            let why = match (standing.message.as_str(), standing.connected) {
                ("", true) => "connected, but not yet ready",
                ("", false) => "not connected",
                (message, _) => message,
            };
            let _ = writeln!(reasons, "pool {}: {why}", handle.pool);
        }
    }
    reasons
}
