//! How a metric is foreseen, in plain numbers.

use super::Invalid;
use super::amount::unsigned;
use crate::api::demand::Forecast;

/// Four weeks, as with Scryer.
const LONGEST_HISTORY_MS: u64 = 28 * 86_400_000;
const MOST_STEPS: usize = 20_000;

/// How a metric is foreseen, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foresight {
    pub horizon_ms: u64,
    /// `None`: it is found out.
    pub season_ms: Option<u64>,
    pub step_ms: u64,
    /// So many steps are kept.
    pub steps: usize,
}

/// Reads the forecast of this field.
pub(super) fn read(field: &str, forecast: &Forecast) -> Result<Foresight, Invalid> {
    let in_seconds = |seconds: i32| unsigned(seconds.into()).saturating_mul(1000);
    let horizon_ms = forecast.horizon_milliseconds.map(|ms| unsigned(ms.into())).or(forecast.horizon_seconds.map(in_seconds));
    let horizon_ms = horizon_ms.unwrap_or(0).max(1);
    let step_ms = forecast.step_milliseconds.map_or_else(|| (horizon_ms / 4).max(1000), |ms| unsigned(ms.into()));
    let history_ms = forecast.history_seconds.map_or(LONGEST_HISTORY_MS, in_seconds);
    let steps = usize::try_from(history_ms / step_ms).unwrap_or(MOST_STEPS).clamp(1, MOST_STEPS);
    let season_ms = (forecast.season != "auto").then(|| duration(&forecast.season));
    let problem = match season_ms {
        Some(season_ms) if season_ms < 2 * step_ms => {
            "a season has to be two steps long at least: name a shorter stepMilliseconds"
        }
        Some(season_ms) if season_ms.saturating_mul(2) > step_ms.saturating_mul(steps as u64) => {
            "a season has to fit into the history twice (at most 20,000 steps): name a longer stepMilliseconds or historySeconds"
        }
        _ => return Ok(Foresight { horizon_ms, season_ms, step_ms, steps }),
    };
    Err(Invalid::Field { field: format!("{field}.season"), problem: problem.to_owned() })
}

/// Such as `1h30m`; the schema has looked at its form.
fn duration(text: &str) -> u64 {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (mut rest, mut sum) = (text, 0_u64);
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, tail) = rest.split_at(end);
        let unit = units.iter().find(|(name, _)| tail.starts_with(name) && !(*name == "m" && tail.starts_with("ms")));
        let Some((name, factor)) = unit else { break };
        sum = sum.saturating_add(number.parse::<u64>().unwrap_or(0).saturating_mul(*factor));
        rest = &tail[name.len()..];
    }
    sum
}
