//! Demand as the number of messages in a queue of Azure Storage, over its REST interface.
//! <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;

use super::context::Context;
use super::poll::Query;
use super::web::{Answer, Web};
use crate::api::demand::{AzureQueue, QueueLengthStrategy};
use crate::engine::clock;

mod connection;

pub use connection::{Connection, ConnectionError};

const VERSION: &str = "2021-12-02";
/// Azure shows no more messages at once.
const MOST_SHOWN: usize = 32;
/// Of 64 KiB each, in XML.
const MAX_SHOWN: usize = 4 << 20;

/// What refusals are called, and what is wrong then.
const REFUSALS: [(&str, &str); 6] = [
    ("QueueNotFound", "there is no such queue"),
    ("AuthenticationFailed", "the key or the signature in connection is refused: it may have been replaced or have expired"),
    ("InvalidAuthenticationInfo", "the key or the signature in connection is refused: it may have been replaced or have expired"),
    ("AuthorizationFailure", "connection does not allow to read the queue"),
    ("AuthorizationPermissionMismatch", "connection does not allow to read the queue"),
    ("AccountIsDisabled", "the account is disabled"),
];

/// A queue, and how it is asked.
pub struct MessageCount {
    context: Context,
    spec: AzureQueue,
    /// The server of the last connection string.
    web: Mutex<Option<(Url, Arc<Web>)>>,
}

impl MessageCount {
    #[must_use]
    pub fn new(context: Context, spec: &AzureQueue) -> Self {
        Self { context, spec: spec.clone(), web: Mutex::default() }
    }

    /// Kept, as connections live only as long as somebody holds them.
    fn web(&self, queue: &Url) -> Arc<Web> {
        let mut kept = self.web.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((url, web)) = kept.as_ref()
            && url == queue
        {
            return web.clone();
        }
        let web = Arc::new(Web::of(self.context.clone(), queue, None, self.spec.tls.clone()).up_to(MAX_SHOWN));
        *kept = Some((queue.clone(), web.clone()));
        web
    }

    /// Asks for what is at this path beneath the queue.
    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, String> {
        let text = self.context.secret(&self.spec.connection).await?;
        let connection: Connection = text.parse().map_err(|error: ConnectionError| format!("connection: {error}"))?;
        let queue = connection.url(&self.spec.queue_name);
        let web = self.web(&queue);
        let now = clock::timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let headers = [("x-ms-date", now.as_str()), ("x-ms-version", VERSION)];
        let (url, authorization) = connection.sign(&format!("{}{path}", self.spec.queue_name), parameters, headers);
        let build = |client: &reqwest::Client| {
            let all = headers.into_iter().chain(authorization.iter().map(|value| ("authorization", value.as_str())));
            all.fold(client.get(url.clone()), |request, (name, value)| request.header(name, value))
        };
        let answer = web.ask(build).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refusal(&web, &answer)) }
    }

    async fn all(&self) -> Result<f64, String> {
        let answer = self.get("", &[("comp", "metadata")]).await?;
        let count =
            answer.headers.get("x-ms-approximate-messages-count").and_then(|count| count.to_str().ok()?.parse::<u32>().ok());
        count
            .map(f64::from)
            .ok_or_else(|| format!("{}: not an answer of Azure: it has no approximate-messages-count", answer.asked))
    }

    async fn visible(&self) -> Result<Option<f64>, String> {
        let most = MOST_SHOWN.to_string();
        let answer = self.get("/messages", &[("numofmessages", most.as_str()), ("peekonly", "true")]).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if !text.contains("<QueueMessagesList") {
            return Err(format!("{}: not an answer of Azure: it has no QueueMessagesList", answer.asked));
        }
        // What a message holds is escaped.
        let count = text.matches("<QueueMessage>").count();
        Ok((count < MOST_SHOWN).then_some(u32::try_from(count).unwrap_or(u32::MAX).into()))
    }
}

impl Query for MessageCount {
    async fn ask(&self) -> Result<f64, String> {
        if self.spec.queue_length_strategy == QueueLengthStrategy::VisibleOnly
            && let Some(count) = self.visible().await?
        {
            return Ok(count);
        }
        self.all().await
    }
}

fn refusal(web: &Web, answer: &Answer) -> String {
    let code = answer.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
    match REFUSALS.iter().find(|(known, _)| Some(*known) == code) {
        Some((_, why)) => format!("{}: {why}", answer.asked),
        None => web.refusal(answer).to_string(),
    }
}
