//! Kubernetes' HorizontalPodAutoscaler, `autoscaling/v2`.

use serde_json::{Map, Value, json};

use super::{All, Notes, POOL, behavior, metric_name, microscaled, text_at, workload};

/// The app that an HPA comes to.
pub(super) fn app(object: &Value, all: &All, notes: &mut Notes) -> Value {
    let at = |field: &str| object.pointer(&format!("/spec/{field}")).cloned();
    let mut spec = Map::new();
    spec.insert("pool".to_owned(), json!(POOL));
    spec.insert("minReplicas".to_owned(), at("minReplicas").unwrap_or(json!(1)));
    spec.insert("maxReplicas".to_owned(), at("maxReplicas").unwrap_or(json!(100)));
    let mut demand = Vec::new();
    for metric in at("metrics").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let converted = self::metric(metric, &demand, notes);
        demand.extend(converted);
    }
    spec.insert("demand".to_owned(), demand.into());
    behavior(at("behavior").as_ref(), &mut spec, notes);
    let kind = object.pointer("/spec/scaleTargetRef/kind").and_then(Value::as_str).unwrap_or("Deployment");
    if let Some(template) = workload::template(kind, text_at(object, "/spec/scaleTargetRef/name").unwrap_or_default(), all, notes)
    {
        spec.insert("template".to_owned(), template);
    }
    microscaled(object, &spec)
}

fn metric(metric: &Value, taken: &[Value], notes: &mut Notes) -> Option<Value> {
    let kind = text_at(metric, "/type").unwrap_or_default();
    let field = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => {
            notes.add(format!("a metric of type {kind} is not known here"));
            return None;
        }
    };
    let of = metric.get(field)?;
    let name = text_at(of, "/name").or(text_at(of, "/metric/name")).unwrap_or_default();
    let (source, body) = match kind {
        "Resource" | "ContainerResource" if name == "cpu" || name == "memory" => {
            let unit = if of.pointer("/target/averageUtilization").is_some() { "Percent" } else { "Amount" };
            ("mesos", json!({"resource": name, "unit": unit}))
        }
        "Pods" => ("kubernetes", json!({"pods": with_selector(of, name, notes)})),
        "External" => ("kubernetes", json!({"external": with_selector(of, name, notes)})),
        "Object" => {
            let mut object = with_selector(of, name, notes);
            object.insert("describedObject".to_owned(), of.get("describedObject").cloned().unwrap_or_default());
            ("kubernetes", json!({"object": object}))
        }
        _ => {
            notes.add(format!("resource {name} is not measured here: only cpu and memory are"));
            return None;
        }
    };
    Some(json!({"name": metric_name(Some(name), field, taken), source: body, "target": target(of)}))
}

fn with_selector(of: &Value, name: &str, notes: &mut Notes) -> Map<String, Value> {
    let mut metric = Map::from_iter([("metricName".to_owned(), json!(name))]);
    let Some(selector) = of.pointer("/metric/selector") else { return metric };
    let labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<String> = labels.filter_map(|(label, value)| Some(format!("{label}={}", value.as_str()?))).collect();
    if selector.get("matchExpressions").is_some() {
        notes.add(format!(
            "metric {name}: matchExpressions are not carried over: write them into its selector, as for kubectl -l"
        ));
    }
    if !labels.is_empty() {
        metric.insert("selector".to_owned(), json!(labels.join(",")));
    }
    metric
}

/// One of `value`, `averageValue` and `utilization`.
fn target(of: &Value) -> Value {
    let at = |field: &str| of.pointer(&format!("/target/{field}")).cloned();
    match (at("averageUtilization"), at("averageValue"), at("value")) {
        (Some(percent), ..) => json!({"utilization": percent}),
        (None, Some(amount), _) => json!({"averageValue": amount}),
        (None, None, amount) => json!({"value": amount.unwrap_or_default()}),
    }
}
