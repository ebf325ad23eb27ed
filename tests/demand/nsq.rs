//! NSQ: real nsqd and nsqlookupd.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use microscaler_testbed::wire::{Connection, Request};
use microscaler_testbed::{Authority, Port, Server};
use serde_json::{Value, json};

use crate::fixture::{Fixture, metric};

/// One that keeps its messages on disk, so that they survive its death.
fn nsqd(lookupd: Option<&Lookupd>) -> Server {
    let (tcp, lookupd) = (Port::reserve().unwrap(), lookupd.map(|lookupd| lookupd.tcp.number));
    let arguments = move |port: u16, directory: &Path| {
        let mut arguments = vec![
            format!("--http-address=127.0.0.1:{port}"),
            format!("--tcp-address=127.0.0.1:{}", tcp.number),
            "--broadcast-address=127.0.0.1".to_owned(),
            format!("--data-path={}", directory.display()),
            "--mem-queue-size=0".to_owned(),
            "--sync-every=1".to_owned(),
        ];
        arguments.extend(lookupd.map(|port| format!("--lookupd-tcp-address=127.0.0.1:{port}")));
        arguments
    };
    Server::new("nsq").unwrap().start("nsqd", arguments).unwrap()
}

struct Lookupd {
    server: Server,
    tcp: Port,
}

fn lookupd() -> Lookupd {
    let tcp = Port::reserve().unwrap();
    let number = tcp.number;
    let arguments = move |port: u16, _: &Path| {
        vec![
            format!("--http-address=127.0.0.1:{port}"),
            format!("--tcp-address=127.0.0.1:{number}"),
            "--broadcast-address=127.0.0.1".to_owned(),
        ]
    };
    Lookupd { server: Server::new("nsq").unwrap().start("nsqlookupd", arguments).unwrap(), tcp }
}

/// Tells a nsqd something: what to make, or what to publish.
fn tell(nsqd: &Server, what: &str, body: &str) {
    tell_at(nsqd.address(), what, body);
}

fn tell_at(address: SocketAddr, what: &str, body: &str) {
    let mut connection = Connection::open(address, Duration::from_secs(20)).unwrap();
    let request = Request { method: "POST", path: &format!("/{what}"), headers: "", body: body.as_bytes() };
    let answer = connection.call(request).unwrap();
    assert_eq!(answer.status, 200, "{what}: {}", String::from_utf8_lossy(&answer.body));
}

fn channel(nsqd: &Server, channel: &str) {
    tell(nsqd, "topic/create?topic=orders", "");
    tell(nsqd, &format!("channel/create?topic=orders&channel={channel}"), "");
}

fn depth(mut spec: Value) -> Value {
    let common = json!({"topic": "orders", "channel": "mail", "pollMilliseconds": 20, "timeoutMilliseconds": 5000});
    spec.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
    metric("m", "nsq", &spec)
}

fn of_nsqd(server: &Server) -> Value {
    depth(json!({"nsqdHTTPAddresses": [server.address().to_string()]}))
}

fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |value| (value - expected).abs() < 1e-9
}

