//! A query of a Prometheus: where it is asked, what it answers, and its refusals in words.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::super::context::Context;
use super::super::web::{Answer, Web, address};
use crate::api::demand::Prometheus;

/// So much of what Prometheus says is shown.
const SHOWN: usize = 200;

/// Why a query did not give what it was asked for.
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

/// A query of a metric, at one path of its server's API.
pub struct ApiQuery {
    web: Web,
    /// With the query.
    url: Url,
    headers: HeaderMap,
    discreet: bool,
}

impl ApiQuery {
    /// `path` is what follows `/api/v1/`.
    ///
    /// # Errors
    /// In words, when the address is none, or a header cannot be one.
    pub fn new(context: Context, spec: &Prometheus, path: &str) -> Result<Self, String> {
        let api = address(&format!("{}/api/v1/{path}", spec.server_address.trim_end_matches('/')));
        let mut url = api.map_err(|error| error.to_string())?;
        let discreet = context.secrets.are_discreet();
        // Errors tell the address without the query, which would fill them.
        let web = Web::of(context, &url, spec.auth.clone(), spec.tls.clone());
        let parameters = spec.query_parameters.iter().map(|parameter| (&parameter.name, &parameter.value));
        url.query_pairs_mut().append_pair("query", &spec.query).extend_pairs(parameters);
        Ok(Self { web, url, headers: headers(spec)?, discreet })
    }

    /// What `read` makes of the result of the query, which is asked with these parameters besides those of the spec.
    ///
    /// # Errors
    /// In words, when there is no result, or `read` makes nothing of it.
    pub async fn ask<T>(
        &self,
        parameters: &[(&str, String)],
        read: impl FnOnce(Data) -> Result<T, PrometheusError>,
    ) -> Result<T, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        let answer = self.web.ask(|client| client.get(url.clone()).headers(self.headers.clone())).await?;
        let read = Data::of(&answer.body).and_then(read);
        self.in_words(&answer, if self.discreet { read.map_err(PrometheusError::discreet) } else { read })
    }

    fn in_words<T>(&self, answer: &Answer, read: Result<T, PrometheusError>) -> Result<T, String> {
        // With these Prometheus says why.
        let spoken = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE];
        let says_why = spoken.contains(&answer.status) && matches!(read, Err(PrometheusError::Refused(_)));
        if !answer.status.is_success() && !says_why {
            return Err(self.web.refusal(answer).to_string());
        }
        read.map_err(|error| format!("{}: {error}", answer.asked))
    }
}

/// The headers of each request.
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

/// The result of a query.
/// <https://prometheus.io/docs/prometheus/latest/querying/api/#expression-query-result-formats>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    pub result_type: String,
    pub result: Value,
}

impl Data {
    /// # Errors
    /// When the body of an answer holds none.
    pub fn of(body: &[u8]) -> Result<Self, PrometheusError> {
        match serde_json::from_slice(body).map_err(|error| PrometheusError::Foreign(error.to_string()))? {
            Body::Success { data } => Ok(data),
            Body::Error { error } => Err(PrometheusError::Refused(error.chars().take(SHOWN).collect())),
        }
    }

    /// It is of no type that this query can have.
    #[must_use]
    pub fn foreign(&self) -> PrometheusError {
        PrometheusError::Foreign(format!("a result of type {:?}", self.result_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_told() {
        let refusal = |body: &[u8]| Data::of(body).err();
        for foreign in ["<html>", "{}", r#"{"status": "success"}"#, r#"{"status": "success", "data": 7}"#] {
            assert!(matches!(refusal(foreign.as_bytes()), Some(PrometheusError::Foreign(_))), "{foreign}");
        }
        let refused = refusal(br#"{"status": "error", "errorType": "bad_data", "error": "unclosed left parenthesis"}"#);
        assert_eq!(refused, Some(PrometheusError::Refused("unclosed left parenthesis".to_owned())));
        let discreet = refused.map(PrometheusError::discreet);
        assert_eq!(discreet, Some(PrometheusError::Refused("try it there".to_owned())));
    }
}
