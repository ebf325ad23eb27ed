//! Feeds the forecast of one metric: with what it is, step by step, and with what it was before this process began. What it will be is
//! reckoned up on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::board::Board;
use super::past::Past;
use crate::api::validated::{Foresight, Key};
use crate::engine::clock;
use crate::forecast::forecaster::{Forecaster, Solution};
use crate::policy::world::Millis;

/// A forecast takes no more than one part in so many of a processor.
const SHARE: u32 = 50;
/// The history is written at most this often.
const SAVE_EVERY_MS: Millis = 60_000;

/// One metric that is foreseen.
pub struct Foreseer {
    pub board: Arc<Board>,
    pub app: Key,
    pub metric: Arc<str>,
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
                next_fit = clock::now() + millis((clock::instant() - begun) * SHARE);
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
        self.board.peak(&self.app, &self.metric, clock::now().saturating_sub(self.stale_after_ms))
    }

    fn tell(&self, forecaster: &Forecaster, solution: Solution, calendar: &Calendar) {
        let begins = calendar.begins(solution.begins);
        let curve = forecaster.curve(solution, begins, calendar.step_ms);
        self.board.foresee(&self.app, &self.metric, Arc::new(curve), clock::instant());
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
        debug!(app = %self.app, metric = %self.metric, steps = forecaster.history.known().count(), "history read");
    }

    async fn remembered(&self, now: u64) -> Option<Vec<(u64, f64)>> {
        let past = self.past.as_ref()?;
        let Foresight { step_ms, steps, .. } = self.terms;
        match past.read(now.saturating_sub(step_ms * steps as u64), now, step_ms).await {
            Ok(points) => Some(points),
            Err(why) => {
                warn!(app = %self.app, metric = %self.metric, "its history cannot be read: {why}");
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
        let Some(file) = &self.file else { return };
        let line = |(step, value): (u64, f64)| format!("{},{value}\n", step * self.terms.step_ms);
        let text: String = forecaster.history.known().map(line).collect();
        if let Err(error) = write(file, &text).await {
            warn!("{}: {error}: the history of {} of {} is not kept", file.display(), self.metric, self.app);
        }
    }
}

/// Either the old text or the new one is there, whatever happens meanwhile.
async fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let new = file.with_extension("new");
    tokio::fs::write(&new, text).await?;
    tokio::fs::rename(&new, file).await
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

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
