//! What a metric was before this process began, where its source can tell: a Prometheus can.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::context::Context;
use super::prometheus::headers;
use super::web::{Web, address};
use crate::api::demand::{Prometheus, Source};

/// A Prometheus gives no more than 11,000 points of a series at once.
const AT_ONCE: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A query, and where it is asked.
pub struct Past {
    web: Web,
    /// With the query.
    url: Url,
    headers: HeaderMap,
}

impl Past {
    /// `None`: this kind of source keeps nothing of what was.
    #[must_use]
    pub fn of(context: Context, source: &Source) -> Option<Self> {
        let Source::Prometheus(spec) = source else { return None };
        Self::of_prometheus(context, spec)
    }

    fn of_prometheus(context: Context, spec: &Prometheus) -> Option<Self> {
        // The metric itself tells of what is wrong with it.
        let mut url = address(&format!("{}/api/v1/query_range", spec.server_address.trim_end_matches('/'))).ok()?;
        let web = Web::of(context, &url, spec.auth.clone(), spec.tls.clone());
        let parameters = spec.query_parameters.iter().map(|parameter| (&parameter.name, &parameter.value));
        url.query_pairs_mut().append_pair("query", &spec.query).extend_pairs(parameters);
        Some(Self { web, url, headers: headers(spec).ok()? })
    }

    /// The values from one moment until another, both in milliseconds since 1970, so many milliseconds apart; oldest first, each with its
    /// moment. Where there was none, there is none.
    ///
    /// # Errors
    /// In words, when it is not told, or not of one series.
    pub async fn read(&self, from: u64, until: u64, step_ms: u64) -> Result<Vec<(u64, f64)>, String> {
        let mut values = Vec::new();
        let mut begin = from;
        while begin < until {
            let end = until.min(begin + AT_ONCE * step_ms);
            let mut url = self.url.clone();
            url.query_pairs_mut()
                .append_pair("start", &seconds(begin))
                .append_pair("end", &seconds(end - 1))
                .append_pair("step", &seconds(step_ms));
            let answer =
                tokio::time::timeout(PATIENCE, self.web.fetch(|client| client.get(url.clone()).headers(self.headers.clone())));
            let answer = answer.await;
            let body = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
            values.extend(series(&body)?);
            begin = end;
        }
        Ok(values)
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The points of the only series of an answer; none if there is no series.
fn series(body: &[u8]) -> Result<Vec<(u64, f64)>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| format!("not an answer of Prometheus: {error}"))?;
    let all = answer.pointer("/data/result").and_then(Value::as_array).ok_or("not an answer of Prometheus: it has no result")?;
    match all.as_slice() {
        [] => Ok(Vec::new()),
        [one] => Ok(one["values"].as_array().into_iter().flatten().filter_map(point).collect()),
        several => Err(format!("the query gives {} series, not one: use sum() or max()", several.len())),
    }
}

/// Its time in seconds, and its value as text.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn point(sample: &Value) -> Option<(u64, f64)> {
    let at = sample.get(0)?.as_f64().filter(|at| *at >= 0.0)?;
    let value = sample.get(1)?.as_str()?.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(((at * 1000.0).round() as u64, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_and_what_is_none_is_left_out() {
        let result = |result: &str| series(format!(r#"{{"status": "success", "data": {{"result": {result}}}}}"#).as_bytes());
        let values = r#"[{"metric": {}, "values": [[1.5, "2"], [2, "NaN"], [3, "4e1"]]}]"#;
        assert_eq!(result(values), Ok(vec![(1500, 2.0), (3000, 40.0)]));
        assert_eq!(result("[]"), Ok(Vec::new()));
        assert_eq!(result("[{}, {}]"), Err("the query gives 2 series, not one: use sum() or max()".to_owned()));
        assert!(series(b"{}").is_err() && series(b"<html>").is_err());
        assert_eq!(seconds(1_234_005), "1234.005");
    }
}
