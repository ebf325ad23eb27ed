//! Numbers of replicas as in Kubernetes' disruption budgets: `2`, or `20%` of them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// So many replicas, or so many of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Form")]
pub enum Portion {
    Count(i64),
    Percent(i64),
}

/// What a Kubernetes API server checks for us.
pub(super) const PATTERN: &str = r"^(100|[0-9]{1,2})%$";
const MOST: i64 = 100_000;

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Form {
    Whole(i64),
    Text(String),
}

impl Portion {
    /// Of this many, rounded up as in a `PodDisruptionBudget`.
    #[must_use]
    pub fn of(self, all: i64) -> i64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (all.max(0).saturating_mul(percent) + 99) / 100,
        }
    }
}

impl From<Portion> for Form {
    fn from(portion: Portion) -> Self {
        match portion {
            Portion::Count(count) => Self::Whole(count),
            Portion::Percent(percent) => Self::Text(format!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Whole(count) => Ok(Self::Count(count)),
            Form::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
                let bad = || serde::de::Error::custom(format!("'{text}' is no number of replicas: write 2 or 20%"));
                percent.map(Self::Percent).ok_or_else(bad)
            }
        }
    }
}

impl JsonSchema for Portion {
    fn schema_name() -> Cow<'static, str> {
        "Portion".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "pattern": PATTERN, "maxLength": 4, "minimum": 0, "maximum": MOST })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_rounded_up() {
        let of = |text: &str, all| serde_json::from_str::<Portion>(text).unwrap().of(all);
        assert_eq!((of("2", 1), of("\"20%\"", 11), of("\"20%\"", 10), of("\"1%\"", 0)), (2, 3, 2, 0));
        assert!(serde_json::from_str::<Portion>("\"2\"").is_err());
        assert_eq!(serde_json::to_string(&[Portion::Count(2), Portion::Percent(20)]).unwrap(), r#"[2,"20%"]"#);
    }
}
