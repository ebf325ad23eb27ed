//! The command executor itself: one task, from LAUNCH to the acknowledgement of its end. One thread owns all state here; others
//! only send it [`Event`]s.

use crate::agent::Agent;
use crate::check::{self, Verdict};
use crate::checkpoint;
use crate::place::Place;
use crate::probe::Outcome;
use crate::process::{Process, describe};
use crate::task::Task;
use anyhow::Result;
use microscaler_testbed::executor::grace_period;
use microscaler_testbed::wire::Records;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long to wait for an acknowledgement that may never come, since the agent forgets a framework that it shuts down.
const SHUTDOWN_LINGER: Duration = Duration::from_millis(200);
/// Between two attempts to subscribe.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub enum Event {
    /// One event of the agent.
    Agent(Value),
    /// The stream of the agent's events has ended.
    Lost(String),
    /// The task runs; with what its statuses shall carry. For a container, that is later than the start of its process.
    Running(Value),
    /// What `TaskInfo.check` has seen.
    Checked(Result<Outcome>),
    /// What `TaskInfo.health_check` has seen.
    HealthChecked(Result<Outcome>),
    /// The task's process has ended.
    Exited,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Executor {
    agent: Agent,
    place: Place,
    events: Receiver<Event>,
    sender: Sender<Event>,
    is_subscribed: bool,
    announces_killing: bool,
    task: Option<Task>,
    /// The task is to be reported as killed, unless it ends with status 0.
    is_killed: bool,
    is_shutting_down: bool,
    /// The task's end has been reported.
    is_over: bool,
    /// A KILL that came before its LAUNCH.
    early_kill: bool,
    kill_hard_at: Option<Instant>,
    retry_at: Option<Instant>,
    give_up_at: Option<Instant>,
    leave_at: Option<Instant>,
}

impl Executor {
    pub fn new(agent: Agent, place: Place) -> Self {
        let (sender, events) = channel();
        Self {
            agent,
            place,
            events,
            sender,
            is_subscribed: false,
            announces_killing: false,
            task: None,
            is_killed: false,
            is_shutting_down: false,
            is_over: false,
            early_kill: false,
            kill_hard_at: None,
            retry_at: None,
            give_up_at: None,
            leave_at: None,
        }
    }

    /// Runs until there is nothing left to do.
    pub fn run(mut self) {
        self.connect();
        while !self.is_done() {
            match self.next_event() {
                Some(Event::Agent(event)) => self.on_agent_event(&event),
                Some(Event::Lost(why)) => self.on_lost(&why),
                Some(Event::Running(container)) => self.on_running(container),
                Some(Event::Checked(seen)) => self.on_checked(&seen),
                Some(Event::HealthChecked(seen)) => self.on_health_checked(&seen),
                Some(Event::Exited) => self.on_exit(),
                None => {}
            }
            self.on_time(Instant::now());
        }
    }

    /// The next event; none if a deadline comes first.
    fn next_event(&self) -> Option<Event> {
        let deadlines = [self.kill_hard_at, self.retry_at, self.give_up_at, self.leave_at];
        let Some(next) = deadlines.into_iter().flatten().min() else { return self.events.recv().ok() };
        self.events.recv_timeout(next.saturating_duration_since(Instant::now())).ok()
    }

    fn is_done(&self) -> bool {
        let is_told = self.is_over && self.agent.unacknowledged.updates.is_empty();
        is_told || self.is_shutting_down && self.task.is_none() || self.leave_at.is_some_and(|time| time <= Instant::now())
    }

    fn on_time(&mut self, now: Instant) {
        if self.retry_at.take_if(|time| *time <= now).is_some() {
            self.connect();
        }
        if self.kill_hard_at.take_if(|time| *time <= now).is_some() {
            self.kill_hard();
        }
        if self.give_up_at.take_if(|time| *time <= now).is_some() {
            eprintln!("the agent has not come back in time");
            self.shut_down();
        }
    }

    // ---- the agent ----

    fn connect(&mut self) {
        match self.agent.subscribe() {
            Ok(records) => forward(records, self.sender.clone()),
            Err(error) => self.on_lost(&error.to_string()),
        }
    }

