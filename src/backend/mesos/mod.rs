//! Apache Mesos, driven as a framework of its own over the v1 scheduler HTTP API.
//!
//! ```text
//!  master ══ events ═► session ── Input ──► machine ── World, Endings ──► engine
//!         ◄═ calls ═══ calls ◄─── Call ────    ▲                            │
//!                        ▲ ACKNOWLEDGE         └────────── Orders ──────────┘
//!                        └─ session
//! ```
//!
//! | look for | in |
//! |---|---|
//! | finding the leader, subscribing, back-off | [`session`], [`http`] |
//! | reading events, writing calls | [`recordio`], [`wire`], [`calls`] |
//! | what an input or an order leads to | [`machine`] |
//! | offers and beliefs about room | [`offers`], [`carve`], [`revive`] |
//! | planned maintenance | [`maintenance`] |
//! | tasks and their states | [`ledger`], [`states`], [`reconcile`], [`inventory`] |
//! | executors and images on the agents | [`bases`] |
//! | what Mesos is told of a task, its container and its checks | [`task`], [`container`], [`probe`] |
//! | what Mesos is told of the executor of pooled apps | [`executor`] |
//! | the framework's id | [`framework`] |
//! | a look from outside, without a framework | [`survey`], [`agents`] |
//! | what containers use | [`usage`] |

pub mod agents;
mod bases;
mod calls;
mod carve;
mod container;
mod executor;
mod framework;
mod http;
mod inventory;
mod ledger;
mod machine;
mod maintenance;
mod offers;
mod probe;
mod reconcile;
pub(crate) mod recordio;
mod revive;
mod session;
mod states;
mod stats;
pub mod survey;
mod task;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
pub mod usage;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::calls::Batch;
pub use self::framework::Store;
use self::http::Http;
pub use self::http::{HttpError, SetupError};
pub(crate) use self::http::{chain, tls};
use self::machine::Machine;
use self::session::{Link, Session};
pub use self::stats::Stats;
use super::{Applied, Backend, Orders, Standing};
use crate::api::validated::Pool;
use crate::engine::leadership::Leadership;
use crate::policy::world::{Millis, World};
use crate::store::secrets::Secrets;

/// Events that wait for the engine. When it falls behind by more, the session stops reading, and so does the master sending.
const MAX_WAITING: usize = 16_384;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// To give back the offers of so many agents takes longer than to write what comes before it; it goes by itself then.
const MANY_RELEASES: usize = 32;

/// A framework on one Mesos cluster. Dropping it ends the session and leaves the tasks running.
pub struct Mesos {
    machine: Machine,
    link: Option<Link>,
    events: mpsc::Receiver<Event>,
    /// For what is fetched on the side.
    side: mpsc::Sender<Input>,
    side_inputs: mpsc::Receiver<Input>,
    stats: Arc<Stats>,
    session: JoinHandle<()>,
}

/// Something that the backend has to be told; see [`Backend::apply`].
pub struct Event(Input);

/// What happens to a [`Machine`].
enum Input {
    Subscribed(Link),
    Wire(wire::Event),
    Disconnected {
        why: String,
        tries: u32,
    },
    /// Not connected, and a person has to act; it is tried again now and then.
    Blocked(String),
    /// As before, but nothing more is tried.
    Stalled(String),
    /// Another process leads; who, in words.
    StandingBy(String),
    Inventory(inventory::Inventory),
    /// Nothing but a reason to look.
    News,
}

/// What a session needs of its surroundings.
#[derive(Clone)]
pub struct Setting {
    /// Where the framework's id is kept.
    pub store: Store,
    pub secrets: Arc<Secrets>,
    /// Nothing is connected to before this process leads.
    pub leadership: Leadership,
    /// Register a new framework even when one of the same name has tasks and our note of its id is missing.
    pub fresh: bool,
}

