//! KEDA's TriggerAuthentication: which Secret holds which parameter.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{All, Notes, text_at};

/// Parameters that are kept in Secrets.
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<String, Value>);

impl Secrets {
    /// Those of the authentication that a trigger refers to, which has to be among the objects.
    pub fn of(trigger: &Value, all: &All, notes: &mut Notes) -> Self {
        let Some(name) = text_at(trigger, "/authenticationRef/name") else { return Self::default() };
        let kind = text_at(trigger, "/authenticationRef/kind").unwrap_or("TriggerAuthentication");
        let Some(authentication) = all.find(kind, name) else {
            notes.add(format!("{kind} {name} is not in the file: the credentials of its trigger are missing"));
            return Self::default();
        };
        if kind != "TriggerAuthentication" {
            notes.add(format!("the Secrets of {kind} {name} are in KEDA's own namespace: copy them into the app's"));
        }
        let spec = authentication.pointer("/spec").and_then(Value::as_object);
        for way in spec.into_iter().flatten().map(|(way, _)| way).filter(|way| *way != "secretTargetRef") {
            notes.add(format!("{way} of {kind} {name}: only secretTargetRef is carried over"));
        }
        let references = authentication.pointer("/spec/secretTargetRef").and_then(Value::as_array);
        let secret = |reference: &Value| {
            let (name, key) = (text_at(reference, "/name")?, text_at(reference, "/key")?);
            Some((text_at(reference, "/parameter")?.to_owned(), json!({"secretRef": {"name": name, "key": key}})))
        };
        Self(references.into_iter().flatten().filter_map(secret).collect())
    }

    pub fn get(&self, parameter: &str) -> Option<Value> {
        self.0.get(parameter).cloned()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
