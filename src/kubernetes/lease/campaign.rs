//! The two parts that a candidate plays in turn: it stands by, and it leads.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::calls::{CallError, Calls};
use super::record::{Holder, Record};
use super::sight::{Claim, Sight};
use super::{Candidate, Mandate, Peer, RENEWALS, TIMEOUTS};
use crate::engine::clock;
use crate::engine::leadership::Role;
use crate::policy::world::Millis;
use crate::server::metrics::Metrics;

/// So often is the release tried when somebody else writes to the lease.
const RELEASES: usize = 3;

/// What others see of it.
pub(super) struct Seats {
    pub role: watch::Receiver<Role>,
    pub leader: watch::Receiver<Option<Peer>>,
    pub mandate: Mandate,
}

/// A lease that is ours, and when the request was begun that made it so.
struct Held {
    record: Record,
    since: Millis,
}

pub(super) struct Campaign {
    calls: Calls,
    watch: BoxStream<'static, Option<Record>>,
    us: Holder,
    sight: Sight,
    duration: Millis,
    /// From one renewal to the next, and from a failure to the next try.
    period: Duration,
    role: watch::Sender<Role>,
    leader: watch::Sender<Option<Peer>>,
    mandate: Mandate,
    metrics: Arc<Metrics>,
    resign: CancellationToken,
    /// It has, and acts no more.
    resigned: CancellationToken,
    /// How often it has come to lead.
    terms: u64,
    /// Requests fail, and that has been said.
    in_trouble: bool,
}

impl Campaign {
    pub fn new(
        candidate: Candidate,
        metrics: Arc<Metrics>,
        resign: CancellationToken,
        resigned: CancellationToken,
    ) -> (Self, Seats) {
        let Candidate { client, namespace, name, identity, address, duration } = candidate;
        let calls = Calls::new(client, &namespace, &name, duration / TIMEOUTS);
        let (millis, period) = (clock::whole_ms(duration), duration / RENEWALS);
        let sight = Sight::new(&identity, millis);
        let (role, role_seen) = watch::channel(Role::Standby { leader: sight.words().into() });
        let (leader, leader_seen) = watch::channel(None);
        let mandate = Mandate::default();
        metrics.leads(false);
        let seats = Seats { role: role_seen, leader: leader_seen, mandate: mandate.clone() };
        let us = Holder { namespace, name, peer: Peer { identity, address }, duration };
        let watch = calls.watch(period);
        let (terms, in_trouble) = (0, false);
        let campaign = Self {
            calls,
            watch,
            us,
            sight,
            duration: millis,
            period,
            role,
            leader,
            mandate,
            metrics,
            resign,
            resigned,
            terms,
            in_trouble,
        };
        (campaign, seats)
    }

    /// Until it resigns, and then on: who leads is told for as long as the process asks.
    pub async fn run(mut self) {
        while let Some(held) = self.stand_by().await {
            if let Some(held) = self.lead(held).await {
                self.release(held).await;
                break;
            }
        }
        self.metrics.leads(false);
        self.role.send_replace(Role::Standby { leader: "this replica has resigned".into() });
        self.resigned.cancel();
        while let Some(found) = self.watch.next().await {
            self.sight.observe(found, clock::now());
            self.tell_leader();
        }
    }

    // ---- standing by ----

    /// Until it holds the lease; `None` when it has resigned before.
    async fn stand_by(&mut self) -> Option<Held> {
        loop {
            self.publish();
            let now = clock::now();
            let free_at = self.sight.free_at();
            if now < free_at {
                tokio::select! {
                    () = self.resign.cancelled() => return None,
                    Some(found) = self.watch.next() => self.sight.observe(found, clock::now()),
                    () = sleep(Duration::from_millis(free_at - now)) => {}
                }
                continue;
            }
            match self.look_and_take().await {
                Ok(Some(held)) => return Some(held),
                // It is not free after all, or somebody was quicker.
                Ok(None) => self.at_ease(),
                Err(error) => {
                    self.trouble("cannot ask for the lease; standing by", &error);
                    self.sight.lose();
                    tokio::select! {
                        () = self.resign.cancelled() => return None,
                        () = sleep(self.period) => {}
                    }
                }
            }
            if self.resign.is_cancelled() {
                return None;
            }
        }
    }

