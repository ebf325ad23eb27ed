//! Damping as HPA's `behavior` does it (k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go,
//! `stabilizeRecommendationWithBehaviors` and `convertDesiredReplicasWithBehaviorRate`), in milliseconds.

use std::collections::VecDeque;

use super::plan::Reason;
use super::world::Millis;
use crate::api::app::{PolicyKind, SelectPolicy};
use crate::api::validated::{App, Damping, RateLimit};

/// More changes than this within one period are merged, to the later time.
const MOST_CHANGES: usize = 256;

/// What damping remembers of an app: not every recommendation, only those that a window may still have to answer with.
#[derive(Clone, Debug, Default)]
pub(super) struct Damper {
    /// The last recommendation; it held until the next one.
    last: Option<i64>,
    highs: Window,
    lows: Window,
    /// Own changes of what is wanted, oldest first.
    changes: VecDeque<(Millis, i64)>,
}

/// What is wanted after damping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Damped {
    pub replicas: i64,
    pub reason: Option<Reason>,
    /// When a window or period ends.
    pub wake_at: Option<Millis>,
}

impl Damper {
    /// Damps the way from `current` (what was wanted last) to `asked`. A count without metrics is an order, and followed at once.
    pub fn settle(&mut self, app: &App, current: i64, asked: i64, now: Millis) -> Damped {
        if app.demand.is_empty() {
            *self = Self { last: Some(asked), ..Self::default() };
            return Damped { replicas: asked, reason: None, wake_at: None };
        }
        let last = self.last.replace(asked).unwrap_or(current);
        for recommendation in [last, asked] {
            self.highs.note(recommendation, now, app.down.window_ms, |newer, older| newer >= older);
            self.lows.note(recommendation, now, app.up.window_ms, |newer, older| newer <= older);
        }
        let steady = self.stabilize(app, current, asked, now);
        let limited = self.limit(app, current, steady.replicas, now);
        let replicas = limited.replicas.clamp(app.min, app.max);
        self.record(app, replicas - current, now);
        let wake_at = [steady.wake_at, limited.wake_at].into_iter().flatten().min();
        Damped { replicas, reason: limited.reason.or(steady.reason), wake_at }
    }

    fn stabilize(&self, app: &App, current: i64, asked: i64, now: Millis) -> Damped {
        let lowest = self.lows.answer().map_or(asked, |low| low.min(asked));
        let highest = self.highs.answer().map_or(asked, |high| high.max(asked));
        let replicas = if current < lowest { lowest } else { current.min(highest) };
        if replicas == asked {
            return Damped { replicas, reason: None, wake_at: None };
        }
        let up = asked > current;
        let (window, window_ms) = if up { (&self.lows, app.up.window_ms) } else { (&self.highs, app.down.window_ms) };
        let reason = Some(Reason::Stabilized { asked, window_ms, up });
        Damped { replicas, reason, wake_at: window.ends(window_ms).filter(|at| *at > now) }
    }

    fn limit(&self, app: &App, current: i64, asked: i64, now: Millis) -> Damped {
        let up = asked > current;
        let rules = if up { &app.up } else { &app.down };
        let bound = match rules.select {
            SelectPolicy::Disabled => Some(current),
            select => self.bound(rules, select, current, up, now),
        };
        let replicas = match bound {
            Some(bound) if up => asked.min(bound.max(current)),
            Some(bound) => asked.max(bound.min(current)),
            None => asked,
        };
        if replicas == asked {
            return Damped { replicas, reason: None, wake_at: None };
        }
        if rules.select == SelectPolicy::Disabled {
            return Damped { replicas, reason: Some(Reason::Disabled { asked, up }), wake_at: None };
        }
        let mut ends = rules.limits.iter().flat_map(|limit| self.changes.iter().map(|(at, _)| at + limit.period_ms));
        // A step of this very moment is over one period from now.
        let step = (replicas != current).then(|| rules.limits.iter().map(|limit| now + limit.period_ms).min()).flatten();
        let wake_at = ends.by_ref().filter(|end| *end > now).chain(step).min();
        Damped { replicas, reason: Some(Reason::RateLimited { asked, up }), wake_at }
    }

