//! A metric in plain numbers.

use std::sync::Arc;

use super::Invalid;
use super::amount::unsigned;
use super::foresight::{self, Foresight};
use super::ladder::{self, Rung};
use super::target::{self, TargetValue};
use crate::api::app::MicroscaledAppSpec;
use crate::api::demand::{Role, Source};
use crate::demand::schedule::Windows;

const PUSH_STALE_AFTER_MS: u64 = 60_000;
const POLLED_STALE_AFTER_MS: u64 = 5000;
/// Two and a half times the minute after which OpenTelemetry's SDKs send.
const TELEMETRY_STALE_AFTER_MS: u64 = 150_000;

/// A metric with its target in plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: Arc<str>,
    pub source: Source,
    pub target: TargetValue,
    pub role: Role,
    /// Age in milliseconds beyond which the value is not believed. `u64::MAX`: never stale.
    pub stale_after_ms: u64,
    /// What stands in when it is stale. Empty: what was wanted last.
    pub ladder: Vec<Rung>,
    /// How it is foreseen, if it is.
    pub forecast: Option<Foresight>,
}

/// Reads the metric at `index`; `None`: it has no values.
pub(super) fn read(index: usize, spec: &MicroscaledAppSpec) -> Result<Option<Metric>, Invalid> {
    let (all, demand) = (&spec.demand, &spec.demand[index]);
    let field = |name: &str| format!("spec.demand[{index}].{name}");
    if let Source::Schedule(spec) = &demand.source {
        Windows::read(spec).map_err(|error| Invalid::Field {
            field: field(&format!("schedule.{}", error.field())),
            problem: error.to_string(),
        })?;
    }
    let target = match &demand.target {
        Some(target) => target::read(index, all, target)?,
        None => demand.has_values().then_some(TargetValue::None),
    };
    let Some(target) = target else { return Ok(None) };
    let default_stale = match (&demand.source, demand.source.polling()) {
        (_, Some(polling)) => POLLED_STALE_AFTER_MS.max(5 * unsigned(polling.slowest_ms())),
        (Source::Push(_) | Source::Redis(_), None) => PUSH_STALE_AFTER_MS,
        (Source::OpenTelemetry(_), None) => TELEMETRY_STALE_AFTER_MS,
        (_, None) => u64::MAX,
    };
    let stale_after_ms = demand.stale_after_milliseconds.map_or(default_stale, unsigned);
    let forecast = demand.forecast.as_ref().map(|forecast| foresight::read(&field("forecast"), forecast)).transpose()?;
    Ok(Some(Metric {
        name: demand.name.as_str().into(),
        source: demand.source.clone(),
        target,
        role: demand.role,
        stale_after_ms,
        ladder: ladder::read(index, spec)?,
        forecast,
    }))
}
