//! The custom resource definitions as they are installed: what the derive makes of the types, tidied where Kubernetes knows better.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{MicroscaledApp, MicroscalingPool};

/// Both definitions, in the order in which they are installed and printed.
#[must_use]
pub fn all() -> [CustomResourceDefinition; 2] {
    [app(), pool()]
}

/// The definition of `MicroscaledApp`. Not the same as `MicroscaledApp::crd()`, which is the raw form of it.
#[must_use]
pub fn app() -> CustomResourceDefinition {
    tidy(MicroscaledApp::crd())
}

/// The definition of `MicroscalingPool`. Not the same as `MicroscalingPool::crd()`, which is the raw form of it.
#[must_use]
pub fn pool() -> CustomResourceDefinition {
    tidy(MicroscalingPool::crd())
}

/// The schema of the (only) version.
#[must_use]
pub fn schema(definition: &CustomResourceDefinition) -> Value {
    let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
    serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema.as_ref())).unwrap_or_default()
}

fn tidy(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut schema = schema(&definition);
    without_nullable(&mut schema);
    if let Some(status) = schema.pointer_mut("/properties/status") {
        tidy_status(status);
    }
    // The schema came out of the same type, so it goes back in.
    let schema: Option<JSONSchemaProps> = serde_json::from_value(schema).ok();
    for version in &mut definition.spec.versions {
        version.schema = Some(CustomResourceValidation { open_api_v3_schema: schema.clone() });
    }
    definition
}

/// A field that is set to null is a field left out, as templates often write it: the API server drops nulls of fields that
/// are not nullable. With `nullable`, the rules would see a field that is there and yet is nothing.
fn without_nullable(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(without_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nullable),
        _ => {}
    }
}

/// Nothing is known before it was observed: an object without status must neither count as up to date (which kstatus would
/// conclude from a missing `observedGeneration`) nor show zeros.
fn tidy_status(status: &mut Value) {
    without_defaults(status);
    status["default"] = json!({ "observedGeneration": -1 });
    status["properties"]["observedGeneration"]["default"] = json!(-1);
    for (list, key) in [("conditions", "type"), ("demand", "name")] {
        if let Some(list) = status["properties"].get_mut(list) {
            list["x-kubernetes-list-type"] = json!("map");
            list["x-kubernetes-list-map-keys"] = json!([key]);
        }
    }
}

fn without_defaults(schema: &mut Value) {
    if let Some(map) = schema.as_object_mut() {
        map.remove("default");
        if let Some(items) = map.get_mut("items") {
            without_defaults(items);
        }
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.values_mut().for_each(without_defaults);
        }
    }
}
