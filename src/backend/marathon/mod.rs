//! A Marathon, driven through its REST API.
//!
//! ```text
//!  Marathon ══ events ═► session ── Input ──► machine ── World, Endings ──► engine
//!           ◄═ requests ═ client ◄─ Request ──    ▲                          │
//!                └─ answers ──────── Input ───────┤ ◄──────── Orders ────────┘
//!  Mesos ─── agents ──────────────── Input ───────┘
//! ```
//! Marathon finds the place of each replica and starts another for one that ends. What is ours is one number for each app. So the
//! tasks of the world are derived from what Marathon says and from what we want of it ([`project`]), orders change only what is wanted
//! ([`targets`]), and whether Marathon has done it is seen by counting, not by its answers. A restart of ours begins with what Marathon
//! says, and changes nothing.
//!
//! | look for | in |
//! |---|---|
//! | attaching to the events, who leads, back-off | [`session`], [`events`] |
//! | addresses, credentials, requests and what answers mean | [`client`], [`wire`] |
//! | what an input or an order leads to | [`machine`] |
//! | one app: its instances, which end first, what waits | [`ledger`] |
//! | that as tasks of the world | [`project`] |
//! | which number to ask for next, and which never | [`targets`] |
//! | how much room there is | [`capacity`] |
//! | apps that we make: template → definition | [`own`] |
//! | which flags of Marathon cost time | [`advice`] |
//! | a look without acting | [`survey`] |

mod advice;
mod capacity;
mod client;
mod events;
mod ledger;
mod machine;
mod own;
mod project;
mod session;
pub mod survey;
mod targets;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use self::client::Client;
pub use self::client::SetupError;
use self::machine::{Answer, Input, Machine, Outgoing, Request};
use self::session::Session;
use super::mesos::agents::Masters;
use super::{Applied, Backend, Orders, Standing};
use crate::api::validated::{Pool, RoomOf};
use crate::engine::clock;
use crate::engine::leadership::Leadership;
use crate::policy::world::{Millis, World};
use crate::store::secrets::Secrets;

/// Events that wait for the engine. When it falls behind by more, the session stops reading; Marathon then drops the stream, and all is
/// read anew.
const MAX_WAITING: usize = 16_384;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks whether this process leads for certain.
const UNCERTAIN_MS: u64 = 500;

/// A client of one Marathon. Dropping it ends the session and changes nothing there.
pub struct Marathon {
    machine: Machine,
    link: Option<Link>,
    masters: Option<Masters>,
    leadership: Leadership,
    events: mpsc::Receiver<Event>,
    inputs: mpsc::Sender<Event>,
    stats: Arc<Stats>,
    requests: TaskTracker,
    session: JoinHandle<()>,
}

/// Something that the backend has to be told; see [`Backend::apply`].
pub struct Event {
    input: Input,
    /// Of one that says that there is a connection.
    link: Option<Link>,
}

/// A live connection: how to reach the leader.
#[derive(Clone)]
struct Link {
    client: Client,
}

/// What a session needs of its surroundings.
pub struct Setting {
    pub secrets: Arc<Secrets>,
    /// Nothing is connected to before this process leads.
    pub leadership: Leadership,
}

/// What metrics are made of.
#[derive(Debug, Default)]
struct Stats {
    calls: Mutex<BTreeMap<&'static str, u64>>,
    reactions: Mutex<Vec<Duration>>,
}

