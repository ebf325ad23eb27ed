//! The rules for `metadata`, which an API server has for all objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::Fault;
use super::structural;
use super::words;

const KNOWN: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

const SUBDOMAIN: &str = "must be lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part \
                         (a lowercase RFC 1123 subdomain)";
const LABEL: &str =
    "must be lower case letters, digits and '-', with a letter or digit at both ends (a lowercase RFC 1123 label)";
const QUALIFIED: &str = "must be a name of letters, digits, '-', '_' and '.', with a letter or digit at both ends and at most \
                         63 long, optionally after a DNS name and '/'";
const LABEL_VALUE: &str =
    "must be empty or letters, digits, '-', '_' and '.', with a letter or digit at both ends, at most 63 long";

/// Drops nulls and names the namespace, as an API server does.
pub fn complete(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if object.get("metadata").is_none_or(Value::is_null) {
        object.insert("metadata".to_owned(), Value::Object(Map::new()));
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|_, value| !value.is_null());
        metadata.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
    }
}

/// Everything that is wrong with the metadata of an object.
pub fn faults(object: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else {
        let found = words::short(object.get("metadata").unwrap_or(&Value::Null));
        return vec![Fault::new("metadata".to_owned(), format!("Invalid value: {found}: must be of type object"))];
    };
    for key in metadata.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        faults.push(structural::unknown(format!("metadata.{key}"), key, KNOWN.into_iter()));
    }
    names(metadata, &mut faults);
    words_of(metadata, "labels", &mut faults, |value| is_qualified_value(value).then_some(()).ok_or(LABEL_VALUE));
    words_of(metadata, "annotations", &mut faults, |_| Ok(()));
    if faults.is_empty()
        && let Err(error) = serde_json::from_value::<ObjectMeta>(Value::Object(metadata.clone()))
    {
        faults.push(Fault::new("metadata".to_owned(), format!("Invalid value: {error}")));
    }
    faults
}

fn names(metadata: &Map<String, Value>, faults: &mut Vec<Fault>) {
    if metadata.contains_key("generateName") {
        let message = "Forbidden: an app or a pool is known by its name, so give it one".to_owned();
        faults.push(Fault::new("metadata.generateName".to_owned(), message));
    }
    match metadata.get("name") {
        None if metadata.contains_key("generateName") => {}
        None => faults.push(Fault::new("metadata.name".to_owned(), "Required value".to_owned())),
        Some(Value::String(name)) if name.is_empty() => {
            faults.push(Fault::new("metadata.name".to_owned(), "Required value".to_owned()));
        }
        Some(name) => faults.extend(text(name, "metadata.name", is_subdomain, SUBDOMAIN)),
    }
    if let Some(namespace) = metadata.get("namespace") {
        faults.extend(text(namespace, "metadata.namespace", is_label, LABEL));
    }
}

fn text(value: &Value, field: &str, is_good: fn(&str) -> bool, rule: &str) -> Option<Fault> {
    let message = match value {
        Value::String(text) if is_good(text) => return None,
        Value::String(_) => format!("Invalid value: {}: {rule}", words::short(value)),
        _ => format!("Invalid value: {}: must be of type string: put it in quotes", words::short(value)),
    };
    Some(Fault::new(field.to_owned(), message))
}

/// Labels and annotations: keys with a form, values of text.
fn words_of(
    metadata: &Map<String, Value>,
    name: &str,
    faults: &mut Vec<Fault>,
    is_good: impl Fn(&str) -> Result<(), &'static str>,
) {
    let field = format!("metadata.{name}");
    let map = match metadata.get(name) {
        None => return,
        Some(Value::Object(map)) => map,
        Some(other) => {
            return faults.push(Fault::new(field, format!("Invalid value: {}: must be of type object", words::short(other))));
        }
    };
    for (key, value) in map {
        let field = format!("{field}[{key}]");
        if !is_qualified(key, name == "annotations") {
            faults.push(Fault::new(field.clone(), format!("Invalid value: \"{key}\": {QUALIFIED}")));
        }
        match value {
            Value::Null => {}
            Value::String(text) => {
                if let Err(rule) = is_good(text) {
                    faults.push(Fault::new(field, format!("Invalid value: {}: {rule}", words::short(value))));
                }
            }
            other => {
                let message = format!("Invalid value: {}: must be of type string: put it in quotes", words::short(other));
                faults.push(Fault::new(field, message));
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63 && text.bytes().all(inner) && ends(text, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_subdomain(text: &str) -> bool {
    // Unlike a label of its own, a part of a subdomain may be longer than 63.
    let part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && ends(part, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// The form of the keys of labels; that of annotations is the same but for case.
fn is_qualified(key: &str, any_case: bool) -> bool {
    let key = if any_case { key.to_lowercase() } else { key.to_owned() };
    let (prefix, name) = key.split_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_qualified_value(name)
}

fn is_qualified_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.is_empty() || text.len() <= 63 && text.bytes().all(inner) && ends(text, |b| b.is_ascii_alphanumeric())
}

fn ends(text: &str, is_good: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| is_good(*b)) && bytes.last().is_some_and(|b| is_good(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_dns() {
        assert!(is_subdomain("a") && is_subdomain("a-b.c1"));
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(is_label("a-1") && !is_label("a.b") && !is_label(&"a".repeat(64)));
        assert!(is_qualified("app.kubernetes.io/name", false) && is_qualified("a_B", false));
        assert!(!is_qualified("a/b/c", false) && !is_qualified("", false) && !is_qualified("/a", false));
    }
}
