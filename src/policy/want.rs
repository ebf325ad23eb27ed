//! Demand to replicas: what an app's metrics ask for together, as the Horizontal Pod Autoscaler does it. Unknown is not zero: data that is
//! missing never scales down.

use std::sync::Arc;

use super::combine::{Basis, Word, combine};
use super::fallback;
use super::plan::{Reason, Unknown};
use super::schedule;
use super::senses::Senses;
use super::target::{self, Answer, Sample, float, round_up};
use super::world::{Foreseen, Millis, Reading};
use crate::api::demand::Role;
use crate::api::status::DemandState;
use crate::api::validated::{App, Formula, Metric, TargetValue};

/// What an app's demand asks for, before damping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// Within minReplicas and maxReplicas.
    pub replicas: i64,
    /// One for each metric.
    pub states: Vec<DemandState>,
    pub reasons: Vec<Reason>,
    /// When a value goes stale.
    pub wake_at: Option<Millis>,
}

/// Where an app stands as its demand is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// What was wanted last; at first sight, what runs. HPA's `spec.replicas`.
    pub current: i64,
    /// Replicas that can serve.
    pub ready: i64,
    /// Since when its metrics could have had a value.
    pub since: Millis,
    /// How long its replicas take until they serve.
    pub start_ms: Millis,
}

/// What one metric says.
pub(super) struct Said {
    pub state: DemandState,
    /// As far as it can be believed.
    pub value: Option<f64>,
    /// How long it has been too old, or there has been none for too long.
    pub stale_ms: Option<u64>,
    pub replicas: Option<i64>,
    /// Nothing may be given up on the strength of this.
    pub holds: bool,
    pub reason: Reason,
    pub wake_at: Option<Millis>,
}

/// The replicas that an app asks for: what its metrics come to, each in its role.
pub(super) fn asked(app: &App, readings: &[Reading], standing: Standing, senses: &mut Senses, now: Millis) -> Asked {
    if app.demand.is_empty() {
        return fixed(app);
    }
    let readings = &*schedule::weighed(app, readings);
    let mut judged = |(i, metric): (usize, &Metric)| {
        let scheduled = readings.get(i).and_then(|reading| schedule::said(metric, reading));
        scheduled.unwrap_or_else(|| judge(app, i, readings, standing, senses, now))
    };
    let mut said: Vec<Said> = app.demand.iter().enumerate().map(&mut judged).collect();
    fallback::stand_in(app, &mut said, senses, now);
    let (basis, formula) = match &app.formula {
        Some(formula) => by_formula(formula, &said, standing),
        None => (Basis::Demand, None),
    };
    remember(app, &said, formula.as_ref(), senses, now);
    let words: Vec<Word> = app.demand.iter().zip(&said).map(|(metric, said)| said.word(metric)).collect();
    let combined = combine(&words, basis, standing.current);
    let replicas = combined.replicas.clamp(app.min, app.max);
    let mut reasons: Vec<Reason> = bound(app, combined.replicas).into_iter().chain(combined.reasons).collect();
    reasons.extend(formula);
    let states = said.iter().map(|said| said.state).collect();
    let wake_at = said.iter().filter_map(|said| said.wake_at).min();
    let is_told = |i: usize, said: &Said| match said.state {
        DemandState::Fresh => Some(i) == combined.winner || matches!(said.reason, Reason::Weighed { .. }),
        DemandState::Silent => combined.winner.is_none(),
        DemandState::Stale | DemandState::Failed => true,
    };
    let telling = said.into_iter().enumerate().filter(|(i, said)| is_told(*i, said));
    reasons.extend(telling.map(|(_, said)| said.reason));
    Asked { replicas, states, reasons, wake_at }
}

impl Said {
    fn word(&self, metric: &Metric) -> Word {
        let name = metric.name.clone();
        Word {
            name,
            role: metric.role,
            replicas: self.replicas,
            holds: self.holds,
            some: self.value.is_some_and(|value| value > 0.0),
        }
    }
}

