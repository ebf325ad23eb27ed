//! Demand as the value of a query to a Prometheus.

use serde_json::Value;

use super::context::Context;
use super::poll::Query;
use crate::api::demand::Prometheus;

mod api;

pub use api::{ApiQuery, Data, PrometheusError};

/// A query for what is now.
pub struct InstantQuery {
    query: ApiQuery,
    ignore_null_values: bool,
}

impl InstantQuery {
    /// # Errors
    /// In words, when the address is none, or a header cannot be one.
    pub fn new(context: Context, spec: &Prometheus) -> Result<Self, String> {
        Ok(Self { query: ApiQuery::new(context, spec, "query")?, ignore_null_values: spec.ignore_null_values })
    }

    fn read(&self, data: &Data) -> Result<f64, PrometheusError> {
        match number(data) {
            Err(PrometheusError::Empty | PrometheusError::NoAmount(_)) if self.ignore_null_values => Ok(0.0),
            read => read,
        }
    }
}

impl Query for InstantQuery {
    async fn ask(&self) -> Result<f64, String> {
        self.query.ask(&[], |data| self.read(&data)).await
    }
}

/// The only number in a result.
///
/// # Errors
/// When there is none, or more than one.
pub fn number(data: &Data) -> Result<f64, PrometheusError> {
    match (data.result_type.as_str(), &data.result) {
        ("scalar", sample) => amount(sample),
        ("vector", Value::Array(elements)) => match elements.as_slice() {
            [] => Err(PrometheusError::Empty),
            [element] => amount(&element["value"]),
            elements => Err(PrometheusError::Several(elements.len())),
        },
        ("matrix", _) => Err(PrometheusError::Kind("a range of values for each series".to_owned())),
        ("string", _) => Err(PrometheusError::Kind("a string".to_owned())),
        _ => Err(data.foreign()),
    }
}

/// Of a sample: its time, and its value as text.
fn amount(sample: &Value) -> Result<f64, PrometheusError> {
    let text = sample.get(1).and_then(Value::as_str).ok_or(PrometheusError::Empty)?;
    // As Go writes numbers, `NaN`, `+Inf` and `-Inf` included.
    let value: f64 = text.parse().map_err(|_| PrometheusError::Foreign(format!("a value {text:?}")))?;
    if value.is_finite() { Ok(value) } else { Err(PrometheusError::NoAmount(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, result: &str) -> Result<f64, PrometheusError> {
        let body = format!(r#"{{"status": "success", "data": {{"resultType": "{kind}", "result": {result}}}}}"#);
        number(&Data::of(body.as_bytes())?)
    }

    #[test]
    fn one_element_is_a_number() {
        assert_eq!(answer("scalar", r#"[1435781451.781, "1.5"]"#), Ok(1.5));
        assert_eq!(answer("vector", r#"[{"metric": {"job": "shop"}, "value": [1435781451, "1e3"]}]"#), Ok(1000.0));
    }

    #[test]
    fn anything_else_is_told() {
        let element = r#"{"metric": {}, "value": [1, "1"]}"#;
        assert_eq!(answer("vector", "[]"), Err(PrometheusError::Empty));
        assert_eq!(answer("vector", r#"[{"metric": {}, "value": []}]"#), Err(PrometheusError::Empty));
        assert_eq!(answer("vector", &format!("[{element}, {element}]")), Err(PrometheusError::Several(2)));
        assert_eq!(answer("scalar", r#"[1, "+Inf"]"#), Err(PrometheusError::NoAmount(f64::INFINITY)));
        assert!(matches!(answer("scalar", r#"[1, "NaN"]"#), Err(PrometheusError::NoAmount(value)) if value.is_nan()));
        assert!(matches!(answer("matrix", "[]"), Err(PrometheusError::Kind(_))));
        assert!(matches!(answer("string", r#"[1, "7"]"#), Err(PrometheusError::Kind(_))));
        assert!(matches!(answer("scalar", r#"[1, "many"]"#), Err(PrometheusError::Foreign(_))));
        assert!(matches!(answer("map", "{}"), Err(PrometheusError::Foreign(_))));
    }
}
