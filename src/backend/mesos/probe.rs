//! Checks: what Mesos is told of probes, and what its statuses say of them.

use serde_json::{Value as Json, json};

use super::container::is_docker;
use super::task::quoted;
use super::wire::{CheckStatus, TaskStatus, Variable};
use crate::api::probe::Probe;
use crate::api::template::Template;
use crate::api::validated::App;

/// What a replica has that its probes need: the numbers of its ports, and the variables of its commands.
#[derive(Clone, Copy)]
pub struct Replica<'a> {
    pub template: &'a Template,
    pub ports: &'a [u64],
    pub environment: &'a [Variable],
}

/// `CheckInfo` for `readiness`. Not for Docker, whose executor ends itself when it sees one.
pub fn check(replica: Replica) -> Option<Json> {
    let template = replica.template;
    let probe = template.readiness.as_ref().filter(|_| !is_docker(template))?;
    let mut info = timed(probe);
    match (&probe.exec, &probe.http) {
        (Some(exec), _) => {
            info["type"] = json!("COMMAND");
            info["command"] = json!({"command": replica.argv(&exec.command)});
        }
        (None, Some(http)) => {
            info["type"] = json!("HTTP");
            info["http"] = json!({"port": replica.port(probe)?, "path": http.path});
        }
        (None, None) => tcp(&mut info, replica.port(probe)?),
    }
    Some(info)
}

/// `HealthCheck` for `liveness`; under Docker else for `readiness`, with patience without end.
pub fn health_check(replica: Replica) -> Option<Json> {
    let template = replica.template;
    let liveness = template.liveness.as_ref().map(|it| (&it.probe, u32::try_from(it.failure_threshold).unwrap_or(1)));
    let stand_in = template.readiness.as_ref().filter(|_| is_docker(template)).map(|probe| (probe, u32::MAX));
    let (probe, failures) = liveness.or(stand_in)?;
    let mut info = timed(probe);
    info["consecutive_failures"] = json!(failures);
    info["grace_period_seconds"] = json!(0.0);
    match (&probe.exec, &probe.http) {
        (Some(exec), _) => {
            info["type"] = json!("COMMAND");
            // Its way into a container is a shell's.
            let line = || exec.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            info["command"] =
                if is_docker(template) { json!({"shell": true, "value": line()}) } else { replica.argv(&exec.command) };
        }
        (None, Some(http)) => {
            info["type"] = json!("HTTP");
            info["http"] = json!({"port": replica.port(probe)?, "path": http.path, "scheme": "http"});
        }
        (None, None) => tcp(&mut info, replica.port(probe)?),
    }
    Some(info)
}

fn tcp(info: &mut Json, port: u64) {
    info["type"] = json!("TCP");
    info["tcp"] = json!({"port": port});
}

impl Replica<'_> {
    fn argv(self, command: &[String]) -> Json {
        let mut info = json!({"shell": false, "value": command.first(), "arguments": command});
        if !self.environment.is_empty() {
            info["environment"] = json!({"variables": self.environment});
        }
        info
    }

    /// The number that it got for the port.
    fn port(self, probe: &Probe) -> Option<u64> {
        self.ports.get(probe.port_among(&self.template.ports)?).copied()
    }
}

fn timed(probe: &Probe) -> Json {
    // Milliseconds of at most an hour are exact.
    #[allow(clippy::cast_precision_loss)]
    let seconds = |ms: i64| ms as f64 / 1000.0;
    json!({
        "delay_seconds": seconds(probe.initial_delay_milliseconds),
        "interval_seconds": seconds(probe.period_milliseconds),
        "timeout_seconds": seconds(probe.timeout_milliseconds),
    })
}

/// Whether a task that runs can serve. `app`: the spec that it was started from, if it is known; of another, what is told counts.
pub fn is_ready(status: &TaskStatus, app: Option<&App>) -> bool {
    let healthy = status.healthy != Some(false);
    let Some(template) = app.map(|app| &app.template).filter(|template| template.readiness.is_some()) else {
        let unknown = app.is_none();
        return healthy && status.check_status.as_ref().filter(|_| unknown).is_none_or(succeeded);
    };
    if is_docker(template) { status.healthy == Some(true) } else { healthy && status.check_status.as_ref().is_some_and(succeeded) }
}

