//! The definition of an app: its checked fields, in Marathon's order, with Marathon's defaults.

use super::ids;
use super::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What may be written in a field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A whole number of 32 bits, from this on.
    Whole(i64),
    /// Any number from this on.
    Number(f64),
    Flag,
    List,
    Object,
    OneOf(&'static [&'static str]),
    Any,
}

/// Version and its kin come after this field.
const BEFORE_VERSION: &str = "upgradeStrategy";

/// All that is kept. What else is in a request is passed over without a word, as Marathon does.
const FIELDS: &[(&str, Kind)] = &[
    ("id", Kind::Text),
    ("acceptedResourceRoles", Kind::List),
    ("args", Kind::List),
    ("backoffFactor", Kind::Number(1.0)),
    ("backoffSeconds", Kind::Whole(0)),
    ("check", Kind::Object),
    ("cmd", Kind::Text),
    ("constraints", Kind::List),
    ("container", Kind::Object),
    ("containers", Kind::List),
    ("cpus", Kind::Number(0.0)),
    ("dependencies", Kind::List),
    ("disk", Kind::Number(0.0)),
    ("env", Kind::Object),
    ("executor", Kind::Text),
    ("fetch", Kind::List),
    ("healthChecks", Kind::List),
    ("instances", Kind::Whole(0)),
    ("ipAddress", Kind::Object),
    ("labels", Kind::Object),
    ("maxLaunchDelaySeconds", Kind::Whole(0)),
    ("mem", Kind::Number(0.0)),
    ("gpus", Kind::Whole(0)),
    ("networks", Kind::List),
    ("pod", Kind::Object),
    ("portDefinitions", Kind::List),
    ("readinessChecks", Kind::List),
    ("residency", Kind::Object),
    ("resourceLimits", Kind::Object),
    ("requirePorts", Kind::Flag),
    ("secrets", Kind::Object),
    ("storeUrls", Kind::List),
    ("taskKillGracePeriodSeconds", Kind::Whole(0)),
    (BEFORE_VERSION, Kind::Object),
    ("uris", Kind::List),
    ("user", Kind::Text),
    ("killSelection", Kind::OneOf(&["YOUNGEST_FIRST", "OLDEST_FIRST"])),
    ("unreachableStrategy", Kind::Any),
    ("tty", Kind::Flag),
    ("role", Kind::Text),
];

const NO_COMMAND: &str = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";

/// A whole definition, without its version.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Definition(Map<String, Value>);

impl Definition {
    /// What a request makes of a definition: its fields in place of those before, except those that are null.
    ///
    /// # Errors
    /// If a field is not as the schema wants it, or the whole has nothing to run.
    pub fn update(id: &str, before: Option<&Self>, request: &Value) -> Result<Self, Refusal> {
        let fields = checked(request)?;
        let mut merged = before.map_or_else(defaults, |before| before.0.clone());
        merged.extend(fields);
        merged.insert("id".to_owned(), json!(id));
        if !["cmd", "args", "container", "containers"].iter().any(|name| merged.contains_key(*name)) {
            return Err(Refusal::object("/", NO_COMMAND));
        }
        complete_health_checks(&mut merged);
        let ordered = FIELDS.iter().filter_map(|(name, _)| Some(((*name).to_owned(), merged.remove(*name)?)));
        Ok(Self(ordered.collect()))
    }

    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    pub fn number(&self, name: &str) -> f64 {
        self.get(name).as_f64().unwrap_or(0.0)
    }

    pub fn text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    pub fn list(&self, name: &str) -> &[Value] {
        self.get(name).as_array().map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn instances(&self) -> usize {
        usize::try_from(self.get("instances").as_u64().unwrap_or(0)).unwrap_or(usize::MAX)
    }

    #[must_use]
    pub fn with_instances(&self, count: usize) -> Self {
        let mut changed = self.clone();
        changed.set("instances", json!(count));
        changed
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Ports that are left to Marathon stay what they were.
    pub fn keep_service_ports(&mut self, before: Option<&Self>) {
        let Some(before) = before.map(|before| before.list("portDefinitions")) else { return };
        let mut ports = self.list("portDefinitions").to_vec();
        for (port, old) in ports.iter_mut().zip(before).filter(|(port, _)| port["port"] == 0) {
            port["port"] = old["port"].clone();
        }
        self.set("portDefinitions", Value::Array(ports));
    }

    /// Whether going from one to the other replaces all instances: anything but their number has changed.
    #[must_use]
    pub fn is_upgrade_of(&self, before: &Self) -> bool {
        *before != self.with_instances(before.instances())
    }

    /// As an app is shown, with `versions` (`version` and `versionInfo`) in their place.
    #[must_use]
    pub fn view(&self, versions: &Value) -> Map<String, Value> {
        let mut view = Map::new();
        for (name, value) in &self.0 {
            view.insert(name.clone(), value.clone());
            if name == BEFORE_VERSION {
                view.extend(versions.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        view
    }
}

fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "backoffFactor": 1.15, "backoffSeconds": 1, "cpus": 1.0, "disk": 0.0, "executor": "", "instances": 1, "labels": {},
        "maxLaunchDelaySeconds": 300, "mem": 128.0, "gpus": 0, "networks": [{ "mode": "host" }],
        "portDefinitions": [{ "port": 0, "name": "default", "protocol": "tcp" }], "requirePorts": false,
        "upgradeStrategy": { "maximumOverCapacity": 1.0, "minimumHealthCapacity": 1.0 },
        "killSelection": "YOUNGEST_FIRST", "unreachableStrategy": { "inactiveAfterSeconds": 0, "expungeAfterSeconds": 0 },
        "role": "*",
    });
    defaults.as_object().cloned().unwrap_or_default()
}

/// The fields of a request that are known and not null. What is no object has none, which Marathon takes as well.
fn checked(request: &Value) -> Result<Map<String, Value>, Refusal> {
    let mut fields = Map::new();
    for (name, kind) in FIELDS {
        match request.get(*name) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let value = check(value, *kind).map_err(|error| Refusal::field(&format!("/{name}"), error))?;
                fields.insert((*name).to_owned(), value);
            }
        }
    }
    check_id(request)?;
    if let Some(ports) = request["ports"].as_array()
        && !fields.contains_key("portDefinitions")
    {
        let ports = ports.iter().map(|port| json!({ "port": port, "name": "default", "protocol": "tcp" })).collect();
        fields.insert("portDefinitions".to_owned(), Value::Array(ports));
    }
    Ok(fields)
}

