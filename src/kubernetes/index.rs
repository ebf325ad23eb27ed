//! What is on the API server → specs and objects. Plain data, owned by one task.
//!
//! An object that cannot be read harms only itself: its last good spec stays in force, or where there is none, what runs of it is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::objects::{Objects, Seen};
use crate::api::check::{Checker, Fault, Kind, Object};
use crate::api::status::{AppStatus, PoolStatus};
use crate::api::validated::Key;
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::store::{AppSpec, PoolSpec, SpecProblem, Specs, homeless};

/// A watch that events come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub what: What,
    /// `None`: of all namespaces.
    pub namespace: Option<String>,
}

/// What a watch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Apps,
    /// The pools that are looked after.
    Pools,
    /// That other pools exist, too.
    PoolNames,
}

/// Everything seen so far.
pub struct Index {
    checker: Checker,
    held: BTreeMap<(Kind, Key), Held>,
    /// Of watches that have begun to list: what they have shown.
    listing: BTreeMap<Source, BTreeSet<Key>>,
    /// Watches that have not listed everything.
    outstanding: BTreeSet<Source>,
    /// All pools that exist, ours among them, where only some are ours.
    names: BTreeSet<Key>,
}

/// What an event has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub specs: bool,
    pub objects: bool,
}

/// One object.
struct Held {
    seen: SeenAs,
    /// The newest spec that could be read.
    good: Option<Object>,
}

#[derive(Clone)]
enum SeenAs {
    App(Arc<Seen<AppStatus>>),
    Pool(Arc<Seen<PoolStatus>>),
}

impl Index {
    /// `sources` are all the watches that will tell of something.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Self {
            checker: Checker::new(),
            held: BTreeMap::new(),
            listing: BTreeMap::new(),
            outstanding: sources.into_iter().collect(),
            names: BTreeSet::new(),
        }
    }

    /// All these will list everything anew. Until they have, nothing is concluded from what is not here.
    pub fn doubt(&mut self, sources: impl IntoIterator<Item = Source>) {
        self.listing.clear();
        self.outstanding = sources.into_iter().collect();
    }

    /// Everything has been listed.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Takes in what a watch tells.
    pub fn apply(&mut self, source: &Source, event: Event<DynamicObject>) -> Changed {
        match event {
            Event::Init => {
                self.listing.insert(source.clone(), BTreeSet::new());
                Changed::default()
            }
            Event::InitApply(object) => {
                if let Some(listed) = self.listing.get_mut(source) {
                    listed.insert(key(&object));
                }
                self.put(source.what, object)
            }
            Event::InitDone => self.listed(source),
            Event::Apply(object) => self.put(source.what, object),
            Event::Delete(object) => self.remove(source.what, &key(&object)),
        }
    }

    /// What a complete list does not show is gone.
    fn listed(&mut self, source: &Source) -> Changed {
        let listed = self.listing.remove(source).unwrap_or_default();
        let here = |key: &Key| source.namespace.as_ref().is_none_or(|namespace| namespace == key.namespace());
        let stays = |key: &Key| !here(key) || listed.contains(key);
        let before = (self.held.len(), self.names.len());
        match kind(source.what) {
            Some(kind) => self.held.retain(|(held, key), _| *held != kind || stays(key)),
            None => self.names.retain(stays),
        }
        let changed = self.outstanding.remove(source) || (self.held.len(), self.names.len()) != before;
        Changed { specs: changed, objects: changed }
    }

    fn remove(&mut self, what: What, key: &Key) -> Changed {
        let changed = match kind(what) {
            Some(kind) => self.held.remove(&(kind, key.clone())).is_some(),
            None => self.names.remove(key),
        };
        Changed { specs: changed, objects: changed }
    }

    fn put(&mut self, what: What, mut object: DynamicObject) -> Changed {
        let key = key(&object);
        let Some(kind) = kind(what) else {
            let changed = self.names.insert(key);
            return Changed { specs: changed, objects: changed };
        };
        // Nobody here asks who wrote which field, and it is the larger half of an object.
        object.metadata.managed_fields = None;
        let old = self.held.remove(&(kind, key.clone()));
        let (held, specs) = match old {
            Some(old) if old.seen.speaks_of(&object) => (Held { seen: old.seen.renewed(&object), ..old }, false),
            old => (self.judge(kind, &object, old), true),
        };
        self.held.insert((kind, key), held);
        Changed { specs, objects: true }
    }

    /// An app is where its pool is; one whose pool does not exist is everybody's, so that somebody tells.
    fn is_ours(&self, pool: &Key) -> bool {
        !self.names.contains(pool) || self.held.contains_key(&(Kind::Pool, pool.clone()))
    }

    /// The verdict on a spec that is new.
    fn judge(&self, kind: Kind, object: &DynamicObject, old: Option<Held>) -> Held {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let earlier = old.filter(|old| old.seen.uid() == uid).and_then(|old| old.good);
        let verdict = serde_json::to_value(object).map_err(|error| error.to_string());
        let verdict = verdict.and_then(|value| self.checker.check_value(value).map_err(|faults| in_words(&faults)));
        let (good, fault) = match verdict {
            Ok(good) => (Some(with_status(good, object)), None),
            Err(fault) => (earlier, Some(fault)),
        };
        let seen = match kind {
            Kind::App => SeenAs::App(Arc::new(seen(object, pool_of(object, good.as_ref()), fault))),
            Kind::Pool => SeenAs::Pool(Arc::new(seen(object, Some(key(object)), fault))),
        };
        Held { seen, good }
    }

    /// What the engines are to know. Apps that are being deleted are gone already; pools stay for as long as their objects.
    #[must_use]
    pub fn specs(&self) -> Specs {
        let mut specs = Specs { complete: self.is_synced(), ..Specs::default() };
        let mut spared = BTreeSet::new();
        for ((kind, key), held) in &self.held {
            match &held.good {
                _ if *kind == Kind::App && held.seen.is_deleting() => continue,
                Some(Object::App(raw, app)) => {
                    specs.apps.insert(key.clone(), AppSpec { raw: raw.clone(), app: app.clone() });
                }
                Some(Object::Pool(raw, pool)) => {
                    specs.pools.insert(key.clone(), PoolSpec { raw: raw.clone(), pool: pool.clone() });
                }
                None if *kind == Kind::App => drop(spared.insert(key.clone())),
                None => {}
            }
            specs.problems.extend(held.seen.problem(*kind, key));
        }
        specs.apps.retain(|_, spec| self.is_ours(&spec.app.pool));
        specs.spared = Arc::new(spared);
        specs.problems.extend(homeless(&specs));
        specs
    }

    /// Everything as it is on the API server.
    #[must_use]
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        for ((_, key), held) in &self.held {
            match &held.seen {
                SeenAs::App(app) if app.pool.as_ref().is_none_or(|pool| self.is_ours(pool)) => {
                    objects.apps.insert(key.clone(), app.clone());
                }
                SeenAs::App(_) => {}
                SeenAs::Pool(pool) => drop(objects.pools.insert(key.clone(), pool.clone())),
            }
        }
        objects
    }
}

