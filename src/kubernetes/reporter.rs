//! All that is told to the API server: statuses, events, finalizers, and ids of frameworks that were lost there.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use super::finalizer::Finalizer;
use super::lease::Mandate;
use super::objects::ObjectsFeed;
use super::recorder::Recorder;
use super::restore;
use super::schedule::Limits;
use super::sight::Follower;
use super::writer::Writer;
use crate::server::listener::Listener;
use crate::server::{Metrics, Pools};

/// How it is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of the replicas this is: the reporting instance of events.
    pub identity: String,
    /// The budget of statuses.
    pub limits: Limits,
}

/// Tells until the end, while the mandate holds. Then what tools wait for is still written, for at most a second: the mandate should
/// last as long.
///
/// The client should not try again by itself (`default_retry` of its configuration), as what it then sends is no longer the newest;
/// here everything is tried again with what is the newest.
pub async fn report(
    client: Client,
    objects: ObjectsFeed,
    pools: Arc<Pools>,
    mandate: Mandate,
    metrics: Arc<Metrics>,
    options: Options,
    shutdown: watch::Receiver<bool>,
) {
    let follower = || Follower::new(objects.clone(), pools.clone());
    let writer = Writer::new(client.clone(), follower(), mandate.clone(), metrics.clone(), options.limits);
    let finalizer = Finalizer::new(client.clone(), follower(), mandate.clone());
    let restorer = restore::run(client.clone(), follower(), mandate.clone(), shutdown.clone());
    let recorder = Recorder::new(client, follower(), Listener::new(pools.clone()), mandate, metrics, &options.identity);
    tokio::join!(writer.run(shutdown.clone()), finalizer.run(shutdown.clone()), recorder.run(shutdown), restorer);
}
