//! What the agent has been told and has not acknowledged. It is told again after each SUBSCRIBE, in the same order.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::status::Status;
use super::wire::{Id, Value};
use crate::engine::clock;

/// Tasks and updates, oldest first.
///
/// A task counts as unacknowledged until its first update is acknowledged: by what is missing here, a restarted agent sees which of its
/// tasks have never arrived.
#[derive(Debug)]
pub struct Told {
    framework_id: Value<String>,
    executor_id: Value<String>,
    tasks: VecDeque<(Arc<str>, Box<RawValue>)>,
    updates: VecDeque<(String, Box<RawValue>)>,
    /// How many updates at the end have not been told yet.
    untold: usize,
}

#[derive(Serialize)]
struct Call<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    framework_id: &'a Value<String>,
    executor_id: &'a Value<String>,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct Subscribe<'a> {
    subscribe: Unacknowledged<'a>,
}

#[derive(Serialize)]
struct Unacknowledged<'a> {
    unacknowledged_tasks: Vec<&'a RawValue>,
    unacknowledged_updates: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct Message {
    message: Data,
}

#[derive(Serialize)]
struct Data {
    data: String,
}

#[derive(Serialize)]
struct Content<'a> {
    update: &'a RawValue,
}

#[derive(Serialize)]
struct Update {
    status: Stamped,
}

#[derive(Serialize)]
struct Stamped {
    #[serde(flatten)]
    status: Status,
    source: &'static str,
    uuid: String,
    timestamp: f64,
    executor_id: Id,
}

impl Told {
    pub fn new(framework_id: &str, executor_id: &str) -> Self {
        let value = |text: &str| Value { value: text.to_owned() };
        let (tasks, updates) = (VecDeque::new(), VecDeque::new());
        Self { framework_id: value(framework_id), executor_id: value(executor_id), tasks, updates, untold: 0 }
    }

    pub fn task(&mut self, id: Arc<str>, raw: Box<RawValue>) {
        self.tasks.push_back((id, raw));
    }

    /// Notes the update; [`Self::untold`] or [`Self::subscribe`] tells it.
    pub fn update(&mut self, status: Status) {
        let uuid = uuid4();
        let executor_id = Id { value: self.executor_id.value.as_str().into() };
        let timestamp = clock::timestamp().as_duration().as_secs_f64();
        let status = Stamped { status, source: "SOURCE_EXECUTOR", uuid: uuid.clone(), timestamp, executor_id };
        // Text, numbers and names of our own can always be rendered.
        if let Ok(update) = to_raw_value(&Update { status }) {
            self.updates.push_back((uuid, update));
            self.untold += 1;
        }
    }

    /// Calls with the updates that have not been told yet.
    pub fn untold(&mut self) -> Vec<Vec<u8>> {
        let told = self.updates.len() - std::mem::take(&mut self.untold);
        self.updates.iter().skip(told).map(|(_, update)| self.call("UPDATE", Content { update })).collect()
    }

    pub fn acknowledged(&mut self, task_id: &str, uuid: &str) {
        // Acknowledgements come about in the order of what they acknowledge: the search ends early.
        if let Some(index) = self.updates.iter().position(|(known, _)| known == uuid) {
            self.updates.remove(index);
            self.untold = self.untold.min(self.updates.len());
        }
        if let Some(index) = self.tasks.iter().position(|(known, _)| **known == *task_id) {
            self.tasks.remove(index);
        }
    }

    /// Whether every update has been acknowledged.
    pub fn is_settled(&self) -> bool {
        self.updates.is_empty()
    }

    /// The call that tells everything again.
    pub fn subscribe(&mut self) -> Vec<u8> {
        self.untold = 0;
        let subscribe = Unacknowledged {
            unacknowledged_tasks: self.tasks.iter().map(|(_, raw)| raw.as_ref()).collect(),
            unacknowledged_updates: self.updates.iter().map(|(_, raw)| raw.as_ref()).collect(),
        };
        self.call("SUBSCRIBE", Subscribe { subscribe })
    }

    pub fn message(&self, data: &[u8]) -> Vec<u8> {
        self.call("MESSAGE", Message { message: Data { data: STANDARD.encode(data) } })
    }

