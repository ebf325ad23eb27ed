//! The objects of an API server as last seen, without what only their specs' readers need.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::status::{AppStatus, PoolStatus};
use crate::api::validated::Key;

/// All that this operator looks after, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Not those whose pool exists and is looked after by somebody else.
    pub apps: BTreeMap<Key, Arc<Seen<AppStatus>>>,
    /// Only those that the selector chooses.
    pub pools: BTreeMap<Key, Arc<Seen<PoolStatus>>>,
}

/// The newest objects. Empty until all have been read once.
pub type ObjectsFeed = watch::Receiver<Arc<Objects>>;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<S> {
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    /// Somebody has deleted it; it stays until it has no finalizers.
    pub deleting: bool,
    pub finalizers: Vec<String>,
    /// `None`: there is none, or none that can be read.
    pub status: Option<S>,
    /// The pool that it names; for a pool, itself. `None` where the spec cannot be read that far.
    pub pool: Option<Key>,
    /// What is wrong with the spec, so that it could not be taken over.
    pub fault: Option<String>,
}
