//! Where specs come from. Every source feeds the same thing: a watch channel with the newest [`Specs`].
//!
//! Specs are immutable snapshots, so that an engine sees either the old set or the new one, never half of a change. A source keeps the
//! last good spec of what has become unreadable, and says so in [`Specs::problems`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::validated::{App, Key, Pool};
use crate::api::{MicroscaledApp, MicroscalingPool};

pub mod directory;

/// Everything that users have declared, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Specs {
    pub apps: BTreeMap<Key, AppSpec>,
    pub pools: BTreeMap<Key, PoolSpec>,
    pub problems: Vec<SpecProblem>,
    /// All sources could be read without a problem: an app that is not here was never declared, or was deleted.
    pub complete: bool,
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
}

/// The newest specs.
pub type SpecsFeed = watch::Receiver<Arc<Specs>>;
