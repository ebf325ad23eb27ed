//! The server on a real socket, asked by a real client; engines are stood in for by reports made by hand.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod fixture;
mod metrics;
mod objects;
#[cfg(feature = "open-telemetry")]
mod otlp;
mod push;
mod replicas;
mod streams;
