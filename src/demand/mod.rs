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
//! | secrets, TLS, HTTP, gRPC | [`context`], [`tls`], [`web`], `grpc` |
//! | what a metric will be, and was | [`foresight`], [`crate::forecast`], [`past`] |
//! | what is generated or pushed | [`simulated`] (its curves: [`pattern`], [`trace`]), [`push`], `telemetry` |
//! | windows of time | [`schedule`] |
//! | a server that is asked | [`azure_queue`], [`http`], [`kafka`], `keda`, [`kubernetes`], `nats`, [`nsq`], `postgres`, [`prometheus`], [`rabbitmq`], [`redis`], `sqs` |
//! | what the app's own tasks use | [`mesos`] |
//!
//! Unknown is not zero: a failure keeps the last value and the time it arrived, and says beside it what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::demand::Source;
use crate::api::validated::Key;
use crate::engine::clock;
use crate::forecast::Curve;
use crate::policy::world::Millis;

pub mod azure_queue;
pub mod board;
pub mod context;
pub mod foresight;
#[cfg(feature = "keda")]
pub mod grpc;
pub mod http;
pub mod kafka;
#[cfg(feature = "keda")]
pub mod keda;
pub mod kubernetes;
pub mod link;
pub mod mesos;
#[cfg(feature = "nats")]
pub mod nats;
pub mod nsq;
pub mod past;
pub mod pattern;
pub mod poll;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod prometheus;
pub mod push;
pub mod rabbitmq;
pub mod redis;
pub mod schedule;
pub mod simulated;
pub mod sources;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(feature = "open-telemetry")]
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod web;

pub use board::{Board, Posted, Update};
pub use context::Context;
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

    /// From now on there is nothing to say, on purpose.
    pub fn silence(&self) {
        self.post(Posted::Silent);
    }

    /// An attempt to read a value failed just now; `why` is shown to people.
    pub fn failure(&self, why: impl Into<String>) {
        self.post(Posted::Failure(why.into()));
    }

    /// What the metric will be.
    pub fn foresee(&self, foreseen: Curve) {
        self.when_open(|| self.board.foresee(&self.app, &self.metric, Arc::new(foreseen), clock::instant()));
    }

    /// The most that it was since the last call, as [`Board::peak`] tells.
    #[must_use]
    pub fn peak(&self, not_before: Millis) -> Option<f64> {
        self.board.peak(&self.app, &self.metric, not_before)
    }

    /// Nothing is posted any more once this has returned. Ending a task is not enough: another thread may be in the middle of it.
    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn post(&self, posted: Posted) {
        self.when_open(|| self.board.post(&self.app, &self.metric, posted, clock::instant()));
    }

    fn when_open(&self, post: impl FnOnce()) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            post();
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
