//! The loop that turns what is seen into what is done.
//!
//! One task owns one pool: its backend, its [`World`], its [`Memory`]. It wakes up when anything has happened (a spec changed, a reading
//! arrived, a task or an offer changed, a timer ran out), takes in all that is there, decides once, and gives its orders. Wake-ups carry
//! no data, so any number of them is worth one decision.
//!
//! | look for | in |
//! |---|---|
//! | engines coming and going with their pools | [`pools`] |
//! | specs and readings → world | [`snapshot`] |
//! | plan → orders; the one gate | [`dispatch`] |
//! | plan → status and conditions | [`status`] |
//! | executors and images → status | `preparations` |
//! | what differs from the last plan | [`changes`] |
//! | plan → events for people | [`events`] |
//! | reaction and convergence times | [`progress`] |
//! | what the rest of the program sees of an engine | [`report`] |
//! | what is done when nothing else is | `rest` |
//! | whether this process is the one that acts | [`leadership`] |
//! | the only caller of clocks | [`clock`] |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, watch};
use tracing::{debug, info};

use crate::api::MicroscalingPool;
use crate::api::validated::{Key, Pool};
use crate::backend::{Applied, Backend, End, Ending, Standing};
use crate::demand::{Board, Sources};
use crate::policy::plan::Plan;
use crate::policy::world::{Millis, World};
use crate::policy::{Memory, decide};
use crate::server::metrics::Metrics;
use crate::store::{Specs, SpecsFeed};

mod changes;
pub mod clock;
pub mod dispatch;
pub mod events;
pub mod leadership;
pub mod pools;
mod preparations;
pub mod progress;
pub mod report;
mod rest;
pub mod snapshot;
pub mod status;

use changes::{Change, Changed};
use dispatch::Dispatcher;
use progress::Progress;
use report::{Ask, Event, Journal, Report};
use rest::Rest;

/// Status is published at most this often, and in any case after [`HEARTBEAT`], with the newest values.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What an engine is given.
pub struct Inputs {
    pub raw: Arc<MicroscalingPool>,
    pub pool: Arc<Pool>,
    pub specs: SpecsFeed,
    pub board: Arc<Board>,
    pub sources: Sources,
    pub asks: mpsc::Receiver<Ask>,
    pub metrics: Arc<Metrics>,
    /// Ends the engine; tasks are left as they are.
    pub shutdown: watch::Receiver<bool>,
    pub incarnation: String,
    /// End every task and start none.
    pub drain: bool,
}

/// Where an engine tells what it knows.
pub struct Outputs {
    pub reports: watch::Sender<Arc<Report>>,
    pub events: broadcast::Sender<Event>,
    pub journal: Arc<Journal>,
}

/// The owner of one pool.
pub struct Engine<B> {
    pool: Key,
    backend: B,
    inputs: Inputs,
    outputs: Outputs,
    /// As last taken over: what the world and the plan speak of.
    specs: Arc<Specs>,
    world: World,
    memory: Memory,
    plan: Plan,
    dispatcher: Dispatcher,
    progress: Progress,
    /// Calls of each type that the metrics already know of.
    called: BTreeMap<&'static str, u64>,
    /// When the oldest change arrived that no decision has answered yet.
    cause: Option<Instant>,
    /// All tasks that ran before this process were known at least once.
    in_control: bool,
    /// All room that was free then has been offered, and with it all executors were named.
    surveyed: bool,
    /// The last plan was carried out, so that what the next one changes is all that is new.
    observed: bool,
    /// Some plan was carried out, so that people may be told how the next one differs.
    told: bool,
    /// As last seen.
    standing: Standing,
    /// Something changed since the last decision.
    dirty: bool,
    published: Option<Instant>,
    /// Something has changed that people wait for.
    unpublished: bool,
    changed: Changed,
    rest: Rest,
    backend_wake: Option<Millis>,
}

/// What ended a wait.
enum Woken<E> {
    End,
    Event(E),
    Specs,
    Ask(Ask),
    /// A timer, or readings: both are looked at after every wait.
    Time,
}

async fn ended(shutdown: &mut watch::Receiver<bool>) {
    // Without a sender nobody is left to want anything of us.
    drop(shutdown.wait_for(|end| *end).await);
}

impl<B: Backend> Engine<B> {
    #[must_use]
    pub fn new(backend: B, inputs: Inputs, outputs: Outputs) -> Self {
        let dispatcher = Dispatcher::new(inputs.incarnation.clone());
        Self {
            pool: inputs.pool.key.clone(),
            backend,
            inputs,
            outputs,
            specs: Arc::default(),
            world: World::default(),
            memory: Memory::default(),
            plan: Plan::default(),
            dispatcher,
            progress: Progress::default(),
            called: BTreeMap::new(),
            cause: None,
            in_control: false,
            surveyed: false,
            observed: false,
            told: false,
            standing: Standing::default(),
            dirty: true,
            published: None,
            unpublished: true,
            changed: Changed::default(),
            rest: Rest::default(),
            backend_wake: None,
        }
    }

