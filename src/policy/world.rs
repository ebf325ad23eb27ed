//! What a decision looks at: one pool with its apps, agents and tasks, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::resources::Resources;
use crate::api::protection::PreemptionBudget;
use crate::api::validated::{App, Key, Version};
use crate::forecast::Curve;

/// Milliseconds on a monotonic clock that starts at an arbitrary moment; only differences mean anything.
pub type Millis = u64;

/// An agent's place in [`World::agents`]. It stays the same for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct AgentIx(pub u32);

/// One pool at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Ceiling for all apps of the pool together.
    pub limits: Resources,
    /// Room to be kept free in held offers.
    pub headroom: Resources,
    /// How many replicas may have to give way in a time, of all apps together.
    pub preemption_budget: Option<PreemptionBudget>,
    /// Up to which priority it matters that the pool is too small.
    pub scale_out_priority: i32,
    /// Every app of the pool, and every app of which tasks still live though its spec is gone.
    pub apps: BTreeMap<Key, AppView>,
    /// Agents are never removed, so that an [`AgentIx`] stays good; gone ones have [`Agent::present`] unset.
    pub agents: Vec<Agent>,
    /// Tasks of apps that this process never saw a spec of are ended. Unset while some specs cannot be read, as the app may be among them.
    pub end_orphans: bool,
    /// Apps without a spec that are declared nevertheless: their tasks are left alone.
    pub spared: Arc<BTreeSet<Key>>,
    /// Free room may exist that is not known: nothing is taken from others before it is.
    pub unsurveyed: bool,
    /// Room that was freed went elsewhere: nothing more is freed before this moment.
    pub futile_until: Millis,
    /// What an executor of pooled apps uses by itself.
    pub executor_size: Resources,
    /// How long an executor without tasks is kept that no app wants any more.
    pub executor_idle_ms: Millis,
}

/// An app with its metrics and tasks.
#[derive(Clone, Debug, Default)]
pub struct AppView {
    /// `None`: deleted, or never seen by this process; only its tasks are known.
    pub spec: Option<Arc<App>>,
    /// This process has seen it being deleted.
    pub deleted: bool,
    /// One for each of `spec.demand`, in the same order.
    pub readings: Vec<Reading>,
    /// All tasks that are not known to have ended, in order of their ids.
    pub tasks: Vec<Task>,
    /// What the backend has to say of it, if it is not as it should be.
    pub trouble: Option<Trouble>,
}

/// Why an app is not as it should be, in the words of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One CamelCase word.
    pub word: &'static str,
    pub message: Arc<str>,
    /// Nothing can be done for the app, nor is anything of it ended, until this has changed.
    pub holds: bool,
    /// A person has to see to it.
    pub stalled: bool,
}

/// What is known of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The last good value and when it arrived.
    pub value: Option<(f64, Millis)>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<Arc<str>>,
    /// It has nothing to say now, on purpose.
    pub silent: bool,
    /// What it will be, where it is foreseen.
    pub foreseen: Option<Foreseen>,
}

/// A forecast. The same is equal, without a look at its values.
#[derive(Clone, Debug)]
pub struct Foreseen(pub Arc<Curve>);

impl PartialEq for Foreseen {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A host of the pool.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub id: Arc<str>,
    pub hostname: Arc<str>,
    pub attributes: BTreeMap<String, String>,
    /// Room in offers that we hold: tasks can start there at once.
    pub held: Resources,
    /// Room that is believed to be free but is not in our hands: it has to be asked for before it can be used.
    pub expected: Resources,
    /// It has graphics processors. Only replicas that use some are placed there, as Mesos by itself shows such agents only to frameworks
    /// that promise this (capability `GPU_RESOURCES`).
    pub gpus: bool,
    /// Unset: it is gone, out of reach, or being drained; nothing new is placed there.
    pub present: bool,
    /// It is about to go, as its maintenance is planned: nothing new is placed there, and what runs there moves while there is time.
    pub departs: bool,
    /// What is there for replicas to build on: executors of pooled apps, and images.
    pub bases: Vec<Fitted>,
}

impl World {
    /// Whether something may be placed on this agent.
    #[must_use]
    pub fn is_open(&self, agent: AgentIx) -> bool {
        self.agents.get(agent.0 as usize).is_some_and(Agent::is_open)
    }
}

impl Agent {
    /// Whether something may be placed there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.present && !self.departs
    }
}

/// A [`Base`](crate::api::validated::Base) on an agent, or an attempt to put it there.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// As in [`Base`](crate::api::validated::Base); `None` for an executor that was started with other settings of the pool, and so is
    /// of no use for new tasks.
    pub key: Option<Arc<str>>,
    /// Id of the executor; `None` for an image.
    pub executor: Option<Arc<str>>,
    pub phase: BasePhase,
    /// When it entered its phase.
    pub since: Millis,
    /// Whether an executor holds its tasks to their memory and CPU, or why it cannot; `None` if it has not told.
    pub limits: Option<Result<(), Arc<str>>>,
}

/// Where a base is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasePhase {
    /// On its way: an executor uses its room already.
    Coming,
    Ready,
    /// An executor on its way down; it still uses its room.
    Leaving,
    /// The last attempt failed. There is no other before this moment.
    Failed {
        until: Millis,
        tries: u32,
        why: Arc<str>,
    },
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: Arc<str>,
    pub agent: AgentIx,
    /// `None` for a task whose template is not known.
    pub version: Option<Version>,
    pub phase: TaskPhase,
    /// Meaningful while running: it can serve.
    pub ready: bool,
    /// When it entered its phase.
    pub since: Millis,
    /// When it was launched or adopted: the victim with the least lost work is the youngest.
    pub born: Millis,
    pub resources: Resources,
    /// The executor that it is a process of, if it is pooled.
    pub executor: Option<Arc<str>>,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum TaskPhase {
    /// On its way up; it uses its room already.
    Starting,
    Running,
    /// On its way down; it still uses its room.
    Stopping,
    /// Its agent cannot be reached. It uses no room, but it may come back.
    Unreachable,
}
