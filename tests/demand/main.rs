//! Demand sources against their real servers on loopback, a file for each kind, and the simulated ones in paused time.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

#[path = "../support/adapter.rs"]
mod adapter;
mod fixture;
mod foresight;
mod http;
mod http_tls;
mod https;
mod kafka;
mod kubernetes;
mod nsq;
mod postgres;
mod prometheus;
mod pushed;
mod simulated;
#[cfg(feature = "sqs")]
mod sqs;
