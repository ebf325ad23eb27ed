//! One task, from its LAUNCH until all that was left of it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::checks::{CheckError, Checker, Role};
use super::super::exit::Exit;
use super::super::status::{Reason, State, Status};
use super::super::wire::TaskInfo;

#[derive(Debug)]
pub struct Task {
    /// Its own grace period.
    pub grace: Option<Duration>,
    limit: Option<Duration>,
    /// When it will have run for too long.
    complete_by: Option<Instant>,
    pub ending: Option<Ending>,
    /// Its main process has ended.
    pub exit: Option<Exit>,
    check: Option<Box<Checker>>,
    health: Option<Box<Checker>>,
    pub healthy: Option<bool>,
}

/// Something has set out to end the task.
#[derive(Debug)]
pub struct Ending {
    pub cause: Cause,
    pub begun: Instant,
    /// When KILL follows TERM.
    pub hard_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A KILL.
    Asked,
    /// The executor's own end.
    Closing,
    Unhealthy(String),
    Overtime(Duration),
    Memory(String),
}

impl Task {
    /// # Errors
    /// When one of its checks cannot be carried out; which, and why.
    pub fn new(info: &mut TaskInfo, now: Instant) -> Result<Self, (&'static str, CheckError)> {
        let checker = |check: Option<_>, role, field| {
            let checker = check.map(|check| Checker::new(check, role, now)).transpose();
            checker.map(|checker| checker.map(Box::new)).map_err(|error| (field, error))
        };
        let limit = info.time_limit();
        Ok(Self {
            grace: info.kill_policy.grace(),
            limit,
            complete_by: limit.and_then(|limit| now.checked_add(limit)),
            ending: None,
            exit: None,
            check: checker(info.check.take(), Role::Check, "check")?,
            health: checker(info.health_check.take(), Role::Health, "health_check")?,
            healthy: None,
        })
    }

    pub fn checker(&self, role: Role) -> Option<&Checker> {
        match role {
            Role::Check => self.check.as_deref(),
            Role::Health => self.health.as_deref(),
        }
    }

    pub fn checker_mut(&mut self, role: Role) -> Option<&mut Checker> {
        match role {
            Role::Check => self.check.as_deref_mut(),
            Role::Health => self.health.as_deref_mut(),
        }
    }

    /// Nothing ends it so far.
    pub fn is_well(&self) -> bool {
        self.ending.is_none() && self.exit.is_none()
    }

    /// When something has to be done about it.
    pub fn next(&self) -> Option<Instant> {
        if self.exit.is_some() {
            return None;
        }
        if let Some(ending) = &self.ending {
            return ending.hard_at;
        }
        let checks = [Role::Check, Role::Health].into_iter().filter_map(|role| self.checker(role)?.next());
        checks.chain(self.complete_by).min()
    }

    /// How long it was allowed to run, when that is over.
    pub fn overtime(&self, now: Instant) -> Option<Duration> {
        self.complete_by.filter(|by| *by <= now && self.is_well()).and(self.limit)
    }

    /// Ends it, and says whether this is the first time. Ending it again can only bring the end nearer.
    pub fn end(&mut self, cause: Cause, grace: Duration, now: Instant) -> bool {
        let is_first = self.ending.is_none();
        let is_asked = cause == Cause::Asked;
        let ending = self.ending.get_or_insert(Ending { cause, begun: now, hard_at: None });
        if is_asked && ending.cause == Cause::Closing {
            // Whoever asks is told that it was done.
            ending.cause = Cause::Asked;
        }
        // As Mesos counts: a later grace period begins with the first kill, too.
        let hard_at = ending.begun.checked_add(grace).map(|at| at.max(now));
        // Without grace, KILL is sent right away.
        ending.hard_at = [ending.hard_at, hard_at].into_iter().flatten().min().filter(|_| !grace.is_zero());
        is_first
    }

    /// A status with what every status of a task that is checked carries.
    pub fn status(&self, id: &Arc<str>, state: State) -> Status {
        let check_status = self.check.as_ref().map(|check| check.status().clone());
        Status { healthy: self.healthy, check_status, ..Status::new(id, state) }
    }

    /// What is told of its end.
    pub fn last_status(&self, id: &Arc<str>) -> Status {
        let exit = self.exit.unwrap_or(Exit::Signal(9));
        let Some(Ending { cause, .. }) = &self.ending else {
            let state = if exit == Exit::Status(0) { State::Finished } else { State::Failed };
            return self.status(id, state).saying(exit.to_string());
        };
        let failed = |message: String| self.status(id, State::Failed).saying(message);
        match cause {
            Cause::Asked => self.status(id, State::Killed).saying(exit.to_string()),
            Cause::Closing => closed(self.status(id, State::Killed)),
            Cause::Unhealthy(why) => Status { healthy: Some(false), ..failed(format!("{why}; killed: {exit}")) },
            Cause::Overtime(limit) => {
                let seconds = limit.as_secs_f64();
                failed(format!("It has run longer than its {seconds} s")).because(Reason::MaxCompletionTimeReached)
            }
            Cause::Memory(why) => failed(why.clone()).because(Reason::ContainerLimitationMemory),
        }
    }
}

/// Nobody has asked for the end of this task: who reads on is to start it again.
pub fn closed(status: Status) -> Status {
    status.because(Reason::ExecutorUnregistered).saying("its executor was told to end")
}
