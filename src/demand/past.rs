//! What a metric was before this process began, where its source can tell: a Prometheus can.

use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use super::prometheus::{ApiQuery, Data, PrometheusError};
use crate::api::demand::Source;

/// A Prometheus gives no more than 11,000 points of a series at once.
const AT_ONCE: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A query for what was.
pub struct Past(ApiQuery);

impl Past {
    /// `None`: this kind of source keeps nothing of what was, or cannot be asked; then the metric itself tells of what is wrong with it.
    #[must_use]
    pub fn of(context: Context, source: &Source) -> Option<Self> {
        let Source::Prometheus(spec) = source else { return None };
        ApiQuery::new(context, spec, "query_range").ok().map(Self)
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
            let range = [("start", seconds(begin)), ("end", seconds(end - 1)), ("step", seconds(step_ms))];
            let points = tokio::time::timeout(PATIENCE, self.0.ask(&range, |data| series(&data))).await;
            values.extend(points.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??);
            begin = end;
        }
        Ok(values)
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The points of the only series in a result; none if there is no series.
fn series(data: &Data) -> Result<Vec<(u64, f64)>, PrometheusError> {
    match (data.result_type.as_str(), data.result.as_array().map(Vec::as_slice)) {
        ("matrix", Some([])) => Ok(Vec::new()),
        ("matrix", Some([one])) => Ok(one["values"].as_array().into_iter().flatten().filter_map(point).collect()),
        ("matrix", Some(several)) => Err(PrometheusError::Several(several.len())),
        _ => Err(data.foreign()),
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
        let of = |kind: &str, result: &str| {
            let body = format!(r#"{{"status": "success", "data": {{"resultType": "{kind}", "result": {result}}}}}"#);
            series(&Data::of(body.as_bytes())?)
        };
        let values = r#"[{"metric": {}, "values": [[1.5, "2"], [2, "NaN"], [3, "4e1"]]}]"#;
        assert_eq!(of("matrix", values), Ok(vec![(1500, 2.0), (3000, 40.0)]));
        assert_eq!(of("matrix", "[]"), Ok(Vec::new()));
        assert_eq!(of("matrix", "[{}, {}]"), Err(PrometheusError::Several(2)));
        assert!(matches!(of("vector", "[]"), Err(PrometheusError::Foreign(_))));
        assert_eq!(seconds(1_234_005), "1234.005");
    }
}
