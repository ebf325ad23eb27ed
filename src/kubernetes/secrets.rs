//! Keeps the Secrets that specs name at hand: each is watched by its name for as long as somebody names it, so that rights to these alone suffice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube::Client;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use tokio::task::JoinHandle;
use tracing::warn;

use super::backoff::Doubling;
use super::watch::{cause, code};
use crate::api::demand::secret_refs;
use crate::api::pool::Backend;
use crate::store::secrets::{Secret, SecretKey, Secrets};
use crate::store::{Specs, SpecsFeed};

/// What may not be read now may be allowed soon.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Follows what the specs name until they end.
pub async fn keep(client: Client, mut specs: SpecsFeed, secrets: Arc<Secrets>) {
    let mut watched: BTreeMap<SecretKey, Watch> = BTreeMap::new();
    loop {
        let wanted = named(&specs.borrow_and_update().clone());
        watched.retain(|key, _| wanted.contains(key));
        for key in wanted {
            watched.entry(key.clone()).or_insert_with(|| Watch::start(&client, key, secrets.clone()));
        }
        if specs.changed().await.is_err() {
            return;
        }
    }
}

/// All Secrets that pools and apps name.
fn named(specs: &Specs) -> BTreeSet<SecretKey> {
    let of_pools = specs.pools.values().filter_map(|spec| {
        let reference = match &spec.pool.backend {
            Backend::Mesos(mesos) => mesos.secret_ref.as_ref()?,
            Backend::Marathon(marathon) => marathon.secret_ref()?,
        };
        Some((spec.pool.key.namespace().to_owned(), reference.name.clone()))
    });
    let of_apps = specs.apps.values().flat_map(|spec| {
        let references = spec.app.demand.iter().flat_map(|metric| metric.source.secret_refs());
        references.map(|reference| (spec.app.key.namespace().to_owned(), reference.name))
    });
    let of_webhooks = specs.pools.values().flat_map(|spec| {
        let references = spec.pool.scale_out.as_ref().map(secret_refs).unwrap_or_default();
        references.into_iter().map(|reference| (spec.pool.key.namespace().to_owned(), reference.name))
    });
    of_pools.chain(of_webhooks).chain(of_apps).collect()
}

/// One Secret. Dropped, it is forgotten.
struct Watch {
    key: SecretKey,
    secrets: Arc<Secrets>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(client: &Client, key: SecretKey, secrets: Arc<Secrets>) -> Self {
        let task = tokio::spawn(follow(client.clone(), key.clone(), secrets.clone()));
        Self { key, secrets, task }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        self.secrets.put(&self.key, None);
    }
}

async fn follow(client: Client, key: SecretKey, secrets: Arc<Secrets>) {
    let api: Api<SecretObject> = Api::namespaced(client, &key.0);
    let told = watch_object(api, &key.1).backoff(Doubling::new(RETRY.0, RETRY.1));
    let mut told = std::pin::pin!(told);
    let mut known = false;
    while let Some(told) = told.next().await {
        let secret = match told {
            Ok(Some(object)) => {
                Secret::Data(object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
            }
            Ok(None) => Secret::Unreadable("it does not exist".to_owned()),
            // What was read before stays good while the API server is away.
            Err(_) if known => continue,
            Err(error) => Secret::Unreadable(in_words(&error, &key)),
        };
        known = matches!(secret, Secret::Data(_));
        if let Secret::Unreadable(problem) = &secret {
            warn!("Secret {}/{}: {problem}", key.0, key.1);
        }
        secrets.put(&key, Some(&secret));
    }
}

fn in_words(error: &watcher::Error, key: &SecretKey) -> String {
    if code(error) != Some(403) {
        return cause(error);
    }
    let (namespace, name) = key;
    format!(
        "Microscaler may not read it: allow its ServiceAccount to get, list and watch Secret {name} in namespace {namespace} \
         (rbac.secrets of the chart)"
    )
}
