//! Queries to a Prometheus.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::routing::get;
use microscaler_testbed::{Authority, Server, Stopped};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Fixture, app, arguments, is, metric};
use crate::http::serve;
use crate::https::{client, tls};

/// That scrapes this address, if any, ten times a second, and guards itself as its web configuration says.
fn start(stopped: Stopped, scraped: Option<&str>, web: &str) -> Server {
    let targets: Vec<&str> = scraped.into_iter().collect();
    let job = json!({"job_name": "shop", "scrape_interval": "100ms", "scrape_timeout": "100ms", "static_configs": [{"targets": targets}]});
    // YAML is a superset of JSON.
    stopped.file("prometheus.yml", &json!({"scrape_configs": [job]}).to_string()).unwrap();
    stopped.file("web.yml", web).unwrap();
    let own = [
        "--web.listen-address=127.0.0.1:{port}",
        "--config.file={directory}/prometheus.yml",
        "--web.config.file={directory}/web.yml",
        "--storage.tsdb.path={directory}/data",
    ];
    stopped.start("prometheus", arguments(&own)).unwrap()
}

fn prometheus(scraped: Option<&str>) -> Server {
    start(Server::new("prometheus").unwrap(), scraped, "")
}

fn spec(server_address: &str, query: &str) -> Value {
    json!({"serverAddress": server_address, "query": query, "pollMilliseconds": 20, "timeoutMilliseconds": 20_000})
}

fn query(server_address: &str, query: &str) -> Value {
    metric("m", "prometheus", &spec(server_address, query))
}

#[tokio::test]
async fn the_value_follows_what_is_scraped() {
    let waiting = Arc::new(AtomicU64::new(42));
    let told = waiting.clone();
    let metrics = move || async move {
        let waiting = told.load(Ordering::SeqCst);
        format!("waiting{{shop=\"a\"}} {waiting}\nwaiting{{shop=\"b\"}} {waiting}\n")
    };
    let (exporter, _task) = serve(Router::new().route("/metrics", get(metrics))).await;
    let server = prometheus(Some(&exporter.to_string()));
    let fixture = Fixture::of(query(&server.url(), "sum(waiting)"));
    fixture.until_value(is(84.0)).await;
    waiting.store(7, Ordering::SeqCst);
    fixture.until_value(is(14.0)).await;
    let failure = Fixture::of(query(&server.url(), "waiting")).failure().await;
    assert!(failure.ends_with("/api/v1/query: the query gives 2 elements, not one: use sum() or max()"), "{failure}");
    let kept = Fixture::of(query(&server.url(), "scalar(waiting{shop=\"a\"})"));
    kept.until_value(is(7.0)).await;
}

/// What is computed from the time is there for all times.
#[tokio::test]
async fn what_was_is_read_for_the_forecast() {
    let server = prometheus(None);
    let mut wave = query(&server.url(), "100 * (time() % 4 < bool 2)");
    wave["forecast"] = json!({"horizonMilliseconds": 500, "stepMilliseconds": 500, "season": "4s", "historySeconds": 60});
    let first = Fixture::of(wave).until(|reading| reading.foreseen.is_some()).await.foreseen.unwrap();
    let near = |expected: f64| first.0.values.iter().filter(|value| (**value - expected).abs() < 30.0).count();
    assert!(near(100.0) > 40 && near(0.0) > 40, "{:?}", first.0);
}

