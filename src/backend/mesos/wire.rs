//! The v1 scheduler API in JSON, as far as it is used (`include/mesos/v1/scheduler/scheduler.proto`, Mesos 1.11).
//!
//! What is not known is ignored: fields by serde, event types by [`Incoming::event`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::engine::clock;

/// Before maintenance begins, an agent is used until so long ahead of it.
const MAINTENANCE_AHEAD: Duration = Duration::from_hours(1);

/// `{"value": …}`, the form of every id and scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Value<T> {
    pub value: T,
}

pub type Id = Value<Arc<str>>;

impl<T> From<T> for Value<T> {
    fn from(value: T) -> Self {
        Self { value }
    }
}

/// An event as it stands on the wire.
#[derive(Debug, Deserialize)]
pub struct Incoming {
    #[serde(rename = "type", default)]
    kind: String,
    subscribed: Option<Subscribed>,
    offers: Option<Offers>,
    rescind: Option<Rescind>,
    update: Option<Update>,
    failure: Option<Failure>,
    error: Option<Failed>,
}

/// An event that means something here.
#[derive(Debug)]
pub enum Event {
    Subscribed(Subscribed),
    Offers(Vec<Offer>),
    Rescind(Arc<str>),
    Update(TaskStatus),
    Failure(Failure),
    Error(String),
    Heartbeat,
    /// Of a type that is not used here, by its name.
    Other(String),
}

impl Incoming {
    pub fn event(self) -> Event {
        match self {
            Self { subscribed: Some(it), .. } => Event::Subscribed(it),
            Self { offers: Some(it), .. } => Event::Offers(it.offers),
            Self { rescind: Some(it), .. } => Event::Rescind(it.offer_id.value),
            Self { update: Some(it), .. } => Event::Update(it.status),
            Self { failure: Some(it), .. } => Event::Failure(it),
            Self { error: Some(it), .. } => Event::Error(it.message),
            Self { kind, .. } if kind == "HEARTBEAT" => Event::Heartbeat,
            Self { kind, .. } => Event::Other(kind),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Subscribed {
    pub framework_id: Id,
    #[serde(default = "fifteen")]
    pub heartbeat_interval_seconds: f64,
}

fn fifteen() -> f64 {
    15.0
}

#[derive(Debug, Deserialize)]
struct Offers {
    #[serde(default)]
    offers: Vec<Offer>,
}

#[derive(Debug, Deserialize)]
struct Rescind {
    offer_id: Id,
}

#[derive(Debug, Deserialize)]
struct Update {
    status: TaskStatus,
}

/// An agent is gone, or (with an executor) an executor has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Failure {
    pub agent_id: Option<Id>,
    pub executor_id: Option<Id>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    #[serde(default)]
    message: String,
}

/// Room on an agent that is ours to use until it is accepted, declined or rescinded.
#[derive(Clone, Debug, Deserialize)]
pub struct Offer {
    pub id: Id,
    pub agent_id: Id,
    #[serde(default)]
    pub hostname: Arc<str>,
    #[serde(default)]
    pub resources: Vec<Resource>,
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// Maintenance is planned.
    pub unavailability: Option<Json>,
}

/// Whether maintenance begins within [`MAINTENANCE_AHEAD`], or may have begun.
pub fn is_soon(unavailability: &Json) -> bool {
    let start = unavailability["start"]["nanoseconds"].as_u64().unwrap_or(0);
    !clock::is_ahead(UNIX_EPOCH + Duration::from_nanos(start), MAINTENANCE_AHEAD)
}

/// A resource with its role, reservations and whatever else it carries: a task's share has to carry the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Value<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocable: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Json>,
    #[serde(flatten)]
    pub rest: Map<String, Json>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    #[serde(default)]
    pub range: Vec<Range>,
}

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub begin: u64,
    pub end: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub text: Option<Value<String>>,
    pub scalar: Option<Value<f64>>,
    pub ranges: Option<Ranges>,
}

