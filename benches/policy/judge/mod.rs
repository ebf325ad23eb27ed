//! Ours and other autoscalers with the same pool, the same load and the same delays, in simulated time.
//!
//! A service of priority 1, `search`, answers requests, one at a time in each replica. Beside it, `orders` is to have twelve replicas and
//! has at least four, and `batch` fills whatever is left. A task takes as long to start and to end whoever asks for it: it is the
//! judgement that is compared. So are the sizes, since the Microscaling Engine counts in containers.
// Included in the bench and in its tests, of which neither uses all, and the bench has no test functions.
#![allow(dead_code, unused_imports)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

pub mod arena;
pub mod contenders;
pub mod engine;
pub mod foresight;
pub mod load;
pub mod measures;
pub mod ours;
pub mod pool;
pub mod report;
pub mod scaled;
pub mod service;
pub mod shapes;
pub mod traces;

/// Of simulated time.
pub const STEP_MS: u64 = 10;
/// How long a replica works on one request.
pub const SERVICE_MS: u64 = 100;
/// So many requests a second one replica can answer.
pub const SERVICE_RATE: f64 = 1000.0 / SERVICE_MS as f64;
/// From launch to running, and from the request to end to the end: as measured of pooled replicas on a busy machine.
pub const START_MS: u64 = 100;
pub const STOP_MS: u64 = 100;
/// No request is to wait for longer.
pub const BOUND_MS: u64 = 500;
/// A calm beginning that is not measured.
pub const WARM_UP_MS: u64 = 120_000;
/// What a replica is to be busy with: requests being answered or waiting, Knative's stock 70 % of what it can do at once.
pub const TARGET: f64 = 0.7;