    /// Runs until told to end, or until the backend's session has ended for good. Gives the backend back, to be closed in order.
    pub async fn run(mut self) -> B {
        self.take_specs();
        while self.wait().await {
            self.take_all();
            if self.dirty {
                self.decide();
            }
            self.publish_if_due();
        }
        self.backend
    }

    /// Sleeps until something happens. False when it is time to end.
    async fn wait(&mut self) -> bool {
        let wake = self.next_wake();
        let Inputs { shutdown, board, specs, asks, .. } = &mut self.inputs;
        let woken = tokio::select! {
            biased;
            () = ended(shutdown) => Woken::End,
            event = self.backend.next() => event.map_or(Woken::End, Woken::Event),
            () = board.changed() => Woken::Time,
            Ok(()) = specs.changed() => Woken::Specs,
            Some(ask) = asks.recv() => Woken::Ask(ask),
            () = tokio::time::sleep_until(wake.into()) => Woken::Time,
        };
        match woken {
            Woken::End => return false,
            Woken::Event(event) => self.apply(event),
            Woken::Specs => self.take_specs(),
            Woken::Ask(ask) => self.answer(ask),
            Woken::Time => {}
        }
        true
    }

    fn next_wake(&self) -> Instant {
        let now = clock::instant();
        if self.dirty {
            return now;
        }
        let now_ms = clock::to_millis(now);
        let at = |moment: Millis| now + Duration::from_millis(moment.saturating_sub(now_ms));
        let due = |interval| self.published.map_or(now, |published| published + interval);
        let publish = due(if self.unpublished { PUBLISH_INTERVAL } else { HEARTBEAT });
        [self.plan.wake_at.map(at), self.backend_wake.map(at)].into_iter().flatten().fold(publish, Instant::min)
    }

    /// Takes in everything that is there without waiting, so that one decision answers all of it.
    fn take_all(&mut self) {
        while let Some(event) = self.backend.try_next() {
            self.apply(event);
        }
        let updates = self.inputs.board.take();
        for update in updates {
            let (at, app) = (update.at, update.app.clone());
            if snapshot::take_reading(&mut self.world, update) {
                self.cause_at(at);
                self.changed.apps.insert(app);
                self.dirty = true;
            }
        }
        let now = clock::now();
        self.tick(now);
        self.dirty |= self.plan.wake_at.is_some_and(|wake| wake <= now);
    }

    fn take_specs(&mut self) {
        let specs = self.inputs.specs.borrow_and_update().clone();
        // Of a pool that is gone nothing is known any more; this engine is about to be ended, and its tasks are to be left alone.
        let Some(spec) = specs.pools.get(&self.pool) else { return };
        self.cause_at(clock::instant());
        self.inputs.raw = spec.raw.clone();
        self.inputs.pool = spec.pool.clone();
        snapshot::take_specs(&mut self.world, &specs, &self.inputs.pool);
        self.specs.apps.keys().filter(|app| !specs.apps.contains_key(*app)).for_each(|app| self.inputs.metrics.forget(app));
        self.inputs.sources.sync(&snapshot::apps(&specs, &self.pool));
        self.specs = specs;
        (self.dirty, self.unpublished, self.changed.all) = (true, true, true);
    }

    fn apply(&mut self, event: B::Event) {
        let now = clock::now();
        let applied = self.backend.apply(event, &mut self.world, now);
        self.take_applied(applied, now);
    }

    fn take_applied(&mut self, applied: Applied, now: Millis) {
        self.dirty |= applied.decide || !applied.endings.is_empty();
        self.unpublished |= !applied.told.is_empty();
        self.changed.apps.extend(applied.told);
        for note in applied.notes {
            self.tell(events::note(&self.pool, note));
        }
        for ending in applied.endings {
            self.take_ending(&ending, now);
        }
    }

    fn take_ending(&mut self, ending: &Ending, now: Millis) {
        debug!(pool = %self.pool, task = %ending.task, how = ?ending.how, message = %ending.message, "task ended");
        self.inputs.metrics.ending(ending.how);
        self.memory.ended(ending, now);
        if !matches!(ending.how, End::Killed | End::Dropped) {
            self.tell(events::ending(&self.pool, ending));
        }
    }

    fn cause_at(&mut self, at: Instant) {
        self.cause = Some(self.cause.map_or(at, |cause| cause.min(at)));
    }

    /// Judges the pool as it is now and gives the orders.
    fn decide(&mut self) {
        let started = clock::instant();
        let now = clock::to_millis(started);
        self.dirty = false;
        self.in_control |= self.backend.standing().ready;
        self.surveyed |= self.in_control && !self.world.unsurveyed;
        let (plan, memory) = decide(&self.world, std::mem::take(&mut self.memory), now);
        // Before all that runs is known, a judgement is for show: what it remembers as the state at the start would be wrong.
        self.memory = if self.in_control { memory } else { Memory::default() };
        self.inputs.metrics.decision(clock::instant() - started);
        self.rest.stir(started);
        let cause = self.cause.take();
        // Orders first: everybody else can wait.
        self.give_orders(&plan, cause, now);
        self.take_plan(plan, cause.unwrap_or(started), started);
    }

