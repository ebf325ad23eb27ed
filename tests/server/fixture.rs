//! The server under test, and an engine that is stood in for by a report made by hand.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use microscaler::api::validated::{App, Key};
use microscaler::api::{MicroscaledApp, MicroscalingPool};
use microscaler::backend::Standing;
use microscaler::demand::{Board, PushDesk, Sources};
use microscaler::engine::clock;
use microscaler::engine::report::{AppReport, Ask, Event, EventKind, Handle, Report};
use microscaler::policy::world::Millis;
use microscaler::server::{Metrics, Pools, Readiness, Replicas, ServerState, serve};
use microscaler::store::secrets::Secrets;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server with the pool shop/main and the app shop/search.
pub struct Fixture {
    pub url: String,
    pub client: Client,
    pub state: ServerState,
    pub board: Arc<Board>,
    pub engine: Engine,
    /// Registers the pushed metrics.
    _sources: Sources,
    pub stop: Option<oneshot::Sender<()>>,
    pub server: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// The engine's ends of a [`Handle`].
pub struct Engine {
    pub reports: watch::Sender<Arc<Report>>,
    pub events: broadcast::Sender<Event>,
    pub asks: Option<mpsc::Receiver<Ask>>,
}

impl Fixture {
    pub async fn new(push_token: Option<&str>) -> Self {
        Self::with(push_token, Readiness::Pools, None).await
    }

    pub async fn with(push_token: Option<&str>, readiness: Readiness, replicas: Option<Replicas>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (board, desk, pools) = (Arc::new(Board::new()), Arc::new(PushDesk::new()), Arc::new(Pools::new()));
        let mut sources = Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files()));
        sources.sync(&[Arc::new(App::read(&search()).unwrap())]);
        let (engine, handle) = engine("main", vec![search()]);
        pools.insert(handle);
        let metrics = Arc::new(Metrics::new(pools.clone(), &desk));
        let push_token = push_token.map(str::to_owned);
        let state = ServerState { pools, desk, metrics, push_token, readiness, replicas };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, state.clone(), async { drop(stopped.await) }));
        let client = Client::new();
        Self { url, client, state, board, engine, _sources: sources, stop: Some(stop), server }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    pub async fn push(&self, path: &str, body: &str) -> (u16, Value) {
        let response = self.client.post(format!("{}/v1/demand/{path}", self.url)).body(body.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The value on the board, if one has come.
    pub fn taken(&self) -> Option<f64> {
        self.board.take().first().and_then(|update| update.reading.value).map(|(value, _)| value)
    }
}

pub fn engine(pool: &str, apps: Vec<MicroscaledApp>) -> (Engine, Handle) {
    let pool = Key::new("shop", pool);
    let (reports, seen) = watch::channel(Arc::new(report(&pool, apps)));
    let (asks, asked) = mpsc::channel(8);
    let (events, _) = broadcast::channel(4);
    let handle = Handle { pool, reports: seen, events: events.clone(), journal: Arc::default(), asks };
    (Engine { reports, events, asks: Some(asked) }, handle)
}

pub fn report(pool: &Key, apps: Vec<MicroscaledApp>) -> Report {
    let object: MicroscalingPool = serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscalingPool",
        "metadata": {"name": pool.name(), "namespace": pool.namespace()},
        "spec": {"mesos": {"masters": ["http://127.0.0.1:5050"]}},
    }))
    .unwrap();
    let status = json!({
        "phase": "Growing", "wanted": 5, "granted": 4, "running": 3, "ready": 2, "starting": 1, "reason": "because",
        "demand": [{"name": "waiting", "value": 42.5, "ageMilliseconds": 1500, "state": "Fresh"}],
    });
    let status: microscaler::api::status::AppStatus = serde_json::from_value(status).unwrap();
    Report {
        pool: Arc::new(object),
        status: serde_json::from_value(json!({"agents": 3, "tasks": 7})).unwrap(),
        standing: Standing { ready: true, connected: true, ..Standing::default() },
        // Ages do not grow before that.
        apps: apps
            .into_iter()
            .map(|app| AppReport {
                key: Key::new(&app.namespace().unwrap(), &app.name_any()),
                spec: Arc::new(app),
                status: status.clone().into(),
                bases: None,
                at: Millis::MAX,
            })
            .collect(),
        leaving: std::collections::BTreeMap::new(),
        executors: Some(0),
        problems: vec!["bad.yaml:3: spec.x: unknown field".to_owned()],
    }
}

pub fn search() -> MicroscaledApp {
    let target = json!({"averageValue": 10});
    serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": "search", "namespace": "shop"},
        "spec": {
            "pool": "main",
            "demand": [
                {"name": "waiting", "push": {}, "target": target},
                {"name": "load", "simulated": {"step": {"from": 1.0, "to": 2.0, "afterMilliseconds": 9}, "everyMilliseconds": 3_600_000},
                    "target": target},
            ],
            "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]},
        },
    }))
    .unwrap()
}

pub fn event(reason: &str, app: Option<&str>) -> Event {
    Event {
        at: clock::timestamp(),
        pool: "shop/main".to_owned(),
        app: app.map(str::to_owned),
        kind: EventKind::Normal,
        reason: reason.to_owned(),
        message: format!("{reason} happened"),
    }
}

/// The events of a stream, as `(event, data)`.
pub struct Stream {
    pub response: Response,
    pub text: String,
}

impl Stream {
    pub async fn open(fixture: &Fixture, path: &str) -> Self {
        let response = fixture.get(path).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("event: ").zip(field("data: "));
                self.text = String::from(rest);
                if let Some((event, data)) = found {
                    return Some((event, serde_json::from_str(&data).unwrap()));
                }
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("nothing was sent").unwrap()?;
            self.text.push_str(str::from_utf8(&chunk).unwrap());
        }
    }
}

/// A streamed push: lines go in one by one, the answer comes at the end.
pub struct Streamed {
    lines: futures::channel::mpsc::UnboundedSender<Result<String, std::io::Error>>,
    pub answer: tokio::task::JoinHandle<reqwest::Result<Response>>,
}

impl Streamed {
    pub fn open(fixture: &Fixture) -> Self {
        let (lines, body) = futures::channel::mpsc::unbounded();
        let url = format!("{}/v1/demand/shop/search/waiting", fixture.url);
        let request = fixture.client.post(url).header("content-type", "application/x-ndjson; charset=utf-8");
        Self { lines, answer: tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send()) }
    }

    pub fn send(&self, text: &str) {
        self.lines.unbounded_send(Ok(text.to_owned())).unwrap();
    }

    pub async fn end(self) -> (u16, Value) {
        drop(self.lines);
        let response = timeout(PATIENCE, self.answer).await.unwrap().unwrap().unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}
