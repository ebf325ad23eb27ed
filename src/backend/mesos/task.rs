//! What Mesos is told of a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::carve::Cut;
use super::wire::{CommandInfo, Environment, KillPolicy, Label, Labels, TaskInfo, Value, Variable};
use crate::api::validated::App;

/// The request to run one replica of the app on the agent, in the share cut for it.
pub fn task_info(id: &Arc<str>, app: &App, agent: &Arc<str>, cut: Cut) -> TaskInfo {
    let environment = environment(id, app, &cut.ports);
    let grace_ms = u64::try_from(app.template.grace_period_milliseconds).unwrap_or(0);
    TaskInfo {
        name: app.key.name().to_owned(),
        task_id: Value::from(id.clone()),
        agent_id: Value::from(agent.clone()),
        resources: cut.resources,
        command: command(app, environment),
        kill_policy: KillPolicy::of_ms(grace_ms),
        labels: labels(app),
    }
}

fn command(app: &App, environment: Vec<Variable>) -> CommandInfo {
    let known: BTreeMap<&str, &str> = environment.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
    // A shell expands for itself, and `$(…)` means something else there.
    let (shell, value, arguments) = match (&app.template.shell, &app.template.command) {
        (Some(line), _) => (true, line.clone(), Vec::new()),
        (None, Some(argv)) => {
            let arguments: Vec<_> = argv.iter().map(|argument| expand(argument, &known)).collect();
            (false, arguments.first().cloned().unwrap_or_default(), arguments)
        }
        (None, None) => (false, String::new(), Vec::new()),
    };
    CommandInfo { shell, value, arguments, environment: Environment { variables: environment } }
}

/// Ports and names first, so that the template's variables may refer to them; of two of the same name the last counts.
fn environment(id: &Arc<str>, app: &App, ports: &[u64]) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    let mut set = |name: String, value: String| match variables.iter_mut().find(|v| v.name == name) {
        Some(variable) => variable.value = value,
        None => variables.push(Variable { name, value }),
    };
    set("MICROSCALER_APP".to_owned(), app.key.name().to_owned());
    set("MICROSCALER_NAMESPACE".to_owned(), app.key.namespace().to_owned());
    set("MICROSCALER_TASK_ID".to_owned(), id.to_string());
    if let Some(port) = ports.first() {
        set("PORT".to_owned(), port.to_string());
    }
    for (spec, port) in app.template.ports.iter().zip(ports) {
        set(format!("PORT_{}", spec.name.to_uppercase().replace('-', "_")), port.to_string());
    }
    for variable in &app.template.env {
        let known: BTreeMap<&str, &str> = variables.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        let value = expand(&variable.value, &known);
        match variables.iter_mut().find(|v| v.name == variable.name) {
            Some(known) => known.value = value,
            None => variables.push(Variable { name: variable.name.clone(), value }),
        }
    }
    variables
}

/// Replaces `$(NAME)` as Kubernetes does (`third_party/forked/golang/expansion`): `$$` is a dollar sign, what is not known stays.
fn expand(text: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// For people who look at Mesos' own pages, and for tools that join its data with ours.
fn labels(app: &App) -> Labels {
    let label = |key: &str, value: String| Label { key: format!("microscaling.dev/{key}"), value };
    Labels {
        labels: vec![
            label("namespace", app.key.namespace().to_owned()),
            label("app", app.key.name().to_owned()),
            label("pool", app.pool.name().to_owned()),
            label("priority", app.priority.to_string()),
            label("version", app.version.to_string()),
        ],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::app;
    use super::*;

    fn info(template: &str, ports: &[u64]) -> serde_json::Value {
        let cut = Cut { resources: Vec::new(), ports: ports.to_vec() };
        let id = "default.web.00000001.k-1".into();
        serde_json::to_value(task_info(&id, &app("web", template), &"A1".into(), cut)).unwrap()
    }

    fn variables(info: &serde_json::Value) -> BTreeMap<String, String> {
        let list = info["command"]["environment"]["variables"].as_array().unwrap();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        list.iter().map(|v| (text(&v["name"]), text(&v["value"]))).collect()
    }

    #[test]
    fn argv_is_expanded_and_carries_the_program_twice() {
        let info = info(
            "{command: [/bin/web, --port, $(PORT_MY_HTTP), $$(PORT), $(NONE)], ports: [{name: my-http}], resources: {cpu: 1, memory: 1Mi}}",
            &[31_000],
        );
        assert_eq!(info["command"]["shell"], false);
        assert_eq!(info["command"]["value"], "/bin/web");
        assert_eq!(info["command"]["arguments"], serde_json::json!(["/bin/web", "--port", "31000", "$(PORT)", "$(NONE)"]));
        assert_eq!(variables(&info)["PORT"], "31000");
    }

    #[test]
    fn a_shell_line_is_left_to_the_shell() {
        let info = info("{shell: 'echo $(date) $$', resources: {cpu: 1, memory: 1Mi}}", &[]);
        assert_eq!(info["command"]["value"], "echo $(date) $$");
        assert_eq!(info["command"]["shell"], true);
        assert!(info["command"].get("arguments").is_none());
    }

    #[test]
    fn variables_may_refer_to_those_before_them() {
        let info = info(
            "{shell: x, env: [{name: A, value: 'a$(PORT)'}, {name: B, value: '$(A)$(C)'}, {name: C, value: c}, {name: PORT, value: '$(PORT)0'}],
              ports: [{name: http}], resources: {cpu: 1, memory: 1Mi}}",
            &[7],
        );
        let variables = variables(&info);
        assert_eq!((variables["A"].as_str(), variables["B"].as_str(), variables["PORT"].as_str()), ("a7", "a7$(C)", "70"));
        assert_eq!(variables["MICROSCALER_TASK_ID"], "default.web.00000001.k-1");
    }

    #[test]
    fn no_grace_is_said_outright() {
        let info = info("{shell: x, gracePeriodMilliseconds: 0, resources: {cpu: 1, memory: 1Mi}}", &[]);
        assert_eq!(info["kill_policy"]["grace_period"]["nanoseconds"], 0);
        assert_eq!(info["name"], "web");
        let labels = info["labels"]["labels"].as_array().unwrap();
        assert!(labels.contains(&serde_json::json!({"key": "microscaling.dev/pool", "value": "main"})));
    }

    #[test]
    fn expansion_follows_kubernetes() {
        let known = BTreeMap::from([("A", "1")]);
        for (text, expected) in
            [("$(A)", "1"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$A", "$A"), ("$(A", "$(A"), ("$", "$"), ("$(B)$(A)", "$(B)1")]
        {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
