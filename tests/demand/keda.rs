//! External scalers of KEDA.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use microscaler_testbed::Authority;
use serde_json::{Value, json};
use tonic::Code;

use crate::fixture::{Fixture, app, is, metric, with};
use crate::https::{certificate_wanted, config, tls};
use scaler::{Answer, Scaler, State, metadata};

mod scaler;

fn keda(address: SocketAddr, more: &Value) -> Value {
    let spec = json!({"scalerAddress": address.to_string(), "pollMilliseconds": 20, "timeoutMilliseconds": 30_000});
    metric("m", "keda", &with(spec, more))
}

#[tokio::test]
async fn the_value_is_what_the_scaler_answers_while_it_is_active() {
    let state = State::of(vec![("depth", 12.0)]);
    let scaler = Scaler::start(&state);
    let fixture = Fixture::of(keda(scaler.address, &json!({"scalerMetadata": {"queue": "orders"}})));
    fixture.until_value(is(12.0)).await;
    state.value(15.5);
    fixture.until_value(is(15.5)).await;
    state.active.send_replace(false);
    fixture.until_value(is(0.0)).await;
    let question = state.asked.lock().unwrap()[0].clone();
    let address = ("scalerAddress".to_owned(), scaler.address.to_string());
    let expected = HashMap::from([("queue".to_owned(), "orders".to_owned()), address]);
    assert_eq!(metadata(&question), ("shop".to_owned(), "search".to_owned(), expected));
    scaler.end();
}

#[tokio::test]
async fn a_message_of_the_stream_has_it_asked_at_once() {
    let state = State::of(vec![("depth", 12.0)]);
    let scaler = Scaler::start(&state);
    let fixture = Fixture::of(keda(scaler.address, &json!({"pollMilliseconds": 3_600_000})));
    fixture.until_value(is(12.0)).await;
    for (value, active) in [(40.0, true), (7.0, true), (9.0, false)] {
        state.value(value);
        state.active.send_replace(active);
        fixture.until_value(is(if active { value } else { 0.0 })).await;
    }
    scaler.end();
}

#[tokio::test]
async fn of_several_metrics_one_is_named() {
    let state = State::of(vec![("depth", 12.0), ("age", 3.0)]);
    let scaler = Scaler::start(&state);
    let one = Fixture::of(keda(scaler.address, &json!({"metricName": "age"})));
    one.until_value(is(3.0)).await;
    let failure = Fixture::of(keda(scaler.address, &json!({}))).failure().await;
    let said = "GetMetricSpec: it has several metrics: name one by metricName: depth, age";
    assert_eq!(failure, format!("external scaler {}: {said}", scaler.address));
    // Of the only one there is, the name may change.
    state.answer(Answer::Values(vec![("depth", 4.0)]));
    let only = Fixture::of(keda(scaler.address, &json!({})));
    only.until_value(is(4.0)).await;
    state.answer(Answer::Values(vec![("waiting", 5.0)]));
    only.until_value(is(5.0)).await;
    one.until_failure("GetMetrics: no value of age").await;
    scaler.end();
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let state = State::of(vec![("depth", 12.0)]);
    let scaler = Scaler::start(&state);
    let fixture = Fixture::of(keda(scaler.address, &json!({"metricName": "depth"})));
    fixture.until_value(is(12.0)).await;
    for (answer, expected) in [
        (Answer::Refused(Code::NotFound, "no queue orders"), "GetMetrics: Some requested entity was not found: no queue orders"),
        (Answer::Values(vec![]), "GetMetrics: no value of depth"),
        (Answer::Garbage, "GetMetrics: "),
        (Answer::Values(vec![("depth", f64::NAN)]), "NaN is not a finite number"),
        (Answer::Values(vec![("depth", -2.0)]), "-2 is negative"),
    ] {
        state.answer(answer);
        fixture.until_failure(expected).await;
        state.value(13.0);
        fixture.until_value(is(13.0)).await;
    }
    scaler.end();
}

