//! Marathon over HTTP: addresses, credentials, redirects, and what becomes of a request.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, LOCATION};
use reqwest::{Client as Http, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use url::Url;

use super::machine::{Answer, Request};
use super::wire::{Apps, EVENT_TYPES, Queue, Snapshot};
use crate::api::validated::MarathonPool;
use crate::backend::mesos::{chain, tls};
use crate::store::secrets::{SecretError, Secrets};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader that changes holds requests back for a while; one whose ZooKeeper hangs does so for six seconds and then says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Marathon itself closes connections that are idle for 30 s.
const IDLE: Duration = Duration::from_secs(20);
const MAX_HOPS: u32 = 5;
const FIRST_DELAY_MS: u64 = 250;
const MAX_DELAY_MS: u64 = 15_000;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the pool is not on a Marathon")]
    NotMarathon,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("HTTP cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    #[error("address of Marathon {address:?}: {source}")]
    Address { address: String, source: url::ParseError },
    #[error(transparent)]
    Mesos(#[from] crate::backend::mesos::SetupError),
}

/// Why Marathon gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url}: {}", chain(source))]
    Failed { url: Url, source: reqwest::Error },
    #[error("{url}: no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent { url: Url },
    #[error("{url}: {status} {body}")]
    Refused { url: Url, status: StatusCode, body: String },
    #[error("{url}: redirected more than {MAX_HOPS} times")]
    Loop { url: Url },
    #[error("{url}: the answer cannot be read: {source}")]
    Unreadable { url: Url, source: serde_json::Error },
    #[error("the credentials: {0}")]
    Secret(#[from] SecretError),
}

/// What is needed to speak to the Marathon of a pool, at one of its addresses.
#[derive(Clone)]
pub struct Client {
    http: Http,
    pool: Arc<MarathonPool>,
    secrets: Arc<Secrets>,
    urls: Arc<[Url]>,
    base: Url,
}

impl Client {
    /// # Errors
    /// When an address is none, or TLS cannot be set up.
    pub fn new(pool: Arc<MarathonPool>, secrets: Arc<Secrets>) -> Result<Self, SetupError> {
        let http = Http::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .http1_only()
            .no_proxy()
            .build()?;
        let parse = |address: &String| {
            let slash = if address.ends_with('/') { "" } else { "/" };
            let parsed = Url::parse(&format!("{address}{slash}"));
            parsed.map_err(|source| SetupError::Address { address: address.clone(), source })
        };
        let urls = pool.marathon.urls.iter().map(parse).collect::<Result<Arc<[Url]>, _>>()?;
        let base = urls.first().cloned().ok_or(SetupError::NotMarathon)?;
        Ok(Self { http, pool, secrets, urls, base })
    }

    /// The same at the address that is tried the `n`th time.
    pub fn at(&self, n: usize) -> Self {
        Self { base: self.urls[n % self.urls.len()].clone(), ..self.clone() }
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Credentials go to the hosts that the pool names, and nowhere else.
    fn trusts(&self, url: &Url) -> bool {
        self.urls.iter().any(|known| known.host_str() == url.host_str())
    }

    /// Waits until the Secret of the credentials has changed: it may be the one that was wrong or missing.
    pub async fn secret_changed(&self) {
        match self.pool.marathon.secret() {
            Some(secret) => self.secrets.changed(self.pool.key.namespace(), secret).await,
            None => std::future::pending().await,
        }
    }

    async fn send(&self, method: Method, url: Url, accept: &'static str, body: Option<&Json>) -> Result<Response, ClientError> {
        let mut request = self.http.request(method, url.clone()).header(ACCEPT, accept);
        if let Some(body) = body {
            request = request.json(body);
        }
        // Read anew each time, as it may change.
        if let Some(auth) = self.pool.marathon.auth.as_ref().filter(|_| self.trusts(&url)) {
            request = request.header(AUTHORIZATION, self.secrets.authorization(self.pool.key.namespace(), auth).await?);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => Err(ClientError::Failed { url, source }),
            Err(_) => Err(ClientError::Silent { url }),
        }
    }

    fn url(&self, path: &str) -> Url {
        // Paths are our own and well-formed.
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = self.url(path);
        let response = accepted(self.send(Method::GET, url.clone(), "application/json", None).await?).await?;
        let body = match tokio::time::timeout(ANSWER_TIMEOUT, response.bytes()).await {
            Ok(Ok(body)) => body,
            Ok(Err(source)) => return Err(ClientError::Failed { url, source }),
            Err(_) => return Err(ClientError::Silent { url }),
        };
        serde_json::from_slice(&body).map_err(|source| ClientError::Unreadable { url, source })
    }

    /// Attaches to the event stream of the leader, which another instance redirects to. From then on requests go to the leader, too,
    /// unless they would need credentials that are not meant for its host.
    ///
    /// # Errors
    /// When there is no stream.
    pub async fn attach(&self) -> Result<(Self, Response), ClientError> {
        let types: Vec<String> = EVENT_TYPES.iter().map(|kind| format!("event_type={kind}")).collect();
        let path = format!("v2/events?{}", types.join("&"));
        let (mut at, mut url) = (self.clone(), self.url(&path));
        for _ in 0..=MAX_HOPS {
            let response = at.send(Method::GET, url.clone(), "text/event-stream", None).await?;
            if !response.status().is_redirection() {
                return Ok((at, accepted(response).await?));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let Ok(mut target) = url.join(location) else { return Err(ClientError::Loop { url }) };
            if target.query().is_none() {
                target.set_query(url.query());
            }
            if let Some(base) = base_of(&target)
                && (self.pool.marathon.auth.is_none() || self.trusts(&base))
            {
                at.base = base;
            }
            url = target;
        }
        Err(ClientError::Loop { url })
    }

    /// All apps with their tasks, and what waits for room.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        let apps = self.get::<Apps>("v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments");
        let (apps, queue) = futures::future::try_join(apps, self.get::<Queue>("v2/queue")).await?;
        Ok(Snapshot { apps: apps.apps, queue: queue.queue })
    }

    /// Does what is asked, and says what became of it. `tries`: how often in a row this has failed.
    pub async fn ask(&self, request: &Request, tries: u32) -> Answer {
        let (method, path, body) = call(request);
        let response = match self.send(method, self.url(&path), "application/json", body.as_ref()).await {
            Ok(response) => response,
            Err(error @ ClientError::Secret(_)) => return Answer::Refused { status: 401, message: error.to_string() },
            // Not even connected: nothing can have been done.
            Err(ClientError::Failed { url, source }) if source.is_connect() => {
                return Answer::Later { message: format!("{url}: {}", chain(&source)), retry_in_ms: jittered(tries) };
            }
            Err(error) => return Answer::Unknown { message: error.to_string(), retry_in_ms: jittered(tries) },
        };
        let deployment = response.headers().get("marathon-deployment-id").and_then(|id| id.to_str().ok()).map(Into::into);
        let status = response.status();
        let body = tokio::time::timeout(ANSWER_TIMEOUT, response.text()).await.ok().and_then(Result::ok).unwrap_or_default();
        judge(status, deployment, &body, jittered(tries))
    }
}

/// The method, path and body of a request.
fn call(request: &Request) -> (Method, String, Option<Json>) {
    match request {
        Request::Scale(apps) => {
            let apps = apps.iter().map(|(id, instances)| json!({"id": id, "instances": instances}));
            (Method::PATCH, "v2/apps?force=true".to_owned(), Some(apps.collect()))
        }
        Request::Shrink(ids) => (Method::POST, "v2/tasks/delete?scale=true&force=true".to_owned(), Some(json!({"ids": ids}))),
        Request::Create(definition) => (Method::POST, "v2/apps?force=true".to_owned(), Some((**definition).clone())),
        Request::Update(id, definition) => {
            (Method::PUT, format!("v2/apps{id}?force=true&partialUpdate=false"), Some((**definition).clone()))
        }
        Request::Delete(id) => (Method::DELETE, format!("v2/apps{id}?force=true"), None),
        Request::Replace(id) => (Method::POST, "v2/tasks/delete".to_owned(), Some(json!({"ids": [id]}))),
        Request::ResetDelay(id) => (Method::DELETE, format!("v2/queue{id}/delay"), None),
        // Not for Marathon's `ask`; see the rim.
        Request::Read | Request::Agents => (Method::GET, "v2/info".to_owned(), None),
    }
}

/// What an answer means.
fn judge(status: StatusCode, deployment: Option<Arc<str>>, body: &str, retry_in_ms: u64) -> Answer {
    let words = || format!("{} {}", status.as_u16(), said(body));
    match status.as_u16() {
        200..=299 => Answer::Done { deployment },
        // Locked in spite of force, as while a group is deleted; and 403 is also said of too many deployments.
        409 => Answer::Later { message: words(), retry_in_ms },
        403 if body.contains("deployments") => Answer::Later { message: words(), retry_in_ms },
        400..=499 => Answer::Refused { status: status.as_u16(), message: words() },
        _ => Answer::Unknown { message: words(), retry_in_ms },
    }
}

/// The message in an answer, with its details: Marathon gives these as text or as a list.
fn said(body: &str) -> String {
    let Ok(json) = serde_json::from_str::<Json>(body) else { return body.chars().take(200).collect() };
    let message = json["message"].as_str().unwrap_or_default().to_owned();
    let details = match &json["details"] {
        Json::String(text) => text.clone(),
        Json::Array(list) if !list.is_empty() => Json::Array(list.clone()).to_string(),
        _ => String::new(),
    };
    [message, details].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ").chars().take(500).collect()
}

/// The address that the paths of the API are relative to.
fn base_of(events: &Url) -> Option<Url> {
    let prefix = events.path().strip_suffix("v2/events")?.to_owned();
    let mut base = events.clone();
    base.set_path(&prefix);
    base.set_query(None);
    Some(base)
}

async fn accepted(response: Response) -> Result<Response, ClientError> {
    let (status, url) = (response.status(), response.url().clone());
    if status.is_success() {
        return Ok(response);
    }
    let body = tokio::time::timeout(ANSWER_TIMEOUT, response.text()).await.ok().and_then(Result::ok).unwrap_or_default();
    Err(ClientError::Refused { url, status, body: said(&body) })
}

/// Full jitter: anything up to a bound that doubles.
pub fn jittered(tries: u32) -> u64 {
    fastrand::u64(0..=FIRST_DELAY_MS.saturating_mul(1 << tries.min(16)).min(MAX_DELAY_MS))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::pool;
    use super::*;

    #[test]
    fn answers_mean_what_the_recordings_show() {
        let of = |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), Some("d".into()), body, 7);
        assert!(matches!(of(200, "{}"), Answer::Done { deployment: Some(id) } if &*id == "d"));
        assert!(matches!(
            of(409, r#"{"message":"App is locked by one or more deployments."}"#),
            Answer::Later { retry_in_ms: 7, .. }
        ));
        assert!(matches!(of(403, r#"{"message":"Max number (100) of running deployments is achieved"}"#), Answer::Later { .. }));
        assert!(matches!(
            of(403, r#"{"message":"Not Authorized to perform this action!"}"#),
            Answer::Refused { status: 403, .. }
        ));
        let refused = of(422, r#"{"message":"Object is not valid","details":[{"path":"/id","errors":["error.pattern"]}]}"#);
        assert!(matches!(&refused, Answer::Refused { status: 422, message } if message.contains("error.pattern")), "{refused:?}");
        for status in [500, 502, 503] {
            assert!(matches!(of(status, "<html>"), Answer::Unknown { .. }), "{status}");
        }
    }

    #[test]
    fn requests_send_numbers_and_nothing_else() {
        let (method, path, body) = call(&Request::Scale(vec![("/a".into(), 2), ("/b/c".into(), 0)]));
        assert_eq!((method, path.as_str()), (Method::PATCH, "v2/apps?force=true"));
        assert_eq!(body, Some(json!([{"id": "/a", "instances": 2}, {"id": "/b/c", "instances": 0}])));
        assert_eq!(call(&Request::ResetDelay("/b/c".into())).1, "v2/queue/b/c/delay");
    }

    #[test]
    fn paths_are_relative_to_the_address_and_credentials_stay_with_its_hosts() {
        let pool = Arc::new(MarathonPool {
            marathon: crate::api::marathon::Marathon {
                urls: vec!["http://lb.example/service/marathon".to_owned()],
                ..pool("{instances: 1}").marathon.clone()
            },
            ..(*pool("{instances: 1}")).clone()
        });
        let client = Client::new(pool, Arc::new(Secrets::in_files())).unwrap();
        assert_eq!(client.url("v2/apps?force=true").as_str(), "http://lb.example/service/marathon/v2/apps?force=true");
        assert!(client.trusts(&Url::parse("http://lb.example:8080/").unwrap()));
        assert!(!client.trusts(&Url::parse("http://other.example/").unwrap()));
        let base = base_of(&Url::parse("http://m2:8080/x/v2/events?event_type=a").unwrap());
        assert_eq!(base.unwrap().as_str(), "http://m2:8080/x/");
    }
}
