//! Windows of time; the names are those of KEDA's cron scaler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is asked for in a recurring window of time. Outside it, this metric says nothing, and the others decide. Several windows
/// are several metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Time zone of start and end, by its IANA name: Europe/London. Where its clocks skip an hour, what would start or end within it does so
    /// when the hour is over; where they repeat one, at the first time only.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^ \t\r\n]+$"))]
    pub timezone: String,
    /// When the window opens, as a cron expression of minute, hour, day of month, month and day of week: "30 7 * * mon-fri".
    #[schemars(length(min = 1, max = 256))]
    pub start: String,
    /// When it closes, written like start.
    #[schemars(length(min = 1, max = 256))]
    pub end: String,
    #[serde(flatten)]
    pub effect: Effect,
}

/// What a window asks for while it is open. Exactly one is named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// This many replicas. KEDA's desiredReplicas.
    Replicas(#[schemars(range(min = 0, max = 100_000))] i32),
    /// The other metrics of the app count this many times as much.
    Factor(#[schemars(range(min = 0.0, max = 1000.0))] f64),
}
