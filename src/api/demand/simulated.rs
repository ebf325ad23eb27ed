//! Generated loads.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A generated load. Exactly one pattern is named; the same seed gives the same load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Simulated {
    #[serde(flatten)]
    pub pattern: Pattern,
    /// Time between two values.
    #[serde(default = "tenth_of_second")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub every_milliseconds: i64,
}

fn tenth_of_second() -> i64 {
    100
}

/// The shape of a simulated load over time; time counts from when the app was first seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Pattern {
    /// A seeded random walk between two bounds, as in Force12's demonstration.
    RandomWalk(RandomWalk),
    /// A sine wave between two bounds.
    Sine(Wave),
    /// From one level to another, once.
    Step(Step),
    /// Two levels in turn, half a period each.
    Square(Wave),
    /// A base level with sudden rushes that ebb away.
    FlashCrowd(FlashCrowd),
    /// Recorded values.
    Trace(Trace),
}

/// A seeded random walk between two bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be more than max").field_path(".min"))]
pub struct RandomWalk {
    /// Lower bound.
    #[schemars(range(min = 0.0))]
    pub min: f64,
    /// Upper bound.
    #[schemars(range(min = 0.0))]
    pub max: f64,
    /// The largest change from one value to the next.
    #[schemars(range(min = 0.0))]
    pub max_step: f64,
    /// The same seed gives the same walk.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub seed: i64,
}

/// A periodic load between two levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be more than max").field_path(".min"))]
pub struct Wave {
    /// Lower level.
    #[schemars(range(min = 0.0))]
    pub min: f64,
    /// Upper level.
    #[schemars(range(min = 0.0))]
    pub max: f64,
    /// Length of one period.
    #[schemars(range(min = 20, max = 86_400_000))]
    pub period_milliseconds: i64,
}

/// From one level to another, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Level at the start.
    #[schemars(range(min = 0.0))]
    pub from: f64,
    /// Level after the step.
    #[schemars(range(min = 0.0))]
    pub to: f64,
    /// When the step comes.
    #[schemars(range(min = 0, max = 86_400_000))]
    pub after_milliseconds: i64,
}

/// A base level with sudden rushes that ebb away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.base <= self.peak").message("base must not be more than peak").field_path(".base"),
    validation = Rule::new("self.lastsMilliseconds <= self.everyMilliseconds")
        .message("a rush must not last longer than everyMilliseconds, when the next one starts")
        .field_path(".lastsMilliseconds"),
)]
pub struct FlashCrowd {
    /// Level between rushes.
    #[schemars(range(min = 0.0))]
    pub base: f64,
    /// Level at the height of a rush.
    #[schemars(range(min = 0.0))]
    pub peak: f64,
    /// Time from the start of one rush to the start of the next.
    #[schemars(range(min = 20, max = 86_400_000))]
    pub every_milliseconds: i64,
    /// How long a rush stays at its height before it halves, and halves again, in each such time.
    #[schemars(range(min = 10, max = 86_400_000))]
    pub lasts_milliseconds: i64,
}

/// Recorded values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
// Not a minimum of 0.001: an API server rounds bounds down where the value is a whole number, so 0 would pass.
#[x_kube(validation = Rule::new("self.speed > 0.0").message("speed must be more than 0").field_path(".speed"))]
pub struct Trace {
    /// Lines of `milliseconds,value` in rising order; each value holds until the next.
    #[schemars(
        length(min = 3, max = 262_144),
        regex(pattern = r"^([ \t]*[0-9]+[ \t]*,[ \t]*[0-9]+(\.[0-9]+)?[ \t\r]*(\n|$))+$")
    )]
    pub csv: String,
    /// How many times faster than recorded.
    #[serde(default = "unit")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub speed: f64,
    /// Start again at the end; otherwise the last value holds.
    #[serde(default)]
    pub repeat: bool,
}

fn unit() -> f64 {
    1.0
}