/// What the formula asks for, or what stands in for it, and why.
fn by_formula(formula: &Formula, said: &[Said], standing: Standing) -> (Basis, Option<Reason>) {
    let known = |replicas, unsure| Basis::Formula { replicas: Some(replicas), unsure };
    let unknown = Basis::Formula { replicas: None, unsure: true };
    let missing = || formula.inputs().filter(|place| said[*place].value.is_none());
    if missing().next().is_some() {
        // What stands in for a value stands in for the formula as a whole.
        let stand_ins: Option<Vec<i64>> = missing().map(|place| said[place].replicas).collect();
        return (stand_ins.and_then(|all| all.into_iter().max()).map_or(unknown, |most| known(most, false)), None);
    }
    let unsure = formula.inputs().any(|place| said[place].state != DemandState::Fresh);
    let value = |place: usize| said[place].value.unwrap_or_default();
    match formula.replicas(value, [float(standing.current), float(standing.ready)]) {
        Ok(replicas) => (known(round_up(replicas), unsure), Some(Reason::Formula { replicas: round_up(replicas) })),
        Err(why) => (unknown, Some(Reason::NoFormula { why: why.into(), holding: standing.current })),
    }
}

/// Remembers what metrics ask for, or a formula by them, for when they are stale.
fn remember(app: &App, said: &[Said], formula: Option<&Reason>, senses: &mut Senses, now: Millis) {
    for (metric, said) in app.demand.iter().zip(said).filter(|(_, said)| said.value.is_some()) {
        let replicas = match (metric.role, formula) {
            (Role::Input, Some(Reason::Formula { replicas })) => Some(*replicas),
            _ => said.replicas,
        };
        if let Some(replicas) = replicas {
            senses.remember(metric, replicas, now);
        }
    }
}

/// Without metrics: a fixed count, or only the minimum where the app lives on spare room.
fn fixed(app: &App) -> Asked {
    let (count, reason) = match app.remainder {
        Some(_) => (app.min, None),
        None => (app.replicas, Some(Reason::FixedReplicas(app.replicas))),
    };
    let reasons = bound(app, count).into_iter().chain(reason).collect();
    Asked { replicas: count.clamp(app.min, app.max), states: Vec::new(), reasons, wake_at: None }
}

fn bound(app: &App, asked: i64) -> Option<Reason> {
    if asked > app.max {
        Some(Reason::AtMaximum { max: app.max, asked })
    } else if asked < app.min {
        Some(Reason::AtMinimum(app.min))
    } else {
        None
    }
}

fn judge(app: &App, index: usize, readings: &[Reading], standing: Standing, senses: &mut Senses, now: Millis) -> Said {
    let (metric, nothing) = (&app.demand[index], Reading::default());
    let reading = readings.get(index).unwrap_or(&nothing);
    let usable = reading.value.filter(|(value, _)| value.is_finite() && *value >= 0.0);
    let at = reading.value.map_or(standing.since, |(_, at)| at);
    let age = now.saturating_sub(at);
    let old = age > metric.stale_after_ms;
    let state = match (reading.value, usable) {
        _ if reading.failure.is_some() => DemandState::Failed,
        (Some(_), None) => DemandState::Failed,
        (None, _) => DemandState::Stale,
        _ if old => DemandState::Stale,
        _ => DemandState::Fresh,
    };
    let stale_ms = old.then(|| age - metric.stale_after_ms);
    let wake_at = (!old).then(|| at.checked_add(metric.stale_after_ms)?.checked_add(1)).flatten();
    let name = metric.name.clone();
    let value = usable.filter(|_| !old).map(|(value, _)| value);
    let sample = |value, at| Sample { value, at, readings, standing, now };
    let answer = usable.filter(|_| !old).map(|(value, at)| target::replicas(app, metric, sample(value, at), senses));
    let answer = answer.map(|answer| foreseen(app, metric, reading, answer, |value| sample(value, now), senses));
    let replicas = answer.as_ref().map(|answer| answer.replicas).filter(|_| metric.target != TargetValue::None);
    let wake_at = answer.as_ref().and_then(|answer| answer.wake_at).into_iter().chain(wake_at).min();
    let reason = match (state, answer) {
        (DemandState::Fresh, Some(Answer { reason, .. })) => reason,
        _ => Reason::NoData { name, state, why: why(reading, age), holding: standing.current.clamp(app.min, app.max) },
    };
    Said { state, value, stale_ms, replicas, holds: state != DemandState::Fresh, reason, wake_at }
}

