//! Whether this process is the one that acts.
//!
//! Of several operators one leads; the others watch and compute, so that they can go on at once. Mesos itself sees to it that two never
//! act at the same time: it takes calls only from the newest subscriber of a framework.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::clock;
use crate::policy::world::Millis;

/// How often a mandate is looked at by those who wait for it.
const GLANCE: Duration = Duration::from_millis(20);

/// The part that this process plays now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It acts. Each time that it has come to lead has another number.
    Leader { term: u64 },
    /// It does not; who does, as far as known, in words.
    Standby { leader: Arc<str> },
}

/// The right to write to the API server: held for as long as the lease, as last renewed, has not run out.
///
/// A process that was paused finds it void when it wakes up, before it has heard of anything. Orders to Mesos do not need it: there the
/// master itself takes calls only from the newest subscriber.
#[derive(Clone, Debug, Default)]
pub struct Mandate(Arc<AtomicU64>);

impl Mandate {
    #[must_use]
    pub fn holds(&self) -> bool {
        clock::now() < self.until()
    }

    /// Good until this moment: a later one each time that the lease has been renewed.
    #[must_use]
    pub fn until(&self) -> Millis {
        self.0.load(Ordering::Acquire)
    }

    /// Good until this moment; 0 ends it.
    pub fn extend_to(&self, moment: Millis) {
        self.0.store(moment, Ordering::Release);
    }
}

/// A view of that part as it changes.
#[derive(Clone)]
pub struct Leadership {
    role: watch::Receiver<Role>,
    /// `None`: there are no rivals.
    mandate: Option<Mandate>,
    /// Of one that is alone and leads for good: a channel without a sender would count as ended.
    _alone: Option<Arc<watch::Sender<Role>>>,
}

impl Leadership {
    /// There is nobody else.
    #[must_use]
    pub fn alone() -> Self {
        let (sender, role) = watch::channel(Role::Leader { term: 1 });
        Self { role, mandate: None, _alone: Some(Arc::new(sender)) }
    }

    /// As an election has it.
    #[must_use]
    pub fn elected(role: watch::Receiver<Role>, mandate: Mandate) -> Self {
        Self { role, mandate: Some(mandate), _alone: None }
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    /// Which term this is; `None` when another process leads, or nobody.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        match &*self.role.borrow() {
            Role::Leader { term } => Some(*term),
            Role::Standby { .. } => None,
        }
    }

    /// Whether another process may come to lead.
    #[must_use]
    pub fn has_rivals(&self) -> bool {
        self.mandate.is_some()
    }

    /// Whether nobody else can lead at this moment. A leader that the API server cannot be asked about may have been replaced.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.mandate.as_ref().is_none_or(Mandate::holds)
    }

    /// Waits until it is certain from now on that this process leads, or until it does not.
    pub async fn confirmed(&mut self) {
        let Some(mandate) = self.mandate.clone() else { return };
        // The first renewal that is heard of may have begun before this.
        let mut renewals = 0;
        let mut until = mandate.until();
        while self.term().is_some() && renewals < 2 {
            tokio::select! {
                () = self.changed() => return,
                () = tokio::time::sleep(GLANCE) => {}
            }
            if mandate.until() > until {
                until = mandate.until();
                renewals += 1;
            }
        }
    }

    /// Waits for another part to play. Once nobody elects any more, for ever.
    pub async fn changed(&mut self) {
        if self.role.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
