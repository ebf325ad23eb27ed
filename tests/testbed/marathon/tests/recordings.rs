//! The server is held to recordings of a real Marathon 1.11.26: the same requests in the same order are answered with the same status,
//! reason phrase and headers, with the same JSON to its names and types, and errors to the letter.
//!
//! `recordings/*.json` is condensed from them: one topic a file, with `shared.json` for what occurs often. `pause` is where the recorder
//! waited for deployments to end.
#![allow(clippy::disallowed_methods, reason = "a real server takes real time")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Rig, wait};

/// A pause is over when no deployment is left, or then: some hang, and shall.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

fn recording(name: &str) -> Value {
    let path = format!("{}/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
}

/// How Mesos goes on while a topic is replayed.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// It does.
    Live,
    /// It is halted except in pauses, so that what was locked in the recording is.
    Halted,
    /// Each request waits for the end of the deployments before it, which were quick in the recording.
    Patient,
}

struct Replay<'a> {
    rig: &'a Rig,
    /// The process that is asked.
    process: usize,
    shared: Value,
    /// What ids of the recording are here.
    ids: BTreeMap<String, String>,
    problems: Vec<String>,
}

/// Replays a topic, and tells all differences.
fn replay(rig: &Rig, process: usize, topic: &str, pace: Pace) {
    let mut replay = Replay { rig, process, shared: recording("shared"), ids: BTreeMap::new(), problems: Vec::new() };
    let entries = recording(topic);
    let master = rig.cluster.master(0);
    for entry in entries.as_array().unwrap() {
        if entry["pause"] == true || pace == Pace::Patient {
            if pace == Pace::Halted {
                master.resume().unwrap();
            }
            replay.pause();
            if pace == Pace::Halted {
                master.stop().unwrap();
            }
        }
        replay.entry(entry);
    }
    master.resume().unwrap();
    assert!(replay.problems.is_empty(), "{} differences:\n{}", replay.problems.len(), replay.problems.join("\n"));
}

impl Replay<'_> {
    fn pause(&self) {
        let begin = Instant::now();
        // One that wants a password is asked for nothing that takes long.
        while self.rig.marathon.get("/v2/deployments").is_ok_and(|list| list != json!([])) && begin.elapsed() < LONGEST_PAUSE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn entry(&mut self, entry: &Value) {
        let answer = self.ask(entry);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let mut lines = head.lines();
        let status_line = lines.next().unwrap_or_default();
        let name = format!("{} ({})", entry["request"][0].as_str().unwrap(), entry["name"].as_str().unwrap());
        let expected = format!("HTTP/1.1 {} {}", entry["status"], entry["reason"].as_str().unwrap());
        if status_line != expected {
            self.problems.push(format!("{name}: {status_line:?} in place of {expected:?}\n    {body}"));
            return;
        }
        let headers: Vec<&str> = lines.collect();
        self.compare_headers(&name, &self.shared[entry["headers"].as_str().unwrap()].clone(), &headers);
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        if let Some(exactly) = entry.get("exactly") {
            let exactly: Value = serde_json::from_str(&self.translated(&exactly.to_string())).unwrap();
            // Where in the tree of groups the trouble is, is Marathon's secret.
            if json != exactly && !exactly.to_string().contains("/groups(") {
                self.problems.push(format!("{name}: {json} in place of {exactly}"));
            }
        }
        if let Some(shape) = entry.get("shape") {
            let shape = self.resolved(shape);
            compare(&name, &shape, &json, &mut self.problems);
        }
        for (what, is_there) in [
            ("text", entry["text"].as_str().is_some_and(|text| body == text)),
            ("page", entry["page"].as_str().is_some_and(|line| body.contains(line))),
        ] {
            if entry[what].is_string() && !is_there {
                self.problems.push(format!("{name}: {body:?} in place of {}", entry[what]));
            }
        }
        let mut found = Vec::new();
        collect_ids(&json, &mut found);
        let recorded = entry["ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.ids.extend(recorded.map(ToOwned::to_owned).zip(found));
    }

    /// With the ids and the address of this Marathon in place of the recorded ones.
    fn translated(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, here) in &self.ids {
            text = text.replace(recorded, here);
        }
        let own = self.rig.marathon.process(self.process).address().to_string();
        text.replace("127.0.0.1:8181", &own).replace("localhost", "127.0.0.1")
    }

    fn ask(&self, entry: &Value) -> String {
        let mut lines = entry["request"].as_array().unwrap().iter().map(|line| self.translated(line.as_str().unwrap()));
        let body = self.translated(entry["body"].as_str().unwrap_or_default());
        let first = lines.next().unwrap();
        let rest: String = lines.map(|line| line + "\r\n").collect();
        // A body that is empty was told as such.
        let length = if rest.contains("Content-Type") || !body.is_empty() {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            String::new()
        };
        let request = format!("{first} HTTP/1.1\r\nHost: x\r\n{rest}{length}Connection: close\r\n\r\n{body}");
        let mut socket = TcpStream::connect(self.rig.marathon.process(self.process).address()).unwrap();
        socket.set_read_timeout(Some(support::LIMIT)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Names, and values where they are recorded; without order, as names are given in any case.
    fn compare_headers(&mut self, name: &str, expected: &Value, lines: &[&str]) {
        let mut own: Vec<String> = lines
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| format!("{}: {value}", key.to_lowercase()))
            .collect();
        own.retain(|line| !line.starts_with("date: ") && !line.starts_with("content-length: "));
        for expected in expected.as_array().unwrap().iter().map(|line| line.as_str().unwrap()) {
            let is_it = |line: &String| {
                if expected.contains(": ") { line == expected } else { line.starts_with(&format!("{expected}: ")) }
            };
            match own.iter().position(is_it) {
                Some(index) => drop(own.remove(index)),
                None => self.problems.push(format!("{name}: no header {expected:?} among {own:?}")),
            }
        }
        if !own.is_empty() {
            self.problems.push(format!("{name}: the headers {own:?} are too much"));
        }
    }

    /// With what is shared in place of its name.
    fn resolved(&self, shape: &Value) -> Value {
        match shape {
            Value::String(name) if name.starts_with('@') => self.resolved(&self.shared[name]),
            Value::Array(all) => all.iter().map(|one| self.resolved(one)).collect(),
            Value::Object(all) => all.iter().map(|(name, one)| (name.clone(), self.resolved(one))).collect(),
            other => other.clone(),
        }
    }
}

fn collect_ids(value: &Value, found: &mut Vec<String>) {
    if let Some(id) = value["deploymentId"].as_str().or_else(|| value.get("slaveId").and(value["id"].as_str())) {
        found.push(id.to_owned());
    }
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect_ids(one, found)),
        Value::Object(all) => all.values().for_each(|one| collect_ids(one, found)),
        _ => {}
    }
}

