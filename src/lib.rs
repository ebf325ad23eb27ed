//! Microscaler keeps the containers of many applications in step with their demand, in milliseconds.

pub mod api;
pub mod backend;
pub mod cli;
pub mod demand;
pub mod engine;
pub mod policy;
pub mod server;
pub mod store;