/// Attributes as plain text, for conditions on agents.
pub fn attributes(attributes: &[Attribute]) -> BTreeMap<String, String> {
    let text = |attribute: &Attribute| match attribute {
        Attribute { text: Some(text), .. } => text.value.clone(),
        Attribute { scalar: Some(scalar), .. } => scalar.value.to_string(),
        Attribute { ranges: Some(ranges), .. } => {
            let ranges: Vec<_> = ranges.range.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
            format!("[{}]", ranges.join(", "))
        }
        _ => String::new(),
    };
    attributes.iter().map(|attribute| (attribute.name.clone(), text(attribute))).collect()
}

/// How a task stands.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskStatus {
    pub task_id: Id,
    pub agent_id: Option<Id>,
    pub state: State,
    pub reason: Option<String>,
    #[serde(default)]
    pub message: Arc<str>,
    /// Present when it has to be acknowledged.
    pub uuid: Option<Arc<str>>,
    pub healthy: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    TaskStaging,
    TaskStarting,
    TaskRunning,
    TaskKilling,
    TaskFinished,
    TaskFailed,
    TaskKilled,
    TaskError,
    TaskDropped,
    TaskLost,
    TaskUnreachable,
    TaskGone,
    TaskGoneByOperator,
    TaskUnknown,
    /// One that a later Mesos may add.
    #[serde(other)]
    Other,
}

/// A call other than SUBSCRIBE. The framework's id and the stream's id are added where it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Call {
    Acknowledge { acknowledge: Acknowledge },
    Kill { kill: Kill },
    Accept { accept: Accept },
    Decline { decline: Decline },
    Suppress { suppress: Roles },
    Revive { revive: Roles },
    Reconcile { reconcile: Reconcile },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Acknowledge {
    pub agent_id: Id,
    pub task_id: Id,
    pub uuid: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "as Mesos names them")]