fn succeeded(status: &CheckStatus) -> bool {
    let http = |code: u32| (200..400).contains(&code);
    status.command.exit_code == Some(0) || status.http.status_code.is_some_and(http) || status.tcp.succeeded == Some(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{app, status};
    use super::*;

    fn of(more: &str) -> App {
        let ports = "ports: [{name: http}, {name: admin}]";
        app("web", &format!("{{shell: x, resources: {{cpu: 1, memory: 1Mi}}, {ports}, {more}}}"))
    }

    fn checks(more: &str) -> (Option<Json>, Option<Json>) {
        let template = &of(more).template;
        let replica = Replica { template, ports: &[31_000, 31_001], environment: &[] };
        (check(replica), health_check(replica))
    }

    #[test]
    fn probes_are_told_in_the_words_of_mesos() {
        assert_eq!(checks("prefetch: false"), (None, None));
        let (check, health) = checks(
            "readiness: {http: {path: '/ready?x=1', port: admin}, periodMilliseconds: 250, timeoutMilliseconds: 500, initialDelayMilliseconds: 20},
             liveness: {exec: {command: [test, -f, up]}, failureThreshold: 5}",
        );
        let seen = json!({"delay_seconds": 0.02, "interval_seconds": 0.25, "timeout_seconds": 0.5, "type": "HTTP",
                          "http": {"port": 31_001, "path": "/ready?x=1"}});
        assert_eq!(check, Some(seen));
        let command = json!({"shell": false, "value": "test", "arguments": ["test", "-f", "up"]});
        let seen = json!({"delay_seconds": 0.0, "interval_seconds": 1.0, "timeout_seconds": 1.0, "consecutive_failures": 5,
                          "grace_period_seconds": 0.0, "type": "COMMAND", "command": command});
        assert_eq!(health, Some(seen));
        let (check, health) = checks("readiness: {exec: {command: ['true']}}, liveness: {tcp: {}}");
        assert_eq!(check.unwrap()["command"]["command"]["value"], "true", "a CheckInfo has it one level deeper");
        assert_eq!(health.unwrap()["tcp"], json!({"port": 31_000}));
    }

    #[test]
    fn docker_is_never_asked_for_a_check() {
        let (check, health) = checks("image: web, containerizer: docker, readiness: {exec: {command: [sh, -c, \"it's up\"]}}");
        assert_eq!(check, None);
        let health = health.unwrap();
        assert_eq!(health["consecutive_failures"], u32::MAX);
        assert_eq!(health["command"], json!({"shell": true, "value": r"'sh' '-c' 'it'\''s up'"}));
    }

    fn told(healthy: Option<bool>, check: &Json) -> TaskStatus {
        let check_status = serde_json::from_value(check.clone()).unwrap();
        TaskStatus { healthy, check_status, ..status("t", "TASK_RUNNING", "A") }
    }

    #[test]
    fn readiness_is_what_the_check_found() {
        let checked = of("readiness: {tcp: {}}");
        let results = [
            (json!({"type": "COMMAND", "command": {"exit_code": 0}}), true),
            (json!({"type": "COMMAND", "command": {"exit_code": 7}}), false),
            (json!({"type": "COMMAND", "command": {}}), false),
            (json!({"type": "HTTP", "http": {"status_code": 302}}), true),
            (json!({"type": "HTTP", "http": {"status_code": 404}}), false),
            (json!({"type": "TCP", "tcp": {"succeeded": true}}), true),
            (json!({"type": "TCP", "tcp": {"succeeded": false}}), false),
        ];
        for (check, ready) in results {
            assert_eq!(is_ready(&told(None, &check), Some(&checked)), ready, "{check}");
            assert_eq!(is_ready(&told(None, &check), None), ready, "of another version: {check}");
            assert!(!is_ready(&told(Some(false), &check), Some(&checked)), "{check}");
        }
        assert!(!is_ready(&told(None, &Json::Null), Some(&checked)), "nothing has been found yet");
        assert!(is_ready(&told(None, &Json::Null), None) && is_ready(&told(None, &Json::Null), Some(&of("prefetch: false"))));
    }

    #[test]
    fn under_docker_health_tells_readiness() {
        let checked = of("image: web, containerizer: docker, readiness: {tcp: {}}");
        for (healthy, ready) in [(None, false), (Some(false), false), (Some(true), true)] {
            assert_eq!(is_ready(&told(healthy, &Json::Null), Some(&checked)), ready);
        }
    }
}
