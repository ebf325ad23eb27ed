//! Polled documents over TLS, and secrets that change meanwhile.

use std::fs;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use microscaler_testbed::Authority;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Fixture, app, is, metric};
use crate::https::{Https, tls};

fn router() -> Router {
    Router::new().route("/", get(|| async { "5" }))
}

/// Of a server that answers at once.
fn spec(server: &Https, tls: &Value) -> Value {
    json!({"url": format!("https://{}/", server.address), "pollMilliseconds": 20, "timeoutMilliseconds": 20_000, "tls": tls})
}

fn http(server: &Https, tls: &Value) -> Value {
    metric("m", "http", &spec(server, tls))
}

/// An authority, and a directory with its certificate and one of a client.
fn authority() -> (Authority, TempDir) {
    let (authority, directory) = (Authority::new().unwrap(), TempDir::new().unwrap());
    authority.write(directory.path(), &["client"]).unwrap();
    (authority, directory)
}

async fn is_five(demand: Value) {
    assert!(is(5.0)(Fixture::of(demand).value().await));
}

#[tokio::test]
async fn only_an_authority_that_is_named_is_trusted() {
    let (authority, directory) = authority();
    let (_, foreign) = self::authority();
    let server = Https::serve("127.0.0.1:0", router(), &authority, None);
    is_five(http(&server, &tls(directory.path(), None))).await;
    is_five(http(&server, &json!({"unsafeSsl": true}))).await;
    for untrusted in [json!({}), tls(foreign.path(), None)] {
        let failure = Fixture::of(http(&server, &untrusted)).failure().await;
        let expected = format!("GET https://{}/: invalid peer certificate: ", server.address);
        assert!(failure.starts_with(&expected), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let (authority, directory) = authority();
    let (clients, ours) = self::authority();
    fs::copy(directory.path().join("ca.pem"), ours.path().join("ca.pem")).unwrap();
    let server = Https::serve("127.0.0.1:0", router(), &authority, Some(&clients));
    is_five(http(&server, &tls(ours.path(), Some("client")))).await;
    // Without one, and with one of an authority that the server does not know.
    for refused in [tls(ours.path(), None), tls(directory.path(), Some("client"))] {
        let failure = Fixture::of(http(&server, &refused)).failure().await;
        assert!(failure.starts_with(&format!("GET https://{}/: ", server.address)), "{failure}");
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_said() {
    let (authority, directory) = authority();
    let server = Https::serve("127.0.0.1:0", router(), &authority, None);
    fs::write(directory.path().join("ca.pem"), "shop").unwrap();
    let failure = Fixture::of(http(&server, &tls(directory.path(), None))).failure().await;
    assert_eq!(failure, "tls.ca: there is no certificate in it");
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    let failure = Fixture::of(http(&server, &tls(directory.path(), None))).failure().await;
    assert!(failure.starts_with("tls.ca: cannot read "), "{failure}");
}

#[tokio::test]
async fn an_authority_that_takes_over_is_trusted_once_its_certificate_is_there() {
    let (authority, directory) = authority();
    let server = Https::serve("127.0.0.1:0", router(), &authority, None);
    let fixture = Fixture::of(http(&server, &tls(directory.path(), None)));
    fixture.value().await;
    let address = server.address.to_string();
    drop(server);
    fixture.failure().await;
    let successor = Authority::new().unwrap();
    let _server = Https::serve(&address, router(), &successor, None);
    fixture.until_failure("invalid peer certificate").await;
    successor.write(directory.path(), &[]).unwrap();
    fixture.value().await;
}

#[tokio::test]
async fn a_token_that_has_changed_is_read_anew() {
    let (authority, directory) = authority();
    let wanted = Arc::new(std::sync::Mutex::new("one"));
    let token = wanted.clone();
    let guarded = move |headers: HeaderMap| async move {
        let wanted = format!("Bearer {}", token.lock().unwrap());
        if headers.get("authorization").is_some_and(|given| *given == *wanted) { Ok("5") } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let server = Https::serve("127.0.0.1:0", Router::new().route("/", get(guarded)), &authority, None);
    let file = directory.path().join("token");
    fs::write(&file, "one\n").unwrap();
    let mut spec = spec(&server, &tls(directory.path(), None));
    spec["auth"] = json!({"bearer": {"file": file}});
    let fixture = Fixture::of(metric("m", "http", &spec));
    fixture.value().await;
    *wanted.lock().unwrap() = "two";
    assert_eq!(fixture.failure().await, format!("GET https://{}/: status 401", server.address));
    fs::write(&file, "two\n").unwrap();
    fixture.value().await;
}

#[tokio::test]
async fn all_metrics_of_a_server_share_its_connections() {
    let (authority, directory) = authority();
    let server = Https::serve("127.0.0.1:0", router(), &authority, None);
    let spec = spec(&server, &tls(directory.path(), None));
    let metrics: Vec<Value> = (0..8).map(|n| metric(&format!("m{n}"), "http", &spec)).collect();
    let apps: Vec<_> = (0..5).map(|n| app(&format!("app{n}"), json!(metrics))).collect();
    let mut fixture = Fixture::new();
    fixture.sources.sync(&apps);
    let mut values = 0;
    while values < 400 {
        let updates = fixture.next().await;
        assert!(updates.iter().all(|update| update.reading.failure.is_none()), "{updates:?}");
        values += updates.len();
    }
    // Some are begun while there is none, and are there for others.
    assert!((1..40).contains(&server.connections()), "{} connections for 40 metrics", server.connections());
}