/// What is asked for, or what will be within the horizon if that is more; and when the one may change to the other.
fn foreseen<'a>(
    app: &App,
    metric: &Metric,
    reading: &Reading,
    asked: Answer,
    sample: impl Fn(f64) -> Sample<'a>,
    senses: &mut Senses,
) -> Answer {
    let curve = reading.foreseen.as_ref().map(|Foreseen(curve)| curve).filter(|curve| curve.trusted);
    let (Some(curve), Some(forecast)) = (curve, metric.forecast) else { return asked };
    let Sample { standing, now, .. } = sample(0.0);
    let until = now.saturating_add(forecast.horizon_ms).saturating_add(standing.start_ms);
    let Some((value, at)) = curve.most(now, until) else { return asked };
    // A step leaves what is looked at as it ends, and one comes into it as the end of that does.
    let comes_in = curve.step_ends(until).saturating_sub(until - now);
    let wake_at = asked.wake_at.into_iter().chain([curve.step_ends(now), comes_in]).min();
    let Answer { replicas, .. } = target::replicas(app, metric, sample(value), senses);
    if replicas <= asked.replicas {
        return Answer { wake_at, ..asked };
    }
    let reason = Reason::Foreseen { name: metric.name.clone(), value, in_ms: at.saturating_sub(now), replicas };
    Answer { replicas, reason, wake_at }
}

