//! The v1 scheduler API in JSON, as far as it is used (`include/mesos/v1/scheduler/scheduler.proto`, Mesos 1.11).
//!
//! What is not known is ignored: fields by serde, event types by [`Incoming::event`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

pub use self::call::*;
pub use self::task::*;
use crate::engine::clock;

mod call;
mod task;

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
    inverse_offers: Option<InverseOffers>,
    rescind_inverse_offer: Option<RescindInverse>,
    update: Option<Update>,
    failure: Option<Failure>,
    message: Option<Message>,
    error: Option<Failed>,
}

/// An event that means something here.
#[derive(Debug)]
pub enum Event {
    Subscribed(Subscribed),
    Offers(Vec<Offer>),
    Rescind(Arc<str>),
    InverseOffers(Vec<InverseOffer>),
    RescindInverse(Arc<str>),
    Update(TaskStatus),
    Failure(Failure),
    Message(Message),
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
            Self { inverse_offers: Some(it), .. } => Event::InverseOffers(it.inverse_offers),
            Self { rescind_inverse_offer: Some(it), .. } => Event::RescindInverse(it.inverse_offer_id.value),
            Self { update: Some(it), .. } => Event::Update(it.status),
            Self { failure: Some(it), .. } => Event::Failure(it),
            Self { message: Some(it), .. } => Event::Message(it),
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
struct InverseOffers {
    #[serde(default)]
    inverse_offers: Vec<InverseOffer>,
}

#[derive(Debug, Deserialize)]
struct RescindInverse {
    inverse_offer_id: Id,
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
    /// Of the executor, as `waitpid` tells it.
    pub status: Option<i32>,
}

/// Something that an executor says, or is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub agent_id: Id,
    pub executor_id: Id,
    /// In base64.
    #[serde(default)]
    pub data: String,
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
    /// Our executors there that the master knows, except those of Mesos itself.
    #[serde(default)]
    pub executor_ids: Vec<Id>,
    /// Maintenance is planned.
    pub unavailability: Option<Unavailability>,
}

/// The master asks for the room that we use on an agent, as its maintenance is planned.
#[derive(Clone, Debug, Deserialize)]
pub struct InverseOffer {
    pub id: Id,
    pub agent_id: Option<Id>,
    pub unavailability: Unavailability,
}

/// When maintenance begins by the wall clock.
#[derive(Clone, Debug, Deserialize)]
pub struct Unavailability {
    start: TimeInfo,
}

#[derive(Clone, Debug, Deserialize)]
struct TimeInfo {
    /// Since 1970.
    nanoseconds: i64,
}

impl Unavailability {
    /// How long it is until then; zero where it has begun, or may have.
    pub fn begins_in(&self) -> Duration {
        let since_epoch = Duration::from_nanos(u64::try_from(self.start.nanoseconds).unwrap_or(0));
        clock::wall_until(UNIX_EPOCH + since_epoch)
    }
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
    /// What `TaskInfo.check` has found last.
    pub check_status: Option<CheckStatus>,
    /// Mesos' own executors have the id of their task.
    pub executor_id: Option<Id>,
    /// Who says so: `SOURCE_MASTER`, `SOURCE_AGENT` or `SOURCE_EXECUTOR`.
    pub source: Option<String>,
}

/// A result of a check, which has no result yet if the member of its type is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CheckStatus {
    pub command: CommandStatus,
    pub http: HttpStatus,
    pub tcp: TcpStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct CommandStatus {
    pub exit_code: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct HttpStatus {
    pub status_code: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct TcpStatus {
    pub succeeded: Option<bool>,
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
