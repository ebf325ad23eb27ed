//! Demand sources against real HTTP servers on loopback, and the simulated ones in paused time.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use microscaler::api::MicroscaledApp;
use microscaler::api::validated::{App, Key};
use microscaler::demand::{Board, PushDesk, PushError, Sources, Update};
use microscaler::engine::clock;
use microscaler::policy::world::Reading;
use microscaler::store::secrets::Secrets;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// A board with its sources.
struct Fixture {
    board: Arc<Board>,
    desk: Arc<PushDesk>,
    sources: Sources,
}

impl Fixture {
    fn new() -> Self {
        let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
        Self { sources: Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files())), board, desk }
    }

    /// With one app of one metric.
    fn of(demand: Value) -> Self {
        let mut fixture = Self::new();
        fixture.sources.sync(&[app("search", json!([demand]))]);
        fixture
    }

    /// The next updates, waiting no longer than a test may take.
    async fn next(&self) -> Vec<Update> {
        timeout(Duration::from_secs(20), self.board.changed()).await.expect("nothing was posted");
        self.board.take()
    }

    /// The first reading that fits.
    async fn until(&self, fits: impl Fn(&Reading) -> bool) -> Reading {
        loop {
            if let Some(update) = self.next().await.into_iter().find(|update| fits(&update.reading)) {
                return update.reading;
            }
        }
    }

    async fn failure(&self) -> String {
        self.until(|reading| reading.failure.is_some()).await.failure.unwrap().to_string()
    }

    async fn value(&self) -> f64 {
        self.until(|reading| reading.failure.is_none()).await.value.unwrap().0
    }
}

fn app(name: &str, demand: Value) -> Arc<App> {
    let raw: MicroscaledApp = serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "demand": demand,
            "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]},
        },
    }))
    .unwrap();
    Arc::new(App::read(&raw).unwrap())
}

fn metric(name: &str, source: &str, spec: &Value) -> Value {
    json!({"name": name, source: spec, "target": {"averageValue": 10}})
}

fn http(address: SocketAddr, path: &str, pointer: &str) -> Value {
    let url = format!("http://{address}{path}");
    metric("m", "http", &json!({"url": url, "pointer": pointer, "pollMilliseconds": 20, "timeoutMilliseconds": 400}))
}

async fn serve(router: Router) -> (SocketAddr, tokio::task::JoinHandle<()>) {
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
        assert!((read - expected).abs() < 1e-9);
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
    assert!((Fixture::of(http(address, "/old", "")).value().await - 7.0).abs() < 1e-9);
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
    assert_eq!(Fixture::of(http(address, "/", "")).failure().await, "no answer within 400 ms");
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
    assert!((fixture.value().await - 5.0).abs() < 1e-9);
    server.shutdown_background();
    let refused = format!("GET http://{address}/: connection refused");
    let reading = fixture.until(|reading| reading.failure.as_deref() == Some(&refused)).await;
    assert!(reading.value.is_some_and(|(value, _)| (value - 5.0).abs() < 1e-9), "the value was lost");
    let (_, server) = serve_apart(&address.to_string(), "6");
    assert!((fixture.value().await - 6.0).abs() < 1e-9);
    server.shutdown_background();
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
    assert!(reading.value.is_some_and(|(value, _)| (value - 9.0).abs() < 1e-9), "the value was lost");
}

#[tokio::test(start_paused = true)]
async fn simulated_values_come_on_a_steady_grid() {
    let start = tokio::time::sleep(Duration::ZERO).deadline();
    let step = json!({"step": {"from": 1.0, "to": 9.0, "afterMilliseconds": 250}, "everyMilliseconds": 100});
    let fixture = Fixture::of(metric("m", "simulated", &step));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let value = fixture.value().await;
        let elapsed = tokio::time::sleep(Duration::ZERO).deadline() - start;
        seen.push((elapsed.as_millis(), value));
    }
    assert_eq!(seen, [(0, 1.0), (100, 1.0), (200, 1.0), (300, 9.0), (400, 9.0)]);
}

