//! A small server that behaves as Marathon 1.11.26 does in what a scaler sees, with instances that are real tasks on a real Mesos.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use microscaler_testbed::Cluster;
//! use microscaler_testbed_marathon::Marathon;
//! let cluster = Cluster::builder().agents(2).start()?;
//! let marathon = Marathon::builder(&cluster).flag("min_revive_offers_interval", "100").start()?;
//! println!("{}/v2/apps", marathon.url());
//! # Ok(())
//! # }
//! ```
//!
//! # The way of the data
//! ```text
//!  connections ─► http ─► server ─┬─► routes ─► leader ─► core ─┬─► events ─► stream ─► connections
//!   (a thread each)               └─► proxy, if another leads   ├─► calls ──► mesos ──► master
//!                                              mesos ─► core ◄──┘                 │
//!                                                 ▲  offers, statuses  ◄──────────┘
//! ```
//! `core` decides everything and knows neither sockets nor clocks; see there. `store` stands for `ZooKeeper`. What this server is
//! held to are recordings of a real Marathon: see `tests/recordings.rs` and `tests/order.rs`.
//!
//! HTTP is spoken by hand (`http`), since Marathon's is unusual: reason phrases that are empty or its own, streams without chunks.

#![allow(clippy::disallowed_methods, reason = "a real server takes real time")]

pub mod core;
mod faults;
mod health;
mod http;
mod leader;
mod marathon;
mod mesos;
mod proxy;
mod routes;
mod server;
mod settings;
mod store;
mod stream;

pub use marathon::{Builder, Marathon};
pub use server::run;
pub use settings::Settings;
