//! How long replicas take from their launch until they can serve, as seen with the app's own tasks.

use std::sync::Arc;

use super::claim::{is_live, is_ready};
use super::target::float;
use super::world::{Millis, Task};

/// Assumed before any start was seen.
const ASSUMED_MS: f64 = 100.0;
/// What a start weighs that took longer than those before: late replicas hurt.
const LATER: f64 = 0.5;
/// What a start weighs that took less time.
const SOONER: f64 = 0.1;

/// What is known of an app's starts.
#[derive(Clone, Debug, Default)]
pub(super) struct StartLatency {
    /// Tasks on their way up, in order of their ids.
    coming: Vec<Arc<str>>,
    ms: Option<f64>,
}

impl StartLatency {
    /// Looks at the app's tasks. It has to be called whenever some of them have changed.
    pub fn observe(&mut self, tasks: &[Task], now: Millis) {
        for task in tasks.iter().filter(|task| is_ready(task) && self.coming.binary_search(&task.id).is_ok()) {
            let took = float(i64::try_from(now.saturating_sub(task.born)).unwrap_or(i64::MAX));
            let known = self.ms.unwrap_or(took);
            self.ms = Some(known + (took - known) * if took > known { LATER } else { SOONER });
        }
        self.coming.clear();
        self.coming.extend(tasks.iter().filter(|task| is_live(task) && !is_ready(task)).map(|task| Arc::clone(&task.id)));
        self.coming.sort_unstable();
    }

    /// In milliseconds, from launch to ready.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn ms(&self) -> Millis {
        self.ms.unwrap_or(ASSUMED_MS).round() as Millis
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{app, running};
    use super::super::world::TaskPhase;
    use super::*;

    #[test]
    fn only_starts_that_were_seen_count() {
        let spec = app("a", json!({}));
        let mut latency = StartLatency::default();
        let ready = |n, born| running(&spec, n, born);
        let starting = |n, born| Task { phase: TaskPhase::Starting, ready: false, ..ready(n, born) };
        latency.observe(&[ready(1, 0), starting(2, 5000)], 5000);
        assert_eq!(latency.ms(), 100, "what ran before tells nothing");
        latency.observe(&[ready(1, 0), ready(2, 5000), starting(3, 5060)], 5060);
        assert_eq!(latency.ms(), 60);
        latency.observe(&[ready(1, 0), ready(2, 5000), ready(3, 5060)], 5320);
        assert_eq!(latency.ms(), 160, "half way to 260");
        latency.observe(&[ready(1, 0), ready(2, 5000), ready(3, 5060)], 9000);
        assert_eq!(latency.ms(), 160, "each counts once");
    }
}
