//! The loop: what happens goes into the [`Machine`], and what it wants is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::cgroup::Cgroups;
use super::host::{Ended, Host, Input};
use super::link::{Link, News};
use super::machine::{Effect, Machine, Signal};
use super::sandbox::Sandbox;
use super::settings::Settings;
use super::spawn::raise_file_limit;
use super::wire::Event;
use super::words::Hello;
use super::{ExecutorError, Options};
use crate::engine::clock;

/// Between two looks for what is left of tasks that have ended, unless something more ends.
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);
/// Between two tries to remove the cgroups of tasks that have ended.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the lengths of logs.
const LOG_INTERVAL: Duration = Duration::from_secs(2);
/// Between the last start or end of a task and the time to make directories ready, or remove some; and between two such times.
const QUIET_INTERVAL: Duration = Duration::from_millis(50);
const FOREVER: Duration = Duration::from_hours(24);
/// For the last calls.
const FLUSH_TIME: Duration = Duration::from_millis(100);

pub struct Rim {
    machine: Machine,
    host: Host,
    link: Link,
    inputs: mpsc::UnboundedReceiver<Input>,
    children: SignalStream,
    terminate: SignalStream,
    most_log: u64,
    look_at: Instant,
    /// When directories are tidied up, unless tasks start or end before.
    tidy_at: Instant,
    /// The agent is gone, and that has been said.
    is_lost: bool,
    /// What the framework has been told of limits, while the agent is there.
    said: Option<Hello>,
}

impl Rim {
    /// # Errors
    /// When signals cannot be waited for.
    pub fn new(settings: Settings, options: &Options) -> Result<Self, ExecutorError> {
        let (sender, inputs) = mpsc::unbounded_channel();
        let (machine, link) = (Machine::new(&settings), Link::new(&settings));
        let sandbox = Sandbox::new(&settings.sandbox, options.keep_tasks);
        let cgroups = Cgroups::find(&settings);
        if let Some(why) = &cgroups.unlimited {
            tracing::warn!(why, "tasks are not held to their own limits");
        }
        Ok(Self {
            machine,
            link,
            inputs,
            host: Host::new(settings.environment, raise_file_limit(), cgroups, sandbox, sender),
            children: signal(SignalKind::child()).map_err(ExecutorError::Signals)?,
            terminate: signal(SignalKind::terminate()).map_err(ExecutorError::Signals)?,
            most_log: options.most_log,
            look_at: clock::instant(),
            tidy_at: clock::instant(),
            is_lost: false,
            said: None,
        })
    }

