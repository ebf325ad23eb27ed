//! Room beyond the pool: since when it has been too small, which agents are idle, and who is told of it.
//!
//! ```text
//!  plan ─► ScaleOut ─ Situation ─► herald: has it lasted? ─► Document ─► webhook or command
//!            ▲                        │
//!            └──── what came of it ───┘
//! ```
//! The herald is a task of its own: however slow or broken it is whom it tells, the engine does not wait.

mod document;
mod herald;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::MicroscalingPool;
use crate::api::pool::Amounts;
use crate::api::scale_out::ScaleOut as Spec;
use crate::api::status::PoolShortfall;
use crate::api::validated::{Key, Pool, RoomOf};
use crate::demand::Context;
use crate::policy::resources::Resources;
use crate::policy::shortfall::Shortfall;
use crate::policy::world::{Millis, TaskPhase, World};
use crate::store::secrets::Secrets;
use document::{cores, mebibytes};
use herald::Herald;

/// What is to be told, if it lasts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Situation {
    spec: Option<Spec>,
    shortfall: Arc<Shortfall>,
    since: Option<Timestamp>,
    idle_agents: i64,
}

/// So many apps are named in words.
const NAMED: usize = 5;

fn counted(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Not where a Marathon's room is only counted.
fn has_agents(pool: &Pool) -> bool {
    pool.on_marathon().is_none_or(|marathon| matches!(marathon.room, RoomOf::Agents(_)))
}

/// Where room is only counted, nothing is known of agents; nor of what replicas use, where these are counted.
fn as_far_as_known(pool: &Pool, shortfall: &Arc<Shortfall>) -> Arc<Shortfall> {
    if shortfall.is_none() || has_agents(pool) {
        return shortfall.clone();
    }
    let counts_replicas = pool.on_marathon().is_some_and(|marathon| matches!(marathon.room, RoomOf::Instances(_)));
    let mut lacks = shortfall.lacks.clone();
    lacks.iter_mut().filter(|_| counts_replicas).for_each(|lack| lack.size = Resources::ZERO);
    Arc::new(Shortfall { lacks, agent: None })
}

/// What came of the last time that somebody was told; `None` before.
pub type Outcome = Option<Result<(), String>>;

/// The engine's end of it.
pub struct ScaleOut {
    situation: watch::Sender<Situation>,
    outcome: watch::Receiver<Outcome>,
    herald: JoinHandle<()>,
    idle: Vec<Option<Millis>>,
    /// As the pool's object said before this process knew better.
    before: Option<Timestamp>,
}

impl Drop for ScaleOut {
    fn drop(&mut self) {
        self.herald.abort();
    }
}

impl ScaleOut {
    /// Has to be called inside a Tokio runtime.
    #[must_use]
    pub fn start(pool: &Key, raw: &MicroscalingPool, secrets: Arc<Secrets>) -> Self {
        let (situation, situations) = watch::channel(Situation::default());
        let (told, outcome) = watch::channel(None);
        let before = raw.status.as_ref().and_then(|status| status.shortfall.as_ref()?.since.as_ref()).map(|since| since.0);
        let context = Context { secrets, namespace: pool.namespace().into(), servers: Arc::default(), kubernetes: None };
        let herald = Herald::new(pool.clone(), context, before.is_some());
        let herald = tokio::spawn(herald.run(situations, told));
        Self { situation, outcome, herald, idle: Vec::new(), before }
    }

    /// Takes over what the newest plan says of the pool.
    pub fn note(&mut self, pool: &Pool, shortfall: &Arc<Shortfall>, now: Timestamp) {
        let (before, shortfall) = (self.before.take(), as_far_as_known(pool, shortfall));
        self.situation.send_if_modified(|situation| {
            let since = (!shortfall.is_none()).then(|| situation.since.or(before).unwrap_or(now));
            let new = Situation { spec: pool.scale_out.clone(), shortfall, since, ..*situation };
            let changed = *situation != new;
            *situation = new;
            changed
        });
    }

    /// Looks which agents have no replica, as people do: now and then.
    pub fn look_for_idle(&mut self, world: &World, pool: &Pool, now: Millis) {
        let mut busy = vec![false; world.agents.len()];
        let tasks = world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase != TaskPhase::Unreachable);
        for task in tasks {
            if let Some(busy) = busy.get_mut(task.agent.0 as usize) {
                *busy = true;
            }
        }
        self.idle.resize(busy.len(), None);
        for ((since, busy), agent) in self.idle.iter_mut().zip(busy).zip(&world.agents) {
            *since = if busy || !agent.is_open() { None } else { since.or(Some(now)) };
        }
        let seconds = pool.scale_out.as_ref().map_or_else(|| Spec::default().idle_seconds, |spec| spec.idle_seconds);
        let long = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let is_agent = has_agents(pool);
        let count = self.idle.iter().flatten().filter(|since| is_agent && now.saturating_sub(**since) >= long).count();
        let idle_agents = i64::try_from(count).unwrap_or(i64::MAX);
        self.situation.send_if_modified(|situation| std::mem::replace(&mut situation.idle_agents, idle_agents) != idle_agents);
    }

    /// What the pool lacks, if it is too small.
    #[must_use]
    pub fn shortfall(&self) -> Option<PoolShortfall> {
        let situation = self.situation.borrow();
        let shortfall = Some(&situation.shortfall).filter(|shortfall| !shortfall.is_none())?;
        let (replicas, agents, room) = (shortfall.replicas(), shortfall.agents(), shortfall.room());
        let used = |amount: i64| (amount != 0).then_some(amount);
        Some(PoolShortfall {
            summary: [Some(counted(replicas, "replica")), agents.map(|agents| counted(agents, "agent"))]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
            replicas,
            room: Amounts {
                cpu: Some(cores(room.cpu)),
                memory: Some(mebibytes(room.memory)),
                disk: used(room.disk).map(mebibytes),
                gpu: used(room.gpu),
            },
            agents,
            agent_size: shortfall.agent.map(|size| size.to_string()),
            since: situation.since.map(Time),
        })
    }

    /// The same in words: `5 replicas find no room (search 3, web 2): cpu 5, memory 320Mi; 2 more agents of cpu 4, memory 8Gi would do`.
    #[must_use]
    pub fn words(&self) -> String {
        let situation = self.situation.borrow();
        let Shortfall { lacks, agent } = &*situation.shortfall;
        let mut apps: Vec<String> =
            lacks.iter().take(NAMED).map(|lack| format!("{} {}", lack.app.name(), lack.replicas)).collect();
        apps.extend((lacks.len() > NAMED).then(|| format!("and {} more apps", lacks.len() - NAMED)));
        let replicas = situation.shortfall.replicas();
        let verb = if replicas == 1 { "finds" } else { "find" };
        let room = Some(situation.shortfall.room()).filter(|room| !room.is_zero());
        let room = room.map_or_else(String::new, |room| format!(": {room}"));
        let text = format!("{} {verb} no room ({}){room}", counted(replicas, "replica"), apps.join(", "));
        match (situation.shortfall.agents(), agent) {
            (Some(1), Some(size)) => format!("{text}; 1 more agent of {size} would do"),
            (Some(agents), Some(size)) => format!("{text}; {agents} more agents of {size} would do"),
            _ => text,
        }
    }

    #[must_use]
    pub fn idle_agents(&self) -> i64 {
        self.situation.borrow().idle_agents
    }

    /// What came of the last time that somebody was told, if there is somebody to tell.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let somebody = |spec: &Spec| spec.webhook.is_some() || spec.command.is_some();
        self.situation.borrow().spec.as_ref().filter(|spec| somebody(spec))?;
        self.outcome.borrow().clone()
    }
}
