//! Tasks and their states: status updates in, [`Task`]s of the [`World`] and [`Ending`]s out.
//!
//! The world is the ledger. Kept here is only what no decision looks at: timers, what has been asked of the master, and which tasks
//! ended lately, so that a late or repeated update does not bring them back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::offers::Offers;
use super::states::{ending, is_answer, is_drain, message};
use super::wire::{Call, ReconcileTask, State, TaskStatus, Value};
use crate::api::validated::{Key, Version};
use crate::backend::{Applied, End, Ending, Kill, Launch, Note, parse_task_id};
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, Millis, Task, TaskPhase, World};

const KILL_RETRY_MS: u64 = 1000;
const LAUNCH_TIMEOUT_MS: u64 = 10_000;
const MAX_RETRY_MS: u64 = 30_000;
/// A launch that has not come further by then never will; another may, and elsewhere.
const LAUNCH_PATIENCE_MS: u64 = 120_000;
/// Two answers "unknown" this far apart are believed.
const UNKNOWN_MS: u64 = 10_000;
const REMEMBERED_ENDINGS: usize = 20_000;

/// All that is known of tasks beside the world.
#[derive(Debug, Default)]
pub struct Ledger {
    sides: HashMap<Arc<str>, Side>,
    timers: BTreeSet<(Millis, Arc<str>)>,
    ended: Ended,
    /// Counts status updates, so that "heard since" needs no clock.
    heard: u64,
    /// How many tasks there are whose resources are not known.
    sizeless: usize,
}

/// How a task was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grace {
    /// `None`: as the task was launched with.
    ms: Option<u64>,
}

impl Grace {
    fn at_least_as_quick(self, other: Option<u64>) -> bool {
        self.ms.unwrap_or(u64::MAX) <= other.unwrap_or(u64::MAX)
    }
}

/// What is known of a live task beside the world. There is one for each task of the world.
#[derive(Debug, Default)]
struct Side {
    timer: Option<Millis>,
    tries: u32,
    /// We asked for its end, with this grace period.
    killed: Option<Grace>,
    ran_since: Option<Millis>,
    heard: u64,
    /// The master has been asked about it (by RECONCILE or KILL) after its ACCEPT, so an answer that it is unknown can be meant.
    asked: bool,
    /// The master or an agent has spoken of it as alive.
    confirmed: bool,
    unknown_since: Option<Millis>,
    /// Its resources are not known.
    sizeless: bool,
}

/// The last tasks that ended; whether it was their agent or the master that said so, and not only our inference.
#[derive(Debug, Default)]
struct Ended {
    known: HashMap<Arc<str>, bool>,
    order: VecDeque<Arc<str>>,
}

impl Ended {
    fn remember(&mut self, id: &Arc<str>, for_good: bool) {
        if self.known.insert(id.clone(), for_good).is_none() {
            self.order.push_back(id.clone());
        }
        if self.order.len() > REMEMBERED_ENDINGS {
            self.order.pop_front().map(|id| self.known.remove(&id));
        }
    }
}

/// What comes out of a step.
#[derive(Debug, Default)]
pub struct Out {
    pub applied: Applied,
    pub calls: Vec<Call>,
}

impl Out {
    pub fn warn(&mut self, reason: &'static str, message: String) {
        tracing::warn!("{message}");
        self.applied.notes.push(Note { warning: true, reason, message });
    }

    pub fn tell(&mut self, reason: &'static str, message: String) {
        tracing::info!("{message}");
        self.applied.notes.push(Note { warning: false, reason, message });
    }
}

/// The app's task of this id.
pub fn find<'w>(world: &'w mut World, app: &Key, id: &str) -> Option<&'w mut Task> {
    let tasks = &mut world.apps.get_mut(app)?.tasks;
    let place = tasks.binary_search_by(|task| (*task.id).cmp(id)).ok()?;
    tasks.get_mut(place)
}

fn insert(world: &mut World, app: &Key, task: Task) {
    let tasks = &mut world.apps.entry(app.clone()).or_default().tasks;
    if let Err(place) = tasks.binary_search_by(|known| known.id.cmp(&task.id)) {
        tasks.insert(place, task);
    }
}

impl Ledger {
    /// Books a task whose ACCEPT is on its way.
    pub fn launched(&mut self, world: &mut World, launch: &Launch, now: Millis) {
        let task = Task {
            id: launch.id.clone(),
            agent: launch.agent,
            version: Some(launch.app.version),
            phase: TaskPhase::Starting,
            ready: false,
            since: now,
            born: now,
            resources: launch.app.size,
            executor: None,
        };
        insert(world, &launch.app.key, task);
        self.sides.insert(launch.id.clone(), Side { heard: self.heard, ..Side::default() });
        self.set_timer(&launch.id, Some(now + LAUNCH_TIMEOUT_MS));
    }

