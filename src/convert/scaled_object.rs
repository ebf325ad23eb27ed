//! KEDA's ScaledObject.

use serde_json::{Map, Value, json};

use super::auth::Secrets;
use super::params::Params;
use super::{All, Notes, POOL, behavior, metric_name, microscaled, text_at, triggers, workload};

/// The app that a ScaledObject comes to.
pub(super) fn app(object: &Value, all: &All, notes: &mut Notes) -> Value {
    let at = |field: &str| object.pointer(&format!("/spec/{field}")).cloned();
    let mut spec = Map::new();
    spec.insert("pool".to_owned(), json!(POOL));
    // KEDA's defaults.
    spec.insert("minReplicas".to_owned(), at("minReplicaCount").unwrap_or(json!(0)));
    spec.insert("maxReplicas".to_owned(), at("maxReplicaCount").unwrap_or(json!(100)));
    let mut demand = Vec::new();
    for trigger in at("triggers").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let Some(metric) = metric(trigger, all, notes) else { continue };
        let name = metric_name(text_at(trigger, "/name"), text_at(trigger, "/type").unwrap_or_default(), &demand);
        // Its name comes first, as people write it.
        let mut metric: Map<String, Value> = std::iter::once(("name".to_owned(), json!(name))).chain(metric).collect();
        if let Some(poll) = at("pollingInterval").as_ref().and_then(Value::as_i64) {
            slow_down(&mut metric, poll, notes);
        }
        demand.push(Value::Object(metric));
    }
    spec.insert("demand".to_owned(), demand.into());
    if let Some(replicas) = at("fallback/replicas") {
        spec.insert("fallback".to_owned(), json!({"replicas": replicas}));
    }
    if let Some(formula) = at("advanced/scalingModifiers/formula") {
        notes.add(format!(
            "the formula {formula} is KEDA's own language: write spec.formula in CEL, which gives replicas and not an amount"
        ));
    }
    behavior(at("advanced/horizontalPodAutoscalerConfig/behavior").as_ref(), &mut spec, notes);
    let target = at("scaleTargetRef/name").and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default();
    let kind =
        at("scaleTargetRef/kind").and_then(|kind| Some(kind.as_str()?.to_owned())).unwrap_or_else(|| "Deployment".to_owned());
    if let Some(template) = workload::template(&kind, &target, all, notes) {
        spec.insert("template".to_owned(), template);
    }
    for (field, why) in NOT_CARRIED_OVER {
        if let Some(value) = at(field) {
            notes.add(format!("{} {value}: {why}", field.rsplit('/').next().unwrap_or(field)));
        }
    }
    microscaled(object, &spec)
}

/// Fields that mean nothing here, and why.
const NOT_CARRIED_OVER: [(&str, &str); 6] = [
    (
        "cooldownPeriod",
        "there is no difference between the last replica and others: name behavior.scaleDown to wait before it ends",
    ),
    ("idleReplicaCount", "minReplicas counts at any time"),
    ("initialCooldownPeriod", "what runs when an app is seen first is kept until its metrics have spoken"),
    ("fallback/failureThreshold", "a metric falls back when its value is older than staleAfterMilliseconds"),
    ("fallback/behavior", "write spec.fallback"),
    ("advanced/restoreToOriginalReplicaCount", "when an app is deleted, its tasks end"),
];

/// What a trigger comes to, but for its name.
fn metric(trigger: &Value, all: &All, notes: &mut Notes) -> Option<Map<String, Value>> {
    let kind = text_at(trigger, "/type").unwrap_or_default();
    let secrets = Secrets::of(trigger, all, notes);
    let mut params = Params::new(trigger.pointer("/metadata"), &secrets);
    let mut hints = Vec::new();
    let metric_type = text_at(trigger, "/metricType").unwrap_or("AverageValue");
    let metric = triggers::metric(kind, &mut params, metric_type, &mut hints);
    let Some(mut metric) = metric else {
        notes.add(format!(
            "trigger {kind} is not known here: keep its ScaledObject, with a target of its own, and read its metric through Kubernetes: \
             kubernetes: {{external: {{metricName: …, selector: scaledobject.keda.sh/name=…}}}}"
        ));
        return None;
    };
    hints.into_iter().for_each(|hint| notes.add(format!("trigger {kind}: {hint}")));
    for name in params.rest() {
        let why = if name.starts_with("activation") {
            "an app is active when a replica is wanted"
        } else if name.ends_with("FromEnv") {
            "there is no environment to look in: name a Secret"
        } else {
            "not carried over"
        };
        notes.add(format!("trigger {kind}: {name}: {why}"));
    }
    if trigger.pointer("/useCachedMetrics").is_some() {
        notes.add(format!("trigger {kind}: useCachedMetrics: metrics are polled by pollMilliseconds"));
    }
    metric.retain(|_, value| !value.is_null());
    Some(metric)
}

/// Whoever has told KEDA how often to ask may have had a reason.
fn slow_down(metric: &mut Map<String, Value>, seconds: i64, notes: &mut Notes) {
    let asked = |kind: &&String| !matches!(kind.as_str(), "name" | "target" | "push" | "schedule" | "openTelemetry");
    let Some(kind) = metric.keys().find(asked).cloned() else { return };
    if let Some(source) = metric.get_mut(&kind).and_then(Value::as_object_mut) {
        source.insert("pollMilliseconds".to_owned(), json!(seconds.saturating_mul(1000)));
        notes.add(format!(
            "pollingInterval {seconds}: {kind} is asked as seldom; without pollMilliseconds it is asked four times a second"
        ));
    }
}
