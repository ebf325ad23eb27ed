//! The v1 executor API in JSON, as far as it is used (`include/mesos/v1/executor/executor.proto`, Mesos 1.11).
//!
//! What is not known is ignored: fields by serde, event types by [`Event::read`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// `{"value": …}`, the form of every id and scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value<T> {
    pub value: T,
}

pub type Id = Value<Arc<str>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    subscribed: Subscribed,
    launch: Option<Launch>,
    launch_group: Option<LaunchGroup>,
    kill: Option<Kill>,
    acknowledged: Option<Acknowledged>,
    error: Failure,
}

/// An event of the agent that means something here.
#[derive(Debug)]
pub enum Event {
    /// Whether the framework wants to hear TASK_KILLING.
    Subscribed {
        wants_killing: bool,
    },
    Launch(Box<Task>),
    LaunchGroup(Vec<Task>),
    Kill(Kill),
    Acknowledged {
        task_id: Arc<str>,
        uuid: String,
    },
    Message,
    Shutdown,
    Error(String),
    /// Of a type that is not used here, by its name.
    Other(String),
}

/// A task and its TaskInfo as it came: the agent wants it back when it has been restarted.
#[derive(Debug)]
pub struct Task {
    pub info: TaskInfo,
    pub raw: Box<RawValue>,
}

impl Event {
    /// # Errors
    /// When it is not JSON of that form.
    pub fn read(record: &[u8]) -> serde_json::Result<Self> {
        let incoming: Incoming = serde_json::from_slice(record)?;
        Ok(match incoming {
            Incoming { kind, subscribed, .. } if kind == "SUBSCRIBED" => {
                Self::Subscribed { wants_killing: subscribed.wants_killing() }
            }
            Incoming { launch: Some(it), .. } => Self::Launch(Box::new(task(it.task)?)),
            Incoming { launch_group: Some(it), .. } => {
                Self::LaunchGroup(it.task_group.tasks.into_iter().map(task).collect::<Result<_, _>>()?)
            }
            Incoming { kill: Some(it), .. } => Self::Kill(it),
            Incoming { acknowledged: Some(it), .. } => Self::Acknowledged { task_id: it.task_id.value, uuid: it.uuid },
            Incoming { kind, error, .. } => match kind.as_str() {
                "MESSAGE" => Self::Message,
                "SHUTDOWN" => Self::Shutdown,
                "ERROR" => Self::Error(error.message),
                _ => Self::Other(kind),
            },
        })
    }
}

