//! Processes that come and go: restarts, two of them, credentials, and faults.

#![allow(clippy::disallowed_methods, reason = "a real server takes real time")]

mod support;

use microscaler_testbed::Tasks;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::{Events, Rig, wait};

/// A session as short as the machine allows, so that nobody waits for its end.
fn quick(builder: microscaler_testbed_marathon::Builder<'_>) -> microscaler_testbed_marathon::Builder<'_> {
    builder.flag("min_revive_offers_interval", "50").flag("zk_session_timeout", "2000").flag("scale_apps_initial_delay", "500")
}

fn head(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_restart_finds_its_tasks_and_goes_on_with_its_deployments() {
    let rig = Rig::with(quick);
    rig.create("/r1", 2, |app| app["cpus"] = json!(7));
    rig.wait_for_running("/r1", 2);
    let before = rig.tasks("/r1");
    let framework = rig.marathon.get("/v2/info").unwrap()["frameworkId"].clone();
    // One that hangs: only two fit.
    assert_eq!(rig.scale("/r1", 3).0, 200);
    let mut events = rig.events("");
    events.next();
    rig.marathon.kill();
    while events.next().is_some() {}
    assert_eq!(rig.cluster.tasks().unwrap().running().len(), 2);

    rig.marathon.start().unwrap();
    assert_eq!(rig.marathon.get("/v2/info").unwrap()["frameworkId"], framework);
    // What waits for an offer counts as started: the deployment is gone, and the task is still missing.
    wait(|| rig.deployments().is_empty().then_some(()).ok_or_else(|| "a deployment is left".to_owned()));
    let app = rig.app("/r1");
    assert_eq!((&app["instances"], &app["tasksRunning"]), (&json!(3), &json!(2)));
    assert_eq!(rig.tasks("/r1"), before);
    assert_eq!(rig.scale("/r1", 1).0, 200);
    rig.wait_for_running("/r1", 1);
}

#[test]
fn tasks_that_end_while_nobody_looks_are_replaced() {
    let rig = Rig::with(quick);
    rig.create("/r2", 2, |_| {});
    rig.wait_for_running("/r2", 2);
    let before = rig.tasks("/r2");
    rig.marathon.kill();
    for pid in rig.cluster.processes() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    rig.marathon.start().unwrap();
    wait(|| {
        let tasks = rig.tasks("/r2");
        let all_new = tasks.len() == 2 && tasks.iter().all(|task| !before.contains(task));
        all_new.then_some(()).ok_or_else(|| format!("{tasks:?}"))
    });
    rig.wait_for_running("/r2", 2);
}

#[test]
fn one_that_is_started_within_its_own_session_ends_at_once() {
    let rig = Rig::with(|builder| quick(builder).flag("zk_session_timeout", "4000"));
    let process = rig.marathon.process(0);
    process.kill();
    process.start().unwrap();
    wait(|| process.has_ended_by_itself().then_some(()).ok_or_else(|| "it runs".to_owned()));
    assert!(std::fs::read_to_string(process.log()).unwrap().contains("Multiple election participants have the same id"));
    process.kill();
    rig.marathon.start().unwrap();
}

#[test]
fn the_standby_passes_on_and_takes_over() {
    let rig = Rig::with(|builder| quick(builder).processes(2));
    let (leader, standby) = (rig.marathon.process(0), rig.marathon.process(1));
    let get = |index: usize, path: &str| rig.marathon.ask(index, "GET", path, None).unwrap();
    let answer = get(1, "/v2/leader");
    let leading = format!("http://{}", leader.address());
    assert_eq!(answer.header("x-marathon-leader"), Some(leading.as_str()));
    assert_eq!(answer.header("x-marathon-via"), Some(format!("1.1 {}", standby.address()).as_str()));
    let app = json!({ "id": "/a", "cmd": "exec sleep 100000", "cpus": 0.05, "mem": 16 });
    let created = rig.marathon.ask(1, "POST", "/v2/apps", Some(&app)).unwrap();
    assert_eq!((created.status, created.header("marathon-deployment-id").is_some()), (201, true));
    rig.wait_for_running("/a", 1);

    // Events are not passed on, and nothing is passed on in a circle.
    let answer =
        head(standby.address(), "GET /v2/events?event_type=x HTTP/1.1\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    assert!(answer.contains(&format!("Location: {leading}/v2/events?event_type=x\r\n")), "{answer}");
    let request = format!("GET /v2/apps HTTP/1.1\r\nX-Marathon-Via: 1.1 {}\r\nConnection: close\r\n\r\n", standby.address());
    assert!(head(standby.address(), &request).starts_with("HTTP/1.1 502 Detected proxying loop.\r\n"));

    // Who dies without a word leaves a gap of refusals, until the session is over.
    leader.kill();
    let refused = get(1, "/v2/apps");
    assert!(matches!(refused.status, 500 | 502), "{}", refused.status);
    wait(|| {
        let answer = get(1, "/v2/apps/a");
        (answer.status == 200 && answer.header("x-marathon-via").is_none()).then_some(()).ok_or_else(|| answer.status.to_string())
    });
    // Who leads now has to be told by Mesos first what runs.
    wait(|| {
        let app: Value = serde_json::from_slice(&get(1, "/v2/apps/a").body).unwrap();
        (app["app"]["tasksRunning"] == 1).then_some(()).ok_or_else(|| app.to_string())
    });

    // Who abdicates leaves none.
    rig.marathon.start().unwrap();
    let abdicated = rig.marathon.ask(0, "DELETE", "/v2/leader", None).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&abdicated.body).unwrap(),
        json!({ "message": "Leadership abdicated", "details": [] })
    );
    wait(|| standby.has_ended_by_itself().then_some(()).ok_or_else(|| "it runs".to_owned()));
    let answer = get(0, "/v2/apps/a");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn everything_wants_the_password() {
    let rig = Rig::with(|builder| quick(builder).auth("user", "secret"));
    assert_eq!(rig.marathon.get("/v2/apps").unwrap(), json!({ "apps": [] }));
    let address = rig.marathon.process(0).address();
    for path in ["/ping", "/v2/apps"] {
        let answer = head(address, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
        assert!(answer.contains("WWW-Authenticate: basic realm=\"null\"\r\n") && answer.contains("HTTP ERROR 401"), "{answer}");
        assert!(!answer.contains("X-Marathon-Leader"), "{answer}");
    }
    let answer = head(address, "GET /v2/events HTTP/1.1\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = head(address, "PUT /v2/apps/x HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn faults_on_demand() {
    let rig = Rig::with(quick);
    rig.create("/f", 1, |_| {});
    rig.wait_for_running("/f", 1);
    let fault = |fault: Value| rig.marathon.fault(&fault).unwrap();

    fault(json!({ "fail_after_apply": 1 }));
    assert_eq!(rig.scale("/f", 2).0, 503);
    rig.wait_for_running("/f", 2);
    assert_eq!(rig.scale("/f", 1).0, 200);

    fault(json!({ "delay": 300 }));
    let begin = Instant::now();
    rig.app("/f");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    fault(json!({ "delay": 0 }));

    let mut events = rig.events("");
    events.next();
    fault(json!({ "drop_events": true }));
    while events.next().is_some() {}

    fault(json!({ "freeze": true }));
    let mut socket = TcpStream::connect(rig.marathon.process(0).address()).unwrap();
    socket.write_all(b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(socket.read(&mut [0; 1]).is_err(), "it answers");
    fault(json!({ "freeze": false }));
    socket.set_read_timeout(Some(support::LIMIT)).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("pong"), "{answer}");

    fault(json!({ "refuse": 1000 }));
    wait(|| TcpStream::connect(rig.marathon.process(0).address()).is_err().then_some(()).ok_or_else(|| "it listens".to_owned()));
    wait(|| {
        rig.marathon
            .get("/ping")
            .map(drop)
            .or_else(|error| if error.to_string().contains("pong") { Ok(()) } else { Err(error.to_string()) })
    });
}

#[test]
fn more_instances_than_there_is_memory_for_end_the_process_a_while_later() {
    let rig = Rig::with(|builder| quick(builder).flag("testbed_memory_delay", "500"));
    rig.create("/m", 1, |_| {});
    rig.wait_for_running("/m", 1);
    assert_eq!(rig.scale("/m", 2_147_483_647).0, 200);
    let process = rig.marathon.process(0);
    wait(|| process.has_ended_by_itself().then_some(()).ok_or_else(|| "it runs".to_owned()));
    assert!(std::fs::read_to_string(process.log()).unwrap().contains("OutOfMemoryError"));
}

#[test]
fn streams_have_heartbeats_and_those_that_are_behind_are_dropped() {
    let rig = Rig::with(|builder| quick(builder).flag("testbed_heartbeat_interval", "200").flag("testbed_event_buffer", "4"));
    let mut silent = rig.events("?event_type=nonsense");
    assert_eq!((silent.line(), silent.line()), (Some(String::new()), Some(String::new())));
    // Nobody reads this one: ten events at once are more than its buffer holds.
    let mut events = rig.events("");
    rig.create("/h", 10, |_| {});
    while events.next().is_some() {}
    // Another one works.
    rig.wait_for_running("/h", 10);
    assert_eq!(Events::attach(&rig.marathon.url(), "").next().unwrap().0, "event_stream_attached");
}

#[test]
fn idle_connections_are_closed_and_others_are_kept() {
    let rig = Rig::with(|builder| quick(builder).flag("testbed_idle_timeout", "500"));
    let mut socket = TcpStream::connect(rig.marathon.process(0).address()).unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"pong") {
            let mut bytes = [0; 1024];
            let count = socket.read(&mut bytes).unwrap();
            assert!(count > 0, "closed");
            answer.extend_from_slice(&bytes[..count]);
        }
    }
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0, "closed without a word");
}

#[test]
fn too_many_deployments_are_refused_as_if_forbidden() {
    let rig = Rig::with(|builder| quick(builder).flag("max_running_deployments", "1"));
    rig.create("/big", 3, |app| app["cpus"] = json!(7));
    let app = json!({ "id": "/other", "cmd": "exec sleep 100000", "cpus": 0.05, "mem": 16 });
    let (status, answer) = rig.marathon.send("POST", "/v2/apps", &app).unwrap();
    assert_eq!(status, 403, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("--max_running_deployments"), "{answer}");
}

#[test]
fn other_packages_get_a_program_that_is_built_for_them() {
    let cluster = microscaler_testbed::Cluster::builder().agents(1).start().unwrap();
    let marathon = microscaler_testbed_marathon::Marathon::builder(&cluster).start().unwrap();
    assert_eq!(marathon.get("/v2/info").unwrap()["version"], "1.11.26");
    // It ends with its owner, and the tasks with the cluster.
    let pid = marathon.process(0).pid().expect("it runs");
    drop(marathon);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