    /// How far the policies let the count go; `None` without policies.
    fn bound(&self, rules: &Damping, select: SelectPolicy, current: i64, up: bool, now: Millis) -> Option<i64> {
        let bounds = rules.limits.iter().map(|limit| {
            let start = current - self.changed(limit.period_ms, now);
            reach(limit, start, up)
        });
        // The policy that allows most change is the highest bound on the way up and the lowest on the way down.
        if up == (select == SelectPolicy::Max) { bounds.max() } else { bounds.min() }
    }

    /// The sum of own changes in the period that ends now.
    fn changed(&self, period_ms: u64, now: Millis) -> i64 {
        self.changes.iter().filter(|(at, _)| at + period_ms > now).map(|(_, change)| change).sum()
    }

    fn record(&mut self, app: &App, change: i64, now: Millis) {
        let limits = || app.up.limits.iter().chain(&app.down.limits);
        let longest = limits().map(|limit| limit.period_ms).max().unwrap_or(0);
        self.changes.retain(|(at, _)| at + longest > now);
        if change == 0 || longest == 0 {
            return;
        }
        self.changes.push_back((now, change));
        if self.changes.len() > MOST_CHANGES
            && let Some((_, oldest)) = self.changes.pop_front()
            && let Some((_, next)) = self.changes.front_mut()
        {
            *next += oldest;
        }
    }
}

/// Where a policy lets the count go from where its period started.
fn reach(limit: &RateLimit, start: i64, up: bool) -> i64 {
    match (limit.kind, up) {
        (PolicyKind::Pods, true) => start.saturating_add(limit.value),
        (PolicyKind::Pods, false) => start.saturating_sub(limit.value),
        (PolicyKind::Percent, true) => -(start.saturating_mul(-(100 + limit.value)).div_euclid(100)),
        (PolicyKind::Percent, false) => start.saturating_mul(100 - limit.value).div_euclid(100),
    }
}

/// The extreme of a sliding window: only values that no newer one outdoes, the answer first, with the last time each was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<(i64, Millis)>);

impl Window {
    pub fn note(&mut self, value: i64, now: Millis, window_ms: u64, outdoes: impl Fn(i64, i64) -> bool) {
        while self.0.back().is_some_and(|(older, _)| outdoes(value, *older)) {
            self.0.pop_back();
        }
        if window_ms > 0 {
            self.0.push_back((value, now));
        }
        while self.0.front().is_some_and(|(_, at)| at + window_ms <= now) {
            self.0.pop_front();
        }
    }

    fn answer(&self) -> Option<i64> {
        self.0.front().map(|(value, _)| *value)
    }

    /// The answer of a shorter window that ends with the last value.
    pub fn within(&self, window_ms: u64) -> Option<i64> {
        let (_, until) = self.0.back()?;
        self.0.iter().find(|(_, at)| at + window_ms > *until).map(|(value, _)| *value)
    }

