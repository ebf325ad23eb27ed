//! Tasks and their states: status updates in, [`Task`]s of the [`World`] and [`Ending`]s out.
//!
//! The world is the ledger. Kept here is only what no decision looks at: timers, what has been asked of the master, and which tasks
//! ended lately, so that a late or repeated update does not bring them back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use self::timers::KILL_RETRY_MS;
use super::executor::parse_executor_id;
use super::offers::Offers;
use super::probe::is_ready;
use super::states::{Known, ending, is_answer, is_drain, is_executors_end, message};
use super::wire::{Call, State, TaskStatus};
use crate::api::validated::{App, Key};
use crate::backend::{Applied, End, Ending, Kill, Launch, Note, parse_task_id};
use crate::policy::world::{BasePhase, Millis, Task, TaskPhase, World};

mod adopt;
mod timers;

const LAUNCH_TIMEOUT_MS: u64 = 10_000;
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
    /// Books a task whose ACCEPT is on its way; pooled, in this executor.
    pub fn launched(&mut self, world: &mut World, launch: &Launch, executor: Option<Arc<str>>, now: Millis) {
        let task = Task {
            id: launch.id.clone(),
            agent: launch.agent,
            version: Some(launch.app.version),
            phase: TaskPhase::Starting,
            ready: false,
            since: now,
            born: now,
            resources: launch.app.size,
            executor,
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
        let spec = world.apps.get(app).and_then(|view| view.spec.clone());
        let executor_down = is_executor_down(world, app, id);
        let Some(task) = find(world, app, id) else { return };
        side.heard = self.heard;
        if task.executor.is_none() {
            task.executor = executor_of(status);
        }
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
        let (killed, ran) = (side.killed.is_some(), side.ran_since.is_some());
        let known = Known { killed, confirmed: side.confirmed, ran, pooled: task.executor.is_some(), executor_down };
        if let Some(how) = ending(status, known) {
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
        let spec = spec.filter(|spec| task.version == Some(spec.version));
        alive(task, side, status, spec.as_deref(), now);
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
            message: if task.executor.is_some() && is_executors_end(status) {
                format!("its executor ended: {}", message(status)).into()
            } else {
                message(status)
            },
            born: task.born,
            ran_ms: side.ran_since.map_or(0, |since| now.saturating_sub(since)),
        });
    }
}

/// The executor that the task shares, as the status tells it.
fn executor_of(status: &TaskStatus) -> Option<Arc<str>> {
    status.executor_id.as_ref().map(|id| id.value.clone()).filter(|id| parse_executor_id(id).is_some())
}

/// Whether the task is one of an executor that is not up.
fn is_executor_down(world: &mut World, app: &Key, id: &str) -> bool {
    let Some((agent, executor)) = find(world, app, id).and_then(|task| Some((task.agent, task.executor.clone()?))) else {
        return false;
    };
    let mut bases = world.agents[agent.0 as usize].bases.iter();
    !bases.any(|fitted| fitted.phase == BasePhase::Ready && fitted.executor.as_ref() == Some(&executor))
}

/// Brings a task that lives into the phase that the status tells of. `spec`: what it was started from, if that is known.
fn alive(task: &mut Task, side: &mut Side, status: &TaskStatus, spec: Option<&App>, now: Millis) {
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
        task.ready = phase == TaskPhase::Running && is_ready(status, spec);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
