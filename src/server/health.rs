//! Whether the process lives, and whether it can do its work.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Orders can be given in every pool; otherwise a line for each pool that says why not.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let mut reasons = String::new();
    for handle in shared.state.pools.list() {
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
    if reasons.is_empty() { (StatusCode::OK, "ready\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, reasons) }
}
