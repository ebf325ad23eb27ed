//! The rhythm of sources that have to be asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often a source is asked: fast while its value moves, slowly while it stays what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Polling {
    /// Time between two polls while the value moves.
    #[serde(default = "quarter_second")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub poll_milliseconds: i64,
    /// Time between two polls when the value has not moved for a while. Default: twice pollMilliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub calm_poll_milliseconds: Option<i64>,
    /// A poll that takes longer has failed.
    #[serde(default = "second")]
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_milliseconds: i64,
}

impl Polling {
    /// The longest time between two polls.
    #[must_use]
    pub fn slowest_ms(&self) -> i64 {
        let twice = self.poll_milliseconds.saturating_mul(2);
        self.calm_poll_milliseconds.unwrap_or(twice).max(self.poll_milliseconds)
    }
}

fn quarter_second() -> i64 {
    250
}

fn second() -> i64 {
    1000
}
