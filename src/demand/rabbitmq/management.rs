//! Queues as the management plugin tells them over HTTP.

use reqwest::Url;

use crate::api::demand::{QueueMode, RabbitMq};
use crate::api::secret::{Auth, Basic};
use crate::demand::context::Context;
use crate::demand::http::number_at;
use crate::demand::poll::Query;
use crate::demand::web::{Web, address, shown};

/// A queue, and which number of its description counts.
pub struct Described {
    web: Web,
    url: Url,
    mode: QueueMode,
    pointer: &'static str,
}

impl Described {
    /// # Errors
    /// In words, when the address is none.
    pub fn new(context: Context, spec: &RabbitMq) -> Result<Self, String> {
        let url = url(spec)?;
        let auth = Auth::Basic(Basic { username: spec.username.clone(), password: spec.password.clone() });
        let pointer = match spec.mode {
            QueueMode::MessageRate => "/message_stats/publish_details/rate",
            QueueMode::Consumers => "/consumers",
            QueueMode::QueueLength if spec.exclude_unacknowledged => "/messages_ready",
            QueueMode::QueueLength => "/messages",
        };
        Ok(Self { web: Web::of(context, &url, Some(auth), spec.tls.clone()), url, mode: spec.mode, pointer })
    }

    fn read(&self, body: &[u8]) -> Result<f64, String> {
        let asked = || format!("GET {}", shown(&self.url));
        let queue: serde_json::Value =
            serde_json::from_slice(body).map_err(|problem| format!("{}: not JSON: {problem}", asked()))?;
        // Nothing is told of what has not happened.
        if self.mode == QueueMode::MessageRate && queue.get("messages").is_some() && queue.pointer(self.pointer).is_none() {
            return Ok(0.0);
        }
        number_at(&queue, self.pointer).map_err(|error| format!("{}: {}", asked(), error.discreet()))
    }
}

impl Query for Described {
    async fn ask(&self) -> Result<f64, String> {
        let body = self.web.fetch(|client| client.get(self.url.clone())).await?;
        self.read(&body)
    }
}

/// Of one queue, with all that is peculiar in names escaped.
fn url(spec: &RabbitMq) -> Result<Url, String> {
    let mut url = address(&spec.host).map_err(|error| error.to_string())?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["api", "queues", &spec.vhost_name, &spec.queue_name]);
    }
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_escaped() {
        let spec =
            json!({"host": "http://shop:15672/rabbit/", "queueName": "a/b c", "username": "u", "password": {"file": "/p"}});
        let spec: RabbitMq = serde_json::from_value(spec).unwrap();
        assert_eq!(url(&spec).unwrap().as_str(), "http://shop:15672/rabbit/api/queues/%2F/a%2Fb%20c");
    }
}
