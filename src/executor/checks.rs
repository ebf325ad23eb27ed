//! When a task's check or health check is due, and what its results mean: Mesos' own rules (`health-checks.md`,
//! `src/checks/{checker,health_checker}.cpp`). Pure; the probes are [made](super::probe) elsewhere.

use std::time::{Duration, Instant};

use super::status::CheckStatus;
use super::wire::{Check, CheckKind, CommandInfo};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Longer is not told apart.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// The two kinds of checks that a task may have, beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its result is reported.
    Check,
    /// Its result is judged.
    Health,
}

/// What is looked at.
#[derive(Debug)]
pub enum Probe {
    Command(CommandInfo),
    Http { port: u16, path: String },
    Tcp { port: u16 },
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a command.
    ExitCode(i32),
    StatusCode(u16),
    Connected(bool),
    /// There is no result, and why.
    Failed(String),
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Unchanged,
    /// The result of a check has changed.
    Status(CheckStatus),
    Healthy,
    Unhealthy {
        /// Unhealthy since now.
        is_news: bool,
        /// Why the task has to end, if it has.
        fatal: Option<String>,
    },
}

/// What cannot be checked as written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckError {
    #[error("it has no type that this executor knows: COMMAND, HTTP or TCP")]
    Kind,
    #[error("its type is {kind}, but it has no `{field}`", kind = name(*.0), field = name(*.0).to_lowercase())]
    Missing(CheckKind),
    #[error("scheme {0:?} is not supported, only http")]
    Scheme(String),
    #[error("path {0:?} does not begin with /")]
    Path(String),
    #[error("{0} is negative or no number")]
    Number(&'static str),
}

/// A check of one task.
#[derive(Debug)]
pub struct Checker {
    pub probe: Probe,
    role: Role,
    kind: CheckKind,
    interval: Duration,
    timeout: Option<Duration>,
    state: State,
    last: CheckStatus,
    health: Health,
}

#[derive(Debug)]
enum State {
    /// Until then.
    Resting(Instant),
    /// A probe is out, and is given up then.
    Probing(Option<Instant>),
}

#[derive(Debug)]
struct Health {
    /// Failures before that do not count, until the first success.
    grace_until: Instant,
    has_passed: bool,
    failures: u32,
    allowed: u32,
}

/// What a [`Checker`] wants done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Probe,
    /// The probe has taken too long: it is to be ended, and this is its outcome.
    Abort(Outcome),
}

impl Checker {
    /// # Errors
    /// When it cannot be carried out.
    pub fn new(check: Check, role: Role, now: Instant) -> Result<Self, CheckError> {
        let seconds = |value: f64, name| {
            let read = Duration::try_from_secs_f64(value.min(FOREVER.as_secs_f64()));
            read.map_err(|_| CheckError::Number(name))
        };
        let delay = seconds(check.delay_seconds, "delay_seconds")?;
        let timeout = seconds(check.timeout_seconds, "timeout_seconds")?;
        let grace = seconds(check.grace_period_seconds, "grace_period_seconds")?;
        Ok(Self {
            role,
            kind: check.kind,
            interval: seconds(check.interval_seconds, "interval_seconds")?,
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
            state: State::Resting(now + delay),
            last: CheckStatus::empty(check.kind),
            health: Health { grace_until: now + grace, has_passed: false, failures: 0, allowed: check.consecutive_failures },
            probe: probe(check)?,
        })
    }

    /// The result so far, of a check.
    pub fn status(&self) -> &CheckStatus {
        &self.last
    }

    /// When it has to be looked at again.
    pub fn next(&self) -> Option<Instant> {
        match self.state {
            State::Resting(until) => Some(until),
            State::Probing(deadline) => deadline,
        }
    }

