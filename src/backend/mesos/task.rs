//! What Mesos is told of a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::carve::Cut;
use super::container::{container, is_docker, mesos};
use super::probe::{self, Replica};
use super::wire::{CommandInfo, Environment, ExecutorInfo, KillPolicy, Label, Labels, TaskInfo, Value, Variable};
use crate::api::validated::{App, Base, BaseKind};
use crate::executor::words::Work;

/// The request to run one replica of the app on the agent, in the share cut for it; pooled, as a process of the executor.
pub fn task_info(id: &Arc<str>, app: &App, agent: &Arc<str>, cut: Cut, executor: Option<Arc<ExecutorInfo>>) -> TaskInfo {
    let environment = environment(id, app, &cut.ports);
    let replica = Replica { template: &app.template, ports: &cut.ports, environment: &environment };
    let (check, health_check) = (probe::check(replica), probe::health_check(replica));
    let isolated = executor.is_none();
    let container = if isolated { container(&app.template) } else { None };
    let data = executor.is_some().then(|| in_base64(&work(app, &environment)));
    let grace_ms = u64::try_from(app.template.grace_period_milliseconds).unwrap_or(0);
    TaskInfo {
        name: app.key.name().to_owned(),
        task_id: Value::from(id.clone()),
        agent_id: Value::from(agent.clone()),
        resources: cut.resources,
        command: isolated.then(|| command(app, environment)),
        container,
        executor,
        data,
        check,
        health_check,
        kill_policy: KillPolicy::of_ms(grace_ms),
        labels: labels(app, isolated),
    }
}

/// The request that puts the app's base on the agent: a task that ends as soon as it is there.
pub fn preparation_info(
    id: &Arc<str>,
    app: &App,
    base: &Base,
    agent: &Arc<str>,
    cut: Cut,
    executor: Option<Arc<ExecutorInfo>>,
) -> TaskInfo {
    let nothing = || in_base64(&Work { nothing: true, ..Work::default() });
    // It need not be in the image: whoever cannot find it has unpacked the image already.
    let end = || CommandInfo { value: Some("true".to_owned()), arguments: vec!["true".to_owned()], ..CommandInfo::default() };
    let fetches = base.kind == BaseKind::Image;
    TaskInfo {
        name: format!("preparation of {}", base.key),
        task_id: Value::from(id.clone()),
        agent_id: Value::from(agent.clone()),
        resources: cut.resources,
        command: fetches.then(end),
        container: if fetches { image_alone(app) } else { None },
        data: executor.is_some().then(nothing),
        executor,
        check: None,
        health_check: None,
        kill_policy: KillPolicy::of_ms(0),
        labels: Labels::default(),
    }
}

/// The app's image without its directories of the host and without options.
fn image_alone(app: &App) -> Option<serde_json::Value> {
    let image = app.template.image.as_deref()?;
    let docker = || serde_json::json!({"type": "DOCKER", "docker": {"image": image, "network": "HOST"}});
    Some(if is_docker(&app.template) { docker() } else { mesos(image) })
}

fn in_base64(work: &impl Serialize) -> String {
    // Only maps with keys that are no text cannot be rendered.
    STANDARD.encode(serde_json::to_vec(work).unwrap_or_default())
}

/// What a process of an executor runs.
fn work(app: &App, environment: &[Variable]) -> Work {
    let template = &app.template;
    let shell = template.shell.clone();
    let argv = if shell.is_none() { expanded(app, environment) } else { Vec::new() };
    let env = environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    Work { shell, argv, env, working_directory: template.working_directory.clone(), nothing: false }
}

/// The template's command. A shell expands for itself, and `$(…)` means something else there.
fn expanded(app: &App, environment: &[Variable]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = environment.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
    app.template.command.iter().flatten().map(|argument| expand(argument, &known)).collect()
}

fn command(app: &App, environment: Vec<Variable>) -> CommandInfo {
    let template = &app.template;
    // Docker has an option for it.
    let directory = template.working_directory.as_deref().filter(|_| !is_docker(template));
    let (shell, value, arguments) = match (&template.shell, directory) {
        (Some(line), None) => (true, Some(line.clone()), Vec::new()),
        // On a line of its own, so that it is no part of whatever the line is.
        (Some(line), Some(directory)) => (true, Some(format!("cd {} || exit 1\n{line}", quoted(directory))), Vec::new()),
        (None, _) => {
            let mut argv = expanded(app, &environment);
            if is_docker(template) {
                // The program is told as the entrypoint.
                (false, None, argv.split_off(argv.len().min(1)))
            } else {
                let argv = directory.map_or(argv.clone(), |directory| in_directory(directory, argv));
                (false, argv.first().cloned(), argv)
            }
        }
    };
    let environment = Environment { variables: environment };
    CommandInfo { shell, value, arguments, user: template.user.clone(), uris: Vec::new(), environment }
}

