//! A document on a real HTTP server, whose text a test can change.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;

pub struct Document {
    text: Arc<Mutex<String>>,
    url: String,
    /// Keeps the server running.
    _runtime: tokio::runtime::Runtime,
}

impl Document {
    pub fn serve(text: &str) -> Self {
        let text = Arc::new(Mutex::new(text.to_owned()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shown = text.clone();
        let router = Router::new().route("/", get(move || async move { shown.lock().unwrap().clone() }));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { text, url, _runtime: runtime }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn set(&self, text: &str) {
        *self.text.lock().unwrap() = text.to_owned();
    }
}
