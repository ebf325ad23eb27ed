//! A master that does what a test tells it, for faults that a real one cannot be made to show.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

pub struct FakeMaster {
    pub url: String,
    shared: Arc<Shared>,
    subscriptions: mpsc::UnboundedReceiver<Subscription>,
    calls: mpsc::UnboundedReceiver<Call>,
    server: JoinHandle<()>,
}

/// A call, with the stream id that came with it.
#[derive(Debug)]
pub struct Call {
    pub kind: String,
    pub body: Json,
    pub stream_id: String,
}

/// An answer in place of the usual.
pub struct Answer {
    pub status: u16,
    pub location: String,
    pub body: String,
}

struct Shared {
    to_subscribe: Mutex<VecDeque<Answer>>,
    to_calls: Mutex<VecDeque<Answer>>,
    /// Calls are not answered at all.
    deaf: AtomicBool,
    streams: AtomicU64,
    subscribed: mpsc::UnboundedSender<Subscription>,
    called: mpsc::UnboundedSender<Call>,
}

/// An event stream; it ends when this is dropped.
pub struct Subscription {
    pub body: Json,
    pub authorization: Option<String>,
    pub stream_id: String,
    events: mpsc::UnboundedSender<Bytes>,
}

impl Subscription {
    pub fn send(&self, event: &Json) {
        let text = event.to_string();
        self.send_raw(format!("{}\n{text}", text.len()));
    }

    pub fn send_raw(&self, bytes: impl Into<Bytes>) {
        let _ = self.events.send(bytes.into());
    }

    pub fn subscribed(&self, id: &str, heartbeat_seconds: f64) {
        let subscribed = json!({"framework_id": {"value": id}, "heartbeat_interval_seconds": heartbeat_seconds});
        self.send(&json!({"type": "SUBSCRIBED", "subscribed": subscribed}));
    }

    pub fn offer(&self, id: &str, agent: &str, cores: u32) {
        let scalar = |name: &str, value: u32| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "web"}});
        let offer = json!({
            "id": {"value": id}, "agent_id": {"value": agent}, "hostname": agent, "framework_id": {"value": "f-1"},
            "resources": [scalar("cpus", cores), scalar("mem", cores * 1024)],
        });
        self.send(&json!({"type": "OFFERS", "offers": {"offers": [offer]}}));
    }

    pub fn update(&self, status: &Json) {
        self.send(&json!({"type": "UPDATE", "update": {"status": status}}));
    }

    /// An update of the agent, to be acknowledged.
    pub fn state(&self, task: &str, agent: &str, state: &str, uuid: &str) {
        self.update(&json!({"task_id": {"value": task}, "agent_id": {"value": agent}, "state": state, "uuid": uuid}));
    }

    pub fn error(&self, message: &str) {
        self.send(&json!({"type": "ERROR", "error": {"message": message}}));
    }
}

impl FakeMaster {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (subscribed, subscriptions) = mpsc::unbounded_channel();
        let (called, calls) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            to_subscribe: Mutex::default(),
            to_calls: Mutex::default(),
            deaf: AtomicBool::new(false),
            streams: AtomicU64::new(0),
            subscribed,
            called,
        });
        let forbidden = || async { StatusCode::FORBIDDEN };
        let router = Router::new()
            .route("/master/api/v1/scheduler", post(scheduler))
            .route("/master/api/v1", post(forbidden))
            .route("/master/tasks", get(forbidden))
            .route("/master/slaves", get(forbidden))
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, subscriptions, calls, server }
    }

    /// What the next SUBSCRIBE is answered.
    pub fn refuse_subscribe(&self, status: u16, location: &str, body: &str) {
        let answer = Answer { status, location: location.to_owned(), body: body.to_owned() };
        self.shared.to_subscribe.lock().unwrap().push_back(answer);
    }

    /// What the next other call is answered.
    pub fn refuse_call(&self, status: u16, body: &str) {
        let answer = Answer { status, location: String::new(), body: body.to_owned() };
        self.shared.to_calls.lock().unwrap().push_back(answer);
    }

    pub fn set_deaf(&self, deaf: bool) {
        self.shared.deaf.store(deaf, Ordering::SeqCst);
    }

    /// The next stream that was asked for.
    pub async fn subscription(&mut self) -> Subscription {
        timeout(LIMIT, self.subscriptions.recv()).await.expect("a subscription").unwrap()
    }

    pub fn no_subscription(&mut self) -> bool {
        self.subscriptions.try_recv().is_err()
    }

    /// The next call of this kind; those before it are dropped.
    pub async fn call(&mut self, kind: &str) -> Call {
        let found = async {
            loop {
                let call = self.calls.recv().await.unwrap();
                if call.kind == kind {
                    return call;
                }
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("no {kind}"))
    }

    /// All calls so far.
    pub fn calls(&mut self) -> Vec<Call> {
        std::iter::from_fn(|| self.calls.try_recv().ok()).collect()
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn plain(answer: Answer) -> Response<Body> {
    let response = Response::builder().status(answer.status).header(header::LOCATION, answer.location);
    response.body(Body::from(answer.body)).unwrap()
}

async fn scheduler(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let body: Json = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let kind = body["type"].as_str().unwrap().to_owned();
    if kind == "SUBSCRIBE" {
        assert_eq!(text("mesos-stream-id"), None, "no stream id with SUBSCRIBE");
        if let Some(answer) = shared.to_subscribe.lock().unwrap().pop_front() {
            return plain(answer);
        }
        let (events, received) = mpsc::unbounded_channel::<Bytes>();
        let stream_id = format!("s-{}", shared.streams.fetch_add(1, Ordering::SeqCst));
        let authorization = text("authorization");
        let _ = shared.subscribed.send(Subscription { body, authorization, stream_id: stream_id.clone(), events });
        let stream = futures::stream::unfold(received, |mut received| async {
            received.recv().await.map(|bytes| (Ok::<_, Infallible>(bytes), received))
        });
        return Response::builder().header("Mesos-Stream-Id", stream_id).body(Body::from_stream(stream)).unwrap();
    }
    let _ = shared.called.send(Call { kind, body, stream_id: text("mesos-stream-id").unwrap() });
    if shared.deaf.load(Ordering::SeqCst) {
        futures::future::pending::<()>().await;
    }
    let answer = shared.to_calls.lock().unwrap().pop_front();
    plain(answer.unwrap_or(Answer { status: 202, location: String::new(), body: String::new() }))
}