impl Marathon {
    /// Starts a session with the pool's Marathon.
    ///
    /// # Errors
    /// When the pool is not on a Marathon, an address is none, or TLS cannot be set up. Everything that may mend itself is told by
    /// [`Backend::standing`] instead.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(pool: &Pool, setting: Setting) -> Result<Self, SetupError> {
        let Setting { secrets, leadership } = setting;
        let pool = Arc::new(pool.on_marathon().ok_or(SetupError::NotMarathon)?);
        let masters = match &pool.room {
            RoomOf::Agents(masters) => Some(Masters::new(pool.key.clone(), masters, secrets.clone())?),
            RoomOf::Fixed(_) | RoomOf::Instances(_) => None,
        };
        let client = Client::new(pool.clone(), secrets)?;
        let (inputs, events) = mpsc::channel(MAX_WAITING);
        let session = Session { client, leadership: leadership.clone(), inputs: inputs.clone() };
        let session = tokio::spawn(session.run());
        let (machine, stats, requests) = (Machine::new(&pool), Arc::default(), TaskTracker::new());
        Ok(Self { machine, link: None, masters, leadership, events, inputs, stats, requests, session })
    }

    fn flush(&mut self) {
        for outgoing in std::mem::take(&mut self.machine.outbox) {
            let serial = outgoing.serial;
            let input = match outgoing.request {
                Request::Agents => self.agents(),
                Request::Read => self.read(serial),
                _ => self.ask(outgoing),
            };
            if let Some(input) = input {
                let inputs = self.inputs.clone();
                self.requests.spawn(async move {
                    // When nobody listens any more, it is no matter.
                    drop(inputs.send(Event { input: input.await, link: None }).await);
                });
            }
        }
    }

    fn agents(&self) -> Option<Pending> {
        let masters = self.masters.clone()?;
        let (framework, role) = self.machine.framework();
        Some(Box::pin(async move {
            Input::Agents(masters.agents(framework.as_deref(), &role).await.map_err(|error| error.to_string()))
        }))
    }

    fn read(&self, serial: u64) -> Option<Pending> {
        let Link { client } = self.link.clone()?;
        self.stats.count("READ");
        Some(Box::pin(async move { Input::Read { serial, result: client.snapshot().await.map_err(|error| error.to_string()) } }))
    }

    /// Marathon takes requests from anybody: only a process that leads for certain sends any.
    fn ask(&self, outgoing: Outgoing) -> Option<Pending> {
        let Link { client } = self.link.clone()?;
        let Outgoing { serial, request, tries, caused_at } = outgoing;
        if !self.leadership.is_certain() {
            let message = "it is not certain that this process leads".to_owned();
            return Some(Box::pin(async move {
                Input::Answered { serial, answer: Answer::Later { message, retry_in_ms: UNCERTAIN_MS } }
            }));
        }
        tracing::debug!(?request, "asked of Marathon");
        self.stats.count(name(&request));
        if let Some(caused_at) = caused_at {
            self.stats.reacted(clock::instant().saturating_duration_since(caused_at));
        }
        Some(Box::pin(async move { Input::Answered { serial, answer: client.ask(&request, tries).await } }))
    }
}

type Pending = std::pin::Pin<Box<dyn Future<Output = Input> + Send>>;

fn name(request: &Request) -> &'static str {
    match request {
        Request::Read => "READ",
        Request::Agents => "AGENTS",
        Request::Scale(_) => "SCALE",
        Request::Shrink(_) => "SHRINK",
        Request::Create(_) => "CREATE",
        Request::Update(..) => "UPDATE",
        Request::Delete(_) => "DELETE",
        Request::ResetDelay(_) => "RESET_DELAY",
        Request::Replace(_) => "REPLACE",
    }
}

impl Stats {
    fn count(&self, kind: &'static str) {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    fn reacted(&self, time: Duration) {
        self.reactions.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }
}

impl Drop for Marathon {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Backend for Marathon {
    type Event = Event;

    async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    fn apply(&mut self, Event { input, link }: Event, world: &mut World, now: Millis) -> Applied {
        if link.is_some() {
            self.link = link;
        }
        let applied = self.machine.apply(input, world, now);
        self.flush();
        applied
    }

    fn tick(&mut self, world: &mut World, now: Millis) -> (Applied, Option<Millis>) {
        let result = self.machine.tick(world, now);
        self.flush();
        result
    }

    fn dispatch(&mut self, orders: Orders, world: &mut World, now: Millis) {
        self.machine.dispatch(&orders, world, now);
        self.flush();
    }

    fn standing(&self) -> Standing {
        self.machine.standing().clone()
    }

    /// A request that has been sent is carried out in any case; it is only waited for so that its connection is not cut off.
    async fn close(self) {
        self.requests.close();
        drop(tokio::time::timeout(FLUSH_TIMEOUT, self.requests.wait()).await);
    }

    fn reactions(&mut self) -> Vec<Duration> {
        std::mem::take(&mut *self.stats.reactions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn launches(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.machine.launches)
    }

    fn calls(&self) -> Vec<(&'static str, u64)> {
        self.stats.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(kind, count)| (*kind, *count)).collect()
    }
}
