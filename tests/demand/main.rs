//! Demand sources against their real servers on loopback, a file for each kind, and the simulated ones in paused time.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod fixture;
mod http;
#[cfg(feature = "nats")]
mod nats;
mod pushed;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod redis;
mod simulated;
