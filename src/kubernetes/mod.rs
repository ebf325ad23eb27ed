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
//! | the way to the API server | [`connect`] |
//! | what is on it, followed | [`watch`], [`index`], [`objects`] |
//! | the Secrets that specs name | [`secrets`] |
//! | the id of a pool's framework, and the loop that puts it back where it is lost | [`framework`], [`restore`] |
//! | who leads | [`lease`] |
//! | objects and reports side by side | [`sight`] |
//! | what a status ought to be, which of them are due, and the loop that writes them | [`status`], [`schedule`], [`writer`] |
//! | how long an object is kept that somebody has deleted | [`deletion`], [`finalize`], [`finalizer`] |
//! | what is told as events, which of them are due, and the loop that writes them | [`notices`], [`events`], [`recorder`] |
//! | all these loops | [`reporter`] |
//! | requests, budgets and pauses | [`call`], [`pace`] |

mod backoff;
pub mod call;
pub mod connect;
pub mod deletion;
pub mod events;
pub mod finalize;
pub mod finalizer;
pub mod framework;
pub mod index;
pub mod lease;
pub mod notices;
pub mod objects;
pub mod pace;
pub mod recorder;
pub mod reporter;
pub mod restore;
pub mod schedule;
pub mod secrets;
pub mod sight;
pub mod status;
pub mod statuses;
pub mod target;
#[cfg(test)]
mod testing;
pub mod watch;
pub mod writer;

/// The field manager of what the operator writes.
pub const MANAGER: &str = "microscaler";
/// The reporter of its events.
pub const REPORTER: &str = "microscaling.dev/microscaler";
/// Keeps an app's object until its tasks have ended.
pub const APP_FINALIZER: &str = "microscaling.dev/tasks";
/// Keeps a pool's object while apps name it.
pub const POOL_FINALIZER: &str = "microscaling.dev/apps";

/// An error with all its causes: the outermost alone often tells nothing.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