    /// A probe that was wanted is out from now on.
    pub fn due(&mut self, now: Instant) -> Due {
        match self.state {
            State::Resting(until) if until <= now => {
                self.state = State::Probing(self.timeout.map(|timeout| now + timeout));
                Due::Probe
            }
            State::Probing(Some(deadline)) if deadline <= now => {
                let seconds = self.timeout.unwrap_or_default().as_secs_f64();
                Due::Abort(Outcome::Failed(format!("no result after {seconds} s")))
            }
            _ => Due::Nothing,
        }
    }

    /// Takes the outcome of the probe that is out.
    pub fn judge(&mut self, outcome: &Outcome, now: Instant) -> Verdict {
        if !matches!(self.state, State::Probing(_)) {
            return Verdict::Unchanged;
        }
        self.state = State::Resting(now + self.interval);
        match self.role {
            Role::Check => self.report(outcome),
            Role::Health => self.health.judge(self.kind, outcome, now),
        }
    }

    fn report(&mut self, outcome: &Outcome) -> Verdict {
        let mut status = CheckStatus::empty(self.kind);
        match (outcome, &mut status) {
            (Outcome::ExitCode(code), CheckStatus { command: Some(command), .. }) => command.exit_code = Some(*code),
            (Outcome::StatusCode(code), CheckStatus { http: Some(http), .. }) => http.status_code = Some(*code),
            (Outcome::Connected(succeeded), CheckStatus { tcp: Some(tcp), .. }) => tcp.succeeded = Some(*succeeded),
            _ => {}
        }
        if status == self.last {
            return Verdict::Unchanged;
        }
        self.last = status.clone();
        Verdict::Status(status)
    }
}

impl Health {
    fn judge(&mut self, kind: CheckKind, outcome: &Outcome, now: Instant) -> Verdict {
        match failure(outcome) {
            None => self.passed(),
            Some(_) if !self.has_passed && now <= self.grace_until => Verdict::Unchanged,
            Some(why) => self.failed(kind, &why),
        }
    }

    fn passed(&mut self) -> Verdict {
        let is_news = !std::mem::replace(&mut self.has_passed, true) || self.failures > 0;
        self.failures = 0;
        if is_news { Verdict::Healthy } else { Verdict::Unchanged }
    }

    fn failed(&mut self, kind: CheckKind, why: &str) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        let times = if self.failures == 1 { "once".to_owned() } else { format!("{} times in a row", self.failures) };
        let kind = name(kind);
        let fatal = (self.failures >= self.allowed).then(|| format!("{kind} health check failed {times}: {why}"));
        Verdict::Unhealthy { is_news: self.failures == 1, fatal }
    }
}

/// As Mesos spells it.
fn name(kind: CheckKind) -> String {
    format!("{kind:?}").to_uppercase()
}

/// Why a health check counts as failed, if it does.
fn failure(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::ExitCode(0) | Outcome::StatusCode(200..400) | Outcome::Connected(true) => None,
        Outcome::ExitCode(code) => Some(format!("the command exited with status {code}")),
        Outcome::StatusCode(code) => Some(format!("the answer is {code}")),
        Outcome::Connected(false) => Some("the port does not accept connections".to_owned()),
        Outcome::Failed(why) => Some(why.clone()),
    }
}

fn probe(check: Check) -> Result<Probe, CheckError> {
    let missing = CheckError::Missing(check.kind);
    match check.kind {
        CheckKind::Command => check.command.map(Probe::Command).ok_or(missing),
        CheckKind::Tcp => check.tcp.map(|tcp| Probe::Tcp { port: tcp.port }).ok_or(missing),
        CheckKind::Http => {
            let http = check.http.ok_or(missing)?;
            if let Some(scheme) = http.scheme.filter(|scheme| scheme != "http") {
                return Err(CheckError::Scheme(scheme));
            }
            let path = http.path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(CheckError::Path(path));
            }
            Ok(Probe::Http { port: http.port, path })
        }
        CheckKind::Unknown => Err(CheckError::Kind),
    }
}
