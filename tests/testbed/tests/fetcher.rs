//! What `CommandInfo.uris` names is in the sandbox when the task starts.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::Rig;
use tempfile::TempDir;

/// `a.txt` within `b.tar.gz`, and `run.sh` that says so.
fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("a.txt"), "hello\n").unwrap();
    fs::write(at.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    assert!(
        Command::new("tar").arg("-C").arg(at).args(["-czf"]).arg(at.join("b.tar.gz")).arg("a.txt").status().unwrap().success()
    );
    directory
}

/// Runs a task that shows what has been fetched.
fn fetch(rig: &mut Rig, id: &str, uris: &Value) {
    rig.launch(id, "cat a.txt && ./run.sh", |task| task["command"]["uris"] = uris.clone());
}

/// Serves files until the test ends, in ways that differ: with a length, in chunks, or until the connection is closed. Counts.
fn serve(directory: &Path) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (directory, count) = (directory.to_owned(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = match fs::read(directory.join(path.trim_start_matches('/'))) {
                _ if path == "/moved" => b"HTTP/1.1 302 Found\r\nLocation: /run.sh\r\nContent-Length: 0\r\n\r\n".to_vec(),
                Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
                Ok(bytes) => whole(&bytes, counter.fetch_add(1, Ordering::Relaxed)),
            };
            let _ = socket.write_all(&answer);
        }
    });
    (url, count)
}

fn whole(bytes: &[u8], number: usize) -> Vec<u8> {
    let length = bytes.len();
    match number % 3 {
        0 => [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), bytes].concat(),
        1 => [b"HTTP/1.0 200 OK\r\n\r\n", bytes].concat(),
        _ => [format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n").as_bytes(), bytes, b"\r\n0\r\n\r\n"]
            .concat(),
    }
}

#[test]
fn files_archives_and_programs_are_fetched() {
    let mut rig = Rig::start();
    let directory = files();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fetch(
        &mut rig,
        "files",
        &json!([{ "value": format!("file://{}", at("b.tar.gz")) }, { "value": at("run.sh"), "executable": true }]),
    );
    rig.reaches("files", "TASK_FINISHED");
    assert_eq!(rig.output("files"), "hello\nran\n");

    fetch(
        &mut rig,
        "renamed",
        &json!([
            { "value": at("run.sh"), "executable": true },
            { "value": at("a.txt"), "output_file": "deep/b.txt" },
            { "value": at("a.txt") },
        ]),
    );
    rig.reaches("renamed", "TASK_FINISHED");
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "renamed").unwrap();
    assert_eq!(fs::read_to_string(sandbox.join("deep/b.txt")).unwrap(), "hello\n");

    fetch(&mut rig, "absent", &json!([{ "value": at("none") }]));
    assert_eq!(rig.reaches("absent", "TASK_FAILED")["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
}

#[test]
fn what_is_served_over_http_is_fetched() {
    let mut rig = Rig::start();
    let directory = files();
    let (url, count) = serve(directory.path());
    let uris = json!([
        { "value": format!("{url}/b.tar.gz") },
        { "value": format!("{url}/run.sh"), "executable": true },
        { "value": format!("{url}/moved"), "output_file": "moved.sh" },
    ]);
    fetch(&mut rig, "http", &uris);
    rig.reaches("http", "TASK_FINISHED");
    assert_eq!(rig.output("http"), "hello\nran\n");
    assert_eq!(count.load(Ordering::Relaxed), 3);
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "http").unwrap();
    assert_eq!(fs::read_to_string(sandbox.join("moved.sh")).unwrap(), "#!/bin/sh\necho ran\n");

    // The agent cannot learn the size beforehand, and has it fetched without its cache.
    let uris =
        json!([{ "value": format!("{url}/a.txt"), "cache": true }, { "value": format!("{url}/run.sh"), "executable": true }]);
    fetch(&mut rig, "cached", &uris);
    rig.reaches("cached", "TASK_FINISHED");

    fetch(&mut rig, "absent", &json!([{ "value": format!("{url}/none") }]));
    rig.reaches("absent", "TASK_FAILED");
}

#[test]
fn files_are_kept_in_the_cache() {
    let mut rig = Rig::start();
    let directory = files();
    let uri =
        |name: &str, executable: bool| json!({ "value": directory.path().join(name), "cache": true, "executable": executable });
    let uris = json!([uri("b.tar.gz", false), uri("run.sh", true)]);
    for id in ["first", "second"] {
        fetch(&mut rig, id, &uris);
        rig.reaches(id, "TASK_FINISHED");
        assert_eq!(rig.output(id), "hello\nran\n");
    }
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "second").unwrap();
    let said = fs::read_to_string(sandbox.join("stderr")).unwrap();
    assert!(!said.contains("Fetching"), "the second time, it is there already: {said}");
}
