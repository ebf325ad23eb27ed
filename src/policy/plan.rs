//! What a decision says: a plan is data with no choices left to make.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::resources::Resources;
use super::shortfall::Shortfall;
use super::world::{AgentIx, Millis};
use crate::api::status::{DemandState, Phase};
use crate::api::validated::{Key, Version};

/// What is to be done now, what each app gets, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Replicas to start at once, in room that is held; in order of importance.
    pub starts: Vec<Start>,
    /// Tasks to end at once.
    pub stops: Vec<Stop>,
    /// Replicas that wait for room which is expected to come free, with the agent it is reserved on.
    pub waits: Vec<Wait>,
    /// Executors to start and images to fetch before they are needed, in held room.
    pub prepare: Vec<Prepare>,
    /// Executors to end: nobody has wanted them for a while.
    pub retire: Vec<Retire>,
    /// Agents on which a base is to be put in room that is there but not in held offers: it has to be asked for.
    pub sought: Vec<AgentIx>,
    /// Agents whose held offers are of no use and should be given back. Agents in `starts` and `prepare` are not named here.
    pub release: Vec<AgentIx>,
    /// Room is wanted that is not in held offers: ask for it.
    pub recall: bool,
    /// What is wanted and finds no room.
    pub shortfall: Arc<Shortfall>,
    /// Nothing more is wanted: no offers are needed until this changes.
    pub quiet: bool,
    pub verdicts: BTreeMap<Key, Arc<Verdict>>,
    /// When to decide again although nothing has happened: a window closes, a back-off ends, a value goes stale.
    pub wake_at: Option<Millis>,
}

/// A replica to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub app: Key,
    pub agent: AgentIx,
}

/// A base to be put on an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// One of the apps that want it.
    pub app: Key,
    pub agent: AgentIx,
}

/// An executor to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retire {
    pub executor: Arc<str>,
    pub agent: AgentIx,
}

/// A replica that waits for its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub app: Key,
    pub agent: AgentIx,
    /// The room is there (held or expected) and has only to be asked for; otherwise tasks must end first.
    pub free: bool,
}

/// A task to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub app: Key,
    pub task: Arc<str>,
    pub why: StopReason,
}

/// Why a task has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Fewer replicas are wanted.
    ScaledDown,
    /// Its room goes to this more important app.
    GivesWayTo(Key),
    /// Its room is to be kept free as headroom.
    Headroom,
    /// The pool's limits were lowered.
    OverLimits,
    /// It runs an old template and its successor is ready, or needs its room.
    Replaced,
    /// Its host is about to go, and it is replaced elsewhere or lived on spare room.
    HostDeparts,
    /// Its app was deleted.
    Deleted,
}

impl StopReason {
    /// Whether the room was wanted for something else.
    #[must_use]
    pub fn is_preemption(&self) -> bool {
        matches!(self, Self::GivesWayTo(_) | Self::Headroom)
    }
}

/// What an app gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Replicas that demand asks for, damped and within minReplicas and maxReplicas. For spare room: what it got of it.
    pub wanted: i64,
    /// Replicas that it may have: those kept, those started now and those whose room is on its way.
    pub granted: i64,
    pub running: i64,
    pub ready: i64,
    pub starting: i64,
    pub stopping: i64,
    /// Replicas that this plan starts or makes room for.
    pub pending: i64,
    /// Replicas of an older template that still run.
    pub outdated: i64,
    pub phase: Phase,
    /// Each metric's state, in the order of the spec.
    pub demand: Vec<DemandState>,
    /// Most important first.
    pub reasons: Vec<Reason>,
}

/// What stands in for a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The most that it asked for in this time before its last value.
    LastMax { window_ms: u64 },
    /// Another metric.
    Metric(Arc<str>),
}

