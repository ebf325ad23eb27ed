//! Other autoscalers, written anew from their documentation and published formulas, so that ours can be judged beside them: pure, and
//! one a file. Each is held to worked examples of its documentation, or of its own tests.
#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss)]

pub mod behavior;
pub mod engine;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod nomad;
pub mod orchestrator;
pub mod victims;

/// Rounds up what is more than a rounding error above a whole number.
fn ceil(x: f64) -> i64 {
    (x - x.abs().max(1.0) * 1e-9).ceil() as i64
}
