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
use super::index::{Changed, Index, Source, What};
use super::objects::{Objects, ObjectsFeed};
use crate::api::check::Kind;
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::engine::leadership::Leadership;
use crate::store::{Specs, SpecsFeed};

/// A watch that breaks is tried again between these; an outage is over for us soon after it is over.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Seconds. A connection that has died in silence is noticed a few seconds after this.
const LONGEST_WATCH: u32 = 30;

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
/// half of the truth would look like a deletion of the rest. Whoever comes to lead reads everything anew, as a watch that has died in
/// silence shows nothing of what was created since; until then no task counts as nobody's.
#[must_use]
pub fn watch_objects(client: Client, scope: Scope, leadership: Leadership) -> Watched {
    let sources = sources(&scope);
    let index = Index::new(sources.clone());
    let (specs, specs_feed) = watch::channel(Arc::new(Specs::default()));
    let (objects, objects_feed) = watch::channel(Arc::new(Objects::default()));
    let (synced, synced_feed) = watch::channel(false);
    tokio::spawn(Follower { client, scope, sources, leadership, index, specs, objects, synced }.run());
    Watched { specs: specs_feed, objects: objects_feed, synced: synced_feed }
}

fn sources(scope: &Scope) -> Vec<Source> {
    let namespaces: Vec<Option<String>> = match &scope.namespaces[..] {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let names = scope.pools.is_some().then_some(What::PoolNames);
    let whats: Vec<What> = [What::Pools, What::Apps].into_iter().chain(names).collect();
    let of_namespace = |namespace: &Option<String>| {
        let namespace = namespace.clone();
        whats.iter().map(move |what| Source { what: *what, namespace: namespace.clone() }).collect::<Vec<_>>()
    };
    namespaces.iter().flat_map(of_namespace).collect()
}

type Told = (Source, Event<DynamicObject>);

/// One watch, with its failures logged and tried again.
fn stream(client: &Client, source: &Source, scope: &Scope) -> BoxStream<'static, Told> {
    let Source { what, namespace } = source.clone();
    let (kind, resource, selector) = match what {
        What::Apps => (Kind::App, ApiResource::erase::<MicroscaledApp>(&()), None),
        What::Pools => (Kind::Pool, ApiResource::erase::<MicroscalingPool>(&()), scope.pools.as_deref()),
        What::PoolNames => (Kind::Pool, ApiResource::erase::<MicroscalingPool>(&()), None),
    };
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let config = watcher::Config::default().timeout(LONGEST_WATCH);
    let config = selector.iter().fold(config, |config, selector| config.labels(selector));
    let mut failing = false;
    let place = namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    let source = source.clone();
    let told = follow(api, config).backoff(Doubling::new(RETRY.0, RETRY.1)).filter_map(move |event| {
        let told = match event {
            Ok(event) => {
                // That it begins to list tells nothing yet.
                if !matches!(event, Event::Init) && std::mem::take(&mut failing) {
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
    match code(error) {
        Some(404) => {
            "the CustomResourceDefinitions are not installed: microscaler crd | kubectl apply --server-side -f -".to_owned()
        }
        Some(403) => format!("{} (the ServiceAccount needs the roles of charts/microscaler)", cause(error)),
        _ => cause(error),
    }
}

/// The API server's answer, if it was one that made the watch fail.
pub(super) fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// In the API server's own words, if there are any.
pub(super) fn cause(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => super::causes(error),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// The task that owns the index.
struct Follower {
    client: Client,
    scope: Scope,
    sources: Vec<Source>,
    leadership: Leadership,
    index: Index,
    specs: watch::Sender<Arc<Specs>>,
    objects: watch::Sender<Arc<Objects>>,
    /// Everything has been read once.
    synced: watch::Sender<bool>,
}

impl Follower {
    async fn run(mut self) {
        let mut streams = self.streams();
        loop {
            let told = tokio::select! {
                told = streams.next() => told,
                () = self.leadership.changed() => {
                    if self.leadership.term().is_some() && *self.synced.borrow() {
                        self.index.doubt(self.sources.clone());
                        streams = self.streams();
                        self.publish(Changed { specs: true, objects: false });
                    }
                    continue;
                }
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
                self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
            }
            if *self.synced.borrow() {
                self.publish(changed);
            }
        }
    }

    fn streams(&self) -> SelectAll<BoxStream<'static, Told>> {
        self.sources.iter().map(|source| stream(&self.client, source, &self.scope)).collect()
    }

    fn publish(&self, changed: Changed) {
        if changed.objects {
            self.objects.send_replace(Arc::new(self.index.objects()));
        }
        if changed.specs {
            self.specs.send_replace(Arc::new(self.index.specs()));
        }
    }
}
