//! `microscaler executor` under a real Apache Mesos.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod agents;
mod checks;
mod kills;
mod limits;
mod rig;
mod tasks;
