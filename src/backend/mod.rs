//! What runs the containers. The engine owns one backend per pool and sees it only through [`Backend`].
//!
//! A backend is a state machine without I/O of its own: its session task reads the wire and acknowledges; its events come out of
//! [`Backend::next`], change the [`World`] in [`Backend::apply`], and a plan goes out through [`Backend::dispatch`].
//! So the world is the only ledger of tasks and room, and everything that judges an event is synchronous and tested as such.

use std::sync::Arc;
use std::time::Duration;

use crate::api::validated::{App, Key, Version};
use crate::policy::plan::Retire;
use crate::policy::world::{AgentIx, Millis, World};

pub mod marathon;
pub mod mesos;

/// What a plan asks of the backend, in the order in which it is written to the wire: kills, launches, preparations, releases, then the
/// request for room.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    pub kills: Vec<Kill>,
    pub launches: Vec<Launch>,
    /// Tasks to start as soon as tasks that are ending leave their room: of use where the room is found by others.
    pub upcoming: Vec<Launch>,
    /// What the app builds on is put on the agent: an executor is started, or an image fetched. Ids as made by [`preparation_id`].
    pub prepare: Vec<Launch>,
    /// Executors to end.
    pub retire: Vec<Retire>,
    /// Held offers of these agents go back.
    pub release: Vec<AgentIx>,
    /// Ask for all room that is free anywhere.
    pub recall: bool,
    /// Agents whose room, believed to be free, is waited for: the `recall` is worth it there even for room that was given back.
    pub awaited: Vec<AgentIx>,
    /// Nothing more is wanted: no offers until the next `recall`.
    pub quiet: bool,
    /// When the reading or spec change arrived that led to these orders, for the reaction time.
    pub caused_at: Option<std::time::Instant>,
}

/// A task to start on held room.
#[derive(Clone, Debug)]
pub struct Launch {
    /// As made by [`task_id`], but for preparations.
    pub id: Arc<str>,
    pub app: Arc<App>,
    pub agent: AgentIx,
}

/// A task to end.
#[derive(Clone, Debug)]
pub struct Kill {
    pub app: Key,
    pub id: Arc<str>,
    /// Time between SIGTERM and SIGKILL; `None`: as the task was launched with.
    pub grace_ms: Option<u64>,
}

/// A task has ended, or was found never to have begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub app: Key,
    pub task: Arc<str>,
    pub agent: AgentIx,
    pub version: Option<Version>,
    pub how: End,
    /// In the words of the backend: "Command exited with status 1".
    pub message: Arc<str>,
    /// When it was launched, or first heard of.
    pub born: Millis,
    pub ran_ms: u64,
}

/// How a task ended: decides whether it counts as a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// As we asked.
    Killed,
    /// On its own with success; for a service this is a crash all the same.
    Finished,
    Failed,
    /// The request itself was refused: the same spec will fail again.
    Refused,
    /// Never started, through no fault of its own (offer gone, agent gone): start anew at once.
    Dropped,
    /// Lost with its agent, drained, or taken away by an operator: start anew at once.
    Lost,
}

/// What happened while an event was applied.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub endings: Vec<Ending>,
    /// Something changed that a decision may depend on.
    pub decide: bool,
    /// Apps of which something changed that only their status tells: [`AppView::trouble`](crate::policy::world::AppView::trouble).
    pub told: Vec<Key>,
    pub notes: Vec<Note>,
}

/// Worth telling people, such as a lost connection or a foreign task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something is not as it should be.
    pub warning: bool,
    /// One CamelCase word, as in events of Kubernetes.
    pub reason: &'static str,
    pub message: String,
}

/// How the connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Orders can be given: connected, and all that ran before has been reconciled.
    pub ready: bool,
    pub connected: bool,
    pub framework_id: Option<String>,
    pub master: Option<String>,
    /// What is wrong or going on, in words: "connecting to http://…: connection refused (3rd try)".
    pub message: String,
    /// A person has to act before it goes on (the framework was removed, its id was lost).
    pub stalled: bool,
    /// What would make it faster, where others than we set the pace: empty if nothing is known. `None` where that is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The seam between the engine and what runs the containers.
pub trait Backend: Send {
    type Event: Send;

    /// The next event; cancel-safe. `None` when the session has ended for good.
    fn next(&mut self) -> impl Future<Output = Option<Self::Event>> + Send;

    /// Takes further events that are already there, without waiting.
    fn try_next(&mut self) -> Option<Self::Event>;

