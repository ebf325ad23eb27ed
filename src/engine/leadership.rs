//! Whether this process is the one that acts.
//!
//! Of several operators one leads; the others watch and compute, so that they can go on at once. Mesos itself sees to it that two never
//! act at the same time: it takes calls only from the newest subscriber of a framework.

use std::sync::Arc;

use tokio::sync::watch;

/// The part that this process plays now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It acts. Each time that it has come to lead has another number.
    Leader { term: u64 },
    /// It does not; who does, as far as known, in words.
    Standby { leader: Arc<str> },
}

/// A view of that part as it changes.
#[derive(Clone)]
pub struct Leadership {
    role: watch::Receiver<Role>,
    /// Of one that is alone and leads for good: a channel without a sender would count as ended.
    _alone: Option<Arc<watch::Sender<Role>>>,
}

impl Leadership {
    /// There is nobody else.
    #[must_use]
    pub fn alone() -> Self {
        let (sender, role) = watch::channel(Role::Leader { term: 1 });
        Self { role, _alone: Some(Arc::new(sender)) }
    }

    /// As an election has it.
    #[must_use]
    pub fn elected(role: watch::Receiver<Role>) -> Self {
        Self { role, _alone: None }
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

    /// Waits for another part to play. Once nobody elects any more, for ever.
    pub async fn changed(&mut self) {
        if self.role.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this process leads.
    pub async fn leads(&mut self) {
        if self.role.wait_for(|role| matches!(role, Role::Leader { .. })).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
