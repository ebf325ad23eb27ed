//! Tasks and their states: status updates in, [`Task`]s of the [`World`] and [`Ending`]s out.
//!
//! The world is the ledger. Kept here is only what no decision looks at: timers, what has been asked of the master, and which tasks
//! ended lately, so that a late or repeated update does not bring them back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::offers::Offers;
use super::wire::{Call, ReconcileTask, State, TaskStatus, Value};
use crate::api::validated::{Key, Version};
use crate::backend::{Applied, End, Ending, Kill, Launch, parse_task_id};
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, Millis, Task, TaskPhase, World};

const KILL_RETRY_MS: u64 = 1000;
const LAUNCH_TIMEOUT_MS: u64 = 10_000;
const MAX_RETRY_MS: u64 = 30_000;
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
    pub fn note(&mut self, note: String) {
        tracing::info!("{note}");
        self.applied.notes.push(note);
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

/// An ending that is not the task's own doing.
fn taken_away(status: &TaskStatus) -> bool {
    const REASONS: [&str; 11] = [
        "REASON_AGENT_DRAINING",
        "REASON_AGENT_DISCONNECTED",
        "REASON_AGENT_REMOVED",
        "REASON_AGENT_REMOVED_BY_OPERATOR",
        "REASON_AGENT_RESTARTED",
        "REASON_AGENT_UNKNOWN",
        "REASON_CONTAINER_PREEMPTED",
        "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        "REASON_EXECUTOR_UNREGISTERED",
        "REASON_GC_ERROR",
        "REASON_MASTER_DISCONNECTED",
    ];
    status.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason))
}

/// How a task ended by this status, if it did. `None` for states that are not final.
fn ending(status: &TaskStatus, killed: bool, confirmed: bool) -> Option<End> {
    let end = match status.state {
        State::TaskFinished
        | State::TaskFailed
        | State::TaskKilled
        | State::TaskDropped
        | State::TaskGone
        | State::TaskGoneByOperator
            if killed =>
        {
            End::Killed
        }
        State::TaskFinished | State::TaskFailed | State::TaskKilled if taken_away(status) => End::Lost,
        State::TaskKilled => End::Killed,
        State::TaskFinished => End::Finished,
        State::TaskFailed => End::Failed,
        State::TaskError => End::Refused,
        State::TaskDropped => End::Dropped,
        State::TaskGone if !confirmed => End::Dropped,
        State::TaskGone | State::TaskGoneByOperator => End::Lost,
        _ => return None,
    };
    Some(end)
}

fn is_answer(status: &TaskStatus) -> bool {
    status.reason.as_deref() == Some("REASON_RECONCILIATION")
}