#[tokio::test]
async fn what_is_no_scaler_is_a_failure() {
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "7" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let failure = Fixture::of(keda(address, &json!({}))).failure().await;
    assert!(failure.starts_with(&format!("external scaler {address}: ")), "{failure}");
    let mut nowhere = keda(address, &json!({}));
    nowhere["keda"]["scalerAddress"] = json!("here");
    assert_eq!(Fixture::of(nowhere).failure().await, "external scaler here: here is no address: write host:port");
}

#[tokio::test]
async fn a_scaler_that_goes_away_and_comes_back_is_found_again() {
    let state = State::of(vec![("depth", 5.0)]);
    let scaler = Scaler::start(&state);
    let address = scaler.address;
    let fixture = Fixture::of(keda(address, &json!({})));
    fixture.until_value(is(5.0)).await;
    scaler.end();
    fixture.until_failure(&format!("external scaler {address}: connection refused")).await;
    fixture.failure_keeps(5.0).await;
    state.value(6.0);
    let streams = state.streams.load(Ordering::SeqCst);
    let scaler = Scaler::start_at(&address.to_string(), &state, None);
    fixture.until_value(is(6.0)).await;
    // The stream is opened again, too.
    let again = async {
        while state.streams.load(Ordering::SeqCst) == streams {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), again).await.unwrap();
    scaler.end();
}

#[tokio::test]
async fn all_metrics_of_a_scaler_share_a_connection() {
    let state = State::of(vec![("depth", 12.0), ("age", 3.0)]);
    let scaler = Scaler::start(&state);
    let named = |name: &str, metric: &str| {
        let mut demand = keda(scaler.address, &json!({"metricName": metric}));
        demand["name"] = json!(name);
        demand
    };
    let mut fixture = Fixture::new();
    let apps = ["a", "b", "c"].map(|name| app(name, json!([named("one", "depth"), named("two", "age")])));
    fixture.sources.sync(&apps);
    let mut missing: Vec<_> =
        apps.iter().flat_map(|app| app.demand.iter().map(|metric| (app.key.clone(), metric.name.clone()))).collect();
    while !missing.is_empty() {
        for update in fixture.next().await {
            assert_eq!(update.reading.failure, None);
            missing.retain(|(app, metric)| *app != update.app || *metric != update.metric);
        }
    }
    assert_eq!(state.connections.load(Ordering::SeqCst), 1);
    scaler.end();
}

#[tokio::test]
async fn tls_is_spoken_with_what_the_secrets_hold_now() {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let directory = tempfile::tempdir().unwrap();
    old.write(directory.path(), &["client"]).unwrap();
    let state = State::of(vec![("depth", 5.0)]);
    let scaler = Scaler::start_at("127.0.0.1:0", &state, Some(config(&old, Some(&old))));
    let address = scaler.address;
    let known = |tls: Value| keda(address, &json!({ "tls": tls }));
    let fixture = Fixture::of(known(tls(directory.path(), Some("client"))));
    fixture.until_value(is(5.0)).await;

    // Without a certificate of our own, without knowing theirs, or without TLS, there is no answer.
    let failure = certificate_wanted(&Fixture::of(known(tls(directory.path(), None)))).await;
    assert!(failure.starts_with(&format!("external scaler {address}: ")), "{failure}");
    let failure = Fixture::of(keda(address, &json!({"tls": {}}))).failure().await;
    assert!(failure.contains("certificate"), "{failure}");
    let failure = Fixture::of(keda(address, &json!({}))).failure().await;
    assert!(failure.starts_with(&format!("external scaler {address}: ")), "{failure}");

    // The authority changes: at first only that of the server, then ours.
    scaler.end();
    state.value(6.0);
    let scaler = Scaler::start_at(&address.to_string(), &state, Some(config(&new, Some(&new))));
    fixture.until_failure("invalid peer certificate").await;
    new.write(directory.path(), &["client"]).unwrap();
    fixture.until_value(is(6.0)).await;
    scaler.end();
}
