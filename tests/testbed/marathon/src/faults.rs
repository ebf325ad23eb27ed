//! What can be made to go wrong at run time, by `POST /testbed/fault`: an address that Marathon does not have.

use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Every answer comes so much later.
    pub delay: Duration,
    /// So many updates are carried out and then answered 503.
    pub fail_after_apply: u64,
    /// Requests are taken, and not answered.
    pub is_frozen: bool,
    /// Nobody listens until then.
    pub refuses_until: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Faults(Mutex<Settings>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn get(&self) -> Settings {
        self.lock().clone()
    }

    /// `{"delay": ms, "fail_after_apply": n, "freeze": bool, "refuse": ms}`: what is not named stays.
    pub fn set(&self, wanted: &Value) {
        let mut settings = self.lock();
        let milliseconds = |name: &str| wanted[name].as_u64().map(Duration::from_millis);
        settings.delay = milliseconds("delay").unwrap_or(settings.delay);
        settings.fail_after_apply = wanted["fail_after_apply"].as_u64().unwrap_or(settings.fail_after_apply);
        settings.is_frozen = wanted["freeze"].as_bool().unwrap_or(settings.is_frozen);
        if let Some(time) = milliseconds("refuse") {
            settings.refuses_until = Some(Instant::now() + time);
        }
    }

    /// Whether this update is one of those that are answered 503.
    #[must_use]
    pub fn takes_failure(&self) -> bool {
        let mut settings = self.lock();
        let fails = settings.fail_after_apply > 0;
        settings.fail_after_apply = settings.fail_after_apply.saturating_sub(1);
        fails
    }

    /// How long nobody listens from now on, if at all.
    #[must_use]
    pub fn refusal(&self) -> Option<Duration> {
        let until = self.lock().refuses_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}
