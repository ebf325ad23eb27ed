//! Stands in front of a Marathon, as a load balancer does: writes down what it is asked, and spoils answers as a test wants it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use serde_json::Value;

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Without what follows a question mark.
    pub path: String,
    pub body: Value,
    pub began: Instant,
    /// When it was answered.
    pub ended: Option<Instant>,
}

/// What becomes of an update.
#[derive(Clone, Debug)]
pub enum Spoil {
    /// It is not passed on; the answer is this.
    Refuse(u16, &'static str),
    /// It is passed on; the answer is this nevertheless.
    Lose(u16),
}

pub struct Front {
    url: String,
    shared: Arc<Shared>,
    /// Keeps the server running.
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    asked: Mutex<Vec<Asked>>,
    spoils: Mutex<VecDeque<Spoil>>,
    delay_ms: AtomicU64,
    is_away: AtomicBool,
}

impl Front {
    pub fn of(target: String) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let shared = Arc::new(Shared {
            target,
            http,
            asked: Mutex::default(),
            spoils: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, shared, _runtime: runtime }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next updates, each one of these.
    pub fn spoil(&self, spoils: impl IntoIterator<Item = Spoil>) {
        self.shared.spoils.lock().unwrap().extend(spoils);
    }

    /// How many updates are still to be spoilt.
    pub fn left_to_spoil(&self) -> usize {
        self.shared.spoils.lock().unwrap().len()
    }

    /// Each answer from now on comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// While it is away, all is answered 502 at once, as by a load balancer that knows of no leader.
    pub fn set_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::SeqCst);
    }

    /// All that has come so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The requests so far that change numbers of instances.
    pub fn scalings(&self) -> Vec<Asked> {
        let is_scaling = |asked: &Asked| asked.method == Method::PATCH || asked.path == "/v2/tasks/delete";
        self.asked().into_iter().filter(is_scaling).collect()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap();
    let asked = Asked {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        began: Instant::now(),
        ended: None,
    };
    let at = {
        let mut all = shared.asked.lock().unwrap();
        all.push(asked);
        all.len() - 1
    };
    let spoil = if head.method == Method::GET { None } else { shared.spoils.lock().unwrap().pop_front() };
    let response = match spoil {
        Some(Spoil::Refuse(status, message)) => said(status, message),
        _ if shared.is_away.load(Ordering::SeqCst) => said(502, "Could not determine the current leader"),
        spoil => {
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            let answer = pass_on(&shared, head.method, path, head.headers, body.into()).await;
            if let Some(Spoil::Lose(status)) = spoil { said(status, "Service Unavailable") } else { answer }
        }
    };
    tokio::time::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst))).await;
    shared.asked.lock().unwrap()[at].ended = Some(Instant::now());
    response
}

async fn pass_on(shared: &Shared, method: Method, path: &str, mut headers: HeaderMap, body: Vec<u8>) -> Response<Body> {
    headers.remove(header::HOST);
    let request = shared.http.request(method, format!("{}{path}", shared.target)).headers(headers).body(body);
    let Ok(answer) = request.send().await else { return said(502, "Connection to leader refused.") };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| **name != header::CONNECTION) {
        response = response.header(name, value);
    }
    // A stream ends here when it ends there.
    response.body(Body::from_stream(answer.bytes_stream())).unwrap()
}

fn said(status: u16, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "message": message }).to_string();
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    response.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()
}
