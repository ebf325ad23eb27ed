//! What Mesos is told to run.

use super::definition::Definition;
use super::instance::Instance;
use super::time::text;
use microscaler_testbed::bare;
use serde_json::{Value, json};
use std::path::Path;

/// A `TaskInfo` of the instance's next task.
pub fn task_info(instance: &Instance, definition: &Definition, offer: &Value) -> Value {
    let task = instance.task();
    let mut resources: Vec<Value> = ["cpus", "mem", "disk", "gpus"]
        .into_iter()
        .filter(|name| definition.number(name) > 0.0)
        .map(|name| json!({ "name": name, "type": "SCALAR", "scalar": { "value": definition.number(name) } }))
        .collect();
    if !instance.ports.is_empty() {
        let ranges: Vec<Value> = instance.ports.iter().map(|port| json!({ "begin": port, "end": port })).collect();
        resources.push(json!({ "name": "ports", "type": "RANGES", "ranges": { "range": ranges } }));
    }
    for resource in &mut resources {
        resource["allocation_info"] = offer["allocation_info"].clone();
    }
    // `/a/b` becomes `b.a`.
    let name: Vec<&str> = instance.app.split('/').filter(|segment| !segment.is_empty()).rev().collect();
    let labels = definition.get("labels").as_object().into_iter().flatten();
    let labels: Vec<Value> = labels.map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let mut info = json!({
        "name": name.join("."), "task_id": { "value": task }, "agent_id": offer["agent_id"], "resources": resources,
        "command": command(instance, definition), "labels": { "labels": labels },
    });
    if let Some(seconds) = definition.get("taskKillGracePeriodSeconds").as_u64() {
        info["kill_policy"] = json!({ "grace_period": { "nanoseconds": seconds * 1_000_000_000 } });
    }
    if let Some(check) = definition.list("healthChecks").iter().find(|check| is_done_by_mesos(check)) {
        info["health_check"] = health_check(check, instance);
    }
    if let Some(container) = container(definition) {
        info["container"] = container;
    }
    info
}

/// The same as a task of the agent's pooled executor, which only says that it runs.
pub fn pretended(mut info: Value, program: &Path, offer: &Value) -> Value {
    let executor = bare::executor_info("pretender", offer, program, "--pretend", 0.01, 32.0);
    if let Some(task) = info.as_object_mut() {
        task.insert("executor".to_owned(), executor);
        // What only Mesos' own executor carries out.
        ["command", "health_check"].iter().for_each(|field| drop(task.remove(*field)));
    }
    info
}

fn command(instance: &Instance, definition: &Definition) -> Value {
    let variables = json!({ "variables": environment(instance, definition) });
    let pod = &definition.list("containers").first().unwrap_or(&Value::Null)["exec"]["command"];
    if let Some(line) = definition.get("cmd").as_str().or(pod["shell"].as_str()) {
        return json!({ "shell": true, "value": line, "environment": variables });
    }
    let arguments = pod["argv"].as_array().map_or(definition.list("args"), Vec::as_slice);
    // Without any, the image's own command is run.
    let program = arguments.first().cloned().unwrap_or(Value::Null);
    let mut command = json!({ "shell": false, "arguments": arguments, "environment": variables });
    if program.is_string() {
        command["value"] = program;
    }
    command
}

fn environment(instance: &Instance, definition: &Definition) -> Vec<Value> {
    let mut variables: Vec<(String, String)> = vec![
        ("MARATHON_APP_ID".to_owned(), instance.app.clone()),
        ("MARATHON_APP_VERSION".to_owned(), text(instance.version)),
        ("MESOS_TASK_ID".to_owned(), instance.task()),
        ("HOST".to_owned(), instance.host.clone().unwrap_or_default()),
    ];
    for (name, field) in [("CPUS", "cpus"), ("MEM", "mem"), ("DISK", "disk"), ("GPUS", "gpus")] {
        variables.push((format!("MARATHON_APP_RESOURCE_{name}"), definition.number(field).to_string()));
    }
    let ports: Vec<String> = instance.ports.iter().map(ToString::to_string).collect();
    variables.extend(ports.iter().enumerate().map(|(index, port)| (format!("PORT{index}"), port.clone())));
    for (port, defined) in ports.iter().zip(definition.list("portDefinitions")) {
        if let Some(name) = defined["name"].as_str() {
            variables.push((format!("PORT_{}", name.to_uppercase().replace('-', "_")), port.clone()));
        }
    }
    variables.extend(ports.first().map(|port| ("PORT".to_owned(), port.clone())));
    variables.push(("PORTS".to_owned(), ports.join(",")));
    let own = definition.get("env").as_object().into_iter().flatten();
    variables.extend(own.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    variables.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// HTTP and TCP without `MESOS_` are done by Marathon.
#[must_use]
pub fn is_done_by_mesos(check: &Value) -> bool {
    check["protocol"].as_str().is_some_and(|protocol| protocol == "COMMAND" || protocol.starts_with("MESOS_"))
}

fn health_check(check: &Value, instance: &Instance) -> Value {
    let seconds = |name: &str| check[name].as_f64().unwrap_or(0.0);
    let mut info = json!({
        "grace_period_seconds": seconds("gracePeriodSeconds"), "interval_seconds": seconds("intervalSeconds"),
        "timeout_seconds": seconds("timeoutSeconds"), "delay_seconds": 0.0, "consecutive_failures": check["maxConsecutiveFailures"],
    });
    let index = check["portIndex"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
    let port = check["port"].as_u64().or(instance.ports.get(index).map(|port| u64::from(*port)));
    match check["protocol"].as_str().unwrap_or_default() {
        "COMMAND" => {
            info["type"] = json!("COMMAND");
            info["command"] = json!({ "shell": true, "value": check["command"]["value"] });
        }
        "MESOS_TCP" => {
            info["type"] = json!("TCP");
            info["tcp"] = json!({ "port": port });
        }
        _ => {
            info["type"] = json!("HTTP");
            info["http"] = json!({ "scheme": "http", "port": port, "path": check["path"] });
        }
    }
    info
}

/// An image, in Docker or in Mesos' own containers, on the host's network.
fn container(definition: &Definition) -> Option<Value> {
    let container = definition.get("container");
    let image = container["docker"]["image"].as_str()?;
    Some(if container["type"] == "MESOS" {
        json!({ "type": "MESOS", "mesos": { "image": { "type": "DOCKER", "docker": { "name": image } } } })
    } else {
        json!({ "type": "DOCKER", "docker": { "image": image, "network": "HOST" } })
    })
}
