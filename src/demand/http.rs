//! Demand as a number inside a JSON document that is polled over HTTP.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Client, RequestBuilder, Response, Url};
use serde_json::Value;

use super::poll::{Rhythm, poll};
use super::{DemandSource, Gauge};
use crate::api::demand::Http;
use crate::store::secrets::Secrets;

/// A document that is larger was not meant to be polled four times a second.
const MAX_BODY: usize = 1 << 20;
const MAX_REDIRECTS: usize = 5;
/// So much of an error page is shown.
const SHOWN: usize = 100;
const A_STRING: &str = "found the string";

/// Why a poll yielded no number. `url` is shown without credentials.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{url} is not an address: {problem}")]
    Address { url: String, problem: String },
    #[error("GET {url}: {problem}")]
    Request { url: String, problem: String },
    #[error("GET {url}: status {status}{}{excerpt}", if excerpt.is_empty() { "" } else { ": " })]
    Status { url: String, status: u16, excerpt: String },
    #[error("GET {url}: the document is larger than 1 MiB")]
    TooLarge { url: String },
    #[error("GET {url}: not JSON: {problem}")]
    NotJson { url: String, problem: serde_json::Error },
    #[error("no number at {pointer}: {found}")]
    NoNumber { pointer: String, found: String },
}

impl HttpError {
    /// The same without anything of what was found.
    #[must_use]
    pub fn discreet(self) -> Self {
        match self {
            Self::Status { url, status, .. } => Self::Status { url, status, excerpt: String::new() },
            Self::NoNumber { pointer, found } if found.starts_with(A_STRING) => {
                Self::NoNumber { pointer, found: "found a string that is no number".to_owned() }
            }
            error => error,
        }
    }
}

/// A client for all polled sources of a pool: connections are kept and shared.
///
/// # Errors
/// In words, when TLS cannot be set up.
pub fn client() -> Result<Client, String> {
    // Fails if the program has chosen a provider already, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("microscaler/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .build()
        .map_err(|error| root_cause(&error))
}

/// A polled document with the client to poll it by.
pub struct HttpSource {
    pub client: Client,
    pub secrets: Arc<Secrets>,
    /// Where the Secrets are that the spec names.
    pub namespace: String,
    pub spec: Http,
}

impl DemandSource for HttpSource {
    async fn run(self, gauge: Gauge) {
        let Self { client, secrets, namespace, spec } = self;
        let url = match Url::parse(&spec.url) {
            Ok(url) => url,
            Err(error) => {
                let bad = HttpError::Address { url: spec.url, problem: error.to_string() };
                return gauge.failure(bad.to_string());
            }
        };
        let ms = |n: i64| Duration::from_millis(u64::try_from(n).unwrap_or(0).max(1));
        let rhythm = Rhythm { every: ms(spec.poll_milliseconds), timeout: ms(spec.timeout_milliseconds) };
        let shown = shown(&url);
        let ask = || async {
            let authorization = match &spec.auth {
                Some(auth) => Some(secrets.authorization(&namespace, auth).await.map_err(|error| error.to_string())?),
                None => None,
            };
            let request =
                authorization.iter().fold(client.get(url.clone()), |request, value| request.header(AUTHORIZATION, value));
            let answer = read(request, &shown, &spec.pointer).await;
            answer.map_err(|error| if secrets.are_discreet() { error.discreet() } else { error }.to_string())
        };
        poll(rhythm, gauge, ask).await;
    }
}

async fn read(request: RequestBuilder, shown: &str, pointer: &str) -> Result<f64, HttpError> {
    let failed = |error: reqwest::Error| HttpError::Request { url: shown.to_owned(), problem: root_cause(&error) };
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        let excerpt = excerpt(response).await;
        return Err(HttpError::Status { url: shown.to_owned(), status: status.as_u16(), excerpt });
    }
    let body = body(response, MAX_BODY + 1).await.map_err(failed)?;
    if body.len() > MAX_BODY {
        return Err(HttpError::TooLarge { url: shown.to_owned() });
    }
    let document = serde_json::from_slice(&body).map_err(|problem| HttpError::NotJson { url: shown.to_owned(), problem })?;
    number_at(&document, pointer)
}

