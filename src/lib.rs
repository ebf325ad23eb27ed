//! Microscaler keeps the containers of many applications in step with their demand, in milliseconds: important work grows at once and
//! takes its room from less important work, which fills whatever is left, on a fixed pool of Apache Mesos hosts.
//!
//! # The way of the data
//! ```text
//!  directory watch ──┐                                           ┌─ Mesos ──► master (a v1 framework of our own)
//!  Kubernetes watch ─┴► Specs ──────────────┐                    │    ▲ │ offers, task updates
//!                                           ▼                    │    │ ▼    (or Marathon ──► /v2, its events, Mesos' agents)
//!  demand sources ──► Board ──► readings ► World ──► decide ──► Orders │
//!  (push, http, simulated)                  ▲   Plan + reasons ──┐     │
//!                                           └────────────────────┼─────┘
//!                                                                └─► Report, events ─┬► server: JSON, metrics, SSE ──► get, describe
//!                                                                                    └► Kubernetes: status, Events, finalizers
//! ```
//! One task owns each pool ([`engine`]). It wakes when anything has happened, takes in all that is there, decides once, and gives its
//! orders. [`policy::decide`] is pure: `(&World, Memory, now) -> (Plan, Memory)`, and a plan leaves no choices to whoever carries it out.
//!
//! # Where to look
//! | for | look in |
//! |---|---|
//! | what users write, its schema and its check | [`api`] |
//! | where specs come from | [`store`] |
//! | where demand comes from | [`demand`] |
//! | what it will be | [`forecast`] |
//! | the judgement | [`policy`] |
//! | the loop, status and events | [`engine`] |
//! | what runs the containers | [`backend`] |
//! | what runs on the agents | [`executor`] |
//! | the operator's side of Kubernetes: watches, status, leadership | [`kubernetes`] |
//! | HTTP | [`server`] |
//! | verbs of the command line | [`cli`] |
//! | what scaling objects of KEDA and HPA come to | [`convert`] |
//!
//! # Decisions, and why
//! - **One decision over the whole pool**, since priority among apps needs it; not a controller that reconciles objects one by one.
//! - **The world is the only ledger.** A backend's events change it, its orders are booked in it before they are on the wire, and so
//!   everything that judges is synchronous. Only a session task, which reads the wire and acknowledges, runs beside the engine.
//! - **The cluster is the database.** Only the framework's id is stored, in a file or in the pool's status. Task ids tell app and version (see [`backend::task_id`]), so
//!   reconciliation tells everything after a restart; nothing is launched, and no judgement is remembered, before it has.
//! - **Specs are snapshots on a watch channel**, validated once, with what could not be taken over beside them. A directory and the objects
//!   of an API server feed the same channel. Not `kube::runtime::Controller` and not its reflector store: the one reconciles object by
//!   object, the other forgets the last good spec of an object that has become unreadable.
//! - **The lease says who should act, and Mesos who may.** A leader goes on while the API server is away, since the master takes calls only
//!   from a framework's newest subscriber; only what is written to the API server waits for a renewed lease.
//! - **Believed room.** Mesos re-offers room that has come free only at its next interval, unless asked by REVIVE. So each agent has room
//!   that is held (tasks start there at once) and room that is expected (it has to be asked for), and a plan may count on both.
//! - **On a Marathon, one number for each app is ours.** It finds the places and replaces what ends. So tasks are derived from what it says
//!   and what we want, orders change only that, and what it has done is counted, not taken from its answers: see [`backend::marathon`].
//! - **Two ways to launch.** `isolated`: Mesos makes a container for each task. `pooled`: our own executor runs already, one per agent and
//!   isolation group, and forks each task, which is still one task of Mesos. So accounting and reconciliation stay true, and a start takes
//!   milliseconds. An executor's room is set aside before anything else is placed, so that judgement about replicas need not know of it.
//! - **Unknown is not zero.** A reading has an age and may have failed; missing data never scales down.
//! - **Stopping stops nothing.** Tasks outlive Microscaler; only deleting their app, or `drain`, ends them.

pub mod api;
pub mod backend;
pub mod cli;
pub mod convert;
pub mod demand;
pub mod engine;
pub mod executor;
pub mod forecast;
pub mod kubernetes;
pub mod policy;
pub mod server;
pub mod store;
