//! Where specs come from. Every source feeds the same thing: a watch channel with the newest [`Specs`].
//!
//! | look for | in |
//! |---|---|
//! | YAML files | [`directory`] |
//! | the objects of a Kubernetes API server | [`crate::kubernetes`] |
//! | the secrets that specs name | [`secrets`] |
//! | files that outlive a crash | [`file`] |
//!
//! Specs are immutable snapshots, so that an engine sees either the old set or the new one, never half of a change. A source keeps the
//! last good spec of what has become unreadable, and says so in [`Specs::problems`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::validated::{App, Key, Pool};
use crate::api::{MicroscaledApp, MicroscalingPool};

pub mod directory;
pub mod file;
pub mod secrets;

/// Everything that users have declared, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Specs {
    pub apps: BTreeMap<Key, AppSpec>,
    pub pools: BTreeMap<Key, PoolSpec>,
    pub problems: Vec<SpecProblem>,
    /// An app that is neither here nor in `spared` was never declared, or was deleted.
    pub complete: bool,
    /// Apps that are declared, but of which no readable spec is known: what runs of them is left alone.
    pub spared: Arc<BTreeSet<Key>>,
}

impl Specs {
    /// Apps that name a pool which does not exist.
    pub fn homeless(&self) -> impl Iterator<Item = &AppSpec> {
        self.apps.values().filter(|spec| !self.pools.contains_key(&spec.app.pool))
    }
}

/// An app as written and as read.
#[derive(Clone, Debug)]
pub struct AppSpec {
    pub raw: Arc<MicroscaledApp>,
    pub app: Arc<App>,
}

/// A pool as written and as read.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    pub raw: Arc<MicroscalingPool>,
    pub pool: Arc<Pool>,
}

/// Something that could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// The app that it is about, if that is known.
    pub app: Option<Key>,
    /// File, line, field and what is wrong.
    pub message: String,
    /// The generation of the object that cannot be taken over, where something counts generations.
    pub generation: Option<i64>,
}

impl SpecProblem {
    #[must_use]
    pub fn new(app: Option<Key>, message: String) -> Self {
        Self { app, message, generation: None }
    }
}

/// The newest specs.
pub type SpecsFeed = watch::Receiver<Arc<Specs>>;

/// What is to be said of them: nobody will do anything for them.
#[must_use]
pub fn homeless(specs: &Specs) -> Vec<SpecProblem> {
    let problem = |spec: &AppSpec| {
        let App { key, pool, .. } = &*spec.app;
        let message = format!("{key}: spec.pool: there is no MicroscalingPool {pool}, so nothing is done for it");
        SpecProblem { app: Some(key.clone()), message, generation: Some(spec.app.generation) }
    };
    specs.homeless().map(problem).collect()
}
