//! What a metric's word counts for beside those of others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a metric's word counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// It asks for replicas; of several, the one that asks for most wins.
    #[default]
    Demand,
    /// Never fewer than it asks for.
    Floor,
    /// Never more than it asks for, save minReplicas. While it is not known, nothing is added.
    Cap,
    /// While it is above 0, or not known, nothing is given up.
    Veto,
    /// It asks for nothing by itself: it is there for a formula, or for another metric.
    Input,
}