impl Mesos {
    /// Starts a session with the pool's masters.
    ///
    /// # Errors
    /// When the pool is not on Mesos, a master's address is none, or TLS cannot be set up. Everything that may mend itself is told by [`Backend::standing`] instead.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(pool: &Pool, setting: Setting) -> Result<Self, SetupError> {
        let pool = Arc::new(pool.on_mesos().ok_or(SetupError::NotMesos)?);
        let Setting { store, secrets, leadership, fresh } = setting;
        let http = Http::new(pool.clone(), secrets.clone())?;
        let (inputs, events) = mpsc::channel(MAX_WAITING);
        let (side, side_inputs) = mpsc::channel(16);
        let stats = Arc::new(Stats::default());
        let machine = Machine::new(&pool);
        let session = Session {
            pool,
            http,
            store,
            leadership,
            secrets,
            framework: None,
            loaded: false,
            stored: false,
            fresh,
            inputs,
            stats: stats.clone(),
        };
        let session = tokio::spawn(session.run());
        Ok(Self { machine, link: None, events, side, side_inputs, stats, session })
    }

    /// Counters, shared with the session.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    fn flush(&mut self, caused_at: Option<Instant>) {
        let calls = std::mem::take(&mut self.machine.outbox);
        if let Some(link) = self.link.as_ref().filter(|_| !calls.is_empty()) {
            let _ = link.calls.send(Batch { calls, caused_at, flushed: None });
        }
    }

    fn fetch_inventory(&self) {
        let Some(Link { http, leader, framework_id, .. }) = self.link.clone() else { return };
        let side = self.side.clone();
        tokio::spawn(async move {
            let found = inventory::fetch(&http, &leader, &framework_id).await;
            let found = found.inspect_err(|error| tracing::info!(%error, "sizes of adopted tasks are assumed"));
            let _ = side.send(Input::Inventory(found.unwrap_or_default())).await;
        });
    }
}

impl Drop for Mesos {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Backend for Mesos {
    type Event = Event;

    async fn next(&mut self) -> Option<Event> {
        if self.machine.has_news() {
            return Some(Event(Input::News));
        }
        tokio::select! {
            Some(input) = self.side_inputs.recv() => Some(Event(input)),
            event = self.events.recv() => event,
        }
    }

    fn try_next(&mut self) -> Option<Event> {
        if self.machine.has_news() {
            return Some(Event(Input::News));
        }
        self.side_inputs.try_recv().ok().map(Event).or_else(|| self.events.try_recv().ok())
    }

    fn apply(&mut self, Event(input): Event, world: &mut World, now: Millis) -> Applied {
        match &input {
            Input::Subscribed(link) => self.link = Some(link.clone()),
            Input::Disconnected { .. } | Input::Blocked(_) | Input::Stalled(_) | Input::StandingBy(_) => self.link = None,
            _ => {}
        }
        let applied = self.machine.apply(input, world, now);
        if self.machine.wants_inventory(now) {
            self.fetch_inventory();
        }
        self.flush(None);
        applied
    }

    fn tick(&mut self, world: &mut World, now: Millis) -> (Applied, Option<Millis>) {
        let result = self.machine.tick(world, now);
        if self.machine.wants_inventory(now) {
            self.fetch_inventory();
        }
        self.flush(None);
        result
    }

    fn dispatch(&mut self, orders: Orders, world: &mut World, now: Millis) {
        let acts = !(orders.kills.is_empty() && orders.launches.is_empty());
        let mut caused_at = orders.caused_at.filter(|_| acts);
        self.machine.act(&orders, world, now);
        if orders.release.len() > MANY_RELEASES {
            self.flush(caused_at.take());
        }
        self.machine.manage_offers(&orders, world, now);
        self.flush(caused_at);
    }

    fn standing(&self) -> Standing {
        self.machine.standing().clone()
    }

    async fn close(mut self) {
        let (flushed, done) = oneshot::channel();
        if let Some(link) = self.link.take()
            && link.calls.send(Batch { flushed: Some(flushed), ..Batch::default() }).is_ok()
        {
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, done).await;
        }
    }

    fn reactions(&mut self) -> Vec<Duration> {
        self.stats.take_reactions()
    }

    fn calls(&self) -> Vec<(&'static str, u64)> {
        self.stats.calls().collect()
    }
}
