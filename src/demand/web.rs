//! Asking over HTTP: one client for each server, with its TLS, credentials as they are now, and errors in words.

use std::error::Error;
use std::io;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use super::context::Context;
use super::link::{Link, Trouble};
use super::tls::Material;
use crate::api::demand::Tls;
use crate::api::secret::Auth;

/// A document that is larger was not meant to be polled four times a second.
const MAX_BODY: usize = 1 << 20;
const MAX_REDIRECTS: usize = 5;
/// So much of an error page is shown.
const SHOWN: usize = 100;

/// Why there is no document. `asked` is the method and the address, without credentials.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("{url} is not an address: {problem}")]
    Address { url: String, problem: String },
    #[error("{asked}: {problem}")]
    Request { asked: String, problem: String },
    #[error("{asked}: status {}{}{excerpt}", status.as_u16(), if excerpt.is_empty() { "" } else { ": " })]
    Status { asked: String, status: StatusCode, excerpt: String },
    #[error("{asked}: the document is larger than 1 MiB")]
    TooLarge { asked: String },
}

/// A server that is asked over HTTP, with what is needed to be let in.
pub struct Web {
    context: Context,
    /// What is asked, as errors tell it.
    shown: String,
    auth: Option<Auth>,
    tls: Option<Tls>,
    link: Arc<Link<Client>>,
}

/// What came back, whatever its status.
pub struct Answer {
    /// The method and the address, without credentials.
    pub asked: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Web {
    /// The server of this address: connections are shared by all who ask it. Errors tell the address as it is here, whatever a request
    /// adds to it.
    #[must_use]
    pub fn of(context: Context, url: &Url, auth: Option<Auth>, tls: Option<Tls>) -> Self {
        let link = context.link(&context.servers.http, &(url.origin().ascii_serialization(), &tls));
        Self { context, shown: shown(url), auth, tls, link }
    }

    /// The body of the answer to what `build` makes.
    ///
    /// # Errors
    /// In words, when there is no answer, or one that is no success or too large. Where others may read it who may not ask the server
    /// themselves, nothing of the answer is told.
    pub async fn fetch(&self, build: impl Fn(&Client) -> RequestBuilder) -> Result<Vec<u8>, String> {
        let answer = self.ask(build).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(self.refusal(&answer).to_string()) }
    }

    /// The same, with `None` for what the server says is not there (status 404).
    ///
    /// # Errors
    /// As for [`fetch`](Self::fetch).
    pub async fn find(&self, build: impl Fn(&Client) -> RequestBuilder) -> Result<Option<Vec<u8>>, String> {
        let answer = self.ask(build).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.body)),
            _ => Err(self.refusal(&answer).to_string()),
        }
    }

    /// The answer to what `build` makes, whatever its status.
    ///
    /// # Errors
    /// In words, when there is none, or one that is too large.
    pub async fn ask(&self, build: impl Fn(&Client) -> RequestBuilder) -> Result<Answer, String> {
        let authorization = self.context.authorization(self.auth.as_ref()).await?;
        let material = self.context.tls(self.tls.as_ref()).await?;
        let connect = || std::future::ready(client(&material));
        let question = |client: Client| {
            let request = authorization.iter().fold(build(&client), |request, value| request.header(AUTHORIZATION, value));
            async move { self.answer(&client, request).await.map_err(|error| Trouble::Answer(error.to_string())) }
        };
        self.link.ask(&material, connect, question).await
    }

    /// An answer that is no success, in words.
    #[must_use]
    pub fn refusal(&self, answer: &Answer) -> WebError {
        let excerpt = if self.context.secrets.are_discreet() { String::new() } else { excerpt(&answer.body) };
        WebError::Status { asked: answer.asked.clone(), status: answer.status, excerpt }
    }

    async fn answer(&self, client: &Client, request: RequestBuilder) -> Result<Answer, WebError> {
        let request =
            request.build().map_err(|error| WebError::Request { asked: self.shown.clone(), problem: root_cause(&error) })?;
        let asked = format!("{} {}", request.method(), self.shown);
        let failed = |error: reqwest::Error| WebError::Request { asked: asked.clone(), problem: root_cause(&error) };
        let response = client.execute(request).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match body(response, MAX_BODY + 1).await {
            // What is wrong is known already.
            Err(_) if !status.is_success() => Vec::new(),
            read => read.map_err(failed)?,
        };
        if status.is_success() && body.len() > MAX_BODY {
            return Err(WebError::TooLarge { asked });
        }
        Ok(Answer { asked, status, headers, body })
    }
}

fn client(material: &Material) -> Result<Client, String> {
    Client::builder()
        .user_agent(concat!("microscaler/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .tls_backend_preconfigured(material.config()?)
        .build()
        .map_err(|error| format!("no HTTP client: {}", root_cause(&error)))
}

/// Reads an address.
///
/// # Errors
/// When it is none.
pub fn address(url: &str) -> Result<Url, WebError> {
    Url::parse(url).map_err(|error| WebError::Address { url: url.to_owned(), problem: error.to_string() })
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
fn excerpt(body: &[u8]) -> String {
    // Four bytes are the longest character.
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]);
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(SHOWN).collect()
}

/// The address without its credentials, as messages end up in logs and in status.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Only an address without a host refuses these, and it holds no credentials.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// The last cause is the one that tells something: "connection refused" rather than "error sending request".
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
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
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let url = Url::parse("http://joe:secret@example.org/q?x=1").unwrap();
        assert_eq!(shown(&url), "http://example.org/q?x=1");
    }
}
