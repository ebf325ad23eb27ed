//! What an event leads to. Pure: time is an argument, and what is to be done stands in [`Machine::effects`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::task::{Cause, Task, closed};
use super::checks::{Probe, Role};
use super::exit::Exit;
use super::settings::Settings;
use super::status::{Reason, State, Status};
use super::told::Told;
use super::wire::{self, Event, Kill};
use super::words::Work;

mod health;
mod task;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// A KILL may overtake its LAUNCH by the time the agent needs to make room for the task, not more.
const EARLY_KILL: Duration = Duration::from_mins(1);
const MAX_EARLY_KILLS: usize = 10_000;
/// How long to wait for acknowledgements at the end: an agent that shuts a framework down gives none.
const LINGER: Duration = Duration::from_millis(300);
/// The first subscription may fail for that long, even where no agent is waited for later on.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// What is to be done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Answered by [`Machine::started`] or [`Machine::not_started`].
    Start(Arc<str>, Box<Job>),
    /// To the task's whole process group.
    Signal(Arc<str>, Signal),
    /// End all that the task has left behind; answered by [`Machine::cleared`].
    Clear(Arc<str>),
    /// Answered by [`Machine::probed`].
    Probe(Arc<str>, Role),
    /// Nothing that comes of the probe means anything any longer.
    Abort(Arc<str>, Role),
    /// A call for the agent.
    Tell(Vec<u8>),
}

/// What a task runs, and in which bounds.
#[derive(Debug)]
pub struct Job {
    pub work: Work,
    pub cpus: Option<f64>,
    /// In MiB.
    pub mem: Option<f64>,
    /// It has a check that is a command, which needs its environment.
    pub has_command_check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

/// All tasks, and where we stand with the agent.
#[derive(Debug)]
pub struct Machine {
    pub effects: Vec<Effect>,
    pub told: Told,
    tasks: HashMap<Arc<str>, Task>,
    /// Tasks that were killed before they came.
    early: VecDeque<(Arc<str>, Instant)>,
    grace: Duration,
    shutdown_grace: Duration,
    recovery_timeout: Option<Duration>,
    wants_killing: bool,
    is_subscribed: bool,
    was_subscribed: bool,
    give_up_at: Option<Instant>,
    closing: Option<Closing>,
    /// Nothing is due before; not later than what is due first.
    wake: Option<Instant>,
}

#[derive(Debug)]
struct Closing {
    is_regular: bool,
    /// When acknowledgements are not waited for any longer; set when all tasks have ended.
    leave_at: Option<Instant>,
}

impl Machine {
    pub fn new(settings: &Settings) -> Self {
        Self {
            effects: Vec::new(),
            told: Told::new(&settings.framework_id, &settings.executor_id),
            tasks: HashMap::new(),
            early: VecDeque::new(),
            grace: settings.grace,
            shutdown_grace: settings.shutdown_grace,
            recovery_timeout: settings.recovery_timeout,
            wants_killing: false,
            is_subscribed: false,
            was_subscribed: false,
            give_up_at: None,
            closing: None,
            wake: None,
        }
    }

    /// When [`Self::tick`] has to be called, at the latest.
    pub fn next(&self) -> Option<Instant> {
        self.wake
    }

    /// Whether everything is done, and if so, whether it was to be.
    pub fn is_over(&self, now: Instant) -> Option<bool> {
        let closing = self.closing.as_ref().filter(|_| self.tasks.is_empty())?;
        let is_told = self.told.is_settled() || closing.leave_at.is_some_and(|at| at <= now);
        is_told.then_some(closing.is_regular)
    }

    pub fn probe(&self, id: &str, role: Role) -> Option<&Probe> {
        Some(&self.tasks.get(id)?.checker(role)?.probe)
    }

    // ---- the agent ----

