//! A real Apache Mesos and a real Kubernetes API server on one machine, for Microscaler's tests, demo and benches.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use microscaler_testbed::{Agent, Cluster, Tasks};
//! let cluster = Cluster::builder().agents(2).agent(Agent::default().resources("cpus:2;mem:512").attribute("rack", "r1")).start()?;
//! println!("{} leads, {} tasks", cluster.master_url(), cluster.tasks()?.running().len());
//! cluster.agent(0).kill();
//! # Ok(())
//! # }
//! ```
//!
//! [`ControlPlane::start`] is the same for Kubernetes, [`Server::new`] for brokers, databases and the like.
//!
//! Masters and agents are separate processes around Mesos' own library; each can be killed, halted and started again. Everything
//! ends with the [`Cluster`] or [`ControlPlane`], tasks and files included, also if the process that owns it is killed.
//!
//! With `MICROSCALER_TESTBED_KEEP` in the environment the files (logs, sandboxes) stay.

#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod agent;
mod authority;
pub mod bare;
mod builder;
mod cgroups;
mod cluster;
mod daemon;
mod docker;
pub mod executor;
mod features;
mod handle;
mod home;
mod install;
mod kubeconfig;
mod kubernetes;
pub mod leftovers;
mod maintenance;
pub mod marked;
mod mounts;
mod ports;
mod reaper;
mod server;
mod task;
mod wait;
pub mod wire;

pub use agent::Agent;
pub use authority::{Authority, Pair};
pub use builder::Builder;
pub use cluster::Cluster;
pub use daemon::{Arguments, Daemon, Recipe};
pub use docker::{Docker, docker_container};
pub use features::{Feature, can, can_or_skip};
pub use handle::AgentHandle;
pub use install::{BUSYBOX, Extra, busybox_image, busybox_image_with, install, install_kubernetes, install_server};
pub use kubernetes::ControlPlane;
pub use maintenance::Host;
pub use ports::Port;
pub use server::{Server, Stopped};
pub use task::{Task, Tasks};