    /// Books a kill. `None` when there is nothing to send: the task has ended, or has been asked to end no less quickly.
    pub fn kill(&mut self, world: &mut World, kill: &Kill, now: Millis) -> Option<Call> {
        let task = find(world, &kill.app, &kill.id)?;
        let side = self.sides.get_mut(&kill.id)?;
        if side.killed.is_some_and(|grace| grace.at_least_as_quick(kill.grace_ms)) {
            return None;
        }
        (side.killed, side.asked, side.tries) = (Some(Grace { ms: kill.grace_ms }), true, 0);
        // One on an unreachable agent uses no room until it is back; then it is told.
        if task.phase != TaskPhase::Unreachable {
            enter(task, TaskPhase::Stopping, now);
        }
        let agent = task.agent;
        self.set_timer(&kill.id, Some(now + KILL_RETRY_MS));
        Some(Call::kill(&kill.id, Some(&world.agents[agent.0 as usize].id), kill.grace_ms))
    }

    /// Takes a status update or an answer to RECONCILE.
    pub fn update(&mut self, status: &TaskStatus, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        self.heard += 1;
        let id = &status.task_id.value;
        let Some((app, version)) = parse_task_id(id) else { return foreign(status, out) };
        if find(world, &app, id).is_some() {
            self.known(&app, status, world, offers, now, out);
        } else {
            self.stranger(&app, version, status, world, offers, now, out);
        }
    }

    fn known(&mut self, app: &Key, status: &TaskStatus, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let id = &status.task_id.value;
        let Some(side) = self.sides.get_mut(id) else { return };
        let Some(task) = find(world, app, id) else { return };
        side.heard = self.heard;
        let unasked = is_answer(status) && !side.asked;
        if unasked && matches!(status.state, State::TaskUnknown | State::TaskGone) {
            return tracing::debug!(task = %id, "answer from before the launch ignored");
        }
        if status.state == State::TaskUnknown {
            return self.unknown(app, status, world, offers, now, out);
        }
        // The answer to a request under the id of a task that runs already. It is not about that task.
        if status.state == State::TaskError && status.uuid.is_none() && side.confirmed {
            return out.warn("TaskRefused", format!("task {id}: a second launch under its id was refused: {}", status.message));
        }
        if let Some(how) = ending(status, side.killed.is_some(), side.confirmed) {
            let agent = task.agent;
            self.end(app, status, how, world, offers, now, out);
            if is_drain(status) {
                world.agents[agent.0 as usize].present = false;
                offers.void(agent, world);
            }
            return;
        }
        (side.confirmed, side.unknown_since) = (true, None);
        let (before, ready) = (task.phase, task.ready);
        alive(task, side, status, now);
        out.applied.decide |= before != task.phase || ready != task.ready;
        let (agent, phase) = (task.agent, task.phase);
        match side.killed {
            // Back from an unreachable agent: what was asked of it then still holds.
            Some(_) if before == TaskPhase::Unreachable && phase == TaskPhase::Stopping => self.set_timer(id, Some(now)),
            Some(_) => {}
            // On its way up it may get stuck: it is asked about until it runs.
            None if phase == TaskPhase::Starting => {
                let timer = side.timer.unwrap_or(now + LAUNCH_TIMEOUT_MS);
                self.set_timer(id, Some(timer));
            }
            None => self.set_timer(id, None),
        }
        if status.state == State::TaskUnreachable {
            world.agents[agent.0 as usize].present = false;
            offers.void(agent, world);
        } else if before == TaskPhase::Unreachable {
            world.agents[agent.0 as usize].present = true;
        }
    }