#[tokio::test(start_paused = true)]
async fn sources_start_end_and_restart_with_their_specs() {
    let walk = |seed| {
        let walk = json!({"randomWalk": {"min": 0.0, "max": 100.0, "maxStep": 5.0, "seed": seed}, "everyMilliseconds": 100});
        app("search", json!([metric("m", "simulated", &walk)]))
    };
    let mut fixture = Fixture::new();
    fixture.sources.sync(&[walk(1)]);
    assert!((fixture.value().await - 50.0).abs() < 1e-9, "a walk begins in the middle");
    let second = fixture.value().await;

    // The same definition in a new spec goes on where it was; another one begins anew.
    fixture.sources.sync(&[walk(1)]);
    let third = fixture.value().await;
    assert!((third - 50.0).abs() > 1e-9 && (third - second).abs() > 1e-9);
    fixture.sources.sync(&[walk(2)]);
    assert!((fixture.value().await - 50.0).abs() < 1e-9);

    fixture.sources.sync(&[]);
    assert!(timeout(Duration::from_secs(5), fixture.board.changed()).await.is_err(), "a source outlived its spec");
    fixture.sources.sync(&[walk(2)]);
    fixture.value().await;
    let Fixture { board, sources, .. } = fixture;
    drop(sources);
    assert!(timeout(Duration::from_secs(5), board.changed()).await.is_err(), "a source outlived all sources");
}

#[tokio::test]
async fn pushes_reach_the_board_at_once() {
    let mut fixture = Fixture::new();
    let push = metric("waiting", "push", &json!({}));
    let step = json!({"step": {"from": 1.0, "to": 9.0, "afterMilliseconds": 250}, "everyMilliseconds": 100_000});
    fixture.sources.sync(&[app("search", json!([push, metric("load", "simulated", &step)]))]);
    let at = clock::instant();
    fixture.desk.push("shop", "search", "waiting", 200.0, at).unwrap();
    let update = fixture.board.take().remove(0);
    assert_eq!((update.app, &*update.metric, update.at), (Key::new("shop", "search"), "waiting", at));
    assert_eq!(update.reading.value, Some((200.0, clock::to_millis(at))));

    let refused = |app: &str, metric: &str, value| fixture.desk.push("shop", app, metric, value, at).unwrap_err().to_string();
    assert_eq!(refused("find", "waiting", 1.0), "no app shop/find; apps that exist: shop/search");
    assert_eq!(refused("search", "x", 1.0), "app shop/search has no metric x; metrics that exist: load, waiting");
    assert_eq!(refused("search", "load", 1.0), "metric load of app shop/search is not pushed: its source is simulated");
    assert_eq!(refused("search", "waiting", -1.0), "not an amount of demand: -1 is negative");
    assert_eq!(fixture.desk.tally().counts()[0], ("push", 1));
}

#[tokio::test]
async fn an_app_that_moves_to_another_pool_stays_known_whatever_the_order() {
    let desk = Arc::new(PushDesk::new());
    let boards = [Arc::new(Board::new()), Arc::new(Board::new())];
    let mut pools = boards.each_ref().map(|board| Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files())));
    let app = app("search", json!([metric("waiting", "push", &json!({}))]));
    pools[0].sync(std::slice::from_ref(&app));
    pools[1].sync(std::slice::from_ref(&app));
    pools[0].sync(&[]);
    desk.push("shop", "search", "waiting", 1.0, clock::instant()).unwrap();
    assert!(boards[0].take().is_empty());
    assert_eq!(boards[1].take().len(), 1);
    drop(pools);
    let gone = desk.push("shop", "search", "waiting", 1.0, clock::instant());
    assert!(matches!(gone, Err(PushError::UnknownApp { .. })));
}
