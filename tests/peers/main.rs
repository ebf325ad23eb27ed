//! The other autoscalers held to their documentation, and what `make bench-policy` judges them by, on examples that are done by hand.
#![allow(clippy::unwrap_used)]

#[path = "../../benches/policy/judge/mod.rs"]
mod judge;
#[path = "mod.rs"]
mod peers;
#[path = "../scenarios/sim.rs"]
mod sim;