    pub fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Subscribed { wants_killing } => {
                self.wants_killing = wants_killing;
                (self.is_subscribed, self.was_subscribed, self.give_up_at) = (true, true, None);
                self.tell_rest();
            }
            Event::Launch(task) => self.launch(*task, now),
            Event::LaunchGroup(tasks) => tasks.into_iter().for_each(|task| self.refuse_group(task)),
            Event::Kill(kill) => self.kill(kill, now),
            Event::Acknowledged { task_id, uuid } => self.told.acknowledged(&task_id, &uuid),
            Event::Shutdown => self.shut_down(true, now),
            Event::Error(message) => {
                tracing::error!(message, "the agent gives this executor up: it ends its tasks and itself");
                self.shut_down(false, now);
            }
            Event::Message => {}
            Event::Other(kind) => tracing::debug!(kind, "event ignored"),
        }
    }

    /// The stream of events has ended, or could not be had.
    pub fn lost(&mut self, now: Instant) {
        self.is_subscribed = false;
        if self.give_up_at.is_some() || self.closing.is_some() {
            return;
        }
        let patience = self.recovery_timeout.unwrap_or_default();
        let patience = if self.was_subscribed { patience } else { patience.max(FIRST_PATIENCE) };
        self.give_up_at = now.checked_add(patience);
        self.wake_at(self.give_up_at);
    }

    fn refuse_group(&mut self, task: wire::Task) {
        let id = task.info.task_id.value;
        let message = "This executor takes no task groups: launch its tasks one by one (LAUNCH)";
        let status = Status::new(&id, State::Failed).because(Reason::TaskGroupInvalid).saying(message);
        self.told.task(id, task.raw);
        self.tell(status);
    }

    fn tell(&mut self, status: Status) {
        tracing::debug!(task = %status.task_id.value, state = ?status.state, message = status.message.as_deref(), "told");
        self.told.update(status);
        self.tell_rest();
    }

    fn tell_rest(&mut self) {
        // Else it goes with the next SUBSCRIBE.
        if self.is_subscribed {
            self.effects.extend(self.told.untold().into_iter().map(Effect::Tell));
        }
    }

    // ---- the beginning of a task ----

    fn launch(&mut self, task: wire::Task, now: Instant) {
        let wire::Task { mut info, raw } = task;
        let id = info.task_id.value.clone();
        if self.tasks.contains_key(&id) {
            tracing::warn!(task = %id, "launched again while it runs: ignored");
            return;
        }
        self.told.task(id.clone(), raw);
        match self.admit(&id, &mut info, now) {
            Ok((task, job)) => {
                self.tasks.insert(id.clone(), task);
                self.effects.push(Effect::Start(id, Box::new(job)));
            }
            Err(status) => self.tell(*status),
        }
    }

    /// The task, or what is told in place of starting it.
    fn admit(&mut self, id: &Arc<str>, info: &mut wire::TaskInfo, now: Instant) -> Result<(Task, Job), Box<Status>> {
        let status = |state, message: &str| Box::new(Status::new(id, state).saying(message));
        let invalid = |message: String| Box::new((*status(State::Failed, &message)).because(Reason::TaskInvalid));
        if self.take_early_kill(id) {
            return Err(status(State::Killed, "Killed before it was launched"));
        }
        if self.closing.is_some() {
            return Err(Box::new(closed(Status::new(id, State::Killed))));
        }
        let work = work(&info.data).map_err(invalid)?;
        if work.nothing {
            return Err(status(State::Finished, "Nothing was to be run"));
        }
        let task = Task::new(info, now).map_err(|(field, error)| invalid(format!("{field}: {error}")))?;
        let is_command = |role| matches!(task.checker(role).map(|it| &it.probe), Some(Probe::Command(_)));
        let has_command_check = is_command(Role::Check) || is_command(Role::Health);
        let job = Job { work, cpus: info.scalar("cpus"), mem: info.scalar("mem"), has_command_check };
        Ok((task, job))
    }

    fn take_early_kill(&mut self, id: &str) -> bool {
        let found = self.early.iter().position(|(early, _)| **early == *id);
        found.is_some_and(|index| self.early.remove(index).is_some())
    }

    pub fn started(&mut self, id: &Arc<str>) {
        let Some(task) = self.tasks.get(id) else { return };
        let (status, next) = (task.status(id, State::Running), task.next());
        self.tell(status);
        self.wake_at(next);
    }

    pub fn not_started(&mut self, id: &Arc<str>, why: &str, now: Instant) {
        let Some(task) = self.tasks.remove(id) else { return };
        let status = task.status(id, State::Failed).because(Reason::ContainerLaunchFailed);
        self.tell(status.saying(format!("Failed to launch the task: {why}")));
        self.settle(now);
    }

    // ---- the end of a task ----

    fn kill(&mut self, kill: Kill, now: Instant) {
        let id = kill.task_id.value;
        match self.tasks.get(&id) {
            Some(task) => {
                let grace = kill.kill_policy.grace().or(task.grace).unwrap_or(self.grace);
                self.end(&id, Cause::Asked, grace, now);
            }
            None => self.remember(id, now),
        }
    }

    /// It has ended, and its end is on the way; or it has not come yet.
    fn remember(&mut self, id: Arc<str>, now: Instant) {
        self.early.retain(|(_, since)| now.saturating_duration_since(*since) < EARLY_KILL);
        if self.early.len() < MAX_EARLY_KILLS {
            self.early.push_back((id, now));
        }
    }

    fn end(&mut self, id: &Arc<str>, cause: Cause, grace: Duration, now: Instant) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.exit.is_none()) else { return };
        let is_asked = matches!(cause, Cause::Asked | Cause::Closing);
        let is_first = task.end(cause, grace, now);
        let (killing, next) = (task.status(id, State::Killing), task.next());
        if is_first {
            self.abort_probes(id);
        }
        if is_first && is_asked && self.wants_killing {
            self.tell(killing);
        }
        if grace.is_zero() {
            self.effects.push(Effect::Signal(id.clone(), Signal::Kill));
        } else if is_first {
            self.effects.push(Effect::Signal(id.clone(), Signal::Term));
        }
        self.wake_at(next);
    }

    /// The main process has ended, and perhaps since the task was over its memory limit.
    pub fn exited(&mut self, id: &Arc<str>, exit: Exit, over_memory: Option<String>, now: Instant) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if let Some(why) = over_memory {
            task.end(Cause::Memory(why), Duration::ZERO, now);
        }
        task.exit = Some(exit);
        self.abort_probes(id);
        self.effects.push(Effect::Clear(id.clone()));
    }

    /// The task is over its memory limit, though its main process lives.
    pub fn over_memory(&mut self, id: &Arc<str>, why: String, now: Instant) {
        self.end(id, Cause::Memory(why), Duration::ZERO, now);
    }

    /// Nothing is left of the task.
    pub fn cleared(&mut self, id: &Arc<str>, now: Instant) {
        if let Some(task) = self.tasks.remove(id) {
            self.tell(task.last_status(id));
            self.settle(now);
        }
    }

    // ---- time ----

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        if self.give_up_at.take_if(|at| *at <= now).is_some() {
            tracing::warn!("the agent has not come back in time: this executor ends its tasks and itself");
            self.shut_down(false, now);
        }
        let due = self.tasks.iter().filter(|(_, task)| task.next().is_some_and(|at| at <= now));
        let due: Vec<Arc<str>> = due.map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|id| self.tick_task(id, now));
        let own = [self.give_up_at, self.closing.as_ref().and_then(|closing| closing.leave_at)];
        let own = own.into_iter().flatten().filter(|at| *at > now);
        self.wake = self.tasks.values().filter_map(Task::next).chain(own).min();
    }

    fn tick_task(&mut self, id: &Arc<str>, now: Instant) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if let Some(ending) = &mut task.ending {
            ending.hard_at = None;
            self.effects.push(Effect::Signal(id.clone(), Signal::Kill));
            return;
        }
        if let Some(limit) = task.overtime(now) {
            self.end(id, Cause::Overtime(limit), Duration::ZERO, now);
            return;
        }
        self.look(id, now);
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }

    // ---- the end of the executor ----

    /// Ends all tasks by their kill policies, as far as the agent leaves time for it.
    pub fn shut_down(&mut self, is_regular: bool, now: Instant) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(Closing { is_regular, leave_at: None });
        // Time to tell what became of them before the agent ends the container.
        let margin = (self.shutdown_grace / 5).min(Duration::from_secs(1));
        let most = self.shutdown_grace.saturating_sub(margin);
        let graces: Vec<_> =
            self.tasks.iter().map(|(id, task)| (id.clone(), task.grace.unwrap_or(self.grace).min(most))).collect();
        graces.iter().for_each(|(id, grace)| self.end(id, Cause::Closing, *grace, now));
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        if let Some(closing) = self.closing.as_mut().filter(|_| self.tasks.is_empty()) {
            closing.leave_at = now.checked_add(LINGER);
            let leave_at = closing.leave_at;
            self.wake_at(leave_at);
        }
    }
}

/// # Errors
/// In words, for the framework.
fn work(data: &str) -> Result<Work, String> {
    let unreadable = |error: &dyn std::fmt::Display| {
        format!(
            "TaskInfo.data cannot be read: {error}. It has to be what is to be run, as JSON such as {{\"shell\": \"sleep 1\"}}"
        )
    };
    let bytes = STANDARD.decode(data).map_err(|error| unreadable(&error))?;
    let work: Work = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    if !work.nothing && work.shell.is_none() && work.argv.is_empty() {
        return Err("TaskInfo.data says nothing to be run: neither shell nor argv".to_owned());
    }
    Ok(work)
}