    /// Puts the plan in the place of the one before, and looks at what differs.
    fn take_plan(&mut self, plan: Plan, cause: Instant, now: Instant) {
        let before = std::mem::take(&mut self.plan);
        let changes = changes::between(&before.verdicts, &plan.verdicts);
        self.observe(&plan, &changes, cause, now);
        self.tell_of(&plan, &changes);
        let standing = self.backend.standing();
        self.changed.all |= standing != self.standing;
        self.unpublished |= self.changed.all || !changes.is_empty();
        self.changed.apps.extend(changes.iter().map(|change| change.app.clone()));
        (self.plan, self.standing) = (plan, standing);
    }

    /// Times how soon apps come to what they are granted.
    fn observe(&mut self, plan: &Plan, changes: &[Change], cause: Instant, now: Instant) {
        let was_observed = std::mem::replace(&mut self.observed, self.backend.standing().ready);
        if !self.observed {
            return;
        }
        let (nothing, all);
        let changes = if was_observed {
            changes
        } else {
            self.progress.forget(plan);
            nothing = BTreeMap::new();
            all = changes::between(&nothing, &plan.verdicts);
            &all
        };
        for (app, duration) in self.progress.observe(changes, cause, now) {
            self.inputs.metrics.convergence(&app, duration);
            self.changed.apps.insert(app);
        }
    }

    fn give_orders(&mut self, plan: &Plan, cause: Option<Instant>, now: Millis) {
        if !self.backend.standing().ready {
            return;
        }
        let mut orders =
            if self.inputs.drain { dispatch::drain(&self.world) } else { self.dispatcher.orders(plan, &self.world, cause) };
        // Before that, executors may run on agents of which nothing has been heard, and only offers tell of them.
        orders.quiet &= self.surveyed;
        self.backend.dispatch(orders, &mut self.world, now);
        self.tick(now);
    }

    /// Events of what is new in this plan. What is not carried out is not told, nor what was found running at the start.
    fn tell_of(&mut self, plan: &Plan, changes: &[Change]) {
        if !self.backend.standing().ready || self.inputs.drain {
            return;
        }
        let changes = if self.told { changes } else { &[] };
        events::of_plan(&self.pool, plan, changes).into_iter().for_each(|event| self.tell(event));
        self.told = true;
    }

    /// Lets the backend do what is due, and learn when it is to be called next.
    fn tick(&mut self, now: Millis) {
        let (applied, wake) = self.backend.tick(&mut self.world, now);
        self.backend_wake = wake;
        self.take_applied(applied, now);
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            // The asker may have gone away meanwhile; that is no matter.
            Ask::Tasks(reply) => {
                let _ = reply.send(status::tasks(&self.world, &self.pool, clock::now()));
            }
            Ask::Drain(reply) => {
                if !std::mem::replace(&mut self.inputs.drain, true) {
                    info!(pool = %self.pool, "draining: every task is ended and none is started");
                    (self.dirty, self.unpublished, self.changed.all) = (true, true, true);
                }
                let _ = reply.send(snapshot::tasks(&self.world) + snapshot::executors(&self.world));
            }
        }
    }

    fn tell(&self, event: Event) {
        self.outputs.journal.note(event.clone());
        // Nobody may be listening.
        drop(self.outputs.events.send(event));
    }

    /// Passes on what the backend has counted.
    fn count(&mut self) {
        for reaction in self.backend.reactions() {
            self.inputs.metrics.reaction(reaction);
            self.progress.reacted(reaction);
        }
        for launch in self.backend.launches() {
            self.inputs.metrics.launch(launch);
            self.progress.launched(launch);
        }
        for (kind, total) in self.backend.calls() {
            let counted = self.called.insert(kind, total).unwrap_or(0);
            self.inputs.metrics.calls(kind, total - counted);
        }
    }

    fn publish_if_due(&mut self) {
        self.count();
        let now = clock::instant();
        let interval = if self.unpublished { PUBLISH_INTERVAL } else { HEARTBEAT };
        if self.published.is_some_and(|published| now < published + interval) {
            return;
        }
        self.rest.tidy(now);
        self.inputs.sources.place(&self.world);
        self.published = Some(now);
        self.unpublished = false;
        let (previous, changed) = (self.outputs.reports.borrow().clone(), std::mem::take(&mut self.changed));
        let sight = status::Sight {
            pool: &self.inputs.raw,
            specs: &self.specs,
            world: &self.world,
            plan: &self.plan,
            standing: self.standing.clone(),
            drained: self.inputs.drain,
            surveyed: self.surveyed,
            progress: &self.progress,
            changed: &changed,
            now: clock::to_millis(now),
            timestamp: clock::timestamp(),
        };
        self.outputs.reports.send_replace(Arc::new(status::report(&sight, &previous)));
    }
}