    fn unknown(&mut self, app: &Key, status: &TaskStatus, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let id = &status.task_id.value;
        let Some(side) = self.sides.get_mut(id) else { return };
        let how = match (side.killed, side.confirmed) {
            (Some(_), _) => End::Killed,
            (None, false) => End::Dropped,
            (None, true) => End::Lost,
        };
        match side.unknown_since {
            _ if how == End::Dropped => self.end(app, status, how, world, offers, now, out),
            Some(since) if now.saturating_sub(since) >= UNKNOWN_MS => self.end(app, status, how, world, offers, now, out),
            Some(_) => {}
            None => {
                side.unknown_since = Some(now);
                if side.killed.is_none() {
                    self.set_timer(id, Some(now + UNKNOWN_MS));
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn end(
        &mut self,
        app: &Key,
        status: &TaskStatus,
        how: End,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        let id = &status.task_id.value;
        self.set_timer(id, None);
        let side = self.sides.remove(id).unwrap_or_default();
        self.sizeless -= usize::from(side.sizeless);
        // Only the task's own agent knows that it has ended; all else is inference.
        let inferred = matches!(status.state, State::TaskUnknown | State::TaskGone | State::TaskGoneByOperator);
        self.ended.remember(id, !inferred);
        let Some(task) = remove(world, app, id) else { return };
        if task.phase != TaskPhase::Unreachable {
            offers.believe(task.agent, task.resources, Some(now), world);
        }
        out.applied.decide = true;
        out.applied.endings.push(Ending {
            app: app.clone(),
            task: id.clone(),
            agent: task.agent,
            version: task.version,
            how,
            message: message(status),
            ran_ms: side.ran_since.map_or(0, |since| now.saturating_sub(since)),
        });
    }

    /// A task that the world does not know: of an earlier run of Microscaler, or ended already.
    #[allow(clippy::too_many_arguments)]
    fn stranger(
        &mut self,
        app: &Key,
        version: Version,
        status: &TaskStatus,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        let id = &status.task_id.value;
        let alive = matches!(
            status.state,
            State::TaskStaging
                | State::TaskStarting
                | State::TaskRunning
                | State::TaskKilling
                | State::TaskUnreachable
                | State::TaskLost
        );
        let Some(agent) = status.agent_id.as_ref().filter(|_| alive) else { return };
        let ended = self.ended.known.get(id).copied();
        if ended == Some(true) {
            return tracing::debug!(task = %id, state = ?status.state, "late update of an ended task ignored");
        }
        let agent = offers.agent(world, &agent.value);
        if status.state != State::TaskUnreachable {
            world.agents[agent.0 as usize].present = true;
        }
        self.adopt(app, version, id, agent, world, now);
        self.known(app, status, world, offers, now, out);
        out.applied.decide = true;
        if ended.is_some() {
            out.warn(
                "TaskReturned",
                format!("task {id} was taken for lost and is back; it is ended, as its place has been filled"),
            );
            let kill = Kill { app: app.clone(), id: id.clone(), grace_ms: None };
            out.calls.extend(self.kill(world, &kill, now));
        } else {
            tracing::info!(task = %id, state = ?status.state, "task adopted");
        }
    }

    fn adopt(&mut self, app: &Key, version: Version, id: &Arc<str>, agent: AgentIx, world: &mut World, now: Millis) {
        let spec = world.apps.get(app).and_then(|view| view.spec.clone()).filter(|spec| spec.version == version);
        let task = Task {
            id: id.clone(),
            agent,
            version: Some(version),
            phase: TaskPhase::Starting,
            ready: false,
            since: now,
            born: now,
            resources: spec.as_ref().map_or(Resources::ZERO, |spec| spec.size),
            executor: None,
        };
        insert(world, app, task);
        let side = Side { asked: true, confirmed: true, sizeless: spec.is_none(), heard: self.heard, ..Side::default() };
        self.sizeless += usize::from(side.sizeless);
        self.sides.insert(id.clone(), side);
    }

    /// Whether the resources of some task are not known.
    pub fn has_unsized(&self) -> bool {
        self.sizeless > 0
    }

    /// Fills in the resources of adopted tasks: from the master's list, else (when that could not be had) the size of the app as it is now.
    pub fn size(&mut self, world: &mut World, sizes: &HashMap<Arc<str>, Resources>) {
        for (key, view) in &mut world.apps {
            for task in &mut view.tasks {
                let Some(side) = self.sides.get_mut(&task.id).filter(|side| side.sizeless) else { continue };
                let found = sizes.get(&task.id).copied().or_else(|| view.spec.as_ref().map(|spec| spec.size));
                side.sizeless = false;
                self.sizeless -= 1;
                task.resources = found.unwrap_or_default();
                tracing::debug!(app = %key, task = %task.id, resources = %task.resources, "adopted task sized");
            }
        }
    }

    /// Kills and questions that have to be repeated.
    pub fn due(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let mut questions = Vec::new();
        let mut stuck = Vec::new();
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id.clone()));
            let Some((app, _)) = parse_task_id(&id) else { continue };
            let (Some(side), Some(task)) = (self.sides.get_mut(&id), find(world, &app, &id)) else { continue };
            (side.timer, side.asked) = (None, true);
            side.tries = side.tries.saturating_add(1);
            let agent = task.agent.0 as usize;
            let (grace, tries) = (side.killed, side.tries);
            let overdue = task.phase == TaskPhase::Starting && task.since + LAUNCH_PATIENCE_MS <= now;
            let is_stuck = side.confirmed && overdue;
            let agent = world.agents[agent].id.clone();
            if let Some(grace) = grace {
                out.calls.push(Call::kill(&id, Some(&agent), grace.ms));
                self.set_timer(&id, Some(now + backoff(KILL_RETRY_MS, tries)));
            } else if is_stuck {
                stuck.push(Kill { app, id, grace_ms: None });
            } else {
                questions.push(question(&id, agent));
                self.set_timer(&id, Some(now + backoff(LAUNCH_TIMEOUT_MS, tries)));
            }
        }
        if !questions.is_empty() {
            out.calls.push(Call::reconcile(questions));
        }
        for kill in stuck {
            let seconds = LAUNCH_PATIENCE_MS / 1000;
            out.warn("LaunchStuck", format!("task {} does not run {seconds} s after its launch; it is ended", kill.id));
            out.calls.extend(self.kill(world, &kill, now));
            out.applied.decide = true;
        }
    }

    pub fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// After a new connection, kills that were written to the old one may be lost.
    pub fn reconnected(&mut self, now: Millis) {
        let killed: Vec<_> = self.sides.iter().filter(|(_, side)| side.killed.is_some()).map(|(id, _)| id.clone()).collect();
        for id in &killed {
            self.set_timer(id, Some(now));
        }
    }

    /// A mark for [`Self::unheard`].
    pub fn mark(&self) -> u64 {
        self.heard
    }

    /// Questions about all tasks of which nothing has been heard since the mark.
    pub fn unheard(&mut self, world: &World, mark: u64) -> Vec<ReconcileTask> {
        let mut questions = Vec::new();
        for task in world.apps.values().flat_map(|view| &view.tasks) {
            if let Some(side) = self.sides.get_mut(&task.id).filter(|side| side.heard <= mark) {
                side.asked = true;
                questions.push(question(&task.id, world.agents[task.agent.0 as usize].id.clone()));
            }
        }
        questions
    }

    fn set_timer(&mut self, id: &Arc<str>, at: Option<Millis>) {
        let Some(side) = self.sides.get_mut(id) else { return };
        if let Some(old) = side.timer {
            self.timers.remove(&(old, id.clone()));
        }
        side.timer = at;
        self.timers.extend(at.map(|at| (at, id.clone())));
    }
}

/// Brings a task that lives into the phase that the status tells of.
fn alive(task: &mut Task, side: &mut Side, status: &TaskStatus, now: Millis) {
    let phase = match (status.state, task.phase) {
        (State::TaskUnreachable | State::TaskLost, _) => TaskPhase::Unreachable,
        (State::Other, phase) => phase,
        // Never back from there: what says so is late.
        (State::TaskKilling, _) | (_, TaskPhase::Stopping) => TaskPhase::Stopping,
        _ if side.killed.is_some() => TaskPhase::Stopping,
        (State::TaskStaging | State::TaskStarting, TaskPhase::Running) => TaskPhase::Running,
        (State::TaskStaging | State::TaskStarting, _) => TaskPhase::Starting,
        _ => TaskPhase::Running,
    };
    if status.state == State::TaskRunning {
        side.ran_since.get_or_insert(now);
    }
    enter(task, phase, now);
    if status.state == State::TaskRunning {
        task.ready = phase == TaskPhase::Running && status.healthy != Some(false);
    }
}

fn enter(task: &mut Task, phase: TaskPhase, now: Millis) {
    if task.phase != phase {
        (task.phase, task.since) = (phase, now);
        task.ready &= phase == TaskPhase::Running;
    }
}

fn remove(world: &mut World, app: &Key, id: &str) -> Option<Task> {
    let view = world.apps.get_mut(app)?;
    let place = view.tasks.binary_search_by(|task| (*task.id).cmp(id)).ok()?;
    let task = view.tasks.remove(place);
    if view.spec.is_none() && view.tasks.is_empty() {
        world.apps.remove(app);
    }
    Some(task)
}

/// A task that we cannot have launched.
fn foreign(status: &TaskStatus, out: &mut Out) {
    let id = &status.task_id.value;
    if matches!(status.state, State::TaskStaging | State::TaskStarting | State::TaskRunning) {
        out.warn("ForeignTask", format!("task {id} is not one of ours, though it runs under our framework id; it is ended"));
        out.calls.push(Call::kill(id, status.agent_id.as_ref().map(|agent| &agent.value), None));
    }
}

fn question(id: &Arc<str>, agent: Arc<str>) -> ReconcileTask {
    ReconcileTask { task_id: Value::from(id.clone()), agent_id: Some(Value::from(agent)) }
}

fn backoff(first: u64, tries: u32) -> u64 {
    first.saturating_mul(1 << tries.min(16)).min(MAX_RETRY_MS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