/// Mesos has no field for it. The shell puts the program in its own place.
fn in_directory(directory: &str, argv: Vec<String>) -> Vec<String> {
    let shell = ["/bin/sh", "-c", r#"cd "$0" && exec "$@""#, directory];
    shell.into_iter().map(str::to_owned).chain(argv).collect()
}

/// As one word of a shell, whatever is in it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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

/// For people who look at Mesos' own pages, and for tools that join its data with ours. Master and agent copy and keep them with each
/// task: five of them make a burst of pooled tasks take 6 % longer (`cargo bench --bench reaction -- habits`), so that these have no
/// labels for what their ids tell.
fn labels(app: &App, isolated: bool) -> Labels {
    let label = |key: &str, value: String| Label { key: format!("microscaling.dev/{key}"), value };
    let mut labels = vec![label("pool", app.pool.name().to_owned()), label("priority", app.priority.to_string())];
    if isolated {
        labels.extend([
            label("namespace", app.key.namespace().to_owned()),
            label("app", app.key.name().to_owned()),
            label("version", app.version.to_string()),
        ]);
    }
    Labels { labels }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::app;
    use super::*;

    fn info(template: &str, ports: &[u64]) -> serde_json::Value {
        told(template, ports, None)
    }

    fn told(template: &str, ports: &[u64], executor: Option<Arc<ExecutorInfo>>) -> serde_json::Value {
        let cut = Cut { resources: Vec::new(), ports: ports.to_vec() };
        let id = "default.web.00000001.k-1".into();
        serde_json::to_value(task_info(&id, &app("web", template), &"A1".into(), cut, executor)).unwrap()
    }

    fn said(info: &serde_json::Value) -> serde_json::Value {
        serde_json::from_slice(&STANDARD.decode(info["data"].as_str().unwrap()).unwrap()).unwrap()
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

    #[test]
    fn a_directory_is_entered_first() {
        let with =
            |more: &str| info(&format!("{{{more}, workingDirectory: \"/it's\", resources: {{cpu: 1, memory: 1Mi}}}}"), &[]);
        assert_eq!(with("shell: 'a || b'")["command"]["value"], "cd '/it'\\''s' || exit 1\na || b");
        let command = with("command: [/web, -v]")["command"].clone();
        assert_eq!(command["value"], "/bin/sh");
        assert_eq!(command["arguments"], serde_json::json!(["/bin/sh", "-c", r#"cd "$0" && exec "$@""#, "/it's", "/web", "-v"]));
    }

    #[test]
    fn docker_has_the_program_as_entrypoint() {
        let info = info(
            "{command: [/web, -v], image: web, containerizer: docker, workingDirectory: /srv, user: www, resources: {cpu: 1, memory: 1Mi}}",
            &[],
        );
        assert_eq!((&info["command"]["arguments"], info["command"].get("value")), (&serde_json::json!(["-v"]), None));
        assert_eq!((info["command"]["user"].as_str(), info["container"]["type"].as_str()), (Some("www"), Some("DOCKER")));
    }

    #[test]
    fn a_pooled_replica_has_its_work_as_data() {
        let executor = || Some(Arc::new(super::super::executor::tests::info()));
        let template =
            "{launch: pooled, command: [/web, $(PORT)], ports: [{name: http}], workingDirectory: /srv, readiness: {tcp: {}},
                         resources: {cpu: 1, memory: 1Mi}}";
        let info = told(template, &[31_000], executor());
        assert!(info.get("command").is_none() && info.get("container").is_none());
        assert_eq!(info["check"]["tcp"]["port"], 31_000);
        let work = said(&info);
        assert_eq!(work["argv"], serde_json::json!(["/web", "31000"]));
        assert!(work["env"].as_array().unwrap().contains(&serde_json::json!(["PORT_HTTP", "31000"])));
        assert_eq!((work["workingDirectory"].as_str(), work.get("shell"), work.get("nothing")), (Some("/srv"), None, None));
        let shell = told("{launch: pooled, shell: 'echo $(date)', resources: {cpu: 1, memory: 1Mi}}", &[], executor());
        assert_eq!((said(&shell)["shell"].as_str(), said(&shell).get("argv")), (Some("echo $(date)"), None));
    }

    #[test]
    fn preparations_do_nothing_for_long() {
        let prepared = |template: &str, executor| {
            let app = app("web", template);
            let base = app.base.clone().unwrap();
            serde_json::to_value(preparation_info(&"p".into(), &app, &base, &"A1".into(), Cut::default(), executor)).unwrap()
        };
        let executor = Arc::new(super::super::executor::tests::info());
        let pooled = prepared("{launch: pooled, shell: x, resources: {cpu: 1, memory: 1Mi}}", Some(executor));
        assert_eq!(said(&pooled), serde_json::json!({"nothing": true}));
        let image =
            prepared("{shell: x, image: web, volumes: [{hostPath: /a, mountPath: /b}], resources: {cpu: 1, memory: 1Mi}}", None);
        assert_eq!((image["command"]["value"].as_str(), image.get("data")), (Some("true"), None));
        assert_eq!(image["container"], mesos("web"), "without what may not be there");
    }
}
