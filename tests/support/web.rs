//! A document on a real HTTP server, whose text a test can change; and a plain client.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// A document that is shown only to who bears the token of the moment.
pub struct Guarded {
    token: Arc<Mutex<String>>,
    url: String,
    /// Keeps the server running.
    _runtime: tokio::runtime::Runtime,
}

impl Guarded {
    pub fn serve(text: &'static str, token: &str) -> Self {
        let token = Arc::new(Mutex::new(token.to_owned()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let wanted = token.clone();
        let show = move |headers: axum::http::HeaderMap| async move {
            let wanted = format!("Bearer {}", wanted.lock().unwrap());
            let given = headers.get("authorization").and_then(|value| value.to_str().ok());
            if given == Some(&wanted) { Ok(text) } else { Err(axum::http::StatusCode::UNAUTHORIZED) }
        };
        runtime.spawn(async move { axum::serve(listener, Router::new().route("/", get(show))).await });
        Self { token, url, _runtime: runtime }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn set_token(&self, token: &str) {
        *self.token.lock().unwrap() = token.to_owned();
    }
}

/// Status and body of a GET.
pub fn fetch(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