fn why(reading: &Reading, age_ms: u64) -> Unknown {
    match (&reading.failure, reading.value) {
        (Some(failure), _) => Unknown::Failed(Arc::clone(failure)),
        (None, Some((value, _))) if !value.is_finite() || value < 0.0 => Unknown::Nonsense(value),
        (None, Some(_)) => Unknown::SilentFor { seconds: age_ms / 1000 },
        (None, None) => Unknown::NoValueYet,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{app, demand, reading};
    use super::*;
    use crate::forecast::Curve;

    const NOW: Millis = 100_000;

    fn at(current: i64) -> Standing {
        Standing { current, ready: current, since: 0, start_ms: 0 }
    }

    fn asked(app: &App, readings: &[Reading], standing: Standing, now: Millis) -> Asked {
        super::asked(app, readings, standing, &mut Senses::default(), now)
    }

    #[test]
    fn the_bounds_hold_and_are_said() {
        let app = app("a", json!({"minReplicas": 2, "maxReplicas": 5, "demand": [demand(&json!({"averageValue": 10}))]}));
        let most = asked(&app, &[reading(80.0, NOW)], at(2), NOW);
        assert_eq!((most.replicas, &most.reasons[0]), (5, &Reason::AtMaximum { max: 5, asked: 8 }));
        let least = asked(&app, &[reading(0.0, NOW)], at(2), NOW);
        assert_eq!((least.replicas, &least.reasons[0]), (2, &Reason::AtMinimum(2)));
    }

    #[test]
    fn without_metrics_the_count_is_fixed_or_spare_room() {
        assert_eq!(asked(&app("a", json!({"replicas": 7})), &[], at(1), NOW).replicas, 7);
        let spare = app("a", json!({"minReplicas": 2, "demand": [{"name": "rest", "remainder": {}}]}));
        assert_eq!(asked(&spare, &[], at(9), NOW).replicas, 2);
    }

    /// With two metrics, `load` and `depth`, of which the second is as given.
    fn with_second(fallback: Option<i64>, second: Reading, current: i64) -> Asked {
        let mut spec = json!({"demand": [
            demand(&json!({"averageValue": 1})),
            {"name": "depth", "push": {}, "target": {"averageValue": 1}, "staleAfterMilliseconds": 5000},
        ]});
        if let Some(n) = fallback {
            spec["fallback"] = json!({"replicas": n});
        }
        asked(&app("a", spec), &[reading(4.0, NOW), second], at(current), NOW)
    }

    #[test]
    fn missing_data_may_raise_but_never_lowers() {
        let failed = |value, at| Reading { failure: Some("refused".into()), ..reading(value, at) };
        assert_eq!(with_second(None, reading(6.0, NOW), 9).replicas, 6, "both are fresh");
        assert_eq!(with_second(None, failed(6.0, NOW - 10), 9).replicas, 9);
        assert_eq!(with_second(None, failed(6.0, NOW - 10), 2).replicas, 6, "a young value still counts for raising");
        assert_eq!(with_second(None, failed(6.0, NOW - 9000), 2).replicas, 4, "an old one does not, the others do");
        assert_eq!(with_second(None, reading(6.0, NOW - 9000), 9).replicas, 9);
        for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
            let asked = with_second(None, reading(nonsense, NOW), 9);
            assert_eq!((asked.replicas, asked.states[1]), (9, DemandState::Failed));
        }
    }

    #[test]
    fn a_fallback_stands_in_once_the_value_is_stale() {
        assert_eq!(with_second(Some(3), reading(6.0, NOW - 4000), 9).replicas, 6);
        let stale = with_second(Some(3), reading(6.0, NOW - 9000), 9);
        assert_eq!((stale.replicas, stale.states[1]), (4, DemandState::Stale), "3 stand in, 4 are asked for");
        assert_eq!(with_second(Some(7), Reading::default(), 9).replicas, 7, "no value has ever come");
    }

    /// A metric of 1 per replica with a horizon of 1 s, and what is asked at its value of 4 when this is foreseen in steps of 500 ms.
    fn with_forecast(values: &[f64], trusted: bool, reading: Reading) -> Asked {
        let metric = json!({"name": "load", "push": {}, "target": {"averageValue": 1}, "forecast": {"horizonSeconds": 1},
            "staleAfterMilliseconds": 5000});
        let app = app("a", json!({"demand": [metric]}));
        let curve = Curve { begins: NOW, step_ms: 500, values: values.to_vec(), trusted, error: None, seasons: Vec::new() };
        let reading = Reading { foreseen: Some(Foreseen(Arc::new(curve))), ..reading };
        asked(&app, &[reading], at(4), NOW)
    }

    #[test]
    fn what_is_foreseen_within_the_horizon_raises() {
        let raised = with_forecast(&[4.0, 9.0, 7.0, 80.0], true, reading(4.0, NOW));
        assert_eq!((raised.replicas, raised.wake_at), (9, Some(NOW + 500)));
        assert_eq!(raised.reasons[0].to_string(), "load is expected to reach 9 in 500 ms: 9 replicas");
        assert_eq!(with_forecast(&[4.0, 9.0], false, reading(4.0, NOW)).replicas, 4, "it has been wrong of late");
        assert_eq!(with_forecast(&[], true, reading(4.0, NOW)).replicas, 4);
        assert_eq!(with_forecast(&[9.0], true, reading(4.0, NOW - 9000)).replicas, 4, "what is stale holds");
    }

    #[test]
    fn what_is_foreseen_never_lowers() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..1000 {
            let curve: Vec<f64> = (0..random.usize(0..6)).map(|_| 10.0 * random.f64()).collect();
            let value = 10.0 * random.f64();
            let reactive = with_forecast(&[], true, reading(value, NOW)).replicas;
            assert!(with_forecast(&curve, random.bool(), reading(value, NOW)).replicas >= reactive, "{value} {curve:?}");
        }
    }

    #[test]
    fn until_it_says_so_what_is_foreseen_stays_the_same() {
        let metric =
            json!({"name": "load", "push": {}, "target": {"averageValue": 1}, "forecast": {"horizonMilliseconds": 1700}});
        let app = app("a", json!({"demand": [metric]}));
        let values = (0..20).map(|n| f64::from(n * 7 % 20)).collect();
        let curve = Curve { begins: NOW, step_ms: 500, values, trusted: true, error: None, seasons: Vec::new() };
        let reading = Reading { foreseen: Some(Foreseen(Arc::new(curve))), ..reading(1.0, NOW) };
        let wants = |now| asked(&app, std::slice::from_ref(&reading), Standing { start_ms: 130, ..at(1) }, now);
        let mut now = NOW;
        while now < NOW + 5000 {
            let Asked { replicas, wake_at, .. } = wants(now);
            let next = wake_at.expect("another step comes");
            let changed = (now..next).find(|later| wants(*later).replicas != replicas);
            assert_eq!(changed, None, "{replicas} from {now} to {next}");
            now = next;
        }
    }

    /// What is wanted of an app without replicas once the value of `load`, one for each, has been stale for so long, after it had been 9
    /// for 1.5 s and then 4.
    fn on_the_ladder(rungs: &serde_json::Value, stale_ms: u64, spare: Reading) -> Asked {
        let app = app(
            "a",
            json!({"fallbacks": rungs, "demand": [
                {"name": "load", "push": {}, "target": {"averageValue": 1}, "staleAfterMilliseconds": 1000},
                {"name": "spare", "push": {}, "target": {"averageValue": 1}, "role": "Input"},
            ]}),
        );
        let (mut senses, last) = (Senses::default(), NOW - stale_ms - 1000);
        for (value, at) in [(9.0, last - 1500), (4.0, last), (4.0, last + 1000)] {
            super::asked(&app, &[reading(value, at), spare.clone()], self::at(5), &mut senses, at);
        }
        super::asked(&app, &[reading(4.0, last), spare], self::at(0), &mut senses, NOW)
    }

    #[test]
    fn rungs_stand_in_one_after_the_other() {
        let rungs = json!([{"metric": "spare"}, {"lastMax": {"windowSeconds": 2}}, {"replicas": 3, "afterMilliseconds": 5000}]);
        let (none, six) = (Reading::default(), reading(6.0, NOW));
        let of = |stale_ms, spare: &Reading| on_the_ladder(&rungs, stale_ms, spare.clone()).replicas;
        assert_eq!((of(100, &six), of(100, &none), of(4999, &six), of(5000, &six)), (6, 9, 6, 3), "from nothing, too");
        let by_spare = on_the_ladder(&rungs, 100, six);
        assert_eq!(by_spare.reasons[0].to_string(), "metric load has no value: spare stands in with 6 replicas");
        assert_eq!(by_spare.wake_at, Some(NOW + 4900), "the next rung's time");
        let by_most = on_the_ladder(&rungs, 100, none.clone()).reasons[0].to_string();
        assert_eq!(by_most, "metric load has no value: the most of its last 2 s stands in with 9 replicas");
        let short = json!([{"lastMax": {"windowSeconds": 1}}]);
        assert_eq!(on_the_ladder(&short, 100, none).replicas, 4, "9 was longer ago");
    }

    #[test]
    fn before_the_first_rung_and_after_the_last_what_was_wanted_is_kept() {
        let later = json!([{"replicas": 3, "afterMilliseconds": 5000}, {"metric": "spare", "afterMilliseconds": 9000}]);
        let of = |stale_ms| on_the_ladder(&later, stale_ms, Reading::default()).replicas;
        assert_eq!((of(4999), of(5000), of(9000)), (0, 3, 0));
        let none = with_second(None, Reading::default(), 9);
        assert_eq!(none.replicas, 9);
    }

    /// By a formula of two metrics, with a veto besides.
    fn with_formula(fallback: Option<i64>, orders: Reading, migrating: f64) -> Asked {
        let mut spec = json!({"formula": "ceil(orders / 10.0) + 1.0", "demand": [
            {"name": "orders", "push": {}, "role": "Input", "staleAfterMilliseconds": 5000},
            {"name": "migrating", "push": {}, "role": "Veto"},
        ]});
        if let Some(n) = fallback {
            spec["fallback"] = json!({"replicas": n});
        }
        asked(&app("a", spec), &[orders, reading(migrating, NOW)], at(6), NOW)
    }

    #[test]
    fn a_formula_gives_the_count() {
        let by_formula = with_formula(None, reading(95.0, NOW), 0.0);
        assert_eq!((by_formula.replicas, by_formula.reasons[0].to_string().as_str()), (11, "by the formula 11 replicas"));
        assert_eq!(with_formula(None, reading(5.0, NOW), 0.0).replicas, 2);
        let vetoed = with_formula(None, reading(5.0, NOW), 1.0);
        let word = "2 asked for, nothing is given up because of migrating";
        assert_eq!((vetoed.replicas, vetoed.reasons[0].to_string().as_str()), (6, word));
    }

    #[test]
    fn a_formula_without_its_values_holds_or_falls_back() {
        assert_eq!(with_formula(None, reading(5.0, NOW - 9000), 0.0).replicas, 6);
        assert_eq!(with_formula(Some(3), reading(5.0, NOW - 9000), 0.0).replicas, 3);
        let failed = Reading { failure: Some("refused".into()), ..reading(5.0, NOW - 10) };
        assert_eq!(with_formula(None, failed.clone(), 0.0).replicas, 6);
        assert_eq!(with_formula(None, Reading { value: Some((95.0, NOW)), ..failed }, 0.0).replicas, 11);
    }

    #[test]
    fn wakes_when_the_value_goes_stale() {
        assert_eq!(with_second(None, reading(6.0, NOW - 1000), 9).wake_at, Some(NOW - 1000 + 5001));
    }

    /// A push metric with the value 40 and one replica for each 10, and a schedule that has this reading.
    fn beside(effect: &serde_json::Value, schedule: Reading, current: i64) -> Asked {
        let mut window = json!({"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *"});
        window.as_object_mut().expect("an object").extend(effect.as_object().expect("an object").clone());
        let demand = json!([demand(&json!({"averageValue": 10})), {"name": "rush", "schedule": window}]);
        asked(&app("a", json!({"minReplicas": 1, "demand": demand})), &[reading(40.0, NOW), schedule], at(current), NOW)
    }

    fn silent() -> Reading {
        Reading { silent: true, ..Reading::default() }
    }

    #[test]
    fn a_schedule_asks_in_its_window_and_is_silent_outside() {
        let seven = json!({"replicas": 7});
        let inside = beside(&seven, reading(7.0, 0), 2);
        assert_eq!(
            (inside.replicas, inside.states[1], inside.reasons[0].to_string().as_str()),
            (7, DemandState::Fresh, "7 replicas by schedule rush")
        );
        let outside = beside(&seven, silent(), 9);
        assert_eq!(
            (outside.replicas, outside.states[1], outside.reasons.len()),
            (4, DemandState::Silent, 1),
            "nor is anything held"
        );
        assert_eq!(beside(&seven, Reading::default(), 9).replicas, 9, "before it has spoken, it is not known");
    }

    #[test]
    fn with_schedules_alone_nothing_is_wanted_outside_them() {
        let spec = json!({"minReplicas": 1, "demand": [{"name": "rush",
            "schedule": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "replicas": 7}}]});
        let asked = asked(&app("a", spec), &[silent()], at(7), NOW);
        assert_eq!((asked.replicas, &asked.reasons[0]), (1, &Reason::AtMinimum(1)));
        assert_eq!(asked.reasons[1].to_string(), "rush is outside its window");
    }

    #[test]
    fn a_factor_makes_demand_count_more_or_less() {
        let twice = beside(&json!({"factor": 2}), reading(2.0, 0), 4);
        assert_eq!(twice.replicas, 8);
        assert_eq!(twice.reasons[1].to_string(), "demand counts 2 times by schedule rush");
        assert_eq!(beside(&json!({"factor": 0.5}), reading(0.5, 0), 4).replicas, 2);
        assert_eq!(beside(&json!({"factor": 2}), silent(), 4).replicas, 4);
        let curve = Curve { begins: 0, step_ms: 100, values: vec![3.0], trusted: true, error: None, seasons: Vec::new() };
        assert_eq!(curve.times(1.5).values, [4.5], "what is foreseen counts likewise");
        assert_eq!(beside(&json!({"factor": 2}), silent(), 4).wake_at, Some(NOW + 60_001), "only the other one goes stale");
    }
}
