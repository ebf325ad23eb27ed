//! The HTTP client of the verbs that speak to a running Microscaler.

use std::time::Duration;

use anyhow::{Context, bail};
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use crate::engine::report::TaskReport;
use crate::server::objects::List;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the running Microscaler is.
#[derive(clap::Args, Clone)]
pub struct Server {
    /// Address of the running Microscaler.
    #[arg(long, default_value = "http://127.0.0.1:8910", env = "MICROSCALER_SERVER", help_heading = "Server")]
    pub server: String,

    /// File with the bearer token, where the server asks for one.
    #[arg(long, env = "MICROSCALER_PUSH_TOKEN_FILE", help_heading = "Server")]
    pub push_token_file: Option<std::path::PathBuf>,
}

impl Server {
    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let server = self.server.trim_end_matches('/');
        let scheme = if server.contains("://") { "" } else { "http://" };
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        let request = client.request(method, format!("{scheme}{server}{path}"));
        let Some(file) = &self.push_token_file else { return Ok(request) };
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(request.bearer_auth(token.trim()))
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let unreachable =
            || format!("no Microscaler answers at {}: is it running there? (--server names another address)", self.server);
        let response = request.send().await.with_context(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        let error = serde_json::from_str::<serde_json::Value>(&body).ok();
        let error = error.as_ref().and_then(|body| body.get("error")).and_then(|error| error.as_str()).unwrap_or(&body);
        bail!("{error} ({status})")
    }

    /// The document at `path`.
    ///
    /// # Errors
    /// When nothing answers there, or something else than such a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        response.json().await.with_context(|| format!("{}{path} answers something unexpected", self.server))
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn post(&self, path: &str, body: String) -> anyhow::Result<serde_json::Value> {
        let response = self.send(self.request(Method::POST, path)?.body(body)).await?;
        Ok(response.json().await.unwrap_or_default())
    }

    /// The snapshots that the server sends at `path`, as they come.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn watch<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<impl Stream<Item = anyhow::Result<T>> + use<T>> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        let events = response.bytes_stream().eventsource();
        Ok(events.map(|event| {
            let event = event.context("the server has closed the connection")?;
            serde_json::from_str(&event.data).context("the server sent something unexpected")
        }))
    }

    /// The tasks that the query selects, such as `?app=search`.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub async fn tasks(&self, query: &str) -> anyhow::Result<Vec<TaskReport>> {
        let list: List<TaskReport> = self.get(&format!("/v1/tasks{query}")).await?;
        if let Some(problem) = list.problems.first() {
            bail!("{problem}");
        }
        Ok(list.items)
    }
}