    /// Brings the world up to date with the event.
    fn apply(&mut self, event: Self::Event, world: &mut World, now: Millis) -> Applied;

    /// Retries, time-outs and beliefs that expire. Returns when it wants to be called next.
    fn tick(&mut self, world: &mut World, now: Millis) -> (Applied, Option<Millis>);

    /// Writes the orders to the wire and books them in the world: launched tasks are `Starting`, killed ones `Stopping`,
    /// used room is gone, before this returns.
    fn dispatch(&mut self, orders: Orders, world: &mut World, now: Millis);

    fn standing(&self) -> Standing;

    /// Waits until all that was ordered has been taken, and ends the session. The tasks go on.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// The times from a reading or spec change to the calls it led to being written, since this was last asked.
    fn reactions(&mut self) -> Vec<Duration>;

    /// The times from an order to run one more replica until it ran, since this was last asked; of backends that leave it to others to
    /// find room.
    fn launches(&mut self) -> Vec<Duration> {
        Vec::new()
    }

    /// How many calls of each type have been written so far.
    fn calls(&self) -> Vec<(&'static str, u64)>;
}

/// What is launched to put a base on an agent, and has finished at once: `microscaler.KEY.INCARNATION-SERIAL`, with the base's key in
/// hexadecimal digits if it is no word.
#[must_use]
pub fn preparation_id(key: &str, incarnation: &str, serial: u64) -> Arc<str> {
    let key: String = if key.chars().all(|c| c.is_ascii_alphanumeric()) {
        key.to_owned()
    } else {
        format!("0x{}", key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    format!("microscaler.{key}.{incarnation}-{serial}").into()
}

/// The base's key of an id made by [`preparation_id`]; `None` for any other.
#[must_use]
pub fn parse_preparation_id(id: &str) -> Option<Arc<str>> {
    let (key, tail) = id.strip_prefix("microscaler.")?.split_once('.')?;
    let (incarnation, serial) = tail.rsplit_once('-')?;
    if incarnation.is_empty() || incarnation.contains('.') || serial.parse::<u64>().is_err() {
        return None;
    }
    let Some(digits) = key.strip_prefix("0x") else { return Some(key.into()) };
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok().map(Into::into)
}

/// A task id that tells everything needed to adopt the task after a restart: `namespace.app.version.incarnation-serial`.
///
/// The incarnation is unique to one run of Microscaler, so that an id is never used twice.
#[must_use]
pub fn task_id(app: &Key, version: Version, incarnation: &str, serial: u64) -> Arc<str> {
    format!("{}.{}.{version}.{incarnation}-{serial}", app.namespace(), app.name()).into()
}

/// Reads an id made by [`task_id`]; `None` for any other.
#[must_use]
pub fn parse_task_id(id: &str) -> Option<(Key, Version)> {
    // An app's name may hold dots, a namespace none.
    let (rest, tail) = id.rsplit_once('.')?;
    let (incarnation, serial) = tail.rsplit_once('-')?;
    let (rest, version) = rest.rsplit_once('.')?;
    let (namespace, name) = rest.split_once('.')?;
    let well_formed = !incarnation.is_empty()
        && serial.parse::<u64>().is_ok()
        && version.len() == 8
        && !namespace.is_empty()
        && !name.is_empty();
    let version = u32::from_str_radix(version, 16).ok().filter(|_| well_formed)?;
    Some((Key::new(namespace, name), Version(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_preparations_tell_the_base() {
        for key in ["0badcafe", "mesos:registry:5000/team/web:1.2"] {
            let id = preparation_id(key, "k3x", 17);
            assert_eq!(parse_preparation_id(&id).as_deref(), Some(key), "{id}");
            assert_eq!(parse_task_id(&id), None, "{id}");
        }
        assert_eq!(parse_preparation_id("shop.search.0000beef.k3x-17"), None);
        assert_eq!(parse_preparation_id("microscaler.search.0000beef.k3x-17"), None, "an app in a namespace of that name");
    }

    #[test]
    fn ids_tell_where_they_belong() {
        let app = Key::new("shop", "search.v2");
        let id = task_id(&app, Version(0xbeef), "k3x", 17);
        assert_eq!(&*id, "shop.search.v2.0000beef.k3x-17");
        assert_eq!(parse_task_id(&id), Some((app, Version(0xbeef))));
        for foreign in ["", "a", "a.b.c", "a.b.0000beef.k3x", "a.0000beef.k3x-1", "a.b.0000bexf.k-1"] {
            assert_eq!(parse_task_id(foreign), None, "{foreign}");
        }
    }
}
