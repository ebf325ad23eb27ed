//! Demand: the metrics that say how many replicas an app wants.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;
use super::secret::Auth;

/// One metric of demand. Exactly one source is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.remainder) != has(self.target)")
    .message("a target is needed, and only remainder has none"))]
pub struct Demand {
    /// Name of the metric, unique within the app. It is part of the push address.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    #[serde(flatten)]
    pub source: Source,

    /// How a value becomes replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// A value older than this is not believed any more: the app's fallback takes over. Default: 60000 for push, 5000 for http
    /// (and never less than five polls), not used by simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub stale_after_milliseconds: Option<i64>,
}

/// Where the values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Values are pushed to Microscaler over HTTP: POST /v1/demand/NAMESPACE/APP/NAME.
    Push(Push),
    /// A generated load, to try policies and for demonstrations.
    Simulated(Simulated),
    /// A number inside a JSON document that is polled over HTTP.
    Http(Http),
    /// No metric: the app fills the room that no other app wants, and gives way to all of them.
    Remainder(Remainder),
}

/// Values are pushed to Microscaler over HTTP: POST /v1/demand/NAMESPACE/APP/NAME.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Push {}

/// The app fills the room that no other app wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remainder {
    /// Share of the spare room beside other remainder apps.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: i32,
}

fn one() -> i32 {
    1
}

/// A number inside a JSON document that is polled over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Address of the document, http or https.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?# \t\r\n]+([/?#][^ \t\r\n]*)?$"))]
    pub url: String,
    /// JSON pointer (RFC 6901) to the number, such as /queues/0/depth. Empty: the document is the number.
    #[serde(default)]
    #[schemars(length(max = 1024), regex(pattern = r"^(/.*)?$"))]
    pub pointer: String,
    /// Time between two polls.
    #[serde(default = "quarter_second")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub poll_milliseconds: i64,
    /// A poll that takes longer has failed.
    #[serde(default = "second")]
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_milliseconds: i64,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

fn quarter_second() -> i64 {
    250
}

fn second() -> i64 {
    1000
}

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

/// How a value becomes replicas, as in HPA v2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.averageValue)")
    .message("name exactly one of value and averageValue"))]
pub struct Target {
    /// Keep the metric itself at this value: the replica count is scaled by value / target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::quantity::positive")]
    pub value: Option<Quantity>,
    /// One replica per this much of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::quantity::positive")]
    pub average_value: Option<Quantity>,
}
