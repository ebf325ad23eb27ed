//! A webhook on a real HTTP server: keeps what it is told, and answers as a test wants it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// With status 500.
    Badly,
    /// Not at all.
    Never,
}

#[derive(Default)]
struct Heard {
    mood: Mood,
    documents: Vec<Value>,
    /// Of the last request.
    authorization: Option<String>,
    requests: usize,
}

/// The server. It can be gone for a while, and comes back at the same address.
pub struct Hook {
    heard: Arc<Mutex<Heard>>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Hook {
    pub fn start() -> Self {
        let mut hook = Self { heard: Arc::default(), address: "127.0.0.1:0".parse().unwrap(), runtime: None };
        hook.come_back();
        hook
    }

    pub fn come_back(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let router = Router::new().route("/hook", post(hear)).with_state(self.heard.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.runtime = Some(runtime);
    }

    pub fn go(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn be(&self, mood: Mood) {
        self.heard.lock().unwrap().mood = mood;
    }

    /// What it took, oldest first.
    pub fn documents(&self) -> Vec<Value> {
        self.heard.lock().unwrap().documents.clone()
    }

    /// The kinds of these.
    pub fn kinds(&self) -> Vec<String> {
        self.documents().iter().map(|document| document["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// All that came, also what it did not take.
    pub fn requests(&self) -> usize {
        self.heard.lock().unwrap().requests
    }

    pub fn authorization(&self) -> Option<String> {
        self.heard.lock().unwrap().authorization.clone()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.go();
    }
}

async fn hear(State(heard): State<Arc<Mutex<Heard>>>, headers: HeaderMap, document: axum::Json<Value>) -> StatusCode {
    let mood = {
        let mut heard = heard.lock().unwrap();
        heard.requests += 1;
        heard.authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        if heard.mood == Mood::Well {
            heard.documents.push(document.0);
        }
        heard.mood
    };
    match mood {
        Mood::Well => StatusCode::NO_CONTENT,
        Mood::Badly => StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Never => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            StatusCode::OK
        }
    }
}
