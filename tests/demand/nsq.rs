//! NSQ: real nsqd and nsqlookupd.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use microscaler_testbed::wire::{Connection, Request};
use microscaler_testbed::{Authority, Server};
use serde_json::{Value, json};

use crate::fixture::{Files, Fixture, arguments, is, metric, with};
use crate::https::certificate_wanted;

/// One that keeps its messages on disk, so that they survive its death.
fn nsqd(lookupd: Option<&Lookupd>) -> Server {
    let mut stopped = Server::new("nsq").unwrap();
    let tcp = format!("--tcp-address=127.0.0.1:{}", stopped.another_port().unwrap());
    let lookupd = lookupd.map(|lookupd| format!("--lookupd-tcp-address=127.0.0.1:{}", lookupd.tcp));
    let own = ["--http-address=127.0.0.1:{port}", "--broadcast-address=127.0.0.1", "--data-path={directory}"];
    let on_disk = ["--mem-queue-size=0", "--sync-every=1", &tcp];
    let lookupd: Vec<&str> = lookupd.iter().map(String::as_str).collect();
    stopped.start("nsqd", arguments(&[&own[..], &on_disk, &lookupd].concat())).unwrap()
}

struct Lookupd {
    server: Server,
    tcp: u16,
}

fn lookupd() -> Lookupd {
    let mut stopped = Server::new("nsq").unwrap();
    let tcp = stopped.another_port().unwrap();
    let address = format!("--tcp-address=127.0.0.1:{tcp}");
    let own = ["--http-address=127.0.0.1:{port}", "--broadcast-address=127.0.0.1", &address];
    Lookupd { server: stopped.start("nsqlookupd", arguments(&own)).unwrap(), tcp }
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

fn depth(spec: Value) -> Value {
    let common = json!({"topic": "orders", "channel": "mail", "pollMilliseconds": 20, "timeoutMilliseconds": 5000});
    metric("m", "nsq", &with(common, &spec))
}

fn of_nsqd(server: &Server) -> Value {
    depth(json!({"nsqdHTTPAddresses": [server.address().to_string()]}))
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
    fixture.failure_keeps(2.0).await;
    nsqd.start().unwrap();
    fixture.until(|reading| reading.failure.is_none()).await;
    tell(&nsqd, "pub?topic=orders", "c");
    fixture.until_value(is(3.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_certificates_that_may_change() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let mut stopped = Server::new("nsq").unwrap().scheme("https");
    authority.write(stopped.directory(), &["nsqd"]).unwrap();
    let [http, tcp] = [(); 2].map(|()| stopped.another_port().unwrap());
    let ports = [format!("--http-address=127.0.0.1:{http}"), format!("--tcp-address=127.0.0.1:{tcp}")];
    let own = [
        "--https-address=127.0.0.1:{port}",
        "--data-path={directory}",
        "--tls-cert={directory}/nsqd.pem",
        "--tls-key={directory}/nsqd.key",
        "--tls-root-ca-file={directory}/ca.pem",
        "--tls-client-auth-policy=require-verify",
        "--tls-required=tcp-https",
        &ports[0],
        &ports[1],
    ];
    let nsqd = stopped.start("nsqd", arguments(&own)).unwrap();
    tell_at((Ipv4Addr::LOCALHOST, http).into(), "pub?topic=orders", "a");

    let files = Files::new();
    let address = nsqd.address().to_string();
    let spec = |tls: Value| depth(json!({"nsqdHTTPAddresses": [address], "useHttps": true, "tls": tls}));
    let failure = Fixture::of(spec(json!({"ca": files.write("stranger.pem", stranger.pem())}))).failure().await;
    assert!(failure.contains("invalid peer certificate"), "{failure}");
    // We have none to show.
    let ca = files.write("ca.pem", authority.pem());
    certificate_wanted(&Fixture::of(spec(json!({"ca": ca})))).await;

    let false_pair = stranger.issue("microscaler").unwrap();
    let (cert, key) = (files.write("cert.pem", &false_pair.certificate), files.write("key.pem", &false_pair.key));
    let fixture = Fixture::of(spec(json!({"ca": ca, "cert": cert, "key": key})));
    fixture.failure().await;
    let pair = authority.issue("microscaler").unwrap();
    files.write("cert.pem", &pair.certificate);
    files.write("key.pem", &pair.key);
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
