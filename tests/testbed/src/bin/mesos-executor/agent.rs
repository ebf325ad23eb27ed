//! The agent as seen from here: a stream of its events, and a connection for our calls.

use microscaler_testbed::executor::{Settings, timestamp, uuid4};
use microscaler_testbed::wire::{Connection, Records, Request};
use serde_json::{Map, Value, json};
use std::io;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Updates and tasks that the agent has not acknowledged. It learns of them again when we subscribe again.
#[derive(Default)]
pub struct Unacknowledged {
    /// By their uuid, oldest first.
    pub updates: Map<String, Value>,
    /// By task id.
    pub tasks: Map<String, Value>,
}

pub struct Agent {
    settings: Settings,
    headers: String,
    calls: Option<Connection>,
    pub unacknowledged: Unacknowledged,
}

impl Agent {
    pub fn new(settings: Settings) -> Self {
        let headers = settings.headers();
        Self { settings, headers, calls: None, unacknowledged: Unacknowledged::default() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Subscribes, telling all that is unacknowledged.
    ///
    /// # Errors
    /// If the agent is not there, or not ready yet.
    pub fn subscribe(&mut self) -> io::Result<Records> {
        self.calls = None;
        let Unacknowledged { updates, tasks } = &self.unacknowledged;
        let subscribe = json!({
            "unacknowledged_tasks": tasks.values().collect::<Vec<_>>(),
            "unacknowledged_updates": updates.values().collect::<Vec<_>>(),
        });
        let body = self.body("SUBSCRIBE", "subscribe", &subscribe);
        let stream = Connection::open(self.settings.agent, CONNECT_TIMEOUT)?;
        let records = stream.subscribe(self.request(&body))?.map_err(|response| {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            io::Error::other(format!("the agent answers {} {text}", response.status))
        })?;
        Ok(records)
    }

    /// Sends a task's status, if the agent is there; it is resent until acknowledged. `extra` holds further fields.
    pub fn update(&mut self, task_id: &Value, state: &str, extra: Value, is_subscribed: bool) {
        let uuid = uuid4();
        let mut status = json!({
            "task_id": task_id,
            "state": state,
            "source": "SOURCE_EXECUTOR",
            "uuid": uuid,
            "timestamp": timestamp(),
        });
        if let (Value::Object(status), Value::Object(extra)) = (&mut status, extra) {
            status.extend(extra);
        }
        let update = json!({ "status": status });
        let body = self.body("UPDATE", "update", &update);
        self.unacknowledged.updates.insert(uuid, update);
        if is_subscribed && let Err(error) = self.send(&body) {
            // The stream will end too, and the update goes with the next SUBSCRIBE.
            eprintln!("update not sent: {error}");
        }
    }

    /// Writes a call and does not wait for the answer: what counts is the acknowledgement.
    fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let mut connection = match self.calls.take() {
            Some(connection) => connection,
            None => self.open_calls()?,
        };
        connection.push(self.request(body));
        connection.flush()?;
        self.calls = Some(connection);
        Ok(())
    }

    /// A thread reads the answers, so that refusals are in the sandbox's log.
    fn open_calls(&self) -> io::Result<Connection> {
        let connection = Connection::open(self.settings.agent, CONNECT_TIMEOUT)?;
        let mut answers = connection.reader_of_answers()?;
        std::thread::spawn(move || {
            while let Ok(response) = answers.receive() {
                if response.status != 202 {
                    eprintln!("the agent refuses an update: {} {}", response.status, String::from_utf8_lossy(&response.body));
                }
            }
        });
        Ok(connection)
    }

    fn request<'a>(&'a self, body: &'a [u8]) -> Request<'a> {
        Request { method: "POST", path: &self.settings.path, headers: &self.headers, body }
    }

    fn body(&self, kind: &str, field: &str, content: &Value) -> Vec<u8> {
        let call = json!({
            "type": kind,
            "framework_id": { "value": self.settings.framework_id },
            "executor_id": { "value": self.settings.executor_id },
            field: content,
        });
        call.to_string().into_bytes()
    }

    pub fn acknowledged(&mut self, event: &Value) {
        if let Some(uuid) = event["uuid"].as_str() {
            self.unacknowledged.updates.shift_remove(uuid);
        }
        if let Some(task) = event["task_id"]["value"].as_str() {
            self.unacknowledged.tasks.shift_remove(task);
        }
    }
}
