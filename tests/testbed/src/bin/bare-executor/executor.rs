//! Tasks and their statuses, from LAUNCH to the acknowledgement of the end.

use crate::link::{Link, ids};
use crate::task::{Task, is_nothing};
use crate::watch::{ANSWERS, EVENTS, FIRST_TASK, Watch};
use anyhow::Result;
use microscaler_testbed::executor::{Settings, grace_period, timestamp, uuid4};
use microscaler_testbed::wire::Request;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Between two attempts to subscribe, and how long a shutdown waits for acknowledgements that may never come.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const SHUTDOWN_LINGER: Duration = Duration::from_millis(200);

pub struct Executor {
    settings: Settings,
    headers: String,
    /// How every UPDATE begins.
    update_begin: String,
    pretends: bool,
    watch: Watch,
    link: Option<Link>,
    /// By number; `numbers` has them by task id.
    tasks: HashMap<u64, (Task, Option<OwnedFd>)>,
    numbers: HashMap<String, u64>,
    next_number: u64,
    /// Updates as JSON, with their uuids, oldest first, until the agent has acknowledged them.
    open_updates: Vec<(String, String)>,
    open_tasks: Map<String, Value>,
    retry_at: Option<Instant>,
    give_up_at: Option<Instant>,
    leave_at: Option<Instant>,
    is_shutting_down: bool,
}