impl SeenAs {
    /// Whether the spec is the one that was judged: the generation counts its changes, deletion included.
    fn speaks_of(&self, object: &DynamicObject) -> bool {
        let same = |uid: &str, generation: i64, deleting: bool| {
            object.metadata.uid.as_deref() == Some(uid)
                && object.metadata.generation == Some(generation)
                && object.metadata.deletion_timestamp.is_some() == deleting
        };
        match self {
            Self::App(seen) => same(&seen.uid, seen.generation, seen.deleting),
            Self::Pool(seen) => same(&seen.uid, seen.generation, seen.deleting),
        }
    }

    /// The same spec, and all else as it is now.
    fn renewed(&self, object: &DynamicObject) -> Self {
        match self {
            Self::App(old) => Self::App(Arc::new(seen(object, old.pool.clone(), old.fault.clone()))),
            Self::Pool(old) => Self::Pool(Arc::new(seen(object, old.pool.clone(), old.fault.clone()))),
        }
    }

    fn uid(&self) -> &str {
        match self {
            Self::App(seen) => &seen.uid,
            Self::Pool(seen) => &seen.uid,
        }
    }

    fn is_deleting(&self) -> bool {
        match self {
            Self::App(seen) => seen.deleting,
            Self::Pool(seen) => seen.deleting,
        }
    }

    fn problem(&self, kind: Kind, key: &Key) -> Option<SpecProblem> {
        let (fault, generation) = match self {
            Self::App(seen) => (seen.fault.as_ref()?, seen.generation),
            Self::Pool(seen) => (seen.fault.as_ref()?, seen.generation),
        };
        let app = (kind == Kind::App).then(|| key.clone());
        Some(SpecProblem { app, message: format!("{kind} {key}: {fault}"), generation: Some(generation) })
    }
}

/// `None`: only the names count.
fn kind(what: What) -> Option<Kind> {
    match what {
        What::Apps => Some(Kind::App),
        What::Pools => Some(Kind::Pool),
        What::PoolNames => None,
    }
}

fn key(object: &DynamicObject) -> Key {
    Key::new(object.metadata.namespace.as_deref().unwrap_or("default"), &object.name_any())
}

/// The pool that an app names: as judged, or where that was not possible, as far as it can be seen.
fn pool_of(object: &DynamicObject, good: Option<&Object>) -> Option<Key> {
    let named = object.data.pointer("/spec/pool").and_then(serde_json::Value::as_str);
    match good {
        _ if named.is_some() => named.map(|pool| Key::new(key(object).namespace(), pool)),
        Some(Object::App(_, app)) => Some(app.pool.clone()),
        _ => None,
    }
}

fn seen<S: serde::de::DeserializeOwned>(object: &DynamicObject, pool: Option<Key>, fault: Option<String>) -> Seen<S> {
    let metadata = &object.metadata;
    Seen {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        status: object.data.get("status").and_then(|status| S::deserialize(status).ok()),
        pool,
        fault,
    }
}

/// The status as found: whoever reports goes on from there.
fn with_status(good: Object, object: &DynamicObject) -> Object {
    let Some(status) = object.data.get("status") else { return good };
    match good {
        Object::App(raw, app) => {
            let status = serde::Deserialize::deserialize(status).ok();
            Object::App(Arc::new(MicroscaledApp { status, ..Arc::unwrap_or_clone(raw) }), app)
        }
        Object::Pool(raw, pool) => {
            let status = serde::Deserialize::deserialize(status).ok();
            Object::Pool(Arc::new(MicroscalingPool { status, ..Arc::unwrap_or_clone(raw) }), pool)
        }
    }
}

fn in_words(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
