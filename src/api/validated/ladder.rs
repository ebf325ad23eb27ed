//! What stands in for a metric, in plain numbers.

use super::Invalid;
use super::amount::unsigned;
use crate::api::app::MicroscaledAppSpec;
use crate::api::demand::{Demand, Effect, Role, Schedule, Source};
use crate::api::fallback::{self, Fallback};

/// What stands in once the value has been stale for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    pub to: StandIn,
    /// Not less than that of the rung before.
    pub after_ms: u64,
}

/// What stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    Hold,
    /// The most that the metric asked for in this time before its last value.
    LastMax {
        window_ms: u64,
    },
    /// What the metric at this place in `App::demand` asks for.
    Metric(usize),
    Replicas(i64),
}

/// The ladder of the metric at `index`: its own, or else the app's where it asks for replicas, or a formula does by it. Empty: hold.
pub(super) fn read(index: usize, spec: &MicroscaledAppSpec) -> Result<Vec<Rung>, Invalid> {
    let demand = &spec.demand[index];
    let asks = match demand.role {
        Role::Demand | Role::Floor => true,
        Role::Input => spec.formula.is_some(),
        Role::Cap | Role::Veto => false,
    };
    if !demand.fallbacks.is_empty() {
        return rungs(spec, &demand.fallbacks, &format!("spec.demand[{index}].fallbacks"), Some(&demand.name));
    }
    match &spec.fallback {
        _ if !asks => Ok(Vec::new()),
        None => rungs(spec, &spec.fallbacks, "spec.fallbacks", None),
        Some(fallback) => Ok(vec![Rung { to: stand_in(spec, fallback, "spec.fallback", None)?, after_ms: 0 }]),
    }
}

fn rungs(spec: &MicroscaledAppSpec, rungs: &[fallback::Rung], field: &str, of: Option<&str>) -> Result<Vec<Rung>, Invalid> {
    let mut before = 0;
    let mut read = |(at, rung): (usize, &fallback::Rung)| {
        let after_ms = rung.after_milliseconds.map_or(before, unsigned);
        if after_ms < before {
            let problem = format!("is less than for the one before it ({before})");
            return Err(Invalid::Field { field: format!("{field}[{at}].afterMilliseconds"), problem });
        }
        before = after_ms;
        Ok(Rung { to: stand_in(spec, &rung.to, &format!("{field}[{at}]"), of)?, after_ms })
    };
    rungs.iter().enumerate().map(&mut read).collect()
}

fn stand_in(spec: &MicroscaledAppSpec, fallback: &Fallback, field: &str, of: Option<&str>) -> Result<StandIn, Invalid> {
    Ok(match fallback {
        Fallback::Hold(_) => StandIn::Hold,
        Fallback::LastMax(last) => StandIn::LastMax { window_ms: unsigned(last.window_seconds.into()).saturating_mul(1000) },
        Fallback::Metric(name) => StandIn::Metric(place(spec, name, of).map_err(|problem| {
            let field = format!("{field}.metric");
            Invalid::Field { field, problem }
        })?),
        Fallback::Replicas(replicas) => StandIn::Replicas((*replicas).into()),
    })
}

/// The place in `App::demand` of what is to stand in, or why it cannot.
fn place(spec: &MicroscaledAppSpec, name: &str, of: Option<&str>) -> Result<usize, String> {
    if of == Some(name) {
        return Err("a metric cannot stand in for itself".to_owned());
    }
    // What has no value of its own has no place in `App::demand` either.
    let mut all = spec.demand.iter().filter(|demand| demand.has_values()).enumerate();
    match all.find(|(_, demand)| demand.name == name) {
        Some((place, demand)) if has_replicas(demand) => Ok(place),
        Some(_) => Err(format!("{name} has no target, and so asks for nothing")),
        None => Err(format!("no metric of the app is called {name}")),
    }
}

fn has_replicas(demand: &Demand) -> bool {
    let scheduled = matches!(&demand.source, Source::Schedule(Schedule { effect: Effect::Replicas(_), .. }));
    scheduled || demand.target.is_some()
}