/// The body, or as much of it as reaches `enough` bytes.
async fn body(mut response: Response, enough: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < enough
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first characters of an error page, in one line.
async fn excerpt(response: Response) -> String {
    // Four bytes are the longest character.
    let body = body(response, 4 * SHOWN).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(SHOWN).collect()
}

/// The number, or a string that holds one, at `pointer` (RFC 6901).
///
/// # Errors
/// Says what was found there instead.
pub fn number_at(document: &Value, pointer: &str) -> Result<f64, HttpError> {
    let found = match document.pointer(pointer) {
        Some(Value::Number(number)) => match number.as_f64() {
            Some(number) => return Ok(number),
            None => format!("{number} is too large"),
        },
        Some(Value::String(text)) => match text.trim().parse() {
            Ok(number) => return Ok(number),
            Err(_) => format!("{A_STRING} {:?}", text.chars().take(SHOWN).collect::<String>()),
        },
        Some(Value::Object(_)) => "found an object".to_owned(),
        Some(Value::Array(_)) => "found an array".to_owned(),
        Some(Value::Bool(truth)) => format!("found {truth}"),
        Some(Value::Null) => "found null".to_owned(),
        None => "nothing is there".to_owned(),
    };
    let pointer = if pointer.is_empty() { "the top of the document".to_owned() } else { pointer.to_owned() };
    Err(HttpError::NoNumber { pointer, found })
}

/// The address without its credentials, as messages end up in logs and in status.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Only an address without a host refuses these, and it holds no credentials.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// The last cause is the one that tells something: "connection refused" rather than "error sending request".
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.get_ref().is_none()
        {
            // The kind in words, without the operating system's number.
            return io.kind().to_string();
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[allow(clippy::float_cmp)]
    fn numbers_are_found_by_pointer() {
        let document = json!({"queues": [{"depth": 12, "lag": " 1.5 "}], "a/b": {"~": -2.5}});
        assert_eq!(number_at(&document, "/queues/0/depth").unwrap(), 12.0);
        assert_eq!(number_at(&document, "/queues/0/lag").unwrap(), 1.5);
        assert_eq!(number_at(&document, "/a~1b/~0").unwrap(), -2.5);
        assert_eq!(number_at(&json!(7), "").unwrap(), 7.0);
    }

    #[test]
    fn what_is_there_instead_is_said() {
        let document = json!({"o": {}, "a": [], "t": true, "n": null, "s": "many"});
        let said = |pointer| number_at(&document, pointer).unwrap_err().to_string();
        assert_eq!(said("/o"), "no number at /o: found an object");
        assert_eq!(said("/a"), "no number at /a: found an array");
        assert_eq!(said("/t"), "no number at /t: found true");
        assert_eq!(said("/n"), "no number at /n: found null");
        assert_eq!(said("/s"), "no number at /s: found the string \"many\"");
        assert_eq!(said("/x/y"), "no number at /x/y: nothing is there");
        assert_eq!(said(""), "no number at the top of the document: found an object");
    }

    #[test]
    fn where_it_has_to_be_nothing_of_the_answer_is_shown() {
        let said = number_at(&json!({"key": "s3cret"}), "/key").unwrap_err().discreet().to_string();
        assert_eq!(said, "no number at /key: found a string that is no number");
        let status = HttpError::Status { url: "http://x/".to_owned(), status: 403, excerpt: "s3cret".to_owned() };
        assert_eq!(status.discreet().to_string(), "GET http://x/: status 403");
    }

    #[test]
    fn credentials_are_not_shown() {
        let url = Url::parse("http://joe:secret@example.org/q?x=1").unwrap();
        assert_eq!(shown(&url), "http://example.org/q?x=1");
    }
}