fn is_drain(status: &TaskStatus) -> bool {
    status.reason.as_deref() == Some("REASON_AGENT_DRAINING") || status.state == State::TaskGoneByOperator
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
            return out.note(format!("task {id}: a second launch under its id was refused: {}", status.message));
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
        // Only the task's own agent knows that it has ended; all else is inference.
        let inferred = matches!(status.state, State::TaskUnknown | State::TaskGone | State::TaskGoneByOperator);
        self.ended.remember(id, !inferred);
        let Some(task) = remove(world, app, id) else { return };
        if task.phase != TaskPhase::Unreachable {
            offers.believe(task.agent, task.resources, world);
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
            out.note(format!("task {id} was taken for lost and is back; it is ended, as its place has been filled"));
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
        };
        insert(world, app, task);
        let side = Side { asked: true, confirmed: true, sizeless: spec.is_none(), heard: self.heard, ..Side::default() };
        self.sides.insert(id.clone(), side);
    }

    /// Whether the resources of some task are not known.
    pub fn has_unsized(&self) -> bool {
        self.sides.values().any(|side| side.sizeless)
    }

    /// Fills in the resources of adopted tasks: from the master's list, else (when that could not be had) the size of the app as it is now.
    pub fn size(&mut self, world: &mut World, sizes: &HashMap<Arc<str>, Resources>) {
        for (key, view) in &mut world.apps {
            for task in &mut view.tasks {
                let Some(side) = self.sides.get_mut(&task.id).filter(|side| side.sizeless) else { continue };
                let found = sizes.get(&task.id).copied().or_else(|| view.spec.as_ref().map(|spec| spec.size));
                side.sizeless = false;
                task.resources = found.unwrap_or_default();
                tracing::debug!(app = %key, task = %task.id, resources = %task.resources, "adopted task sized");
            }
        }
    }

    /// Kills and questions that have to be repeated.
    pub fn due(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let mut questions = Vec::new();
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id.clone()));
            let Some((app, _)) = parse_task_id(&id) else { continue };
            let (Some(side), Some(task)) = (self.sides.get_mut(&id), find(world, &app, &id)) else { continue };
            (side.timer, side.asked) = (None, true);
            side.tries = side.tries.saturating_add(1);
            let agent = task.agent.0 as usize;
            let (grace, tries) = (side.killed, side.tries);
            let agent = world.agents[agent].id.clone();
            if let Some(grace) = grace {
                out.calls.push(Call::kill(&id, Some(&agent), grace.ms));
                self.set_timer(&id, Some(now + backoff(KILL_RETRY_MS, tries)));
            } else {
                questions.push(question(&id, agent));
                self.set_timer(&id, Some(now + backoff(LAUNCH_TIMEOUT_MS, tries)));
            }
        }
        if !questions.is_empty() {
            out.calls.push(Call::reconcile(questions));
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
        out.note(format!("task {id} is not one of ours, though it runs under our framework id; it is ended"));
        out.calls.push(Call::kill(id, status.agent_id.as_ref().map(|agent| &agent.value), None));
    }
}

fn question(id: &Arc<str>, agent: Arc<str>) -> ReconcileTask {
    ReconcileTask { task_id: Value::from(id.clone()), agent_id: Some(Value::from(agent)) }
}

fn backoff(first: u64, tries: u32) -> u64 {
    first.saturating_mul(1 << tries.min(16)).min(MAX_RETRY_MS)
}

