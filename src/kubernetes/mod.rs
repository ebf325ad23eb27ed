//! What an operator does beside its engines: it watches the objects of a Kubernetes API server, tells there what is going on, and settles
//! with other replicas who leads.
//!
//! ```text
//!  API server ── watch ──► index ──► Specs ──► engines ──► reports, events
//!      ▲  ▲                  └─────► Objects ──┐                 │
//!      │  └── status, events, finalizers ◄─────┴─────────────────┘
//!      └───── lease ──► Leadership ──► engines
//! ```
//! An index owned by one task sees every object; all else follows from its snapshots and from the reports of the engines. Nothing here
//! waits for anything there: with the API server away, the engines go on with what is known, and the status catches up afterwards.
//!
//! | look for | in |
//! |---|---|
//! | what is on the API server | [`objects`] |
//! | the id of a pool's framework | [`framework`] |
//! | who leads | [`lease`] |

pub mod framework;
pub mod lease;
pub mod objects;

/// The field manager of all that the operator writes, and the reporter of its events.
pub const MANAGER: &str = "microscaler";
/// Keeps an app's object until its tasks have ended.
pub const APP_FINALIZER: &str = "microscaling.dev/tasks";
/// Keeps a pool's object while apps name it.
pub const POOL_FINALIZER: &str = "microscaling.dev/apps";
