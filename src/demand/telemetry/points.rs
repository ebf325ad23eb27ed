//! OTLP's messages, as far as a metric is read off them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, DataPointFlags, Metric, NumberDataPoint};
use prost::Message as _;

use super::series::{Kind, Sample, Useless};

/// What the metric's values mean, and its points.
///
/// # Errors
/// When they are not single numbers; with how many there are.
pub fn of(metric: &Metric) -> Result<(Kind, &[NumberDataPoint]), (Useless, usize)> {
    match &metric.data {
        Some(Data::Gauge(gauge)) => Ok((Kind::Gauge, &gauge.data_points)),
        Some(Data::Sum(sum)) if sum.aggregation_temporality == AggregationTemporality::Delta as i32 => {
            Ok((Kind::Delta, &sum.data_points))
        }
        Some(Data::Sum(sum)) => Ok((Kind::Cumulative { counter: sum.is_monotonic }, &sum.data_points)),
        Some(Data::Histogram(histogram)) => Err((Useless::Histogram, histogram.data_points.len())),
        Some(Data::ExponentialHistogram(histogram)) => Err((Useless::Histogram, histogram.data_points.len())),
        Some(Data::Summary(summary)) => Err((Useless::Histogram, summary.data_points.len())),
        None => Ok((Kind::Gauge, &[])),
    }
}

/// The number of a point; `None` if it says that there is none now.
///
/// # Errors
/// When it does not say so, and has none.
#[allow(clippy::cast_precision_loss)]
pub fn sample(point: &NumberDataPoint) -> Result<Option<Sample>, Useless> {
    if point.flags & DataPointFlags::NoRecordedValueMask as u32 != 0 {
        return Ok(None);
    }
    let value = match point.value {
        Some(Number::AsDouble(value)) => value,
        Some(Number::AsInt(value)) => value as f64,
        None => return Err(Useless::NoValue),
    };
    Ok(Some(Sample { start: point.start_time_unix_nano, time: point.time_unix_nano, value }))
}

/// Whether all of `wanted` is among a point's attributes, or else those of its resource.
#[must_use]
pub fn fits(wanted: &BTreeMap<String, String>, point: &[KeyValue], resource: &[KeyValue]) -> bool {
    let find = |name: &str| point.iter().chain(resource).find(|attribute| attribute.key == name);
    wanted.iter().all(|(name, value)| find(name).and_then(|found| text(found.value.as_ref()?)).as_ref() == Some(value))
}

fn text(value: &AnyValue) -> Option<String> {
    Some(match value.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        _ => return None,
    })
}

/// Tells sets of attributes apart, whatever their order.
#[must_use]
pub fn fingerprint(attributes: &[KeyValue]) -> u64 {
    let one = |attribute: &KeyValue| hash(&attribute.encode_to_vec());
    attributes.iter().map(one).fold(0, u64::wrapping_add)
}

/// Tells a series apart from all others of its metric.
#[must_use]
pub fn series(resource: u64, scope: &str, point: &[KeyValue]) -> u64 {
    let parts = [resource.to_le_bytes(), hash(scope.as_bytes()).to_le_bytes(), fingerprint(point).to_le_bytes()];
    hash(&parts.concat())
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: Value) -> KeyValue {
        KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    #[test]
    fn attributes_are_compared_as_text_a_points_own_first() {
        let point = [attribute("queue", Value::StringValue("orders".to_owned())), attribute("shard", Value::IntValue(3))];
        let resource = [attribute("queue", Value::StringValue("all".to_owned())), attribute("live", Value::BoolValue(true))];
        let fits = |wanted: &[(&str, &str)]| {
            let wanted = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            fits(&wanted, &point, &resource)
        };
        assert!(fits(&[]) && fits(&[("queue", "orders"), ("shard", "3"), ("live", "true")]));
        assert!(!fits(&[("queue", "all")]) && !fits(&[("queue", "orders"), ("shard", "4")]) && !fits(&[("other", "")]));
    }

    #[test]
    fn series_are_told_apart_whatever_the_order() {
        let [a, b] = [1, 2].map(|number| [attribute("a", Value::IntValue(number))]);
        assert_eq!(fingerprint(&[&a[..], &b].concat()), fingerprint(&[&b[..], &a].concat()));
        let ids = [series(1, "s", &a), series(2, "s", &a), series(1, "t", &a), series(1, "s", &b)];
        assert_eq!(std::collections::BTreeSet::from(ids).len(), ids.len());
    }
}