    fn on_lost(&mut self, why: &str) {
        self.is_subscribed = false;
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        if self.give_up_at.is_none() && !self.is_shutting_down {
            eprintln!("the agent is lost: {why}");
            // An agent that does not checkpoint will not know us when it comes back. (The first connection is retried, too.)
            let patience = self.agent.settings().recovery_timeout.unwrap_or_default();
            self.give_up_at = Some(Instant::now() + patience);
        }
    }

    fn on_agent_event(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => self.on_subscribed(&event["subscribed"]),
            "LAUNCH" => self.launch(&event["launch"]["task"]),
            "KILL" => self.on_kill(&event["kill"]),
            "ACKNOWLEDGED" => self.agent.acknowledged(&event["acknowledged"]),
            "SHUTDOWN" => self.shut_down(),
            _ => {}
        }
    }

    fn on_subscribed(&mut self, subscribed: &Value) {
        self.is_subscribed = true;
        (self.retry_at, self.give_up_at) = (None, None);
        let capabilities = subscribed["framework_info"]["capabilities"].as_array();
        let has_checkpoints = self.agent.settings().recovery_timeout.is_some();
        if matches!(self.place, Place::Docker(_))
            && has_checkpoints
            && let Err(error) = checkpoint::write_address()
        {
            eprintln!("a restarted agent will not know this task: {error:#}");
        }
        self.announces_killing = capabilities.into_iter().flatten().any(|capability| capability["type"] == "TASK_KILLING_STATE");
    }

    fn update(&mut self, state: &str, extra: Value) {
        if let Some(task) = &self.task {
            self.agent.update(&task.id, state, extra, self.is_subscribed);
        }
    }

    // ---- the task ----

    fn launch(&mut self, info: &Value) {
        if self.task.is_some() {
            eprintln!("a second task is refused: a command executor runs one");
            return;
        }
        if let Some(id) = info["task_id"]["value"].as_str() {
            self.agent.unacknowledged.tasks.insert(id.to_owned(), info.clone());
        }
        self.task = Some(Task::new(info, self.place.knows_checks()));
        if self.early_kill {
            self.is_killed = true;
            self.report_end("TASK_KILLED", "Killed before it was launched");
            return;
        }
        self.update("TASK_STARTING", self.members(None));
        match self.start(info) {
            Ok(process) => self.on_started(process, info),
            Err(error) => self.report_end("TASK_FAILED", &format!("Failed to launch the command: {error:#}")),
        }
    }

    fn start(&self, info: &Value) -> Result<Process> {
        let process = Process::start(self.place.task_command(info)?)?;
        let sender = self.sender.clone();
        // A send fails if the executor is ending, which nobody needs to be told.
        process.watch(move || drop(sender.send(Event::Exited)));
        Ok(process)
    }

    fn on_started(&mut self, process: Process, info: &Value) {
        if let Some(task) = &mut self.task {
            task.process = Some(process);
        }
        let sender = self.sender.clone();
        match &self.place {
            Place::Docker(docker) => docker.watch_start(move |container| drop(sender.send(Event::Running(container)))),
            _ => self.on_running(json!({})),
        }
        self.start_checks(info);
    }

    fn on_running(&mut self, container: Value) {
        let Some(task) = &mut self.task else { return };
        task.container = container;
        if !self.is_over && !self.is_killed {
            let members = task.running();
            self.update("TASK_RUNNING", members);
        }
    }

    /// Members of a status that is not RUNNING.
    fn members(&self, message: Option<&str>) -> Value {
        self.task.as_ref().map_or_else(|| json!({}), |task| task.other(message))
    }

    // ---- its checks ----

    fn start_checks(&self, info: &Value) {
        if self.place.knows_checks() {
            self.start_check(&info["check"], Event::Checked);
        }
        self.start_check(&info["health_check"], Event::HealthChecked);
    }

    fn start_check(&self, info: &Value, event: fn(Result<Outcome>) -> Event) {
        if !info.is_object() {
            return;
        }
        let sender = self.sender.clone();
        if let Err(error) = check::start(info, &self.place, move |seen| sender.send(event(seen)).is_ok()) {
            eprintln!("the task is not checked: {error:#}");
        }
    }

    fn on_checked(&mut self, seen: &Result<Outcome>) {
        if self.is_killed || self.is_over {
            return;
        }
        let Some(task) = &mut self.task else { return };
        if task.check.as_mut().is_some_and(|check| check.is_changed_by(seen)) {
            self.tell_check("REASON_TASK_CHECK_STATUS_UPDATED");
        }
    }

    fn on_health_checked(&mut self, seen: &Result<Outcome>) {
        if self.is_killed || self.is_over {
            return;
        }
        let Some(health) = self.task.as_mut().and_then(|task| task.health.as_mut()) else { return };
        let is_healthy = seen.as_ref().is_ok_and(|outcome| outcome.is_healthy());
        if !is_healthy {
            eprintln!("health check failed: {seen:?}");
        }
        let Some(verdict) = health.take(is_healthy, Instant::now()) else { return };
        self.tell_check("REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
        if verdict == Verdict::Kill {
            self.kill(self.own_grace_period());
        }
    }

    fn tell_check(&mut self, reason: &str) {
        let Some(mut members) = self.task.as_ref().map(Task::running) else { return };
        members["reason"] = reason.into();
        self.update("TASK_RUNNING", members);
    }

    // ---- its end ----

    fn on_exit(&mut self) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process.as_mut()) else { return };
        let describe = |status| describe(self.place.noun(), status);
        let (state, message) = match process.finish() {
            Err(error) => ("TASK_FAILED", format!("Failed to get the exit status of the command: {error}")),
            // Also of one that was to be killed: so do Mesos' own command and Docker executors.
            Ok(status) if status.success() => ("TASK_FINISHED", describe(status)),
            Ok(status) if self.is_killed => ("TASK_KILLED", describe(status)),
            Ok(status) => ("TASK_FAILED", describe(status)),
        };
        if let Some(task) = &mut self.task {
            task.process = None;
        }
        if let Place::Docker(docker) = &self.place {
            docker.note_end();
        }
        self.report_end(state, &message);
    }

    fn report_end(&mut self, state: &str, message: &str) {
        eprintln!("{message}");
        self.update(state, self.members(Some(message)));
        self.is_over = true;
        self.kill_hard_at = None;
        if self.is_shutting_down {
            self.leave_at = Some(Instant::now() + SHUTDOWN_LINGER);
        }
    }

    fn on_kill(&mut self, kill: &Value) {
        let Some(task) = &self.task else {
            self.early_kill = true;
            return;
        };
        if self.is_over || task.id != kill["task_id"] {
            return;
        }
        self.kill(grace_period(&kill["kill_policy"]).unwrap_or(self.own_grace_period()));
    }

    fn own_grace_period(&self) -> Duration {
        let of_task = self.task.as_ref().and_then(|task| task.grace_period);
        of_task.unwrap_or(self.agent.settings().grace_period)
    }

    /// TERM now, KILL after the grace period. Killing again can only bring the end nearer.
    fn kill(&mut self, grace: Duration) {
        let is_first = !std::mem::replace(&mut self.is_killed, true);
        if is_first && self.announces_killing {
            self.update("TASK_KILLING", self.members(None));
        }
        if grace.is_zero() {
            self.kill_hard_at = None;
            self.kill_hard();
            return;
        }
        if is_first && let Some(process) = self.process() {
            self.place.terminate(process, grace);
        }
        let deadline = Instant::now().checked_add(grace);
        // After the deadline, KILL has been sent already, and sending it again is harmless.
        self.kill_hard_at = [self.kill_hard_at, deadline].into_iter().flatten().min();
    }

    fn process(&self) -> Option<&Process> {
        self.task.as_ref()?.process.as_ref()
    }

    fn kill_hard(&self) {
        if let Some(process) = self.process() {
            self.place.kill(process);
        }
    }

    fn shut_down(&mut self) {
        self.is_shutting_down = true;
        if self.is_over {
            self.leave_at = Some(Instant::now() + SHUTDOWN_LINGER);
        } else if self.task.is_some() {
            self.kill(self.own_grace_period());
        }
    }
}

/// Hands the agent's events on until the stream ends.
fn forward(mut records: Records, to: Sender<Event>) {
    std::thread::spawn(move || {
        let why = loop {
            match next_event(&mut records) {
                // Nobody listens if the executor is ending.
                Ok(event) => drop(to.send(event)),
                Err(error) => break error.to_string(),
            }
        };
        let _ = to.send(Event::Lost(why));
    });
}

fn next_event(records: &mut Records) -> std::io::Result<Event> {
    let record = records.next()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(Event::Agent(serde_json::from_slice(record)?))
}
