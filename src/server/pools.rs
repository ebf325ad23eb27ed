//! The engines that run, by pool.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use crate::api::validated::Key;
use crate::engine::report::Handle;

/// A member's number: the same pool, started anew, has another one.
pub(crate) type Serial = u64;

/// The engines that run. Inserted and removed by whoever starts and ends them; streams follow the changes.
pub struct Pools {
    members: RwLock<BTreeMap<Key, (Serial, Handle)>>,
    /// Counts insertions and removals.
    changes: watch::Sender<Serial>,
}

impl Default for Pools {
    fn default() -> Self {
        Self { members: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.list().iter().map(|handle| &handle.pool)).finish()
    }
}

impl Pools {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an engine known, in place of an earlier one of the same pool.
    pub fn insert(&self, handle: Handle) {
        self.changes.send_modify(|serial| {
            *serial += 1;
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            members.insert(handle.pool.clone(), (*serial, handle));
        });
    }

    /// Forgets the engine of a pool; nothing happens if there is none.
    pub fn remove(&self, pool: &Key) {
        self.changes.send_modify(|serial| {
            *serial += 1;
            self.members.write().unwrap_or_else(PoisonError::into_inner).remove(pool);
        });
    }

    /// All engines, in order of their pools' namespaces and names.
    #[must_use]
    pub fn list(&self) -> Vec<Handle> {
        self.numbered().into_iter().map(|(_, handle)| handle).collect()
    }

    /// The engine of a pool.
    #[must_use]
    pub fn get(&self, pool: &Key) -> Option<Handle> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.get(pool).map(|(_, handle)| handle.clone())
    }

    pub(crate) fn numbered(&self) -> Vec<(Serial, Handle)> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Changes whenever an engine is inserted or removed.
    pub(crate) fn changes(&self) -> watch::Receiver<Serial> {
        self.changes.subscribe()
    }
}