#[tokio::test(flavor = "multi_thread")]
async fn the_depth_of_the_channel_is_followed() {
    let nsqd = nsqd(None);
    let fixture = Fixture::of(of_nsqd(&nsqd));
    let failure = fixture.until_failure("topic").await;
    assert_eq!(failure, "no nsqd has the topic \"orders\": is this its name, and has a message been published?");
    tell(&nsqd, "mpub?topic=orders", "a\nb\nc");
    fixture.until_value(is(3.0)).await; // of the topic
    channel(&nsqd, "mail");
    channel(&nsqd, "audit");
    tell(&nsqd, "mpub?topic=orders", "d\ne");
    fixture.until_value(is(5.0)).await;
    tell(&nsqd, "channel/pause?topic=orders&channel=mail", "");
    fixture.until_value(is(0.0)).await;
    tell(&nsqd, "channel/unpause?topic=orders&channel=mail", "");
    fixture.until_value(is(5.0)).await;
    tell(&nsqd, "channel/empty?topic=orders&channel=mail", "");
    fixture.until_value(is(0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nsqd_that_nsqlookupd_has_named_count_also_while_it_is_away() {
    let lookupd = lookupd();
    let (one, two) = (nsqd(Some(&lookupd)), nsqd(Some(&lookupd)));
    for nsqd in [&one, &two] {
        channel(nsqd, "mail");
    }
    tell(&one, "mpub?topic=orders", "a\nb");
    tell(&two, "mpub?topic=orders", "c\nd\ne");
    let fixture = Fixture::of(depth(json!({"nsqLookupdHTTPAddresses": [lookupd.server.address().to_string()]})));
    fixture.until_value(is(5.0)).await;
    lookupd.server.kill();
    tell(&two, "pub?topic=orders", "f");
    fixture.until_value(is(6.0)).await;
    lookupd.server.start().unwrap();
    // It knows of none for a while.
    tell(&one, "pub?topic=orders", "g");
    fixture.until_value(is(7.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_never_heard_is_a_failure() {
    let (lookupd, nsqd) = (lookupd(), nsqd(None));
    lookupd.server.kill();
    let addresses = json!({
        "nsqLookupdHTTPAddresses": [lookupd.server.address().to_string()], "nsqdHTTPAddresses": [nsqd.address().to_string()],
    });
    tell(&nsqd, "pub?topic=orders", "a");
    let fixture = Fixture::of(depth(addresses));
    let failure = fixture.failure().await;
    assert_eq!(failure, format!("GET {}/lookup?topic=orders: connection refused", lookupd.server.url()));
    lookupd.server.start().unwrap();
    fixture.until_value(is(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_is_found_again_and_its_value_kept_meanwhile() {
    let nsqd = nsqd(None);
    channel(&nsqd, "mail");
    tell(&nsqd, "mpub?topic=orders", "a\nb");
    let fixture = Fixture::of(of_nsqd(&nsqd));
    fixture.until_value(is(2.0)).await;
    nsqd.kill();
    let reading = fixture.until(|reading| reading.failure.is_some()).await;
    assert!(reading.value.is_some_and(|(value, _)| is(2.0)(value)), "{reading:?}");
    nsqd.start().unwrap();
    fixture.until(|reading| reading.failure.is_none()).await;
    tell(&nsqd, "pub?topic=orders", "c");
    fixture.until_value(is(3.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_certificates_that_may_change() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let stopped = Server::new("nsq").unwrap().scheme("https");
    authority.write(stopped.directory(), &["nsqd"]).unwrap();
    let (http, tcp) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    let plain = http.number;
    let arguments = move |port: u16, directory: &Path| {
        let file = |name: &str| directory.join(name).display().to_string();
        vec![
            format!("--https-address=127.0.0.1:{port}"),
            format!("--http-address=127.0.0.1:{}", http.number),
            format!("--tcp-address=127.0.0.1:{}", tcp.number),
            format!("--data-path={}", directory.display()),
            format!("--tls-cert={}", file("nsqd.pem")),
            format!("--tls-key={}", file("nsqd.key")),
            format!("--tls-root-ca-file={}", file("ca.pem")),
            "--tls-client-auth-policy=require-verify".to_owned(),
            "--tls-required=tcp-https".to_owned(),
        ]
    };
    let nsqd = stopped.start("nsqd", arguments).unwrap();
    tell_at((Ipv4Addr::LOCALHOST, plain).into(), "pub?topic=orders", "a");

    let ours = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = ours.path().join(name);
        std::fs::write(&path, text).unwrap();
        json!({"file": path})
    };
    let address = nsqd.address().to_string();
    let spec = |tls: Value| depth(json!({"nsqdHTTPAddresses": [address], "useHttps": true, "tls": tls}));
    let failure = Fixture::of(spec(json!({"ca": file("stranger.pem", stranger.pem())}))).failure().await;
    assert!(failure.contains("invalid peer certificate"), "{failure}");
    // We have none to show. Under TLS 1.3 the connection may be gone before the alert that says so is read.
    Fixture::of(spec(json!({"ca": file("ca.pem", authority.pem())}))).failure().await;

    let false_pair = stranger.issue("microscaler").unwrap();
    let (cert, key) = (file("cert.pem", &false_pair.certificate), file("key.pem", &false_pair.key));
    let fixture = Fixture::of(spec(json!({"ca": file("ca.pem", authority.pem()), "cert": cert, "key": key})));
    fixture.failure().await;
    let pair = authority.issue("microscaler").unwrap();
    file("cert.pem", &pair.certificate);
    file("key.pem", &pair.key);
    fixture.until_value(is(1.0)).await;
}

#[tokio::test]
async fn garbage_is_a_failure() {
    for (body, expected) in [
        ("<html>", "this is no answer of NSQ, at line 1 column 1"),
        (
            r#"{"topics": [{"topic_name": "orders", "channels": [], "depth": -1}]}"#,
            "this is no answer of NSQ, at line 1 column 64",
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/stats", get(move || async move { body }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let failure = Fixture::of(depth(json!({"nsqdHTTPAddresses": [address]}))).failure().await;
        assert!(failure.ends_with(expected), "{failure}");
        server.abort();
    }
}
