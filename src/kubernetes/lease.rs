//! Who leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::clock;
use crate::policy::world::Millis;

/// The right to write to the API server: held for as long as the lease, as last renewed, has not run out.
///
/// A process that was paused finds it void when it wakes up, before it has heard of anything. Orders to Mesos do not need it: there the
/// master itself takes calls only from the newest subscriber.
#[derive(Clone, Debug, Default)]
pub struct Mandate(Arc<AtomicU64>);

impl Mandate {
    #[must_use]
    pub fn holds(&self) -> bool {
        clock::now() < self.0.load(Ordering::Acquire)
    }

    /// Good until this moment; 0 ends it.
    pub fn extend_to(&self, moment: Millis) {
        self.0.store(moment, Ordering::Release);
    }
}