#[tokio::test]
async fn what_is_no_number_is_said() {
    let server = prometheus(None);
    let address = server.url();
    assert!(is(1.5)(Fixture::of(query(&address, "scalar(vector(1.5))")).value().await));
    for (wrong, expected) in [
        ("waiting", "the query gives nothing: there is no such series now; ignoreNullValues takes that for 0"),
        ("vector(0) / 0", "the query gives NaN, which is no amount; ignoreNullValues takes it for 0"),
        ("1 / 0", "the query gives inf, which is no amount; ignoreNullValues takes it for 0"),
        ("prometheus_build_info[1m]", "the query gives a range of values for each series: it has to give a number"),
        ("\"many\"", "the query gives a string: it has to give a number"),
        ("sum(", "Prometheus refuses the query: invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"),
    ] {
        let failure = Fixture::of(query(&address, wrong)).failure().await;
        assert_eq!(failure, format!("GET {address}/api/v1/query: {expected}"), "{wrong}");
    }
    assert_eq!(Fixture::of(query(&address, "vector(-2)")).failure().await, "-2 is negative");
    for null in ["waiting", "vector(0) / 0", "1 / 0"] {
        let mut spec = spec(&address, null);
        spec["ignoreNullValues"] = json!(true);
        assert!(is(0.0)(Fixture::of(metric("m", "prometheus", &spec)).value().await), "{null}");
    }
    let failure = Fixture::of(query(&format!("{address}/shop"), "vector(1)")).failure().await;
    assert!(failure.starts_with(&format!("GET {address}/shop/api/v1/query: status 404")), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_started_again_is_found() {
    let server = prometheus(None);
    let fixture = Fixture::of(query(&server.url(), "vector(5)"));
    assert!(is(5.0)(fixture.value().await));
    server.kill();
    fixture.failure().await;
    fixture.failure_keeps(5.0).await;
    server.start().unwrap();
    assert!(is(5.0)(fixture.value().await));
}

/// Of the password `one`, and of `two`.
const HASHES: [&str; 2] = [
    "$2b$04$2nJU1WwmIUeLixH2.NEWzeiLV0qLaFMyGsayPZOcGXLksY0TxMfWm",
    "$2b$04$01ofqmtjJC6aeo7oHIWEUOF/GyNVi.M4/tpciZnCPcmZGfm1BMJNW",
];

fn guarded(hash: &str) -> String {
    let tls = json!({"cert_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"});
    json!({"tls_server_config": tls, "basic_auth_users": {"shop": hash}}).to_string()
}

#[tokio::test]
async fn it_may_want_a_certificate_and_a_password() {
    let (authority, ours) = (Authority::new().unwrap(), TempDir::new().unwrap());
    authority.write(ours.path(), &["client"]).unwrap();
    let stopped = Server::new("prometheus").unwrap().scheme("https");
    authority.write(stopped.directory(), &["server"]).unwrap();
    let server = start(stopped, None, &guarded(HASHES[0]));
    let password = ours.path().join("password");
    fs::write(&password, "one\n").unwrap();

    let mut spec = spec(&server.url(), "vector(5)");
    spec["auth"] = json!({"basic": {"username": "shop", "password": {"file": password}}});
    spec["tls"] = tls(ours.path(), Some("client"));
    let fixture = Fixture::of(metric("m", "prometheus", &spec));
    assert!(is(5.0)(fixture.value().await));

    // The server reads its configuration at each request.
    fs::write(server.directory().join("web.yml"), guarded(HASHES[1])).unwrap();
    let failure = fixture.failure().await;
    assert!(failure.starts_with(&format!("GET {}/api/v1/query: status 401", server.url())), "{failure}");
    fs::write(&password, "two\n").unwrap();
    assert!(is(5.0)(fixture.value().await));

    let refused = |tls: Value| {
        let mut spec = spec.clone();
        spec["tls"] = tls;
        async move { Fixture::of(metric("m", "prometheus", &spec)).failure().await }
    };
    let failure = refused(json!({})).await;
    assert_eq!(failure, format!("GET {}/api/v1/query: invalid peer certificate: UnknownIssuer", server.url()));
    let failure = refused(tls(ours.path(), None)).await;
    assert!(failure.starts_with(&format!("GET {}/api/v1/query: ", server.url())), "{failure}");
}

#[tokio::test]
async fn all_metrics_of_a_server_share_its_connections() {
    let server = prometheus(None);
    let queries = (0..40).map(|n| metric(&format!("m{n}"), "prometheus", &spec(&server.url(), &format!("vector({n})"))));
    let metrics: Vec<Value> = queries.collect();
    let apps: Vec<_> = metrics.chunks(8).enumerate().map(|(n, metrics)| app(&format!("app{n}"), json!(metrics))).collect();
    let mut fixture = Fixture::new();
    fixture.sources.sync(&apps);
    let mut values = 0;
    while values < 400 {
        values += fixture.next().await.iter().filter(|update| update.reading.failure.is_none()).count();
    }
    let text = client().get(format!("{}/metrics", server.url())).send().await.unwrap().text().await.unwrap();
    let accepted =
        text.lines().find_map(|line| line.strip_prefix("net_conntrack_listener_conn_accepted_total{listener_name=\"http\"} "));
    let accepted: usize = accepted.unwrap().parse().unwrap();
    // One for who asked just now, and those of the testbed, which looks whether the server listens.
    assert!((2..40).contains(&accepted), "{accepted} connections for 40 metrics");
}

#[tokio::test]
async fn headers_and_parameters_are_sent() {
    let handler = |headers: HeaderMap, Query(parameters): Query<HashMap<String, String>>| async move {
        let tenant = headers["x-scope-orgid"].to_str().unwrap().to_owned();
        assert_eq!((parameters["query"].as_str(), parameters["partial_response"].as_str()), ("a{b=\"c&d\"}", "false"));
        json!({"status": "success", "data": {"resultType": "scalar", "result": [1, tenant]}}).to_string()
    };
    let (address, _task) = serve(Router::new().route("/prom/api/v1/query", get(handler))).await;
    let mut spec = spec(&format!("http://{address}/prom/"), "a{b=\"c&d\"}");
    spec["customHeaders"] = json!([{"name": "X-Scope-OrgID", "value": "17"}]);
    spec["queryParameters"] = json!([{"name": "partial_response", "value": "false"}]);
    assert!(is(17.0)(Fixture::of(metric("m", "prometheus", &spec)).value().await));
}

#[tokio::test]
async fn garbage_is_a_failure() {
    for (garbage, expected) in [
        ("<html>", "not an answer of Prometheus: expected value at line 1 column 1"),
        (
            r#"{"status": "success", "data": {"resultType": "vector", "result": 7}}"#,
            "not an answer of Prometheus: a result of type \"vector\"",
        ),
        (
            r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "x"]}}"#,
            "not an answer of Prometheus: a value \"x\"",
        ),
    ] {
        let (address, _task) = serve(Router::new().route("/api/v1/query", get(move || async move { garbage }))).await;
        let failure = Fixture::of(query(&format!("http://{address}"), "vector(1)")).failure().await;
        assert_eq!(failure, format!("GET http://{address}/api/v1/query: {expected}"));
    }
}
