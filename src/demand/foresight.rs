//! Feeds the forecast of one metric: with what it is, step by step, and with what it was before this process began. What it will be is
//! reckoned up on a thread of its own.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::Gauge;
use super::past::Past;
use crate::api::validated::Foresight;
use crate::engine::clock;
use crate::forecast::forecaster::{Forecaster, Solution};
use crate::policy::world::Millis;
use crate::store::file;

/// A forecast takes no more than one part in so many of a processor.
const SHARE: u32 = 50;
/// The history is written at most this often.
const SAVE_EVERY_MS: Millis = 60_000;

/// One metric that is foreseen.
pub struct Foreseer {
    pub gauge: Gauge,
    pub terms: Foresight,
    /// Beyond this age, a value tells nothing any more.
    pub stale_after_ms: Millis,
    /// Where its history is kept beyond the life of this process.
    pub file: Option<PathBuf>,
    /// Where else it can be read from.
    pub past: Option<Past>,
}

impl Foreseer {
    /// Goes on until dropped.
    pub async fn run(self) {
        let mut forecaster = Forecaster::of(self.terms);
        self.load(&mut forecaster).await;
        let calendar = Calendar::new(self.terms.step_ms);
        let (mut next_fit, mut next_save) = (0, clock::now() + SAVE_EVERY_MS);
        let mut step = calendar.step(clock::now());
        // What was before the first step began belongs to no step.
        let _ = self.peak();
        loop {
            sleep(Duration::from_millis(calendar.begins(step + 1).saturating_sub(clock::now()))).await;
            forecaster.came(step, self.peak());
            // This may have slept for longer.
            step = calendar.step(clock::now()).max(step + 1);
            let begun = clock::instant();
            if clock::to_millis(begun) >= next_fit {
                let problem = forecaster.problem();
                let Ok(solution) = tokio::task::spawn_blocking(move || problem.solve()).await else { return };
                next_fit = clock::now() + clock::whole_ms((clock::instant() - begun) * SHARE);
                forecaster.foresaw(&solution);
                // As long as no value has come, nothing can be said.
                if !solution.values.is_empty() {
                    self.tell(&forecaster, solution, &calendar);
                }
            }
            if clock::now() >= next_save {
                self.save(&forecaster).await;
                next_save = clock::now() + SAVE_EVERY_MS;
            }
        }
    }

    fn peak(&self) -> Option<f64> {
        self.gauge.peak(clock::now().saturating_sub(self.stale_after_ms))
    }

    fn tell(&self, forecaster: &Forecaster, solution: Solution, calendar: &Calendar) {
        let begins = calendar.begins(solution.begins);
        self.gauge.foresee(forecaster.curve(solution, begins, calendar.step_ms));
    }

    /// What was, by the metric's own source if that can tell, or else as it was written down.
    async fn load(&self, forecaster: &mut Forecaster) {
        let now = clock::wall_ms();
        let points = match self.remembered(now).await {
            Some(points) => points,
            None => self.written().await,
        };
        for (at, value) in points.into_iter().filter(|(at, _)| *at < now) {
            forecaster.history.note(at / self.terms.step_ms, Some(value));
        }
        debug!(app = %self.gauge.app, metric = %self.gauge.metric, steps = forecaster.history.known().count(), "history read");
    }

    async fn remembered(&self, now: u64) -> Option<Vec<(u64, f64)>> {
        let past = self.past.as_ref()?;
        let Foresight { step_ms, steps, .. } = self.terms;
        match past.read(now.saturating_sub(step_ms * steps as u64), now, step_ms).await {
            Ok(points) => Some(points),
            Err(why) => {
                warn!(app = %self.gauge.app, metric = %self.gauge.metric, "its history cannot be read: {why}");
                None
            }
        }
    }

    async fn written(&self) -> Vec<(u64, f64)> {
        let Some(file) = &self.file else { return Vec::new() };
        match tokio::fs::read_to_string(file).await {
            Ok(text) => text.lines().filter_map(point).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                warn!("{}: {error}: the forecast begins anew", file.display());
                Vec::new()
            }
        }
    }

    async fn save(&self, forecaster: &Forecaster) {
        let Some(path) = &self.file else { return };
        let line = |(step, value): (u64, f64)| format!("{},{value}\n", step * self.terms.step_ms);
        let text: String = forecaster.history.known().map(line).collect();
        if let Err(error) = file::replace(path, text.as_bytes()).await {
            warn!("{}: {error}: the history of {} of {} is not kept", path.display(), self.gauge.metric, self.gauge.app);
        }
    }
}

/// `milliseconds,value`, as in a trace; milliseconds are those of the wall clock since 1970.
fn point(line: &str) -> Option<(u64, f64)> {
    let (at, value) = line.split_once(',')?;
    let value = value.trim().parse().ok().filter(|value: &f64| value.is_finite())?;
    Some((at.trim().parse().ok()?, value))
}

/// When steps are: they are counted by the wall clock, and timed by the monotonic one. How both are related is looked up once: a jump of the
/// wall clock would tear the history apart.
struct Calendar {
    step_ms: Millis,
    /// Wall clock less monotonic clock.
    offset_ms: Millis,
}

impl Calendar {
    fn new(step_ms: Millis) -> Self {
        Self { step_ms, offset_ms: clock::wall_ms().saturating_sub(clock::now()) }
    }

    fn step(&self, now: Millis) -> u64 {
        (now + self.offset_ms) / self.step_ms
    }

    fn begins(&self, step: u64) -> Millis {
        (step * self.step_ms).saturating_sub(self.offset_ms)
    }
}
