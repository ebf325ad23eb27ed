//! The definition of an app that is ours, made from its template; and what Marathon cannot do of it.
//!
//! A changed definition is rolled over by Marathon itself, by the `upgradeStrategy` that is made of `maxSurge`. Its back-off after
//! failures stays: without one, a program that ends at once is started again ten times a second for ever. Where a launch was put off
//! although we want it now, the delay is ended instead (`DELETE /v2/queue/APP/delay`).

use serde_json::{Map, Value as Json, json};

use super::ledger::{LABEL_APP, LABEL_POOL, LABEL_VERSION};
use crate::api::container::{Containerizer, Launch};
use crate::api::probe::{Liveness, Probe};
use crate::api::template::{Operator, Requirement, Template};
use crate::api::validated::{App, Key, Spread, short_hash};

/// Marathon counts in whole seconds, and takes none that is zero.
fn seconds(milliseconds: i64) -> i64 {
    (milliseconds.max(1) + 999) / 1000
}

/// Changes when anything does that Marathon is told of the app, and only then: its replicas are then replaced.
pub fn version(app: &App) -> String {
    let spread = if let Spread::Over(attribute) = &app.spread { Some(attribute) } else { None };
    let text = json!([
        app.version.to_string(),
        app.template.grace_period_milliseconds,
        app.max_surge,
        app.replace_unreachable_after_ms,
        spread,
        app.requirements,
    ]);
    short_hash(text.to_string().as_bytes())
}

/// The whole definition but for the number of instances, or what of the spec Marathon cannot do.
///
/// # Errors
/// The field, and why not.
pub fn definition(app: &App, pool: &Key, id: &str) -> Result<Json, String> {
    let template = &app.template;
    if template.launch == Launch::Pooled {
        return Err(
            "template.launch: Marathon starts each replica in a container of its own: name isolated, or leave it out".to_owned()
        );
    }
    if template.prefetch {
        return Err("template.prefetch: Marathon fetches images when it starts replicas: leave it out".to_owned());
    }
    let mut definition = json!({
        "id": id,
        "cpus": thousandths(app.size.cpu),
        "mem": thousandths(app.size.memory),
        "disk": thousandths(app.size.disk),
        "gpus": app.size.gpu,
        "env": env(app),
        "labels": {LABEL_APP: app.key.to_string(), LABEL_POOL: pool.to_string(), LABEL_VERSION: version(app)},
        "constraints": constraints(app)?,
        "portDefinitions": ports(template),
        "requirePorts": false,
        "networks": [{"mode": "host"}],
        "healthChecks": health_checks(template),
        "taskKillGracePeriodSeconds": (template.grace_period_milliseconds + 999) / 1000,
        "backoffSeconds": 1,
        "backoffFactor": 1.15,
        "maxLaunchDelaySeconds": 60,
        "upgradeStrategy": upgrade(app),
        "unreachableStrategy": unreachable(app),
    });
    let more = [command(template), container(template), user(template)];
    if let Some(object) = definition.as_object_mut() {
        more.into_iter().for_each(|more| object.extend(more));
    }
    Ok(definition)
}

fn thousandths(amount: i64) -> Json {
    #[allow(clippy::cast_precision_loss)]
    let number = amount as f64 / 1000.0;
    json!(number)
}

/// Those whose values need nothing replaced in them, as Marathon replaces nothing; and whose replica it is, as on a Mesos.
fn env(app: &App) -> Map<String, Json> {
    let names = [("MICROSCALER_APP", app.key.name()), ("MICROSCALER_NAMESPACE", app.key.namespace())];
    let names = names.map(|(name, value)| (name.to_owned(), json!(value)));
    let plain = app.template.env.iter().filter(|variable| !variable.value.contains("$("));
    names.into_iter().chain(plain.map(|variable| (variable.name.clone(), json!(variable.value)))).collect()
}