/// Fields that are there only under conditions which differ from run to run.
const OCCASIONAL: [&str; 8] =
    ["startedAt", "stagedAt", "lastUnusedOfferAt", "lastUsedOfferAt", "lastTaskFailure", "lastFailureCause", "scalar", "ranges"];

fn compare(place: &str, shape: &Value, own: &Value, problems: &mut Vec<String>) {
    let is_same = match shape {
        Value::Object(fields) => {
            let Some(own) = own.as_object() else { return problems.push(format!("{place}: {own} is no object")) };
            for (name, shape) in fields {
                match own.get(name) {
                    Some(value) => compare(&format!("{place}.{name}"), shape, value, problems),
                    None if OCCASIONAL.contains(&name.as_str()) => {}
                    None => problems.push(format!("{place}.{name} is missing")),
                }
            }
            for name in own.keys().filter(|name| !fields.contains_key(*name) && !OCCASIONAL.contains(&name.as_str())) {
                problems.push(format!("{place}.{name} is too much"));
            }
            true
        }
        Value::Array(elements) => {
            let Some(own) = own.as_array() else { return problems.push(format!("{place}: {own} is no array")) };
            if let Some(shape) = elements.first() {
                own.iter().for_each(|element| compare(&format!("{place}[]"), shape, element, problems));
            }
            true
        }
        Value::String(kind) => match kind.as_str() {
            "text" => own.is_string() || own.is_null() && place.contains("instance_changed_event"),
            "number" => own.is_number(),
            "bool" => own.is_boolean(),
            _ => own.is_null(),
        },
        _ => false,
    };
    if !is_same {
        problems.push(format!("{place}: {own} is no {shape}"));
    }
}

#[test]
fn what_an_empty_marathon_says() {
    replay(&Rig::start(), 0, "01-info", Pace::Live);
}

#[test]
fn creating_and_scaling() {
    replay(&Rig::start(), 0, "02-scale", Pace::Halted);
}

#[test]
fn several_apps_and_groups() {
    let rig = Rig::start();
    for (app, count) in [("/s1", 2), ("/b1", 1), ("/b2", 1)] {
        rig.create(app, count, |_| {});
        rig.wait_for_running(app, count);
    }
    replay(&rig, 0, "03-bulk", Pace::Halted);
}