/// One reason for a verdict. Its words are what users read.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// `want`: from this metric.
    Metric {
        name: Arc<str>,
        value: f64,
        target: f64,
        replicas: i64,
    },
    /// `want`: so that none of the messages that wait does so for longer than this. Rates per second as learnt, service per replica.
    Queue {
        name: Arc<str>,
        waiting: f64,
        arrivals: f64,
        service: f64,
        max_ms: u64,
        replicas: i64,
    },
    /// `want`: to keep the queue at the target.
    QueueLength {
        name: Arc<str>,
        length: f64,
        target: f64,
        replicas: i64,
    },
    /// `want`: from what this metric will be.
    Foreseen {
        name: Arc<str>,
        value: f64,
        in_ms: u64,
        replicas: i64,
    },
    /// `want`: by the app's formula.
    Formula {
        replicas: i64,
    },
    /// The formula cannot be computed.
    NoFormula {
        why: Arc<str>,
        holding: i64,
    },
    /// A metric's floor, or its cap, is in the way.
    Bounded {
        name: Arc<str>,
        asked: i64,
        replicas: i64,
        from_above: bool,
    },
    /// Nothing is given up while this metric is above 0.
    Vetoed {
        name: Arc<str>,
        asked: i64,
    },
    FixedReplicas(i64),
    Remainder {
        spare: i64,
    },
    AtMinimum(i64),
    AtMaximum {
        max: i64,
        asked: i64,
    },
    /// A change within the tolerance is ignored.
    WithinTolerance {
        name: Arc<str>,
    },
    /// The stabilization window holds the count.
    Stabilized {
        asked: i64,
        window_ms: u64,
        up: bool,
    },
    /// A burst does, or what is left of it.
    Burst {
        asked: i64,
        keeping: i64,
        over: bool,
    },
    /// A rate policy holds it.
    RateLimited {
        asked: i64,
        up: bool,
    },
    /// Scaling in this direction is disabled.
    Disabled {
        asked: i64,
        up: bool,
    },
    /// A schedule, in its window.
    Scheduled {
        name: Arc<str>,
        replicas: i64,
    },
    /// A schedule by which demand counts more or less than it is.
    Weighed {
        name: Arc<str>,
        factor: f64,
    },
    OutsideWindow {
        name: Arc<str>,
    },
    /// Missing data never scales down.
    NoData {
        name: Arc<str>,
        state: DemandState,
        why: Unknown,
        holding: i64,
    },
    Fallback {
        name: Arc<str>,
        replicas: i64,
    },
    /// A metric that is stale, and what stands in for it.
    StandsIn {
        name: Arc<str>,
        by: By,
        replicas: i64,
    },
    /// The pool is full: how many of its tasks the apps of these priorities hold, which are more important (or, when there are
    /// none of these, equal).
    PoolFull {
        wanted: i64,
        granted: i64,
        /// Only some agents come into question for the app, and it is these that are full.
        some_agents: bool,
        priorities: (i32, i32),
        held_above: i64,
        all: i64,
    },
    /// Room that was freed went to others than the app that it was meant for.
    FreedInVain {
        retry_in_ms: u64,
    },
    /// Less important replicas could give way, but are protected; for so long at least.
    OthersProtected {
        for_ms: u64,
    },
    /// Less important replicas could give way, but enough did of late; one more may after this time.
    BudgetSpent {
        for_ms: u64,
    },
    /// Less important replicas could give way, but too many of them are not ready.
    OthersUnavailable,
    /// No more old replicas end in place of new ones: `maxUnavailable` is reached.
    BudgetHolds,
    /// More important replicas hold the room, and a minimum takes nothing from them once they run.
    MinimumWaits {
        min: i64,
        granted: i64,
    },
    /// The pool's own limits are reached.
    AtLimits {
        limits: Resources,
    },
    /// No agent meets the placement's conditions.
    NoAgentMatches,
    /// Its replicas have failed or got lost too often on these agents, and no others meet the conditions.
    AgentsBarred {
        agents: i64,
    },
    /// No agent is large enough even when empty of less important tasks.
    NoAgentLargeEnough {
        size: Resources,
        /// That of the executor which the replica would run in, if it would fit alone.
        executor: Option<Resources>,
    },
    /// Nothing is known of the cluster yet.
    NoAgents,
    /// It gives way to this app.
    GivesWay {
        to: Key,
        replicas: i64,
    },
    WaitsForRoom {
        replicas: i64,
    },
    Crashing {
        failures: u32,
        version: Version,
        last: Arc<str>,
        retry_in_ms: u64,
    },
    /// On these agents, and it runs nowhere else.
    ExecutorsFail {
        agents: i64,
        last: Arc<str>,
        retry_in_ms: u64,
    },
    /// The executors that there are have to end before new ones start.
    ExecutorsLeave,
    RollingOut {
        old: i64,
        new: i64,
    },
    /// Off hosts that are about to go.
    Moving {
        replicas: i64,
        /// There is no room for all of them elsewhere.
        stuck: bool,
    },
    Unreachable {
        replicas: i64,
    },
    Suspended {
        at: i64,
    },
    ObserveOnly,
    Deleted,
}

/// Why a metric's value is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// The last attempt to read it failed.
    Failed(Arc<str>),
    /// It is no amount.
    Nonsense(f64),
    SilentFor {
        seconds: u64,
    },
    NoValueYet,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.task, self.why)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScaledDown => f.write_str("fewer replicas are wanted"),
            Self::GivesWayTo(app) => write!(f, "gives way to {}", app.name()),
            Self::Headroom => f.write_str("makes room for the pool's headroom"),
            Self::OverLimits => f.write_str("the pool is over its limits"),
            Self::Replaced => f.write_str("replaced by a replica of the new template"),
            Self::HostDeparts => f.write_str("maintenance of its host is about to begin"),
            Self::Deleted => f.write_str("its app was deleted"),
        }
    }
}
