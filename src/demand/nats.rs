//! Demand as what a JetStream consumer has yet to do. JetStream's API is JSON in messages, of which one is needed here.

use std::sync::Arc;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, RequestErrorKind};
use serde::Deserialize;

use super::context::Context;
use super::link::{Link, Trouble};
use super::poll::Query;
use super::tls::Material;
use super::web::root_cause;
use crate::api::demand::Nats;

/// A consumer of a stream.
pub struct Consumer {
    context: Context,
    spec: Nats,
    subject: String,
    link: Arc<Link<Client>>,
}

/// What lets us in, as it reads now.
#[derive(Hash)]
struct Credentials {
    login: Login,
    tls: Material,
}

#[derive(Hash)]
enum Login {
    None,
    Password(String, String),
    Token(String),
    Nkey(String),
    Credentials(String),
}

/// The answer to CONSUMER.INFO, as far as it matters.
#[derive(Deserialize)]
struct Info {
    num_pending: Option<f64>,
    num_ack_pending: Option<f64>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    description: String,
}

impl Consumer {
    #[must_use]
    pub fn new(context: Context, spec: &Nats) -> Self {
        let login = (&spec.username, &spec.password, &spec.token, &spec.nkey_seed, &spec.credentials);
        let link = context.link(&context.servers.nats, &(&spec.servers, login, &spec.tls));
        let api = spec.domain.as_ref().map_or_else(|| "$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"));
        let subject = format!("{api}.CONSUMER.INFO.{}.{}", spec.stream, spec.consumer);
        Self { context, spec: spec.clone(), subject, link }
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let spec = &self.spec;
        let login = if let (Some(username), Some(password)) = (&spec.username, &spec.password) {
            Login::Password(username.clone(), self.context.secret(password).await?)
        } else if let Some(token) = &spec.token {
            Login::Token(self.context.secret(token).await?)
        } else if let Some(seed) = &spec.nkey_seed {
            Login::Nkey(self.context.secret(seed).await?)
        } else if let Some(credentials) = &spec.credentials {
            Login::Credentials(self.context.secret(credentials).await?)
        } else {
            Login::None
        };
        Ok(Credentials { login, tls: self.context.tls(spec.tls.as_ref()).await? })
    }

    async fn connect(&self, credentials: &Credentials) -> Result<Client, String> {
        // Whether a connection works is the link's to know, which opens another one.
        let options = ConnectOptions::new().name("microscaler").max_reconnects(1).request_timeout(None);
        let options = options.require_tls(self.spec.tls.is_some()).tls_client_config(credentials.tls.config()?);
        let options = match &credentials.login {
            Login::None => options,
            Login::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Nkey(seed) => options.nkey(seed.clone()),
            Login::Credentials(text) => {
                options.credentials(text).map_err(|error| format!("the credentials cannot be read: {error}"))?
            }
        };
        let connected = options.connect(&self.spec.servers).await;
        connected.map_err(|error| format!("{}: {}", self.spec.servers.join(", "), root_cause(&error)))
    }

    async fn inquire(&self, client: Client) -> Result<f64, Trouble> {
        if client.connection_state() != State::Connected {
            return Err(Trouble::Connection(self.about("the connection is lost")));
        }
        let answer = client.request(self.subject.clone(), "".into()).await.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Trouble::Answer(self.about("there is no JetStream for this account")),
            _ => Trouble::Connection(self.about(&root_cause(&error))),
        })?;
        read(&answer.payload, self.context.secrets.are_discreet()).map_err(|why| Trouble::Answer(self.about(&why)))
    }

    fn about(&self, why: &str) -> String {
        format!("{}: consumer {} of stream {}: {why}", self.spec.servers.join(", "), self.spec.consumer, self.spec.stream)
    }
}

impl Query for Consumer {
    async fn ask(&self) -> Result<f64, String> {
        let credentials = self.credentials().await?;
        self.link.ask(&credentials, || self.connect(&credentials), |client| self.inquire(client)).await
    }
}

/// What is pending, delivered or not.
fn read(answer: &[u8], discreet: bool) -> Result<f64, String> {
    let info: Info = serde_json::from_slice(answer).map_err(|problem| format!("the answer cannot be read: {problem}"))?;
    match info {
        Info { error: Some(refusal), .. } if discreet => Err(format!("refused with code {}", refusal.code)),
        Info { error: Some(refusal), .. } => Err(refusal.description),
        Info { num_pending: Some(waiting), num_ack_pending: Some(delivered), .. } => Ok(waiting + delivered),
        _ => Err("the answer tells nothing that is pending".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_pending_messages_count() {
        assert_eq!(read(br#"{"num_pending": 3, "num_ack_pending": 2, "num_waiting": 1}"#, false), Ok(5.0));
        assert_eq!(read(br#"{"num_pending": 3}"#, false), Err("the answer tells nothing that is pending".to_owned()));
        let refused = br#"{"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}"#;
        assert_eq!(read(refused, false), Err("consumer not found".to_owned()));
        assert_eq!(read(refused, true), Err("refused with code 404".to_owned()));
        assert!(read(b"<html>", false).is_err());
    }
}