    /// Runs until everything is over; whether that was to be.
    pub async fn run(mut self) -> bool {
        loop {
            let now = clock::instant();
            self.machine.tick(now);
            self.keep_house(now);
            self.carry_out(now);
            self.say_what_changed();
            self.link.flush();
            if let Some(is_regular) = self.machine.is_over(now) {
                // Answers are not waited for, but the bytes have to leave.
                let _ = tokio::time::timeout(FLUSH_TIME, self.link.next()).await;
                return is_regular;
            }
            let wake = self.wake(now);
            tokio::select! {
                news = self.link.next() => self.heed(news),
                _ = self.children.recv() => self.reap(),
                Some(input) = self.inputs.recv() => self.take(input),
                _ = self.terminate.recv() => self.machine.shut_down(true, clock::instant()),
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    fn wake(&self, now: Instant) -> Instant {
        let sweep = self.host.is_sweeping().then(|| now + SWEEP_INTERVAL);
        let tidy = self.host.cgroups.has_left().then(|| now + TIDY_INTERVAL);
        let sandbox = self.host.sandbox.is_untidy().then_some(self.tidy_at);
        let look = (self.most_log > 0 && !self.host.is_empty()).then_some(self.look_at);
        [self.machine.next(), sweep, tidy, sandbox, look].into_iter().flatten().min().unwrap_or(now + FOREVER)
    }

    // ---- what happens ----

    fn heed(&mut self, news: News) {
        let now = clock::instant();
        match news {
            News::Event(event) => {
                let is_subscribed = matches!(*event, Event::Subscribed { .. });
                let wants_hello = is_subscribed || matches!(*event, Event::Message);
                self.is_lost &= !is_subscribed;
                self.machine.apply(*event, now);
                if wants_hello {
                    self.say_hello();
                }
            }
            News::Retry => self.link.open(&self.machine.told.subscribe()),
            News::Lost(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    tracing::warn!(%error, "no connection with the agent");
                }
                self.said = None;
                self.machine.lost(now);
            }
        }
    }

    fn say_hello(&mut self) {
        let hello = Hello { version: env!("CARGO_PKG_VERSION").to_owned(), unlimited: self.host.cgroups.unlimited.clone() };
        // Text can always be rendered.
        if let Ok(text) = serde_json::to_vec(&hello) {
            let call = self.machine.told.message(&text);
            self.link.push("MESSAGE", &call);
            self.said = Some(hello);
        }
    }

    /// A task may be the first that cannot be limited.
    fn say_what_changed(&mut self) {
        if self.said.as_ref().is_some_and(|said| said.unlimited != self.host.cgroups.unlimited) {
            self.say_hello();
        }
    }

    fn reap(&mut self) {
        let now = clock::instant();
        for ended in self.host.reap() {
            match ended {
                Ended::Task { id, exit, over_memory } => self.machine.exited(&id, exit, over_memory, now),
                Ended::Probe { id, role, outcome } => self.machine.probed(&id, role, &outcome, now),
            }
        }
    }

    fn take(&mut self, input: Input) {
        let now = clock::instant();
        match input {
            Input::Probed { id, role, number, outcome } => {
                if self.host.take_probe(&id, role, number) {
                    self.machine.probed(&id, role, &outcome, now);
                }
            }
            Input::OverMemory(id) => {
                // It has ended in the meantime, and for the same reason; or the whole container has run out of memory.
                let Some(why) = self.host.heed_alarm(&id) else { return };
                self.machine.over_memory(&id, why, now);
            }
        }
    }

    // ---- what is done ----

    /// Also what follows from what is done.
    fn carry_out(&mut self, now: Instant) {
        while !self.machine.effects.is_empty() || self.sweep(now) {
            for effect in std::mem::take(&mut self.machine.effects) {
                self.perform(effect, now);
            }
        }
    }

    fn perform(&mut self, effect: Effect, now: Instant) {
        if matches!(effect, Effect::Start(..) | Effect::Clear(_)) {
            self.tidy_at = now + QUIET_INTERVAL;
        }
        match effect {
            Effect::Start(id, job) => match self.host.start(&id, &job) {
                Ok(()) => self.machine.started(&id),
                Err(why) => self.machine.not_started(&id, &why, now),
            },
            Effect::Signal(id, Signal::Term) => self.host.signal(&id, rustix::process::Signal::TERM),
            Effect::Signal(id, Signal::Kill) => self.host.signal(&id, rustix::process::Signal::KILL),
            Effect::Clear(id) => self.host.clear(&id, now),
            Effect::Probe(id, role) => {
                if let Some(probe) = self.machine.probe(&id, role) {
                    self.host.probe(&id, role, probe);
                }
            }
            Effect::Abort(id, role) => self.host.abort(&id, role),
            Effect::Tell(call) => self.link.push("UPDATE", &call),
        }
    }

    /// Whether anything has come of it.
    fn sweep(&mut self, now: Instant) -> bool {
        let cleared: Vec<Arc<str>> = self.host.sweep(now);
        cleared.iter().for_each(|id| self.machine.cleared(id, now));
        !cleared.is_empty()
    }

    fn keep_house(&mut self, now: Instant) {
        if self.host.cgroups.has_left() {
            self.host.cgroups.remove(None);
        }
        if (self.tidy_at <= now && self.host.sandbox.is_untidy()) || self.host.sandbox.is_pressing() {
            self.tidy_at = now + QUIET_INTERVAL;
            self.host.sandbox.tidy();
        }
        if self.look_at <= now && self.most_log > 0 {
            self.look_at = now + LOG_INTERVAL;
            self.host.look_at_logs(self.most_log);
        }
    }
}
