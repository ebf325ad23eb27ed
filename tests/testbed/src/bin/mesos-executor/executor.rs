//! The command executor itself: one task, from LAUNCH to the acknowledgement of its end. One thread owns all state here; others
//! only send it [`Event`]s.

use crate::agent::Agent;
use crate::process::{Process, describe};
use microscaler_testbed::executor::grace_period;
use microscaler_testbed::wire::Records;
use rustix::process::Signal;
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
    /// The task's process has ended.
    Exited,
}

struct Task {
    id: Value,
    grace_period: Option<Duration>,
    process: Option<Process>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Executor {
    agent: Agent,
    events: Receiver<Event>,
    sender: Sender<Event>,
    is_subscribed: bool,
    announces_killing: bool,
    task: Option<Task>,
    /// The task is to be reported as killed, however it ends.
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
    pub fn new(agent: Agent) -> Self {
        let (sender, events) = channel();
        Self {
            agent,
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
            self.signal(Signal::KILL);
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
        self.task = Some(Task { id: info["task_id"].clone(), grace_period: grace_period(&info["kill_policy"]), process: None });
        if self.early_kill {
            self.is_killed = true;
            self.report_end("TASK_KILLED", "Killed before it was launched");
            return;
        }
        self.update("TASK_STARTING", json!({}));
        let sender = self.sender.clone();
        // A send fails if the executor is ending, which nobody needs to be told.
        let started = Process::start(&info["command"], move || drop(sender.send(Event::Exited)));
        match started {
            Ok(process) => {
                self.task.as_mut().expect("set above").process = Some(process);
                self.update("TASK_RUNNING", json!({}));
            }
            Err(error) => self.report_end("TASK_FAILED", &format!("Failed to launch the command: {error}")),
        }
    }

    fn on_exit(&mut self) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process.as_mut()) else { return };
        let (state, message) = match process.finish() {
            Err(error) => ("TASK_FAILED", format!("Failed to get the exit status of the command: {error}")),
            Ok(status) if self.is_killed => ("TASK_KILLED", describe(status)),
            Ok(status) if status.success() => ("TASK_FINISHED", describe(status)),
            Ok(status) => ("TASK_FAILED", describe(status)),
        };
        if let Some(task) = &mut self.task {
            task.process = None;
        }
        self.report_end(state, &message);
    }

    fn report_end(&mut self, state: &str, message: &str) {
        eprintln!("{message}");
        self.update(state, json!({ "message": message }));
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
        let own = task.grace_period.unwrap_or(self.agent.settings().grace_period);
        self.kill(grace_period(&kill["kill_policy"]).unwrap_or(own));
    }

    /// TERM now, KILL after the grace period. Killing again can only bring the end nearer.
    fn kill(&mut self, grace: Duration) {
        let is_first = !std::mem::replace(&mut self.is_killed, true);
        if is_first && self.announces_killing {
            self.update("TASK_KILLING", json!({}));
        }
        if grace.is_zero() {
            self.kill_hard_at = None;
            self.signal(Signal::KILL);
            return;
        }
        if is_first {
            self.signal(Signal::TERM);
        }
        let deadline = Instant::now().checked_add(grace);
        // After the deadline, KILL has been sent already, and sending it again is harmless.
        self.kill_hard_at = [self.kill_hard_at, deadline].into_iter().flatten().min();
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.task.as_ref().and_then(|task| task.process.as_ref()) {
            process.signal(signal);
        }
    }

    fn shut_down(&mut self) {
        self.is_shutting_down = true;
        let Some(task) = &self.task else { return };
        if self.is_over {
            self.leave_at = Some(Instant::now() + SHUTDOWN_LINGER);
        } else {
            let grace = task.grace_period.unwrap_or(self.agent.settings().grace_period);
            self.kill(grace);
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
