//! Demand sources against their real servers on loopback, a file for each kind, and the simulated ones in paused time.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod fixture;
mod foresight;
mod http;
#[cfg(feature = "keda")]
mod keda;
mod pushed;
mod schedule;
mod simulated;