impl Executor {
    pub fn new(settings: Settings, pretends: bool) -> Result<Self> {
        Ok(Self {
            headers: settings.headers(),
            update_begin: format!(r#"{{"type":"UPDATE",{},"update":"#, ids(&settings)),
            pretends,
            watch: Watch::new()?,
            link: None,
            tasks: HashMap::new(),
            numbers: HashMap::new(),
            next_number: FIRST_TASK,
            open_updates: Vec::new(),
            open_tasks: Map::new(),
            retry_at: None,
            give_up_at: None,
            leave_at: None,
            is_shutting_down: false,
            settings,
        })
    }

    /// Runs until the agent says SHUTDOWN or does not come back.
    pub fn run(mut self) -> Result<()> {
        self.connect();
        while !self.is_done() {
            let limit = self.next_deadline().map(|time| time.saturating_duration_since(Instant::now()));
            for number in self.watch.wait(limit)? {
                self.on_ready(number);
            }
            self.on_time(Instant::now());
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let is_told = self.is_shutting_down && self.tasks.is_empty() && self.open_updates.is_empty();
        is_told || self.leave_at.is_some_and(|time| time <= Instant::now())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let kills = self.tasks.values().filter_map(|(task, _)| task.kill_hard_at);
        kills.chain([self.retry_at, self.give_up_at, self.leave_at].into_iter().flatten()).min()
    }

    fn on_ready(&mut self, number: u64) {
        match number {
            EVENTS => match self.link.as_mut().map(Link::take_events) {
                Some(Ok(events)) => events.into_iter().for_each(|event| self.on_event(event)),
                Some(Err(error)) => self.on_lost(&error),
                None => {}
            },
            ANSWERS => {
                if let Some(Err(error)) = self.link.as_mut().map(Link::take_answers) {
                    self.on_lost(&error);
                }
            }
            number => self.on_exit(number),
        }
    }

    fn on_time(&mut self, now: Instant) {
        if self.retry_at.take_if(|time| *time <= now).is_some() {
            self.connect();
        }
        for (task, _) in self.tasks.values_mut() {
            if task.kill_hard_at.take_if(|time| *time <= now).is_some() {
                task.signal(Signal::KILL);
            }
        }
        if self.give_up_at.take_if(|time| *time <= now).is_some() {
            eprintln!("the agent has not come back in time");
            self.shut_down();
        }
    }

    // ---- the agent ----

    fn connect(&mut self) {
        let tasks: Vec<&Value> = self.open_tasks.values().collect();
        let updates: Vec<&str> = self.open_updates.iter().map(|(_, update)| update.as_str()).collect();
        let opened = Link::open(&self.settings, &self.headers, &tasks, &updates).and_then(|link| {
            let (events, answers) = link.sockets();
            self.watch.add(events, EVENTS)?;
            self.watch.add(answers, ANSWERS)?;
            Ok(link)
        });
        match opened {
            Ok(link) => {
                self.link = Some(link);
                // The first event may have come with the answer, and wakes nobody then. SUBSCRIBED always comes.
                self.on_ready(EVENTS);
            }
            Err(error) => self.on_lost(&error),
        }
    }

    fn on_lost(&mut self, why: &io::Error) {
        self.link = None;
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        if self.give_up_at.is_none() && !self.is_shutting_down {
            eprintln!("the agent is lost: {why}");
            // An agent that does not checkpoint will not know us when it comes back.
            self.give_up_at = Some(Instant::now() + self.settings.recovery_timeout.unwrap_or_default());
        }
    }

    fn on_event(&mut self, mut event: Value) {
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => (self.retry_at, self.give_up_at) = (None, None),
            "LAUNCH" => self.launch(event["launch"]["task"].take()),
            "KILL" => self.kill(&event["kill"]),
            "ACKNOWLEDGED" => self.on_acknowledged(&event["acknowledged"]),
            "SHUTDOWN" => self.shut_down(),
            _ => {}
        }
    }

    fn on_acknowledged(&mut self, acknowledged: &Value) {
        self.open_updates.retain(|(uuid, _)| acknowledged["uuid"] != **uuid);
        if let Some(task) = acknowledged["task_id"]["value"].as_str() {
            self.open_tasks.swap_remove(task);
        }
    }

    fn update(&mut self, task_id: &str, state: &str, message: Option<&str>) {
        let message = message.map(|message| format!(r#","message":{}"#, json!(message))).unwrap_or_default();
        let (uuid, time) = (uuid4(), timestamp());
        let update = format!(
            r#"{{"status":{{"task_id":{task_id},"state":"{state}","source":"SOURCE_EXECUTOR","uuid":"{uuid}","timestamp":{time}{message}}}}}"#
        );
        if let Some(link) = &mut self.link {
            let body = format!("{}{update}}}", self.update_begin);
            let request = Request { method: "POST", path: &self.settings.path, headers: &self.headers, body: body.as_bytes() };
            if let Err(error) = link.send(request) {
                // The stream will end too, and the update goes with the next SUBSCRIBE.
                eprintln!("update not sent: {error}");
            }
        }
        self.open_updates.push((uuid, update));
    }

    // ---- tasks ----

    fn launch(&mut self, info: Value) {
        let name = info["task_id"]["value"].as_str().unwrap_or_default().to_owned();
        let mut task = Task::new(name.clone(), info["task_id"].to_string(), grace_period(&info["kill_policy"]));
        if is_nothing(&info["data"]) {
            self.update(&task.id, "TASK_FINISHED", None);
            self.open_tasks.insert(name, info);
            return;
        }
        let started = if self.pretends { Ok(None) } else { task.start(&info["data"]).map(Some) };
        match started {
            Ok(descriptor) => {
                self.update(&task.id, "TASK_RUNNING", None);
                self.keep(task, descriptor);
            }
            Err(error) => self.update(&task.id, "TASK_FAILED", Some(&format!("{error:#}"))),
        }
        self.open_tasks.insert(name, info);
    }

    fn keep(&mut self, task: Task, descriptor: Option<OwnedFd>) {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(Err(error)) = descriptor.as_ref().map(|descriptor| self.watch.add(descriptor, number)) {
            eprintln!("the end of {} will not be seen: {error}", task.name);
        }
        self.numbers.insert(task.name.clone(), number);
        self.tasks.insert(number, (task, descriptor));
    }

    fn on_exit(&mut self, number: u64) {
        let Some((mut task, _)) = self.tasks.remove(&number) else { return };
        let (state, message) = task.finish();
        self.forget(&task, state, Some(&message));
    }

    fn forget(&mut self, task: &Task, state: &str, message: Option<&str>) {
        self.numbers.remove(&task.name);
        self.update(&task.id, state, message);
    }

    fn kill(&mut self, kill: &Value) {
        let number = kill["task_id"]["value"].as_str().and_then(|name| self.numbers.get(name)).copied();
        let Some((number, (task, _))) = number.and_then(|number| Some((number, self.tasks.get_mut(&number)?))) else { return };
        let own = task.grace_period.unwrap_or(self.settings.grace_period);
        end(task, grace_period(&kill["kill_policy"]).unwrap_or(own));
        self.forget_if_pretended(number);
    }

    fn forget_if_pretended(&mut self, number: u64) {
        if self.pretends
            && let Some((task, _)) = self.tasks.remove(&number)
        {
            self.forget(&task, "TASK_KILLED", None);
        }
    }

    fn shut_down(&mut self) {
        self.is_shutting_down = true;
        let numbers: Vec<u64> = self.tasks.keys().copied().collect();
        let mut longest = Duration::ZERO;
        for number in numbers {
            if let Some((task, _)) = self.tasks.get_mut(&number) {
                let grace = task.grace_period.unwrap_or(self.settings.grace_period);
                longest = longest.max(grace);
                end(task, grace);
            }
            self.forget_if_pretended(number);
        }
        self.leave_at = Instant::now().checked_add(longest + SHUTDOWN_LINGER);
    }
}

/// KILL at once, or TERM and KILL after the grace period. Killing again can only bring the end nearer.
fn end(task: &mut Task, grace: Duration) {
    let is_first = !std::mem::replace(&mut task.is_killed, true);
    if grace.is_zero() {
        task.kill_hard_at = None;
        task.signal(Signal::KILL);
        return;
    }
    if is_first {
        task.signal(Signal::TERM);
    }
    task.kill_hard_at = [task.kill_hard_at, Instant::now().checked_add(grace)].into_iter().flatten().min();
}
