//! What the tests share: a Marathon on a Mesos, and its events.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::disallowed_methods, reason = "a real server takes real time")]

use microscaler_testbed::{Agent, Cluster};
use microscaler_testbed_marathon::{Builder, Marathon};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub const LIMIT: Duration = Duration::from_secs(90);
const PROGRAM: &str = env!("CARGO_BIN_EXE_marathon-local");

/// Two agents of 8 cpus, as in the recordings.
pub struct Rig {
    /// Dropped first.
    pub marathon: Marathon,
    pub cluster: Cluster,
}

impl Rig {
    /// Without the seconds that Marathon takes between offers.
    pub fn start() -> Self {
        Self::with(|builder| builder.flag("min_revive_offers_interval", "50"))
    }

    pub fn with(change: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Self {
        let agent = || Agent::default().resources("cpus:8;mem:8192;disk:1000;ports:[31000-32000]");
        let builder = Cluster::builder().agent(agent()).agent(agent()).fast_failure_detection();
        let cluster = builder.master_flag("allocation_interval", "50ms").start().unwrap();
        let marathon = change(Marathon::builder(&cluster).program(PROGRAM)).start().unwrap();
        Self { marathon, cluster }
    }

    pub fn create(&self, id: &str, instances: usize, change: impl FnOnce(&mut Value)) {
        let mut app = json!({ "id": id, "cmd": "exec sleep 100000", "cpus": 0.05, "mem": 16, "instances": instances });
        change(&mut app);
        let (status, answer) = self.marathon.send("POST", "/v2/apps", &app).unwrap();
        assert_eq!(status, 201, "{answer}");
    }

    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.marathon.send("PUT", path, body).unwrap()
    }

    pub fn scale(&self, id: &str, instances: usize) -> (u16, Value) {
        self.put(&format!("/v2/apps{id}"), &json!({ "instances": instances }))
    }

    pub fn app(&self, id: &str) -> Value {
        self.marathon.get(&format!("/v2/apps{id}")).unwrap()["app"].clone()
    }

    /// The ids of the app's tasks.
    pub fn tasks(&self, id: &str) -> Vec<String> {
        let tasks = self.app(id)["tasks"].clone();
        tasks.as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }

    pub fn deployments(&self) -> Vec<Value> {
        self.marathon.get("/v2/deployments").unwrap().as_array().unwrap().clone()
    }

    pub fn wait_for_running(&self, id: &str, count: usize) {
        wait(|| {
            let app = self.app(id);
            let is_so = app["tasksRunning"] == count && app["tasksStaged"] == 0 && app["deployments"] == json!([]);
            is_so.then_some(()).ok_or_else(|| app.to_string())
        });
    }

    pub fn events(&self, query: &str) -> Events {
        Events::attach(&self.marathon.url(), query)
    }
}

/// Waits until it is so; otherwise, what was last.
pub fn wait<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match look() {
            Ok(found) => return found,
            Err(state) => assert!(Instant::now() < deadline, "not so: {state}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A line without its end, or the end of the stream.
type Line = Option<String>;

/// An event stream, read on a thread.
pub struct Events {
    pub head: Vec<String>,
    lines: Receiver<Line>,
}

impl Events {
    pub fn attach(url: &str, query: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        let request = format!("GET /v2/events{query} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(socket);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                assert!(line.ends_with("\r\n"), "{line:?}");
                if sender.send(Some(line.trim_end().to_owned())).is_err() {
                    return;
                }
                line.clear();
            }
            let _ = sender.send(None);
        });
        let mut events = Self { head: Vec::new(), lines };
        loop {
            match events.line().expect("an answer") {
                line if line.is_empty() => return events,
                line => events.head.push(line),
            }
        }
    }

    pub fn line(&mut self) -> Line {
        self.lines.recv_timeout(LIMIT).expect("a line within the limit")
    }

    /// The next event, heartbeats passed over; none at the end.
    pub fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let line = self.line()?;
            if let Some(kind) = line.strip_prefix("event: ") {
                let data = self.line()?;
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(self.line()?, "");
                return Some((kind.to_owned(), data));
            }
            assert_eq!(line, "", "neither an event nor a heartbeat");
        }
    }

    /// All events up to the first of that kind, with it.
    pub fn until(&mut self, kind: &str) -> Vec<(String, Value)> {
        self.until_so(|event, _| event == kind)
    }

    pub fn until_so(&mut self, mut is_last: impl FnMut(&str, &Value) -> bool) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        loop {
            let (kind, data) = self.next().expect("the stream goes on");
            let ends = is_last(&kind, &data);
            all.push((kind, data));
            if ends {
                return all;
            }
        }
    }
}

/// The kinds, each with what tells instances and tasks apart.
pub fn kinds(events: &[(String, Value)]) -> Vec<String> {
    let name = |(kind, data): &(String, Value)| match kind.as_str() {
        "instance_changed_event" => format!("instance {}", data["condition"].as_str().unwrap()),
        "status_update_event" => data["taskStatus"].as_str().unwrap().to_owned(),
        _ => kind.clone(),
    };
    events.iter().map(name).collect()
}
