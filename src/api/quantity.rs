//! Kubernetes-style amounts: `500m`, `2`, `64Mi`, `1.5`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount as in Kubernetes: a plain number, or one with a suffix (`m`; `k`, `M`, `G`, `T`; `Ki`, `Mi`, `Gi`, `Ti`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// The text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an amount: write a number with an optional suffix, such as 500m, 2, 64Mi or 1.5Gi")]
pub struct BadQuantity {
    pub text: String,
}

/// What a Kubernetes API server checks for us; the suffixes beyond are of no use here.
pub(super) const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// The same with a digit other than zero in it.
pub(super) const POSITIVE: &str = r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// Enough for any cluster, and the arithmetic stays exact.
const MAX_LENGTH: usize = 20;

impl Quantity {
    /// The amount in thousandths, rounded up: cores become milli-cores, bytes milli-bytes.
    ///
    /// # Errors
    /// When the text does not match the pattern of the schema.
    pub fn thousandths(&self) -> Result<i128, BadQuantity> {
        let bad = || BadQuantity { text: self.0.clone() };
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, suffix) = self.0.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let well_formed = !whole.is_empty() && !number.ends_with('.') && !fraction.contains('.') && self.0.len() <= MAX_LENGTH;
        let scale: i128 = match suffix {
            _ if !well_formed => return Err(bad()),
            "m" => 1,
            "" => 1_000,
            "k" => 1_000_000,
            "M" => 1_000_000_000,
            "G" => 1_000_000_000_000,
            "T" => 1_000_000_000_000_000,
            "Ki" => 1_000 << 10,
            "Mi" => 1_000 << 20,
            "Gi" => 1_000 << 30,
            "Ti" => 1_000 << 40,
            _ => return Err(bad()),
        };
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
        let divisor = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
        Ok((digits * scale + divisor - 1) / divisor)
    }

    /// The amount as a number: `500m` is 0.5.
    ///
    /// # Errors
    /// As [`Quantity::thousandths`].
    #[allow(clippy::cast_precision_loss)]
    pub fn number(&self) -> Result<f64, BadQuantity> {
        Ok(self.thousandths()? as f64 / 1000.0)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(i64),
            Text(String),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Whole(n) => Self(n.to_string()),
            Form::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(PATTERN, 0)
    }
}

/// The schema of an amount that may not be zero.
pub(super) fn positive(_: &mut SchemaGenerator) -> Schema {
    schema(POSITIVE, 1)
}

/// The pattern and the length hold for text, the minimum for whole numbers.
fn schema(pattern: &str, minimum: i64) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true, "pattern": pattern, "maxLength": MAX_LENGTH, "minimum": minimum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        let milli = |text: &str| Quantity::from(text).thousandths();
        assert_eq!(milli("500m"), Ok(500));
        assert_eq!(milli("2"), Ok(2_000));
        assert_eq!(milli("1.5"), Ok(1_500));
        assert_eq!(milli("64Mi"), Ok(64 * 1024 * 1024 * 1000));
        assert_eq!(milli("0.5Gi"), Ok(512 * 1024 * 1024 * 1000));
        assert_eq!(milli("1k"), Ok(1_000_000));
        assert_eq!(milli("0.0001"), Ok(1), "rounded up, never to nothing");
    }

    #[test]
    fn the_largest_amounts_stay_exact() {
        assert_eq!(Quantity::from("999999999999999999Ti").thousandths(), Ok(999_999_999_999_999_999 * (1000 << 40)));
        assert_eq!(Quantity::from("9223372036854775807").thousandths(), Ok(9_223_372_036_854_775_807_000));
        assert!(Quantity::from("9999999999999999999Ti").thousandths().is_err());
        assert_eq!(Quantity::from("0.00000000000000001").thousandths(), Ok(1));
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["", "m", "-1", "1.2.3", "1.", "1 Gi", "1Xi", "1e3"] {
            assert!(Quantity::from(text).thousandths().is_err(), "{text}");
        }
    }
}