fn message(status: &TaskStatus) -> Arc<str> {
    match status.reason.as_deref() {
        _ if !status.message.is_empty() => status.message.clone(),
        Some(reason) => reason.into(),
        None => format!("{:?}", status.state).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, offer, one_core, status};
    use super::*;
    use crate::api::validated::App;
    use crate::backend::task_id;

    struct Bed {
        ledger: Ledger,
        offers: Offers,
        world: World,
        app: Arc<App>,
    }

    impl Bed {
        fn new() -> Self {
            let (mut offers, mut world) = (Offers::default(), World::default());
            offers.receive(offer("O1", "A", 8), &mut world);
            offers.take(AgentIx(0), &mut world);
            Self { ledger: Ledger::default(), offers, world, app: one_core("web") }
        }

        fn id(&self, serial: u64) -> Arc<str> {
            task_id(&self.app.key, self.app.version, "k", serial)
        }

        fn launch(&mut self, serial: u64, now: Millis) -> Arc<str> {
            let id = self.id(serial);
            let launch = Launch { id: id.clone(), app: self.app.clone(), agent: AgentIx(0) };
            self.ledger.launched(&mut self.world, &launch, now);
            id
        }

        fn running(&mut self, serial: u64) -> Arc<str> {
            let id = self.launch(serial, 0);
            assert!(self.tell(&status(&id, "TASK_RUNNING", "A"), 100).applied.decide);
            id
        }

        fn tell(&mut self, status: &TaskStatus, now: Millis) -> Out {
            let mut out = Out::default();
            self.ledger.update(status, &mut self.world, &mut self.offers, now, &mut out);
            out
        }

        fn how(&mut self, status: &TaskStatus, now: Millis) -> Option<End> {
            self.tell(status, now).applied.endings.first().map(|ending| ending.how)
        }

        fn kill(&mut self, id: &Arc<str>, now: Millis) -> Option<Call> {
            let kill = Kill { app: self.app.key.clone(), id: id.clone(), grace_ms: Some(0) };
            self.ledger.kill(&mut self.world, &kill, now)
        }

        fn due(&mut self, now: Millis) -> Vec<Call> {
            let mut out = Out::default();
            self.ledger.due(&mut self.world, now, &mut out);
            out.calls
        }

        fn phase(&self, id: &str) -> Option<TaskPhase> {
            let tasks = &self.world.apps.get(&self.app.key)?.tasks;
            tasks.iter().find(|task| &*task.id == id).map(|task| task.phase)
        }

        fn expected(&self) -> i64 {
            self.world.agents[0].expected.cpu
        }
    }

    #[test]
    fn a_life() {
        let mut bed = Bed::new();
        let id = bed.launch(1, 0);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Starting));
        bed.tell(&status(&id, "TASK_STARTING", "A"), 10);
        bed.tell(&status(&id, "TASK_RUNNING", "A"), 20);
        let task = &bed.world.apps[&bed.app.key].tasks[0];
        assert_eq!((task.phase, task.ready, task.since, task.born), (TaskPhase::Running, true, 20, 0));
        let out = bed.tell(&status(&id, "TASK_FAILED", "A"), 120);
        let ending = &out.applied.endings[0];
        assert_eq!((ending.how, ending.ran_ms, ending.version), (End::Failed, 100, Some(bed.app.version)));
        assert_eq!(bed.expected(), 1000, "its room is expected back");
        assert!(bed.world.apps.is_empty() && bed.ledger.next_timer().is_none());
    }

    #[test]
    fn what_we_ended_is_no_crash() {
        for state in ["TASK_KILLED", "TASK_FAILED", "TASK_FINISHED", "TASK_GONE"] {
            let mut bed = Bed::new();
            let id = bed.running(1);
            bed.kill(&id, 200);
            assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
            bed.tell(&status(&id, "TASK_RUNNING", "A"), 201);
            assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping), "a late RUNNING changes nothing");
            assert_eq!(bed.how(&status(&id, state, "A"), 300), Some(End::Killed), "{state}");
        }
    }

    #[test]
    fn endings_of_the_state_table() {
        let drained = TaskStatus { reason: Some("REASON_AGENT_DRAINING".into()), ..status("", "TASK_KILLED", "A") };
        let cases = [
            (status("", "TASK_FINISHED", "A"), End::Finished),
            (status("", "TASK_KILLED", "A"), End::Killed),
            (status("", "TASK_ERROR", "A"), End::Refused),
            (status("", "TASK_DROPPED", "A"), End::Dropped),
            (status("", "TASK_GONE", "A"), End::Lost),
            (status("", "TASK_GONE_BY_OPERATOR", "A"), End::Lost),
            (drained, End::Lost),
        ];
        for (mut case, how) in cases {
            let mut bed = Bed::new();
            case.task_id.value = bed.running(1);
            assert_eq!(bed.how(&case, 300), Some(how), "{case:?}");
        }
    }

    #[test]
    fn an_error_about_a_namesake_does_not_end_the_running_task() {
        let mut bed = Bed::new();
        let id = bed.running(1);
        let mut error = status(&id, "TASK_ERROR", "A");
        error.uuid = None;
        assert_eq!(bed.how(&error, 200), None);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Running));
        error.task_id.value = bed.launch(2, 200);
        assert_eq!(bed.how(&error, 210), Some(End::Refused));
    }

    #[test]
    fn the_end_is_the_end() {
        let mut bed = Bed::new();
        let id = bed.running(1);
        assert_eq!(bed.how(&status(&id, "TASK_FINISHED", "A"), 200), Some(End::Finished));
        for state in ["TASK_FINISHED", "TASK_RUNNING", "TASK_UNREACHABLE", "TASK_STARTING"] {
            let out = bed.tell(&status(&id, state, "A"), 300);
            assert!(out.applied.endings.is_empty() && out.calls.is_empty() && bed.phase(&id).is_none(), "{state}");
        }
    }

    #[test]
    fn unreachable_tasks_use_no_room_and_may_return() {
        let mut bed = Bed::new();
        let id = bed.running(1);
        bed.tell(&status(&id, "TASK_UNREACHABLE", "A"), 200);
        assert_eq!((bed.phase(&id), bed.world.agents[0].present), (Some(TaskPhase::Unreachable), false));
        bed.tell(&answer(&id, "TASK_RUNNING", Some("A")), 300);
        let task = &bed.world.apps[&bed.app.key].tasks[0];
        assert_eq!((task.phase, task.ready, bed.world.agents[0].present), (TaskPhase::Running, true, true));
        bed.tell(&status(&id, "TASK_UNREACHABLE", "A"), 400);
        bed.kill(&id, 410);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Unreachable));
        bed.due(1410);
        bed.tell(&answer(&id, "TASK_RUNNING", Some("A")), 1500);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
        assert!(matches!(bed.due(1500)[..], [Call::Kill { .. }]), "told as soon as it is back");
    }

    #[test]
    fn kills_are_repeated_until_they_work() {
        let mut bed = Bed::new();
        let id = bed.running(1);
        assert!(matches!(bed.kill(&id, 1000), Some(Call::Kill { .. })));
        assert_eq!(bed.kill(&id, 1001), None);
        let sent: Vec<_> = (1000..100_000).filter(|now| !bed.due(*now).is_empty()).collect();
        assert_eq!(sent, [2000, 4000, 8000, 16_000, 32_000, 62_000, 92_000]);
        assert_eq!(bed.how(&status(&id, "TASK_KILLED", "A"), 100_000), Some(End::Killed));
        assert!(bed.due(1 << 40).is_empty());
    }

    #[test]
    fn a_launch_without_a_word_is_asked_about() {
        let mut bed = Bed::new();
        let id = bed.launch(1, 0);
        assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 10), None, "not asked, so not meant");
        assert_eq!(bed.how(&answer(&id, "TASK_GONE", Some("A")), 10), None, "not asked, so not meant");
        assert!(bed.due(9999).is_empty());
        assert!(matches!(&bed.due(10_000)[..], [Call::Reconcile { reconcile }] if reconcile.tasks.len() == 1));
        assert_eq!(bed.how(&answer(&id, "TASK_GONE", Some("A")), 10_001), Some(End::Dropped));
        assert_eq!(bed.expected(), 1000);
    }

    #[test]
    fn unknown_is_believed_the_second_time() {
        let mut bed = Bed::new();
        let id = bed.running(1);
        assert_eq!(bed.ledger.unheard(&bed.world, u64::MAX).len(), 1);
        assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 1000), None);
        assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 2000), None);
        assert!(matches!(bed.due(11_000)[..], [Call::Reconcile { .. }]));
        assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 11_001), Some(End::Lost));
        let out = bed.tell(&status(&id, "TASK_RUNNING", "A"), 20_000);
        assert!(matches!(out.calls[..], [Call::Kill { .. }]), "the revenant is ended");
        assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
    }

    #[test]
    fn tasks_of_an_earlier_run_are_adopted() {
        let mut bed = Bed::new();
        let id = bed.id(7);
        bed.tell(&answer(&id, "TASK_RUNNING", Some("B")), 100);
        let task = bed.world.apps[&bed.app.key].tasks[0].clone();
        assert_eq!((task.phase, task.agent, task.version), (TaskPhase::Running, AgentIx(1), Some(bed.app.version)));
        assert!(bed.ledger.has_unsized() && task.resources.is_zero());
        bed.ledger.size(&mut bed.world, &HashMap::from([(id, Resources::new(1000, 64))]));
        assert_eq!(bed.world.apps[&bed.app.key].tasks[0].resources, Resources::new(1000, 64));
        assert!(!bed.ledger.has_unsized());
        bed.world.apps.get_mut(&bed.app.key).unwrap().spec = Some(bed.app.clone());
        bed.tell(&answer(&bed.id(8), "TASK_STAGING", Some("B")), 100);
        assert_eq!(bed.world.apps[&bed.app.key].tasks[1].resources, bed.app.size, "the spec of its version tells");
    }

    #[test]
    fn foreign_tasks_are_ended() {
        let mut bed = Bed::new();
        let out = bed.tell(&status("made-by-hand", "TASK_RUNNING", "A"), 100);
        assert!(matches!(out.calls[..], [Call::Kill { .. }]) && out.applied.notes.len() == 1);
        assert!(bed.tell(&status("made-by-hand", "TASK_KILLED", "A"), 100).calls.is_empty());
    }
}