#[test]
fn killing_and_deleting() {
    let rig = Rig::start();
    for (app, count) in [("/b1", 4), ("/b2", 3), ("/ky", 3), ("/ko", 3)] {
        rig.create(app, count, |_| {});
        rig.wait_for_running(app, count);
    }
    replay_killing(&rig);
}

/// The recorder scaled an app up once in between, without writing it down.
fn replay_killing(rig: &Rig) {
    let again = "DELETE /v2/apps/b2/tasks?host=localhost";
    let entries = recording("04-kill-delete");
    assert!(entries.as_array().unwrap().iter().any(|entry| entry["request"][0] == again));
    replay(rig, 0, "04-kill-delete", Pace::Patient);
}

#[test]
fn errors_and_ids() {
    let rig = Rig::start();
    rig.create("/s1", 2, |_| {});
    rig.wait_for_running("/s1", 2);
    replay(&rig, 0, "05-errors", Pace::Halted);
}

#[test]
fn events_as_plain_http() {
    replay(&Rig::start(), 0, "10-events-http", Pace::Live);
}

#[test]
fn a_failing_app() {
    let rig = Rig::start();
    rig.create("/fail", 1, |app| app["cmd"] = json!("sleep 1; exit 3"));
    wait(|| if rig.app("/fail")["lastTaskFailure"].is_object() { Ok(()) } else { Err("nothing has failed".to_owned()) });
    wait(|| if rig.app("/fail")["tasksRunning"] == 1 { Ok(()) } else { Err("it does not run again".to_owned()) });
    replay(&rig, 0, "13-failing-app", Pace::Patient);
}

#[test]
fn deployments_that_hang_and_the_queue() {
    let rig = Rig::start();
    rig.create("/s1", 1, |_| {});
    rig.wait_for_running("/s1", 1);
    rig.create("/big", 1, |app| app["cpus"] = json!(7));
    rig.wait_for_running("/big", 1);
    replay(&rig, 0, "20-deployments-queue", Pace::Live);
}

#[test]
fn the_standby() {
    let rig = Rig::with(|builder| builder.flag("min_revive_offers_interval", "50").processes(2));
    replay(&rig, 1, "41-standby-http", Pace::Live);
}

#[test]
fn passwords() {
    replay(&Rig::with(|builder| builder.auth("user", "secret")), 0, "50-basic-auth", Pace::Live);
}

/// Creates, scales, locks, forces, kills and deletes, and looks at all events that come.
#[test]
fn events_have_marathons_fields() {
    let rig = Rig::start();
    let mut events = rig.events("");
    let checks = json!([{ "protocol": "HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 1, "intervalSeconds": 1,
        "timeoutSeconds": 2, "maxConsecutiveFailures": 2 }]);
    rig.create("/hc", 1, |app| {
        app["cmd"] = json!("exec python3 -m http.server $PORT0 --bind 127.0.0.1");
        app["healthChecks"] = checks.clone();
    });
    let mut all = events.until("deployment_success");
    rig.scale("/hc", 2);
    rig.scale("/hc", 3);
    rig.put("/v2/apps/hc?force=true", &json!({ "instances": 0 }));
    all.extend(events.until("deployment_success"));
    rig.create("/slow", 1, |app| app["cmd"] = json!("trap '' TERM; while true; do sleep 0.1; done"));
    all.extend(events.until("deployment_success"));
    rig.scale("/slow", 0);
    rig.put("/v2/apps/slow?force=true", &json!({ "instances": 1 }));
    all.extend(events.until("deployment_step_failure"));
    rig.create("/sick", 1, |app| app["healthChecks"] = checks.clone());
    all.extend(events.until("unhealthy_instance_kill_event"));
    drop(rig.events(""));
    assert_eq!(rig.marathon.send("DELETE", "/v2/apps/sick", &Value::Null).unwrap().0, 200);
    all.extend(events.until("app_terminated_event"));

    let mut shapes = recording("events").as_object().unwrap().clone();
    let mut problems = Vec::new();
    for (kind, data) in &all {
        let mut data = data.clone();
        if let Some(app) = data.get_mut("appDefinition").and_then(Value::as_object_mut) {
            // These are not always there.
            app.remove("versionInfo");
            app.remove("healthChecks");
        }
        let shape = recording("events")[kind].clone();
        compare(kind, &shape, &data, &mut problems);
        shapes.remove(kind);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // When a stream is closed is found out with the next event, or at the next heartbeat.
    shapes.remove("event_stream_detached");
    assert!(shapes.is_empty(), "never seen: {:?}", shapes.keys());
}