    /// When the answer leaves the window.
    fn ends(&self, window_ms: u64) -> Option<Millis> {
        self.0.front().map(|(_, at)| at + window_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{app, demand};
    use super::*;

    /// Plays recommendations `(ms, asked)` and returns what is wanted after each.
    fn play(behavior: &Value, from: i64, asked: &[(Millis, i64)]) -> Vec<i64> {
        let app = app("a", json!({"demand": [demand(&json!({"averageValue": 1}))], "behavior": behavior}));
        let mut damper = Damper::default();
        let mut current = from;
        let mut settle = |&(now, asked): &(Millis, i64)| {
            current = damper.settle(&app, current, asked, now).replicas;
            current
        };
        asked.iter().map(&mut settle).collect()
    }

    #[test]
    fn by_default_up_at_once_and_down_after_two_seconds() {
        let asked = [(1000, 9), (2000, 3), (3999, 3), (4000, 3)];
        assert_eq!(play(&json!({}), 3, &asked), [9, 9, 9, 3]);
    }

    #[test]
    fn a_recommendation_holds_until_the_next_one() {
        // 9 was asked for until just before 60000, though nobody looked in between.
        assert_eq!(play(&json!({}), 9, &[(1000, 9), (60_000, 2), (61_999, 2), (62_000, 2)]), [9, 9, 9, 2]);
    }

    #[test]
    fn the_largest_of_the_window_counts_on_the_way_down() {
        let asked = [(0, 10), (500, 4), (1000, 7), (2499, 4), (2500, 4), (4499, 4), (4500, 4)];
        assert_eq!(play(&json!({}), 10, &asked), [10, 10, 10, 10, 7, 4, 4]);
    }

    #[test]
    fn the_smallest_of_the_window_counts_on_the_way_up() {
        let behavior = json!({"scaleUp": {"stabilizationWindowMilliseconds": 1000}});
        assert_eq!(play(&behavior, 2, &[(0, 8), (500, 6), (999, 9), (1000, 9), (1998, 9), (1999, 9)]), [2, 2, 2, 6, 6, 9]);
    }

    /// KEP-853's first story: "scale up as fast as possible": 900 % per minute takes 1 to 10 to 100 to 1000.
    #[test]
    fn percent_policies_compound_over_periods() {
        let behavior = json!({"scaleUp": {"policies": [{"type": "Percent", "value": 900, "periodSeconds": 60}]}});
        let asked = [(0, 1000), (30_000, 1000), (60_000, 1000), (120_000, 1000)];
        assert_eq!(play(&behavior, 1, &asked), [10, 10, 100, 1000]);
    }

    /// The documentation's example: at most 4 Pods or 10 % per minute, whichever is more: from 80 the 10 % count until 40 are left.
    #[test]
    fn of_two_policies_the_larger_change_counts() {
        let policies =
            json!([{"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]);
        let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": policies}});
        let asked: Vec<_> = (0..9).map(|minute| (minute * 60_000, 10)).collect();
        assert_eq!(play(&behavior, 80, &asked), [72, 64, 57, 51, 45, 40, 36, 32, 28]);
        let mut least = behavior;
        least["scaleDown"]["selectPolicy"] = json!("Min");
        assert_eq!(play(&least, 80, &asked[..3]), [76, 72, 68]);
    }

    #[test]
    fn small_steps_share_the_period() {
        let behavior = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodMilliseconds": 1000}]}});
        let asked = [(0, 3), (200, 6), (400, 9), (999, 9), (1000, 9), (1200, 9)];
        assert_eq!(play(&behavior, 1, &asked), [3, 5, 5, 5, 7, 9]);
    }

    #[test]
    fn a_direction_can_be_disabled() {
        let behavior = json!({"scaleDown": {"selectPolicy": "Disabled"}});
        assert_eq!(play(&behavior, 5, &[(0, 3), (9000, 3), (9001, 8), (60_000, 1)]), [5, 5, 8, 8]);
    }

    #[test]
    fn says_why_and_when_it_changes() {
        let app = app("a", json!({"demand": [demand(&json!({"averageValue": 1}))]}));
        let mut damper = Damper::default();
        let held = damper.settle(&app, 5, 3, 1000);
        assert_eq!(held.reason, Some(Reason::Stabilized { asked: 3, window_ms: 2000, up: false }));
        assert_eq!(held.wake_at, Some(3000));
    }

    #[test]
    fn memory_stays_small() {
        let limits =
            json!({"stabilizationWindowSeconds": 3600, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1800}]});
        let behavior = json!({"scaleUp": limits, "scaleDown": limits});
        let app = app("a", json!({"maxReplicas": 40, "demand": [demand(&json!({"averageValue": 1}))], "behavior": behavior}));
        let mut damper = Damper::default();
        let mut current = 20;
        for (tick, asked) in (0..40_000_u64).zip((0..40_i64).map(|n| n * 7919 % 40).cycle()) {
            current = damper.settle(&app, current, asked, tick * 100).replicas;
        }
        assert!(damper.highs.0.len() + damper.lows.0.len() <= 82 && damper.changes.len() <= MOST_CHANGES);
    }
}
