//! Deployment or StatefulSet → template.

use serde_json::{Map, Value, json};

use super::{All, Notes, text_at};

/// The template of an app whose containers are those of this workload, if it is among the objects.
pub(super) fn template(kind: &str, name: &str, all: &All, notes: &mut Notes) -> Option<Value> {
    let Some(workload) = all.find(kind, name) else {
        notes.add(format!("{kind} {name} is not in the file: fill in spec.template"));
        return None;
    };
    let containers = workload.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let Some(container) = containers.and_then(|containers| containers.first()) else {
        notes.add(format!("{kind} {name} has no container: fill in spec.template"));
        return None;
    };
    if containers.is_some_and(|containers| containers.len() > 1) {
        let first = text_at(container, "/name").unwrap_or_default();
        notes.add(format!("{kind} {name}: only its first container, {first}, is carried over"));
    }
    let pod = workload.pointer("/spec/template/spec").and_then(Value::as_object);
    for field in pod.into_iter().flatten().map(|(field, _)| field).filter(|field| !of_pod(field)) {
        notes.add(format!("{kind} {name}: {field} of its pods is not carried over"));
    }
    Some(Value::Object(of(container, workload, &format!("{kind} {name}"), notes)))
}

fn of_pod(field: &str) -> bool {
    matches!(field, "containers" | "terminationGracePeriodSeconds" | "restartPolicy" | "dnsPolicy" | "schedulerName")
}

fn of(container: &Value, workload: &Value, who: &str, notes: &mut Notes) -> Map<String, Value> {
    let mut template = Map::new();
    let mut put = |field: &str, value: Option<Value>| value.map(|value| template.insert(field.to_owned(), value));
    put("image", container.get("image").cloned());
    put("workingDirectory", container.get("workingDir").cloned());
    put("resources", Some(resources(container, who, notes)));
    let words = ["command", "args"].iter().filter_map(|part| container.get(*part)?.as_array()).flatten().cloned();
    let words: Vec<Value> = words.collect();
    if words.is_empty() {
        notes.add(format!("{who}: what its image runs by itself has to be named: fill in spec.template.command"));
    } else if container.get("command").is_none() {
        notes.add(format!(
            "{who}: args without command are those of the image's entry point: put it before them in spec.template.command"
        ));
    }
    put("command", (!words.is_empty()).then(|| words.into()));
    put("env", env(container, who, notes));
    put("ports", ports(container));
    let grace = workload.pointer("/spec/template/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    put("gracePeriodMilliseconds", grace.map(|seconds| json!(seconds * 1000)));
    for field in container.as_object().into_iter().flatten().map(|(field, _)| field.as_str()) {
        let known = ["name", "image", "workingDir", "resources", "command", "args", "env", "ports", "imagePullPolicy"];
        if !known.contains(&field) {
            notes.add(format!("{who}: {field} of its container is not carried over"));
        }
    }
    template
}

/// What is requested, as that is what a scheduler counts with.
fn resources(container: &Value, who: &str, notes: &mut Notes) -> Value {
    let of = |name: &str| {
        let at = |kind: &str| container.pointer(&format!("/resources/{kind}/{name}")).cloned();
        at("requests").or_else(|| at("limits"))
    };
    let (cpu, memory) = (of("cpu"), of("memory"));
    if cpu.is_none() || memory.is_none() {
        notes.add(format!("{who} requests no cpu or memory: 100m and 64Mi are put in its place"));
    }
    json!({"cpu": cpu.unwrap_or_else(|| json!("100m")), "memory": memory.unwrap_or_else(|| json!("64Mi"))})
}

fn env(container: &Value, who: &str, notes: &mut Notes) -> Option<Value> {
    let all = container.get("env")?.as_array()?;
    let (plain, other): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|variable| variable.get("value").is_some());
    for variable in other {
        let name = text_at(variable, "/name").unwrap_or_default();
        notes.add(format!("{who}: where its variable {name} comes from is not carried over"));
    }
    Some(plain.into_iter().cloned().collect())
}

/// Mesos chooses the numbers; names are kept.
fn ports(container: &Value) -> Option<Value> {
    let all = container.get("ports")?.as_array()?;
    let name = |(port, nth): (&Value, usize)| text_at(port, "/name").map_or_else(|| format!("port{nth}"), str::to_owned);
    Some(all.iter().zip(1..).map(name).map(|name| json!({"name": name})).collect())
}
