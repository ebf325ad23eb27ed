//! What an API server does with an object before and beside its schema: it drops nulls, sets defaults, tells unknown fields and
//! keeps the keys of lists apart.

use serde_json::{Map, Value};

use super::Fault;
use super::spot::join;
use super::words;

/// Fields that every object has beside those of its schema.
const COMMON: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops nulls (no field of ours may be null, see `crd.rs`), so that `target: null` is the same as no target.
pub fn drop_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !(value.is_null() && field(schema, key).is_some()));
            for (key, value) in map {
                if let Some(schema) = field(schema, key) {
                    drop_nulls(schema, value);
                }
            }
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            for item in items {
                drop_nulls(schema, item);
            }
        }
        _ => {}
    }
}

/// Sets what is left out and has a default.
pub fn set_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, schema) in properties(schema).into_iter().flatten() {
                if let (false, Some(default)) = (map.contains_key(key), schema.get("default")) {
                    map.insert(key.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(key) {
                    set_defaults(schema, value);
                }
            }
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            for item in items {
                set_defaults(schema, item);
            }
        }
        _ => {}
    }
}

/// Fields that the schema does not name: an API server would drop them, and kubectl asks it to refuse them instead.
pub fn unknown_fields(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(map) => {
            let none = Map::new();
            let known = properties(schema).unwrap_or(&none);
            for (key, value) in map.iter().filter(|(key, _)| !(path.is_empty() && COMMON.contains(&key.as_str()))) {
                let path = join(path, key);
                match field(schema, key) {
                    Some(schema) => unknown_fields(schema, value, &path, faults),
                    None => faults.push(unknown(path, key, known.keys().map(String::as_str))),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unknown_fields(&schema["items"], item, &format!("{path}[{index}]"), faults);
            }
        }
        _ => {}
    }
}

/// `unknown field`, with the name that may have been meant.
pub fn unknown<'k>(field: String, key: &str, known: impl Iterator<Item = &'k str>) -> Fault {
    Fault::new(field, format!("unknown field{}", words::did_you_mean(key, known)))
}

/// Lists whose items have a key, such as the names of metrics: no key twice.
pub fn list_keys(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(map) => {
            for (key, schema) in properties(schema).into_iter().flatten() {
                if let Some(value) = map.get(key) {
                    list_keys(schema, value, &join(path, key), faults);
                }
            }
        }
        Value::Array(items) => {
            if let Some(keys) = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array) {
                repeated(keys, items, path, faults);
            }
            for (index, item) in items.iter().enumerate() {
                list_keys(&schema["items"], item, &format!("{path}[{index}]"), faults);
            }
        }
        _ => {}
    }
}

fn repeated(keys: &[Value], items: &[Value], path: &str, faults: &mut Vec<Fault>) {
    let key_of = |item: &Value| -> Vec<String> {
        keys.iter().filter_map(Value::as_str).filter_map(|key| item.get(key)).map(ToString::to_string).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = key_of(item);
        // An item without its key has a problem of its own.
        if key.len() == keys.len() && !seen.insert(key.clone()) {
            faults.push(Fault::new(format!("{path}[{index}]"), format!("Duplicate value: {}", key.join(", "))));
        }
    }
}

/// What is said of a field: by its name, or in a map of any names.
fn field<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    let named = properties(schema).and_then(|properties| properties.get(key));
    named.or_else(|| schema.get("additionalProperties").filter(|of_any| of_any.is_object()))
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}
