//! How fast replicas may change, in plain numbers.

use super::amount::unsigned;
use crate::api::app::{PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};

/// Damping in one direction, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Damping {
    pub window_ms: u64,
    pub limits: Vec<RateLimit>,
    pub select: SelectPolicy,
    /// `None`: 0.1 for value and utilization, and for rate and queue on the way down; 0 else.
    pub tolerance: Option<f64>,
}

/// At most so much change per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub kind: PolicyKind,
    pub value: i64,
    pub period_ms: u64,
}

/// Reads the rules of one direction.
pub(super) fn read(rules: Option<&ScalingRules>, default_window_ms: u64) -> Damping {
    let rules = rules.cloned().unwrap_or_default();
    let in_ms = |seconds: Option<i32>, milliseconds: Option<i32>| {
        milliseconds.map(i64::from).or(seconds.map(|s| i64::from(s) * 1000)).map(unsigned)
    };
    let limit = |policy: &ScalingPolicy| RateLimit {
        kind: policy.kind,
        value: policy.value.into(),
        period_ms: in_ms(policy.period_seconds, policy.period_milliseconds).unwrap_or(1000),
    };
    Damping {
        window_ms: in_ms(rules.stabilization_window_seconds, rules.stabilization_window_milliseconds)
            .unwrap_or(default_window_ms),
        limits: rules.policies.iter().map(limit).collect(),
        select: rules.select_policy,
        tolerance: rules.tolerance,
    }
}