fn command(template: &Template) -> Map<String, Json> {
    let line = |line: &str| Map::from_iter([("cmd".to_owned(), json!(in_directory(template, &with_variables(template, line))))]);
    match (&template.shell, &template.command) {
        (Some(shell), _) => line(shell),
        // Only a shell replaces variables, and `args` of Marathon would come behind the program of an image; exec leaves no shell behind.
        (None, Some(arguments)) => {
            line(&format!("exec {}", arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")))
        }
        (None, None) => Map::new(),
    }
}

fn in_directory(template: &Template, line: &str) -> String {
    template.working_directory.as_ref().map_or_else(|| line.to_owned(), |directory| format!("cd {} && {line}", quoted(directory)))
}

/// Marathon sets `PORT0` and so on. `PORT_HTTP` is `PORT0` where `http` is the first port, and that one is also `PORT`.
fn with_variables(template: &Template, line: &str) -> String {
    let name = |port: &str| port.to_uppercase().replace('-', "_");
    let first = (!template.ports.is_empty()).then(|| "PORT=$PORT0".to_owned());
    let ports = template.ports.iter().enumerate().map(|(n, port)| format!("PORT_{}=$PORT{n}", name(&port.name)));
    let composed = template.env.iter().filter(|variable| variable.value.contains("$("));
    let composed = composed.map(|variable| format!("{}={}", variable.name, quoted(&variable.value)));
    let exports = first.into_iter().chain(ports).chain(composed).map(|variable| format!("export {variable}; "));
    exports.collect::<String>() + line
}

/// A word for the shell. `$(NAME)` of a template is `"$NAME"` there.
fn quoted(word: &str) -> String {
    let quote = |text: &str| if text.is_empty() { String::new() } else { format!("'{}'", text.replace('\'', r"'\''")) };
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once("$(") {
        match after.split_once(')') {
            Some((name, tail)) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                out.extend([&quote(before), "\"${", name, "}\""]);
                rest = tail;
            }
            _ => {
                out += &quote(&format!("{before}$("));
                rest = after;
            }
        }
    }
    out += &quote(rest);
    if out.is_empty() { "''".to_owned() } else { out }
}

fn ports(template: &Template) -> Vec<Json> {
    template.ports.iter().map(|port| json!({"port": 0, "protocol": "tcp", "name": port.name})).collect()
}

fn container(template: &Template) -> Map<String, Json> {
    let Some(image) = &template.image else { return Map::new() };
    let volumes = template.volumes.iter().map(|volume| {
        json!({"hostPath": volume.host_path, "containerPath": volume.mount_path, "mode": if volume.read_only { "RO" } else { "RW" }})
    });
    let kind = if template.containerizer == Containerizer::Docker { "DOCKER" } else { "MESOS" };
    let container = json!({"type": kind, "docker": {"image": image}, "volumes": volumes.collect::<Vec<_>>()});
    Map::from_iter([("container".to_owned(), container)])
}

fn user(template: &Template) -> Map<String, Json> {
    template.user.iter().map(|user| ("user".to_owned(), json!(user))).collect()
}

/// Readiness never ends a replica, liveness does; a replica counts as healthy while all of them succeed.
fn health_checks(template: &Template) -> Vec<Json> {
    let readiness = template.readiness.as_ref().map(|probe| check(template, probe, 0));
    let liveness =
        template.liveness.as_ref().map(|Liveness { probe, failure_threshold }| check(template, probe, *failure_threshold));
    readiness.into_iter().chain(liveness).collect()
}

fn check(template: &Template, probe: &Probe, failures: i32) -> Json {
    let mut check = json!({
        "gracePeriodSeconds": seconds(probe.initial_delay_milliseconds),
        "delaySeconds": seconds(probe.initial_delay_milliseconds),
        "intervalSeconds": seconds(probe.period_milliseconds),
        "timeoutSeconds": seconds(probe.timeout_milliseconds),
        "maxConsecutiveFailures": failures,
    });
    if let Some(exec) = &probe.exec {
        let words: Vec<_> = exec.command.iter().map(|word| quoted(word)).collect();
        (check["protocol"], check["command"]) = (json!("COMMAND"), json!({"value": words.join(" ")}));
    } else {
        check["portIndex"] = json!(probe.port_among(&template.ports).unwrap_or(0));
        match &probe.http {
            Some(http) => (check["protocol"], check["path"]) = (json!("MESOS_HTTP"), json!(http.path)),
            None => check["protocol"] = json!("MESOS_TCP"),
        }
    }
    check
}

/// So many more at a time as `maxSurge` says, and never fewer.
fn upgrade(app: &App) -> Json {
    #[allow(clippy::cast_precision_loss)]
    let share = app.max_surge as f64 / app.replicas.max(app.min).max(1) as f64;
    json!({"minimumHealthCapacity": 1.0, "maximumOverCapacity": share.clamp(0.0, 1.0)})
}

fn unreachable(app: &App) -> Json {
    let after = app.replace_unreachable_after_ms.div_ceil(1000);
    json!({"inactiveAfterSeconds": after, "expungeAfterSeconds": after})
}

fn constraints(app: &App) -> Result<Vec<[String; 3]>, String> {
    let mut constraints = app.requirements.iter().map(constraint).collect::<Result<Vec<_>, _>>()?;
    if let Spread::Over(attribute) = &app.spread {
        constraints.push([attribute.clone(), "GROUP_BY".to_owned(), String::new()]);
    }
    Ok(constraints)
}

fn constraint(requirement: &Requirement) -> Result<[String; 3], String> {
    let Requirement { attribute, operator, values } = requirement;
    let any = || {
        let escaped = values.iter().flatten().map(|value| escape(value));
        format!("({})", escaped.collect::<Vec<_>>().join("|"))
    };
    let (word, value) = match operator {
        Operator::In => ("LIKE", any()),
        Operator::NotIn => ("UNLIKE", any()),
        Operator::Exists => ("LIKE", ".*".to_owned()),
        Operator::DoesNotExist | Operator::Gt | Operator::Lt => {
            return Err(format!("placement.where: Marathon cannot compare {attribute} by {operator:?}: use In, NotIn or Exists"));
        }
    };
    Ok([attribute.clone(), word.to_owned(), value])
}

/// A value as a regular expression that matches it alone.
fn escape(value: &str) -> String {
    value.chars().flat_map(|c| (!c.is_alphanumeric() && c != '-' && c != '_').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::app;
    use super::*;

    fn made(spec: &str) -> Result<Json, String> {
        definition(&app("web", spec), &Key::new("default", "main"), "/default/web")
    }

    #[test]
    fn a_template_becomes_a_definition() {
        let made = made(
            "{rollout: {maxSurge: 2}, replicas: 8, placement: {spread: rack, where: [{attribute: zone, operator: In, values: [a.1, b]}]},
            template: {resources: {cpu: 500m, memory: 64Mi}, command: [/web, --port, $(PORT_HTTP), it's], ports: [{name: http}],
            env: [{name: SHOP, value: winter}, {name: URL, value: 'http://:$(PORT_HTTP)'}], gracePeriodMilliseconds: 5000,
            readiness: {http: {path: /ready}}, liveness: {exec: {command: [test, -e, x]}, failureThreshold: 5}}}",
        )
        .unwrap();
        assert_eq!((&made["cpus"], &made["mem"], &made["env"]["SHOP"]), (&json!(0.5), &json!(64.0), &json!("winter")));
        assert_eq!(
            made["cmd"],
            json!(
                r#"export PORT=$PORT0; export PORT_HTTP=$PORT0; export URL='http://:'"${PORT_HTTP}"; exec '/web' '--port' "${PORT_HTTP}" 'it'\''s'"#
            )
        );
        assert_eq!((&made["env"]["MICROSCALER_APP"], &made["env"]["MICROSCALER_NAMESPACE"]), (&json!("web"), &json!("default")));
        assert_eq!(made["labels"]["MICROSCALER_APP"], json!("default/web"));
        assert_eq!(made["constraints"], json!([["zone", "LIKE", r"(a\.1|b)"], ["rack", "GROUP_BY", ""]]));
        assert_eq!(made["upgradeStrategy"], json!({"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.25}));
        assert_eq!(made["taskKillGracePeriodSeconds"], json!(5));
        let [ready, alive] = &made["healthChecks"].as_array().unwrap()[..] else { panic!("{made}") };
        assert_eq!((&ready["protocol"], &ready["maxConsecutiveFailures"]), (&json!("MESOS_HTTP"), &json!(0)));
        assert_eq!((&alive["command"]["value"], &alive["maxConsecutiveFailures"]), (&json!("'test' '-e' 'x'"), &json!(5)));
        assert!(made.get("instances").is_none() && made.get("container").is_none());
    }

    #[test]
    fn an_image_is_run_by_mesos_or_docker() {
        let template = "image: busybox, command: [/bin/sleep, '9'], resources: {cpu: 1, memory: 1Mi}";
        let mesos =
            made(&format!("{{template: {{{template}, volumes: [{{hostPath: /a, mountPath: /b, readOnly: true}}]}}}}")).unwrap();
        let volumes = json!([{"hostPath": "/a", "containerPath": "/b", "mode": "RO"}]);
        assert_eq!(mesos["container"], json!({"type": "MESOS", "docker": {"image": "busybox"}, "volumes": volumes}));
        assert_eq!(mesos["cmd"], json!("exec '/bin/sleep' '9'"));
        let docker = made(&format!("{{template: {{{template}, containerizer: docker}}}}")).unwrap();
        assert_eq!(docker["container"]["type"], json!("DOCKER"));
    }

    #[test]
    fn what_marathon_cannot_do_is_refused_by_name() {
        let refused = |spec: &str| made(spec).unwrap_err();
        let template = "shell: x, resources: {cpu: 1, memory: 1Mi}";
        assert!(refused(&format!("{{template: {{{template}, launch: pooled}}}}")).starts_with("template.launch: "));
        assert!(refused(&format!("{{template: {{{template}, image: x, prefetch: true}}}}")).starts_with("template.prefetch: "));
        let placed = "placement: {where: [{attribute: cores, operator: Gt, values: ['7']}]}";
        assert!(refused(&format!("{{{placed}, template: {{{template}}}}}")).starts_with("placement.where: "));
    }

    #[test]
    fn the_version_changes_with_what_marathon_is_told_alone() {
        let template = "template: {shell: x, resources: {cpu: 1, memory: 1Mi}}";
        let of = |more: &str| version(&app("web", &format!("{{{more}{template}}}")));
        assert_eq!(of(""), of("priority: 5, "));
        assert_ne!(of(""), of("placement: {spread: rack}, "));
    }
}
