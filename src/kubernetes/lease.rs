//! Who leads: an election on a Lease (coordination.k8s.io/v1), after the manner of client-go's `leaderelection`.
//!
//! It is written out here since two things are wanted that no library does:
//! - **The leader goes on while the API server is away.** Elsewhere whoever cannot renew in time ends. Here Mesos sees to it that two
//!   never act (it takes calls only from the newest subscriber of a framework), so only writing to the API server has to wait: the
//!   [`Mandate`] runs out, the role stays. Whether somebody else led meanwhile is known once the server is back: a renewal names the
//!   version of the lease that it follows, and is refused if there is a newer one.
//! - **A standby takes over within two seconds** of a `kill -9`: the lease lasts 1.5 s and is renewed five times in that time.
//!
//! Standbys watch the lease, so one that is released is taken at once. One that is merely not renewed is taken when nothing of it has
//! changed for its duration by the standby's own clock; the times in the lease are for people, and clocks may differ. Time during
//! which a standby could not ask the API server does not count, since the leader could not renew then either. All decisions are
//! made upon a read that is no older than themselves, and are written with the version read, so of two that are equally quick one wins.
//!
//! What it needs of RBAC: `get`, `list`, `watch` and `update` on the one lease by its name, and `create` on leases.
//!
//! | look for | in |
//! |---|---|
//! | what the lease says | `record` |
//! | when it may be taken: no clock, no network | `sight` |
//! | requests that end in time | `calls` |
//! | the two parts that are played | `campaign` |

mod calls;
mod campaign;
mod record;
mod sight;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::leadership::Leadership;
pub use crate::engine::leadership::Mandate;
use crate::server::metrics::Metrics;

/// Where a lease tells at which address its holder is reached.
pub const ADDRESS_ANNOTATION: &str = "microscaling.dev/address";
/// How long a lease is good unless renewed.
pub const DURATION: Duration = Duration::from_millis(1500);
/// So many renewals are tried in that time.
const RENEWALS: u32 = 5;
/// So many requests that are not answered end in that time: a halted API server must not stop the election.
const TIMEOUTS: u32 = 2;

/// A replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub identity: String,
    /// URL of its HTTP server, as it has told; `None`: it has not.
    pub address: Option<String>,
}

/// A replica that can lead.
pub struct Candidate {
    pub client: Client,
    /// Of the lease.
    pub namespace: String,
    /// Of the lease; all replicas name the same.
    pub name: String,
    /// Its own, and another one after each start: whoever finds it in the lease takes the lease for its own.
    pub identity: String,
    /// URL at which other replicas reach its HTTP server.
    pub address: Option<String>,
    /// How long the lease is good unless renewed, the same for all replicas; [`DURATION`] unless there is a reason.
    pub duration: Duration,
}

/// An election with this replica as a candidate. Dropped without [`Election::resign`], it ends as if the process had been killed: the
/// lease is left to run out.
pub struct Election {
    pub leadership: Leadership,
    pub mandate: Mandate,
    /// Who leads in place of this replica; `None` when it leads itself, and when nobody is known to.
    pub leader: watch::Receiver<Option<Peer>>,
    resign: CancellationToken,
    resigned: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Candidate {
    /// Stands by, leads when the lease is to be had, and stands by again when it is lost; all in a task of its own.
    #[must_use]
    pub fn stand(self, metrics: Arc<Metrics>) -> Election {
        let (resign, resigned) = (CancellationToken::new(), CancellationToken::new());
        let (campaign, seats) = campaign::Campaign::new(self, metrics, resign.clone(), resigned.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(campaign.run()));
        let leadership = Leadership::elected(seats.role, seats.mandate.clone());
        Election { leadership, mandate: seats.mandate, leader: seats.leader, resign, resigned, task }
    }
}

impl Election {
    /// Ends the candidacy. If this replica leads, the lease is released, so that another one takes it at once; so what it does as the
    /// leader has to have ended before. With the API server away this gives up after some seconds. Until it is dropped, the election goes
    /// on telling who leads.
    pub async fn resign(&mut self) {
        self.resign.cancel();
        tokio::select! {
            () = self.resigned.cancelled() => {}
            // What it has to say of its end, it has said.
            _ = &mut self.task => {}
        }
    }
}