    /// By what was seen, the lease is free: makes sure, and takes it.
    async fn look_and_take(&mut self) -> Result<Option<Held>, CallError> {
        let found = self.calls.read().await?;
        let since = clock::now();
        self.sight.observe(found.clone(), since);
        if since < self.sight.free_at() {
            return Ok(None);
        }
        let lease = self.us.taken(found.as_ref(), self.sight.next_transition(), clock::timestamp());
        let taken = if found.is_some() { self.calls.replace(&lease).await } else { self.calls.create(&lease).await };
        match taken {
            Ok(record) => Ok(Some(Held { record, since })),
            Err(CallError::Outdated) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells who leads, where that has changed.
    fn publish(&mut self) {
        self.tell_leader();
        let now = Role::Standby { leader: self.sight.words().into() };
        let changed = self.role.send_if_modified(|known| {
            let changed = *known != now;
            known.clone_from(&now);
            changed
        });
        if let Role::Standby { leader } = now
            && changed
        {
            info!(lease = %self.us.name, "standing by: {leader}");
        }
    }

    fn tell_leader(&self) {
        let peer = self.sight.leader();
        self.leader.send_if_modified(|known| std::mem::replace(known, peer.clone()) != peer);
    }

    // ---- leading ----

    /// Until another one holds the lease, or may have; a lease that is still held when it resigns.
    async fn lead(&mut self, mut held: Held) -> Option<Held> {
        self.come_to_lead(&held);
        let period = clock::whole_ms(self.period);
        let mut due = held.since + period;
        loop {
            if !self.rest_until(due).await {
                return Some(held);
            }
            let since = clock::now();
            due = since + period;
            let lease = self.us.renewed(&held.record, clock::timestamp());
            match self.calls.replace(&lease).await {
                Ok(record) => {
                    held = Held { record, since };
                    self.renewed(&held);
                }
                Err(CallError::Outdated) => match self.settle(&held.record).await {
                    Ok(Some(record)) => {
                        held.record = record;
                        due = 0;
                    }
                    Ok(None) => return None,
                    Err(error) => self.not_renewed(&error),
                },
                Err(error) => self.not_renewed(&error),
            }
        }
    }

    fn come_to_lead(&mut self, held: &Held) {
        self.terms += 1;
        self.mandate.extend_to(held.since + self.duration);
        // In this order nobody finds that neither this one leads nor another.
        self.role.send_replace(Role::Leader { term: self.terms });
        self.leader.send_replace(None);
        self.metrics.leads(true);
        self.at_ease();
        info!(lease = %self.us.name, term = self.terms, transitions = held.record.transitions(), "leading");
    }

    /// Until the next renewal is due, or the lease seems to have been touched. False: it resigns.
    async fn rest_until(&mut self, due: Millis) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.resign.cancelled() => return false,
                () = sleep(Duration::from_millis(due.saturating_sub(clock::now()))) => return true,
                Some(seen) = self.watch.next() => {
                    // It may be an old version that is late; the renewal tells.
                    if seen.as_ref().and_then(Record::holder) != Some(self.us.identity()) {
                        return true;
                    }
                }
            }
        }
    }

    fn renewed(&mut self, held: &Held) {
        self.mandate.extend_to(held.since + self.duration);
        self.metrics.lease_renewed();
        self.at_ease();
    }

    fn not_renewed(&mut self, error: &CallError) {
        self.metrics.lease_not_renewed();
        self.trouble("cannot renew the lease; leading goes on, but soon without writing to the API server", error);
    }

    /// Somebody has touched the lease. What it is now, if it is still ours; `None`: it is not.
    async fn settle(&mut self, held: &Record) -> Result<Option<Record>, CallError> {
        let found = self.calls.read().await?;
        match Claim::of(held, found.as_ref()) {
            Claim::Ours => return Ok(found),
            // For as long as the mandate holds nobody else has had the right to take it.
            Claim::Gone if self.mandate.holds() => {
                warn!(lease = %self.us.name, "somebody has deleted the lease; it is made anew");
                let lease = self.us.restored(held, clock::timestamp());
                match self.calls.create(&lease).await {
                    Ok(record) => return Ok(Some(record)),
                    Err(CallError::Outdated) => {}
                    Err(error) => return Err(error),
                }
                let found = self.calls.read().await?;
                self.step_down(found);
            }
            Claim::Gone | Claim::Lost => self.step_down(found),
        }
        Ok(None)
    }

    fn step_down(&mut self, found: Option<Record>) {
        self.mandate.extend_to(0);
        self.metrics.leads(false);
        self.at_ease();
        self.sight = Sight::new(self.us.identity(), self.duration);
        self.sight.observe(found, clock::now());
        info!(lease = %self.us.name, term = self.terms, "no longer leading: the lease is lost");
        self.publish();
    }

    /// Nobody leads from now on; failing that, once the lease has run out.
    async fn release(&mut self, held: Held) {
        self.mandate.extend_to(0);
        let mut record = held.record;
        for _ in 0..RELEASES {
            let error = match self.calls.replace(&Holder::released(&record, clock::timestamp())).await {
                Ok(_) => return info!(lease = %self.us.name, "resigned: the lease is released"),
                Err(CallError::Outdated) => match self.calls.read().await {
                    Ok(Some(found)) if Claim::of(&record, Some(&found)) == Claim::Ours => {
                        record = found;
                        continue;
                    }
                    Ok(_) => return info!(lease = %self.us.name, "resigned: the lease is another one's already"),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            return warn!(lease = %self.us.name, "resigned, but the lease is left to run out: {error}");
        }
    }

    // ---- what is said of requests ----

    /// Once, and not at each try.
    fn trouble(&mut self, what: &str, error: &CallError) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            warn!(lease = %self.us.name, "{what}: {error}");
        }
    }

    fn at_ease(&mut self) {
        if std::mem::take(&mut self.in_trouble) {
            info!(lease = %self.us.name, "the API server answers again about the lease");
        }
    }
}
