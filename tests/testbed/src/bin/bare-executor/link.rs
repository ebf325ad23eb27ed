//! The two connections to the agent: the stream of its events, and the one for our calls, kept open.

use microscaler_testbed::executor::Settings;
use microscaler_testbed::wire::{Connection, Records, Request};
use serde_json::{Value, json};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Link {
    events: Records,
    calls: Connection,
}

impl Link {
    /// Subscribes. `tasks` and `updates` are what the agent has not acknowledged.
    pub fn open(settings: &Settings, headers: &str, tasks: &[&Value], updates: &[&str]) -> io::Result<Self> {
        let body = format!(
            r#"{{"type":"SUBSCRIBE",{},"subscribe":{{"unacknowledged_tasks":{},"unacknowledged_updates":[{}]}}}}"#,
            ids(settings),
            json!(tasks),
            updates.join(",")
        );
        let request = Request { method: "POST", path: &settings.path, headers, body: body.as_bytes() };
        let events = Connection::open(settings.agent, CONNECT_TIMEOUT)?.subscribe(request)?.map_err(|response| {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            io::Error::other(format!("the agent answers {} {text}", response.status))
        })?;
        Ok(Self { events, calls: Connection::open(settings.agent, CONNECT_TIMEOUT)? })
    }

    /// The sockets of the events and of the answers, to wait for. Both are closed with this value: hence borrowed.
    pub fn sockets(&self) -> (impl AsFd, impl AsFd) {
        (self.events.as_fd(), self.calls.as_fd())
    }

    /// Writes a call and does not wait for its answer: what counts is the acknowledgement.
    pub fn send(&mut self, request: Request) -> io::Result<()> {
        self.calls.push(request);
        self.calls.flush()
    }

    /// To be called when there are events: hands them all on.
    pub fn take_events(&mut self) -> io::Result<Vec<Value>> {
        let mut taken = Vec::new();
        loop {
            let record = self.events.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            taken.push(serde_json::from_slice(record)?);
            if !self.events.has_buffered() {
                return Ok(taken);
            }
        }
    }

    /// To be called when there are answers: refusals go to the sandbox's log.
    pub fn take_answers(&mut self) -> io::Result<()> {
        loop {
            let response = self.calls.receive()?;
            if response.status != 202 {
                eprintln!("the agent refuses a call: {} {}", response.status, String::from_utf8_lossy(&response.body));
            }
            if !self.calls.has_buffered() {
                return Ok(());
            }
        }
    }
}

/// The members that every call has.
pub fn ids(settings: &Settings) -> String {
    let (framework, executor) = (json!(settings.framework_id), json!(settings.executor_id));
    format!(r#""framework_id":{{"value":{framework}}},"executor_id":{{"value":{executor}}}"#)
}