pub struct Kill {
    pub task_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KillPolicy {
    pub grace_period: Nanoseconds,
}

impl KillPolicy {
    pub fn of_ms(ms: u64) -> Self {
        Self { grace_period: Nanoseconds { nanoseconds: ms.saturating_mul(1_000_000) } }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nanoseconds {
    pub nanoseconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accept {
    pub offer_ids: Vec<Id>,
    pub operations: Vec<Operation>,
    pub filters: Filters,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    Launch { launch: LaunchTasks },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchTasks {
    pub task_infos: Vec<TaskInfo>,
}

/// Always written: without it Mesos withholds what was left for 5 s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Filters {
    pub refuse_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decline {
    pub offer_ids: Vec<Id>,
    pub filters: Filters,
}

/// Never empty: an empty list means all roles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roles {
    pub roles: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconcile {
    /// Empty: all that the master knows ("implicit").
    pub tasks: Vec<ReconcileTask>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReconcileTask {
    pub task_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Id>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskInfo {
    pub name: String,
    pub task_id: Id,
    pub agent_id: Id,
    pub resources: Vec<Resource>,
    pub command: CommandInfo,
    pub kill_policy: KillPolicy,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandInfo {
    pub shell: bool,
    pub value: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Environment {
    pub variables: Vec<Variable>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Labels {
    pub labels: Vec<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

impl Call {
    pub fn kill(task: &Arc<str>, agent: Option<&Arc<str>>, grace_ms: Option<u64>) -> Self {
        Self::Kill {
            kill: Kill {
                task_id: task.clone().into(),
                agent_id: agent.cloned().map(Value::from),
                kill_policy: grace_ms.map(KillPolicy::of_ms),
            },
        }
    }

    pub fn decline(offers: impl IntoIterator<Item = Arc<str>>, refuse_seconds: f64) -> Self {
        let offer_ids = offers.into_iter().map(Value::from).collect();
        Self::Decline { decline: Decline { offer_ids, filters: Filters { refuse_seconds } } }
    }

    pub fn revive(role: &str) -> Self {
        Self::Revive { revive: Roles { roles: vec![role.to_owned()] } }
    }

    pub fn suppress(role: &str) -> Self {
        Self::Suppress { suppress: Roles { roles: vec![role.to_owned()] } }
    }

    pub fn reconcile(tasks: Vec<ReconcileTask>) -> Self {
        Self::Reconcile { reconcile: Reconcile { tasks } }
    }

    /// As metrics name it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Acknowledge { .. } => Kind::Acknowledge,
            Self::Kill { .. } => Kind::Kill,
            Self::Accept { .. } => Kind::Accept,
            Self::Decline { .. } => Kind::Decline,
            Self::Suppress { .. } => Kind::Suppress,
            Self::Revive { .. } => Kind::Revive,
            Self::Reconcile { .. } => Kind::Reconcile,
        }
    }
}

/// The kinds of calls, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Acknowledge,
    Kill,
    Accept,
    Decline,
    Suppress,
    Revive,
    Reconcile,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Acknowledge, Self::Kill, Self::Accept, Self::Decline, Self::Suppress, Self::Revive, Self::Reconcile];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Kill => "kill",
            Self::Accept => "accept",
            Self::Decline => "decline",
            Self::Suppress => "suppress",
            Self::Revive => "revive",
            Self::Reconcile => "reconcile",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Event {
        serde_json::from_str::<Incoming>(text).unwrap().event()
    }

    #[test]
    fn unknown_events_and_fields_are_ignored() {
        assert!(matches!(read(r#"{"type":"COFFEE","coffee":{"hot":true}}"#), Event::Other(kind) if kind == "COFFEE"));
        assert!(matches!(read(r#"{"type":"HEARTBEAT","later":1}"#), Event::Heartbeat));
        let update = r#"{"type":"UPDATE","update":{"status":{"task_id":{"value":"t"},"state":"TASK_ASLEEP","new":[]}}}"#;
        assert!(matches!(read(update), Event::Update(TaskStatus { state: State::Other, .. })));
    }

    #[test]
    fn errors_are_nested() {
        assert!(
            matches!(read(r#"{"type":"ERROR","error":{"message":"Framework failed over"}}"#), Event::Error(m) if m == "Framework failed over")
        );
    }

    #[test]
    fn calls_have_the_forms_that_the_master_reads() {
        let json = |call: &Call| serde_json::to_string(call).unwrap();
        assert_eq!(json(&Call::revive("web")), r#"{"type":"REVIVE","revive":{"roles":["web"]}}"#);
        assert_eq!(json(&Call::reconcile(Vec::new())), r#"{"type":"RECONCILE","reconcile":{"tasks":[]}}"#);
        assert_eq!(
            json(&Call::kill(&"t".into(), Some(&"a".into()), Some(0))),
            r#"{"type":"KILL","kill":{"task_id":{"value":"t"},"agent_id":{"value":"a"},"kill_policy":{"grace_period":{"nanoseconds":0}}}}"#
        );
        assert_eq!(
            json(&Call::decline(["o".into()], 300.0)),
            r#"{"type":"DECLINE","decline":{"offer_ids":[{"value":"o"}],"filters":{"refuse_seconds":300.0}}}"#
        );
    }

    #[test]
    fn a_resource_keeps_what_it_carries() {
        let text = r#"{"name":"cpus","type":"SCALAR","scalar":{"value":2.0},"reservations":[{"role":"web","type":"STATIC"}],"allocation_info":{"role":"web"},"provider_id":{"value":"p"}}"#;
        let resource: Resource = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&resource).unwrap(), text);
    }

    #[test]
    fn attributes_read_as_text() {
        let read: Vec<Attribute> = serde_json::from_str(
            r#"[{"name":"rack","type":"TEXT","text":{"value":"r1"}},{"name":"cores","type":"SCALAR","scalar":{"value":8.0}},
                {"name":"span","type":"RANGES","ranges":{"range":[{"begin":1,"end":3}]}}]"#,
        )
        .unwrap();
        let read = attributes(&read);
        assert_eq!((read["rack"].as_str(), read["cores"].as_str(), read["span"].as_str()), ("r1", "8", "[1-3]"));
    }
}