    fn call(&self, kind: &'static str, content: impl Serialize) -> Vec<u8> {
        let call = Call { kind, framework_id: &self.framework_id, executor_id: &self.executor_id, content };
        // Text of our own and JSON that has been read can always be rendered.
        serde_json::to_vec(&call).unwrap_or_default()
    }
}

/// A random (version 4) UUID, in base64 as JSON carries bytes. The agent refuses other versions.
fn uuid4() -> String {
    let mut bytes = [0; 16];
    // Sixteen bytes never come short, and the call cannot fail once the system is up.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    STANDARD.encode(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::super::status::State;
    use super::*;
    use serde_json::Value as Json;

    fn json(call: &[u8]) -> Json {
        serde_json::from_slice(call).unwrap()
    }

    /// All statuses in an UPDATE or a SUBSCRIBE.
    pub fn statuses(call: &[u8]) -> Vec<Json> {
        let call = json(call);
        let again = call["subscribe"]["unacknowledged_updates"].as_array().cloned().unwrap_or_default();
        let updates = again.into_iter().chain(call.get("update").cloned());
        updates.map(|mut update| update["status"].take()).collect()
    }

    fn told() -> Told {
        let mut told = Told::new("F", "E");
        for id in ["a", "b"] {
            let raw = format!(r#"{{"task_id":{{"value":"{id}"}},"x":1.10}}"#);
            told.task(id.into(), RawValue::from_string(raw).unwrap());
        }
        told
    }

    fn update(told: &mut Told, id: &str, state: State) -> Json {
        told.update(Status::new(&id.into(), state));
        let calls = told.untold();
        assert_eq!(calls.len(), 1);
        json(&calls[0])
    }

    #[test]
    fn an_update_says_all_that_the_agent_wants() {
        let call = update(&mut told(), "a", State::Running);
        assert_eq!((&call["type"], &call["framework_id"]["value"]), (&"UPDATE".into(), &"F".into()));
        let status = &call["update"]["status"];
        assert_eq!((&status["state"], &status["source"]), (&"TASK_RUNNING".into(), &"SOURCE_EXECUTOR".into()));
        assert_eq!(status["executor_id"]["value"], "E");
        let uuid = STANDARD.decode(status["uuid"].as_str().unwrap()).unwrap();
        assert_eq!((uuid.len(), uuid[6] >> 4, uuid[8] >> 6), (16, 4, 2));
        assert!(status["timestamp"].as_f64().unwrap() > 1e9);
    }

    #[test]
    fn what_is_not_acknowledged_is_told_again_in_order() {
        let mut told = told();
        let uuids: Vec<String> = [("a", State::Running), ("b", State::Running), ("a", State::Finished)]
            .map(|(id, state)| update(&mut told, id, state)["update"]["status"]["uuid"].as_str().unwrap().to_owned())
            .to_vec();
        told.acknowledged("a", &uuids[0]);
        told.acknowledged("a", "unknown");
        let subscribe = String::from_utf8(told.subscribe()).unwrap();
        assert!(subscribe.contains(r#""unacknowledged_tasks":[{"task_id":{"value":"b"},"x":1.10}]"#), "{subscribe}");
        let again = &json(subscribe.as_bytes())["subscribe"]["unacknowledged_updates"];
        let states: Vec<_> = again.as_array().unwrap().iter().map(|it| it["status"]["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["TASK_RUNNING", "TASK_FINISHED"]);
        assert_eq!(again[0]["status"]["uuid"], uuids[1].as_str());
        assert!(!told.is_settled());
        uuids.iter().for_each(|uuid| told.acknowledged("b", uuid));
        assert!(told.is_settled());
    }

    #[test]
    fn what_comes_up_while_subscribing_is_told_afterwards() {
        let mut told = told();
        told.update(Status::new(&"a".into(), State::Finished));
        let subscribe = json(&told.subscribe());
        assert_eq!(subscribe["subscribe"]["unacknowledged_updates"].as_array().unwrap().len(), 1);
        told.update(Status::new(&"b".into(), State::Finished));
        let later = told.untold();
        assert_eq!(later.len(), 1);
        assert_eq!(json(&later[0])["update"]["status"]["task_id"]["value"], "b");
        assert!(told.untold().is_empty());
    }

    #[test]
    fn a_message_is_bytes() {
        assert_eq!(json(&told().message(b"{}"))["message"]["data"], "e30=");
    }
}
