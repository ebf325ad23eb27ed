//! Where demand comes from: one task per metric, all of them posting to the board of their pool.
//!
//! ```text
//!  simulated ─┐
//!  http … ────┼► Gauge ─► Board ─► (wake-up without data) ─► engine takes what changed
//!  push ──────┘
//! ```
//!
//! | look for | in |
//! |---|---|
//! | the newest reading of each metric | [`board`] |
//! | which tasks run for which specs | [`sources`] |
//! | interval, timeout, back-off | [`poll`] |
//! | connections that are shared, and opened anew | [`link`] |
//! | secrets, TLS, HTTP | [`context`], [`tls`], [`web`] |
//! | what a metric will be | [`foresight`], [`crate::forecast`] |
//! | what is generated or pushed | [`simulated`] (its curves: [`pattern`], [`trace`]), [`push`] |
//! | a server that is asked | [`http`], [`kafka`], [`kubernetes`], [`nsq`], `postgres`, [`prometheus`], `sqs` |
//! | what the app's own tasks use | [`mesos`] |
//!
//! Unknown is not zero: a failure keeps the last value and the time it arrived, and says beside it what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::demand::Source;
use crate::api::validated::Key;
use crate::engine::clock;

pub mod board;
pub mod context;
pub mod foresight;
pub mod http;
pub mod kafka;
pub mod kubernetes;
pub mod link;
pub mod mesos;
pub mod nsq;
pub mod pattern;
pub mod poll;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod prometheus;
pub mod push;
pub mod simulated;
pub mod sources;
#[cfg(feature = "sqs")]
pub mod sqs;
pub mod tls;
pub mod trace;
pub mod web;

pub use board::{Board, Posted, Update};
pub use push::{PushDesk, PushError};
pub use sources::Sources;

/// Something that yields the values of one metric.
///
/// The seam at which further sources come in. A source is a task of its own: it may wait for as long as it likes, it is ended by
/// being dropped at any await, and what goes wrong is posted as a failure.
pub trait DemandSource: Send + 'static {
    /// Posts values to `gauge` until dropped; returns only when there will never be another one.
    fn run(self, gauge: Gauge) -> impl Future<Output = ()> + Send;
}

/// A source's end of one metric.
#[derive(Clone)]
pub struct Gauge {
    board: Arc<Board>,
    app: Key,
    metric: Arc<str>,
    posts: Arc<AtomicU64>,
    open: Arc<Mutex<bool>>,
}

impl Gauge {
    /// `posts` counts the good values of all gauges that share it.
    #[must_use]
    pub fn new(board: Arc<Board>, app: Key, metric: Arc<str>, posts: Arc<AtomicU64>) -> Self {
        Self { board, app, metric, posts, open: Arc::new(Mutex::new(true)) }
    }

    /// A value that was read just now.
    pub fn value(&self, value: f64) {
        self.posts.fetch_add(1, Ordering::Relaxed);
        self.post(Posted::Value(value));
    }

    /// An attempt to read a value failed just now; `why` is shown to people.
    pub fn failure(&self, why: impl Into<String>) {
        self.post(Posted::Failure(why.into()));
    }

    /// Nothing is posted any more once this has returned. Ending a task is not enough: another thread may be in the middle of it.
    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn post(&self, posted: Posted) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            self.board.post(&self.app, &self.metric, posted, clock::instant());
        }
    }
}

/// How many values came in, by kind of source.
#[derive(Clone, Debug)]
pub struct Tally([(&'static str, Arc<AtomicU64>); Source::KINDS.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self(Source::KINDS.map(|kind| (kind, Arc::default())))
    }
}

impl Tally {
    /// The count of one kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> Arc<AtomicU64> {
        let count = self.0.iter().find(|(known, _)| *known == kind);
        count.map_or_else(Arc::default, |(_, count)| count.clone())
    }

    /// Kind of source and count, in a fixed order.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<'_> {
        self.0.iter().map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)))
    }
}
