//! Follows the objects of an API server into the index, and tells what has come of it.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as follow};
use tokio::sync::watch;
use tracing::{info, warn};

use super::backoff::Doubling;
use super::index::{Changed, Index, Source};
use super::objects::{Objects, ObjectsFeed};
use crate::api::check::Kind;
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::store::{Specs, SpecsFeed};

/// A watch that breaks is tried again between these; an outage is over for us soon after it is over.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Which objects are looked after.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Empty: all.
    pub namespaces: Vec<String>,
    /// Label selector over pools; an app goes with its pool.
    pub pools: Option<String>,
}

/// What comes of watching.
pub struct Watched {
    pub specs: SpecsFeed,
    pub objects: ObjectsFeed,
    /// Everything has been read once.
    pub synced: watch::Receiver<bool>,
}

/// Follows the objects for as long as anybody reads the specs.
///
/// Nothing is published before everything has been listed once, and a list that is read anew replaces the old one only when it is complete:
/// half of the truth would look like a deletion of the rest.
#[must_use]
pub fn watch_objects(client: &Client, scope: &Scope) -> Watched {
    let sources = sources(scope);
    let streams: SelectAll<_> = sources.iter().map(|source| stream(client, source, scope)).collect();
    let index = Index::new(sources, scope.pools.is_some());
    let (specs, specs_feed) = watch::channel(Arc::new(Specs::default()));
    let (objects, objects_feed) = watch::channel(Arc::new(Objects::default()));
    let (synced, synced_feed) = watch::channel(false);
    tokio::spawn(Follower { index, specs, objects, synced }.run(streams));
    Watched { specs: specs_feed, objects: objects_feed, synced: synced_feed }
}

fn sources(scope: &Scope) -> Vec<Source> {
    let namespaces: Vec<Option<String>> = match &scope.namespaces[..] {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    namespaces.iter().flat_map(|namespace| [Kind::Pool, Kind::App].map(|kind| (kind, namespace.clone()))).collect()
}

type Told = (Source, Event<DynamicObject>);

/// One watch, with its failures logged and tried again.
fn stream(client: &Client, source: &Source, scope: &Scope) -> BoxStream<'static, Told> {
    let (kind, namespace) = source.clone();
    let (resource, selector) = match kind {
        Kind::App => (ApiResource::erase::<MicroscaledApp>(&()), None),
        Kind::Pool => (ApiResource::erase::<MicroscalingPool>(&()), scope.pools.as_deref()),
    };
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let config = selector.map_or_else(watcher::Config::default, |selector| watcher::Config::default().labels(selector));
    let mut failing = false;
    let place = namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    let source = source.clone();
    let told = follow(api, config).backoff(Doubling::new(RETRY.0, RETRY.1)).filter_map(move |event| {
        let told = match event {
            Ok(event) => {
                if std::mem::take(&mut failing) {
                    info!("{kind} objects of {place} can be watched again");
                }
                Some((source.clone(), event))
            }
            Err(error) => {
                // One line an outage.
                if !std::mem::replace(&mut failing, true) {
                    warn!("cannot watch the {kind} objects of {place}: {}; what is known stays in force", in_words(&error));
                }
                None
            }
        };
        std::future::ready(told)
    });
    told.boxed()
}

/// What went wrong, with what to do about the cases that people meet.
fn in_words(error: &watcher::Error) -> String {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    match code {
        404 => "the CustomResourceDefinitions are not installed: microscaler crd | kubectl apply --server-side -f -".to_owned(),
        403 => format!("{error} (the ServiceAccount needs the roles of charts/microscaler)"),
        _ => super::causes(error),
    }
}

/// The task that owns the index.
struct Follower {
    index: Index,
    specs: watch::Sender<Arc<Specs>>,
    objects: watch::Sender<Arc<Objects>>,
    synced: watch::Sender<bool>,
}

impl Follower {
    async fn run(mut self, mut streams: SelectAll<BoxStream<'static, Told>>) {
        loop {
            let told = tokio::select! {
                told = streams.next() => told,
                () = self.specs.closed() => return,
            };
            let Some((source, event)) = told else { return };
            let mut changed = self.index.apply(&source, event);
            // Whatever else is there already is worth one snapshot with it.
            while let Some(Some((source, event))) = streams.next().now_or_never() {
                let more = self.index.apply(&source, event);
                changed = Changed { specs: changed.specs | more.specs, objects: changed.objects | more.objects };
            }
            if self.index.is_synced() {
                self.publish(changed);
            }
        }
    }

    fn publish(&self, changed: Changed) {
        if changed.objects {
            self.objects.send_replace(Arc::new(self.index.objects()));
        }
        if changed.specs {
            self.specs.send_replace(Arc::new(self.index.specs()));
        }
        self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
    }
}