fn task(raw: Box<RawValue>) -> serde_json::Result<Task> {
    Ok(Task { info: serde_json::from_str(raw.get())?, raw })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subscribed {
    framework_info: FrameworkInfo,
}

impl Subscribed {
    fn wants_killing(&self) -> bool {
        self.framework_info.capabilities.iter().any(|capability| capability.kind == "TASK_KILLING_STATE")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FrameworkInfo {
    capabilities: Vec<Capability>,
}

#[derive(Debug, Deserialize)]
struct Capability {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Launch {
    task: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
struct LaunchGroup {
    task_group: TaskGroup,
}

#[derive(Debug, Deserialize)]
struct TaskGroup {
    #[serde(default)]
    tasks: Vec<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
pub struct Kill {
    pub task_id: Id,
    #[serde(default)]
    pub kill_policy: KillPolicy,
}

#[derive(Debug, Deserialize)]
struct Acknowledged {
    task_id: Id,
    uuid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failure {
    message: String,
}

/// What is read of a TaskInfo.
#[derive(Debug, Deserialize)]
pub struct TaskInfo {
    pub task_id: Id,
    /// [`Work`](super::words::Work) as JSON in base64.
    #[serde(default)]
    pub data: String,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    pub kill_policy: KillPolicy,
    pub check: Option<Check>,
    pub health_check: Option<Check>,
    max_completion_time: Option<Nanoseconds>,
}

impl TaskInfo {
    /// The amount of a scalar resource over all its parts (reserved, revocable, …); none if there is no part.
    pub fn scalar(&self, name: &str) -> Option<f64> {
        let parts = self.resources.iter().filter(|resource| resource.name == name).map(|resource| resource.scalar.value);
        parts.reduce(|sum, part| sum + part)
    }

    /// How long it may run; none is without end.
    pub fn time_limit(&self) -> Option<Duration> {
        self.max_completion_time.as_ref().map(Nanoseconds::duration).filter(|limit| !limit.is_zero())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    name: String,
    scalar: Value<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct KillPolicy {
    grace_period: Option<Nanoseconds>,
}

impl KillPolicy {
    pub fn grace(&self) -> Option<Duration> {
        self.grace_period.as_ref().map(Nanoseconds::duration)
    }
}

#[derive(Debug, Deserialize)]
struct Nanoseconds {
    #[serde(default)]
    nanoseconds: i64,
}

impl Nanoseconds {
    fn duration(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.try_into().unwrap_or(0))
    }
}

/// A CheckInfo or a HealthCheck: they differ in where a command stands, and in what only the latter has.
#[derive(Debug, Deserialize)]
pub struct Check {
    #[serde(rename = "type", default)]
    pub kind: CheckKind,
    #[serde(default, deserialize_with = "command")]
    pub command: Option<CommandInfo>,
    pub http: Option<HttpCheck>,
    pub tcp: Option<TcpCheck>,
    #[serde(default = "fifteen")]
    pub delay_seconds: f64,
    #[serde(default = "ten")]
    pub interval_seconds: f64,
    #[serde(default = "twenty")]
    pub timeout_seconds: f64,
    #[serde(default = "three")]
    pub consecutive_failures: u32,
    #[serde(default = "ten")]
    pub grace_period_seconds: f64,
}

fn fifteen() -> f64 {
    15.0
}

fn ten() -> f64 {
    10.0
}

fn twenty() -> f64 {
    20.0
}

fn three() -> u32 {
    3
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckKind {
    Command,
    Http,
    Tcp,
    #[default]
    #[serde(other)]
    Unknown,
}

/// `CheckInfo.command.command`, and `HealthCheck.command`.
fn command<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CommandInfo>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Nested { command: CommandInfo },
        Flat(CommandInfo),
    }
    Ok(Some(match Either::deserialize(from)? {
        Either::Nested { command } | Either::Flat(command) => command,
    }))
}

#[derive(Clone, Debug, Deserialize)]
pub struct CommandInfo {
    #[serde(default = "yes")]
    pub shell: bool,
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub arguments: Vec<String>,
    #[serde(default)]
    pub environment: Environment,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Environment {
    #[serde(default)]
    pub variables: Vec<Variable>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Variable {
    pub name: String,
    #[serde(default)]
    pub value: String,
}

#[derive(Debug, Deserialize)]
pub struct HttpCheck {
    pub port: u16,
    pub path: Option<String>,
    pub scheme: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct TcpCheck {
    pub port: u16,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let read = |text: &str| Event::read(text.as_bytes()).unwrap();
        let subscribed =
            r#"{"type":"SUBSCRIBED","subscribed":{"framework_info":{"capabilities":[{"type":"TASK_KILLING_STATE"}]}}}"#;
        assert!(matches!(read(subscribed), Event::Subscribed { wants_killing: true }));
        assert!(matches!(read(r#"{"type":"SUBSCRIBED"}"#), Event::Subscribed { wants_killing: false }));
        let ack = r#"{"type":"ACKNOWLEDGED","acknowledged":{"task_id":{"value":"t"},"uuid":"u=="}}"#;
        assert!(matches!(read(ack), Event::Acknowledged { task_id, uuid } if &*task_id == "t" && uuid == "u=="));
        let kill = r#"{"type":"KILL","kill":{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":5000000}}}}"#;
        assert!(matches!(read(kill), Event::Kill(kill) if kill.kill_policy.grace() == Some(Duration::from_millis(5))));
        assert!(matches!(read(r#"{"type":"SHUTDOWN"}"#), Event::Shutdown));
        assert!(matches!(read(r#"{"type":"HEARTBEAT"}"#), Event::Other(kind) if kind == "HEARTBEAT"));
    }

    #[test]
    fn a_task_is_kept_as_it_came() {
        let info = r#"{"task_id":{"value":"t"},"extra":1.10,"resources":[{"name":"mem","scalar":{"value":32}},{"name":"mem","scalar":{"value":1.5}}]}"#;
        let Event::Launch(task) = Event::read(format!(r#"{{"type":"LAUNCH","launch":{{"task":{info}}}}}"#).as_bytes()).unwrap()
        else {
            panic!("no launch")
        };
        assert_eq!(task.raw.get(), info);
        assert_eq!((task.info.scalar("mem"), task.info.scalar("cpus")), (Some(33.5), None));
    }

    #[test]
    fn both_forms_of_a_command_are_read() {
        let read = |text: &str| serde_json::from_str::<Check>(text).unwrap();
        let health = read(r#"{"type":"COMMAND","command":{"value":"true"}}"#);
        assert_eq!((health.command.unwrap().value.as_str(), health.delay_seconds), ("true", 15.0));
        let check =
            read(r#"{"type":"COMMAND","command":{"command":{"shell":false,"value":"/bin/true"}},"interval_seconds":0.2}"#);
        assert_eq!((check.command.unwrap().shell, check.interval_seconds), (false, 0.2));
        assert_eq!(read(r#"{"type":"GRPC"}"#).kind, CheckKind::Unknown);
    }
}