/// # Errors
/// If there is an id, and Marathon would not take it.
pub fn check_id(request: &Value) -> Result<(), Refusal> {
    match request["id"].as_str() {
        Some("") => Err(Refusal::field("/id", "error.minLength")),
        Some(id) if !ids::is_valid_path(id) => Err(Refusal::field("/id", "error.pattern")),
        _ => Ok(()),
    }
}

/// The value as it is stored, or the error's name.
fn check(value: &Value, kind: Kind) -> Result<Value, &'static str> {
    let taken = Ok(value.clone());
    match kind {
        Kind::Text => value.is_string().then_some(()).ok_or("error.expected.jsstring").and(taken),
        Kind::Flag => value.is_boolean().then_some(()).ok_or("error.expected.jsboolean").and(taken),
        Kind::List => value.is_array().then_some(()).ok_or("error.expected.jsarray").and(taken),
        Kind::Object => value.is_object().then_some(()).ok_or("error.expected.jsobject").and(taken),
        Kind::OneOf(names) => {
            let name = value.as_str().ok_or("error.expected.jsstring")?;
            names.contains(&name).then_some(()).ok_or("error.unknown.enum.literal").and(taken)
        }
        Kind::Number(minimum) => {
            let number = value.as_f64().ok_or("error.expected.jsnumber")?;
            if number < minimum { Err("error.min") } else { Ok(json!(number)) }
        }
        Kind::Whole(minimum) => {
            let number = value.as_f64().ok_or("error.expected.jsnumber")?;
            let whole = value.as_i64().or_else(|| (number.fract() == 0.0).then(|| format!("{number:.0}").parse().ok())?);
            let whole = whole.filter(|whole| i32::try_from(*whole).is_ok()).ok_or("error.expected.int")?;
            if whole < minimum { Err("error.min") } else { Ok(json!(whole)) }
        }
        Kind::Any => taken,
    }
}

fn complete_health_checks(definition: &mut Map<String, Value>) {
    for check in definition.get_mut("healthChecks").and_then(Value::as_array_mut).into_iter().flatten() {
        let mut complete = json!({
            "gracePeriodSeconds": 300, "ignoreHttp1xx": false, "intervalSeconds": 60, "maxConsecutiveFailures": 3, "path": "/",
            "portIndex": 0, "protocol": "HTTP", "ipProtocol": "IPv4", "timeoutSeconds": 20, "delaySeconds": 15,
        });
        if let (Some(complete), Some(given)) = (complete.as_object_mut(), check.as_object()) {
            complete.extend(given.clone());
        }
        *check = complete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Definition {
        Definition::update("/a", None, &json!({ "cmd": "sleep 1", "mem": 16 })).unwrap()
    }

    #[test]
    fn an_update_changes_what_it_names_and_null_changes_nothing() {
        let before = small();
        assert_eq!((before.instances(), before.number("mem")), (1, 16.0));
        let after = Definition::update("/a", Some(&before), &json!({ "instances": 3, "cmd": null, "instanses": 9 })).unwrap();
        assert_eq!(after, before.with_instances(3));
        assert!(!after.is_upgrade_of(&before));
        let other = Definition::update("/a", Some(&before), &json!({ "cmd": "sleep 2", "instances": 3 })).unwrap();
        assert!(other.is_upgrade_of(&before));
        for nothing in [json!([]), json!(null), json!("x"), json!({})] {
            assert_eq!(Definition::update("/a", Some(&before), &nothing).unwrap(), before);
        }
    }

    #[test]
    fn errors_have_marathons_names() {
        let before = small();
        for (value, error) in [
            (json!(-1), "error.min"),
            (json!("3"), "error.expected.jsnumber"),
            (json!(true), "error.expected.jsnumber"),
            (json!(1.5), "error.expected.int"),
            (json!(99_999_999_999_i64), "error.expected.int"),
        ] {
            let refusal = Definition::update("/a", Some(&before), &json!({ "instances": value })).unwrap_err();
            assert_eq!(refusal, Refusal::field("/instances", error));
        }
        let refusal = Definition::update("/a", None, &json!({ "instances": 3 })).unwrap_err();
        assert_eq!(refusal, Refusal::object("/", NO_COMMAND));
        let refusal = Definition::update("/a", Some(&before), &json!({ "killSelection": "RANDOM" })).unwrap_err();
        assert_eq!(refusal, Refusal::field("/killSelection", "error.unknown.enum.literal"));
    }
}
