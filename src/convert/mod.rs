//! What others' scaling objects come to here: KEDA's ScaledObject and Kubernetes' HorizontalPodAutoscaler → `MicroscaledApp`. Pure.
//!
//! Whatever an object says is either carried over or noted: a converted app that silently does something else would be worse than none.
//!
//! | look for | in |
//! |---|---|
//! | `keda.sh/v1alpha1` ScaledObject | `scaled_object` |
//! | its triggers, one function each | `triggers` |
//! | TriggerAuthentication | `auth` |
//! | `autoscaling/v2` HorizontalPodAutoscaler | `hpa` |
//! | Deployment and StatefulSet → template | `workload` |
//! | parameters, and which of them nobody has asked for | `params` |

mod auth;
mod hpa;
mod params;
mod scaled_object;
mod triggers;
mod workload;

use serde_json::{Map, Value, json};

use crate::api::check::yaml;
use crate::api::{GROUP, VERSION};

/// The pool that converted apps name.
pub const POOL: &str = "default";

/// What a file came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Converted {
    /// Each a `MicroscaledApp`.
    pub apps: Vec<Value>,
    /// What was not carried over, or not as it was: `scaledobject/shop: …`.
    pub notes: Vec<String>,
}

/// Why a file cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("{0}")]
    Yaml(String),
    #[error("there is no ScaledObject (keda.sh/v1alpha1) and no HorizontalPodAutoscaler (autoscaling/v2) in it")]
    Nothing,
}

/// Converts the documents of a file. Deployments, StatefulSets and TriggerAuthentications among them are made use of.
///
/// # Errors
/// When it is not YAML, or holds nothing to convert.
pub fn convert(text: &str) -> Result<Converted, ConvertError> {
    let read: Result<Vec<Value>, _> = yaml::documents(text).into_iter().map(|read| read.map(|document| document.value)).collect();
    let all = All(read.map_err(|error| ConvertError::Yaml(error.to_string()))?.into_iter().flat_map(items).collect());
    let mut converted = Converted::default();
    for object in &all.0 {
        let about = match (text_at(object, "/apiVersion"), text_at(object, "/kind")) {
            (Some("keda.sh/v1alpha1"), Some("ScaledObject")) => scaled_object::app,
            (Some("autoscaling/v2"), Some("HorizontalPodAutoscaler")) => hpa::app,
            _ => continue,
        };
        let mut notes = Notes::default();
        converted.apps.push(about(object, &all, &mut notes));
        let name = format!(
            "{}/{}",
            text_at(object, "/kind").unwrap_or_default().to_lowercase(),
            text_at(object, "/metadata/name").unwrap_or_default()
        );
        converted.notes.extend(notes.0.into_iter().map(|note| format!("{name}: {note}")));
    }
    if converted.apps.is_empty() { Err(ConvertError::Nothing) } else { Ok(converted) }
}

/// What a List holds, such as `kubectl get` prints, or the object itself.
fn items(object: Value) -> Vec<Value> {
    match object.pointer("/items").and_then(Value::as_array) {
        Some(items) if text_at(&object, "/kind").is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        _ => vec![object],
    }
}

/// All objects of a file.
struct All(Vec<Value>);

impl All {
    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let is = |object: &&Value| text_at(object, "/kind") == Some(kind) && text_at(object, "/metadata/name") == Some(name);
        self.0.iter().find(is)
    }
}

/// What was not carried over.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, note: impl Into<String>) {
        self.0.push(note.into());
    }
}

/// A `MicroscaledApp` by the name of what it comes from.
fn microscaled(object: &Value, spec: Map<String, Value>) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "MicroscaledApp", "metadata": metadata, "spec": spec})
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// `behavior` is that of HPA; so are its fields.
fn behavior(hpa: Option<&Value>, spec: &mut Map<String, Value>, notes: &mut Notes) {
    match hpa {
        Some(behavior) => drop(spec.insert("behavior".to_owned(), behavior.clone())),
        None => notes.add(
            "HPA's default behavior is not carried over (down after 300 s of less, up by 4 pods or 100 % per 15 s): here it is up at once, \
             and down after 2 s; name spec.behavior for anything else",
        ),
    }
}

/// A name of a metric: what the one given comes to, or the kind of its source with a number where that is taken.
fn metric_name(given: Option<&str>, kind: &str, taken: &[Value]) -> String {
    let is_free = |name: &str| !name.is_empty() && !taken.iter().any(|metric| text_at(metric, "/name") == Some(name));
    let plain: String =
        given.unwrap_or(kind).chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain: String = plain.trim_matches('-').chars().take(60).collect();
    let numbered = (2..).map(|n| format!("{plain}-{n}"));
    std::iter::once(plain.clone()).chain(numbered).find(|name| is_free(name)).unwrap_or(plain)
}

#[cfg(test)]
mod tests;
