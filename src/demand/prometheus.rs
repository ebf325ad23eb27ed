//! Demand as the value of a query to a Prometheus.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::context::Context;
use super::poll::Query;
use super::web::{Answer, Web, address};
use crate::api::demand::Prometheus;

/// So much of what Prometheus says is shown.
const SHOWN: usize = 200;

/// Why a query gave no number.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PrometheusError {
    #[error("not an answer of Prometheus: {0}")]
    Foreign(String),
    #[error("Prometheus refuses the query: {0}")]
    Refused(String),
    #[error("the query gives {0}: it has to give a number")]
    Kind(String),
    #[error("the query gives {0} elements, not one: use sum() or max()")]
    Several(usize),
    #[error("the query gives nothing: there is no such series now; ignoreNullValues takes that for 0")]
    Empty,
    #[error("the query gives {0}, which is no amount; ignoreNullValues takes it for 0")]
    NoAmount(f64),
}

impl PrometheusError {
    /// The same without anything of the answer's text.
    fn discreet(self) -> Self {
        match self {
            Self::Refused(_) => Self::Refused("try it there".to_owned()),
            Self::Foreign(_) => Self::Foreign("is serverAddress right?".to_owned()),
            error => error,
        }
    }
}

/// A query, and where it is asked.
pub struct InstantQuery {
    web: Web,
    /// With the query.
    url: Url,
    headers: HeaderMap,
    ignore_null_values: bool,
    discreet: bool,
}

impl InstantQuery {
    /// # Errors
    /// In words, when the address is none, or a header cannot be one.
    pub fn new(context: Context, spec: &Prometheus) -> Result<Self, String> {
        let api = address(&format!("{}/api/v1/query", spec.server_address.trim_end_matches('/')));
        let mut url = api.map_err(|error| error.to_string())?;
        let discreet = context.secrets.are_discreet();
        // Errors tell the address without the query, which would fill them.
        let web = Web::of(context, &url, spec.auth.clone(), spec.tls.clone());
        let parameters = spec.query_parameters.iter().map(|parameter| (&parameter.name, &parameter.value));
        url.query_pairs_mut().append_pair("query", &spec.query).extend_pairs(parameters);
        Ok(Self { web, url, headers: headers(spec)?, ignore_null_values: spec.ignore_null_values, discreet })
    }

    fn read(&self, answer: &Answer) -> Result<f64, PrometheusError> {
        match number(&answer.body) {
            Err(PrometheusError::Empty | PrometheusError::NoAmount(_)) if self.ignore_null_values => Ok(0.0),
            Err(error) if self.discreet => Err(error.discreet()),
            read => read,
        }
    }
}

impl Query for InstantQuery {
    async fn ask(&self) -> Result<f64, String> {
        let answer = self.web.ask(|client| client.get(self.url.clone()).headers(self.headers.clone())).await?;
        // With these Prometheus says why.
        let spoken = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE];
        match self.read(&answer) {
            Err(PrometheusError::Refused(why)) if spoken.contains(&answer.status) => {
                Err(format!("{}: {}", answer.asked, PrometheusError::Refused(why)))
            }
            _ if !answer.status.is_success() => Err(self.web.refusal(&answer).to_string()),
            read => read.map_err(|error| format!("{}: {error}", answer.asked)),
        }
    }
}

fn headers(spec: &Prometheus) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in &spec.custom_headers {
        let wrong = |problem: &dyn std::fmt::Display| format!("customHeaders: {}: {problem}", header.name);
        let name: HeaderName = header.name.parse().map_err(|error| wrong(&error))?;
        headers.insert(name, HeaderValue::from_str(&header.value).map_err(|error| wrong(&error))?);
    }
    Ok(headers)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", tag = "status")]
enum Body {
    Success { data: Data },
    Error { error: String },
}

/// <https://prometheus.io/docs/prometheus/latest/querying/api/#expression-query-result-formats>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// The only number in an answer.
///
/// # Errors
/// When there is none, or more than one.
pub fn number(body: &[u8]) -> Result<f64, PrometheusError> {
    let body: Body = serde_json::from_slice(body).map_err(|error| PrometheusError::Foreign(error.to_string()))?;
    let data = match body {
        Body::Success { data } => data,
        Body::Error { error } => return Err(PrometheusError::Refused(error.chars().take(SHOWN).collect())),
    };
    match (data.result_type.as_str(), &data.result) {
        ("scalar", sample) => amount(sample),
        ("vector", Value::Array(elements)) => match elements.as_slice() {
            [] => Err(PrometheusError::Empty),
            [element] => amount(&element["value"]),
            elements => Err(PrometheusError::Several(elements.len())),
        },
        ("matrix", _) => Err(PrometheusError::Kind("a range of values for each series".to_owned())),
        ("string", _) => Err(PrometheusError::Kind("a string".to_owned())),
        (other, _) => Err(PrometheusError::Foreign(format!("a result of type {other:?}"))),
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
        number(format!(r#"{{"status": "success", "data": {{"resultType": "{kind}", "result": {result}}}}}"#).as_bytes())
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
        for foreign in ["<html>", "{}", r#"{"status": "success"}"#, r#"{"status": "success", "data": 7}"#] {
            assert!(matches!(number(foreign.as_bytes()), Err(PrometheusError::Foreign(_))), "{foreign}");
        }
        let refused = number(br#"{"status": "error", "errorType": "bad_data", "error": "unclosed left parenthesis"}"#);
        assert_eq!(refused, Err(PrometheusError::Refused("unclosed left parenthesis".to_owned())));
        assert_eq!(refused.map_err(PrometheusError::discreet), Err(PrometheusError::Refused("try it there".to_owned())));
    }
}
