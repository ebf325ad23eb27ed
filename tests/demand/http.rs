//! Polled documents.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::fixture::{Fixture, is, metric};
use crate::https::end;

fn http(address: SocketAddr, path: &str, pointer: &str) -> Value {
    let url = format!("http://{address}{path}");
    metric("m", "http", &json!({"url": url, "pointer": pointer, "pollMilliseconds": 20, "timeoutMilliseconds": 20_000}))
}

pub async fn serve(router: Router) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

async fn reply(status: StatusCode, body: &'static str) -> SocketAddr {
    serve(Router::new().route("/", get(move || async move { (status, body) }))).await.0
}

#[tokio::test]
async fn numbers_are_read() {
    let body = r#"{"queues": [{"depth": 42, "lag": "1.5"}]}"#;
    let address = reply(StatusCode::OK, body).await;
    for (pointer, expected) in [("/queues/0/depth", 42.0), ("/queues/0/lag", 1.5)] {
        let read = Fixture::of(http(address, "/", pointer)).value().await;
        assert!(is(expected)(read));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let long: &str = Box::leak("no\n  way ".repeat(100).into_boxed_str());
    let shown: String = "no way ".repeat(100).chars().take(100).collect();
    let huge: &str = Box::leak(format!("\"{}\"", "x".repeat(1 << 20)).into_boxed_str());
    for (status, body, pointer, expected) in [
        (200, r#"{"a": {}}"#, "/a", "no number at /a: found an object".to_owned()),
        (200, "{}", "/a/b", "no number at /a/b: nothing is there".to_owned()),
        (200, "<html>", "", "GET URL: not JSON: expected value at line 1 column 1".to_owned()),
        (200, "-1", "", "-1 is negative".to_owned()),
        (200, "\"NaN\"", "", "NaN is not a finite number".to_owned()),
        (200, huge, "", "GET URL: the document is larger than 1 MiB".to_owned()),
        (500, long, "", format!("GET URL: status 500: {shown}")),
        (404, "", "", "GET URL: status 404".to_owned()),
    ] {
        let address = reply(StatusCode::from_u16(status).unwrap(), body).await;
        let failure = Fixture::of(http(address, "/", pointer)).failure().await;
        assert_eq!(failure, expected.replace("URL", &format!("http://{address}/")));
    }
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let router = Router::new()
        .route("/old", get(|| async { Redirect::temporary("/new") }))
        .route("/new", get(|| async { "7" }))
        .route("/round", get(|| async { Redirect::temporary("/round") }));
    let (address, _server) = serve(router).await;
    assert!(is(7.0)(Fixture::of(http(address, "/old", "")).value().await));
    let failure = Fixture::of(http(address, "/round", "")).failure().await;
    assert_eq!(failure, format!("GET http://{address}/round: too many redirects"));
}

#[tokio::test]
async fn a_slow_answer_has_failed_and_polls_do_not_pile_up() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen_now, seen_most) = (now.clone(), most.clone());
    let handler = move || async move {
        seen_most.fetch_max(seen_now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(Duration::from_millis(150)).await;
        seen_now.fetch_sub(1, Ordering::SeqCst);
        "1"
    };
    let (address, _server) = serve(Router::new().route("/", get(handler))).await;
    let fixture = Fixture::of(http(address, "/", ""));
    for _ in 0..3 {
        fixture.value().await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);

    let never = Router::new().route("/", get(std::future::pending::<&str>));
    let (address, _server) = serve(never).await;
    let mut impatient = http(address, "/", "");
    impatient["http"]["timeoutMilliseconds"] = json!(400);
    assert_eq!(Fixture::of(impatient).failure().await, "no answer within 400 ms");
}

/// A server with a runtime of its own, so that ending it also ends the connections it holds.
fn serve_apart(address: &str, body: &'static str) -> (SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        axum::serve(listener, Router::new().route("/", get(move || async move { body }))).await
    });
    (address, runtime)
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_found_again() {
    let (address, server) = serve_apart("127.0.0.1:0", "5");
    let fixture = Fixture::of(http(address, "/", ""));
    assert!(is(5.0)(fixture.value().await));
    end(server);
    fixture.until_failure(&format!("GET http://{address}/: connection refused")).await;
    fixture.failure_keeps(5.0).await;
    let (_, server) = serve_apart(&address.to_string(), "6");
    fixture.until_value(is(6.0)).await;
    end(server);
}

#[tokio::test]
async fn a_connection_cut_in_mid_answer_is_a_failure_that_keeps_the_value() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in ["Content-Length: 1\r\n\r\n9", "Content-Length: 100\r\n\r\n{\"a\":"].iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}").as_bytes()).await;
        }
    });
    let fixture = Fixture::of(http(address, "/", ""));
    let reading = fixture.until(|reading| reading.failure.is_some()).await;
    let failure = reading.failure.unwrap();
    assert!(failure.starts_with(&format!("GET http://{address}/: ")), "{failure}");
    assert!(reading.value.is_some_and(|(value, _)| is(9.0)(value)), "the value was lost");
}
