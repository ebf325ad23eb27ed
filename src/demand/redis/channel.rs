//! Demand that is published: each message of a channel is a value.

use std::time::Duration;

use redis::cmd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Server;
use super::connection::{Connected, Credentials};
use super::measure::text_number;
use super::news::Message;
use crate::api::demand::{Polling, RedisServer};
use crate::demand::context::Context;
use crate::demand::poll::{Rhythm, backed_off, jittered};
use crate::demand::{DemandSource, Gauge};

/// A channel of PUBLISH. In the intervals of a poll, the connection is tried, and opened anew if it has broken or credentials have changed.
pub struct Channel {
    context: Context,
    server: Server,
    name: String,
    rhythm: Rhythm,
}

impl Channel {
    #[must_use]
    pub fn new(context: Context, server: &RedisServer, name: &str, polling: &Polling) -> Self {
        let server = Server::of(&context, server.clone());
        Self { context, server, name: name.to_owned(), rhythm: polling.into() }
    }

    /// Messages from now on, over a connection that works.
    async fn listen(&self) -> Result<watch::Receiver<Message>, String> {
        let credentials = Credentials::read(&self.context, &self.server.spec).await?;
        let discreet = self.context.secrets.are_discreet();
        let question = async |connected: Connected| {
            let trouble = |error| connected.trouble(&format!("SUBSCRIBE {}", self.name), &error, discreet);
            connected.send(cmd("PING")).await.map_err(trouble)?;
            connected.listen(&self.name).await.map_err(trouble)
        };
        self.server.ask(&credentials, question).await
    }

    /// Posts what is published, for this long. The messages can be heard further unless the connection is gone.
    async fn hear(
        &self,
        mut messages: watch::Receiver<Message>,
        gauge: &Gauge,
        time: Duration,
    ) -> Option<watch::Receiver<Message>> {
        let end = sleep(jittered(time, fastrand::f64()));
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Some(messages),
                news = messages.changed() => {
                    news.ok()?;
                    let message = messages.borrow_and_update().clone();
                    self.post(&message, gauge);
                }
            }
        }
    }

    fn post(&self, message: &Message, gauge: &Gauge) {
        let Some(text) = message else { return };
        match text_number(text, self.context.secrets.are_discreet()) {
            Ok(value) => gauge.value(value),
            Err(why) => gauge.failure(format!("channel {}: {why}", self.name)),
        }
    }
}

impl DemandSource for Channel {
    async fn run(self, gauge: Gauge) {
        let Rhythm { every, calm, timeout: limit } = self.rhythm;
        let (mut failures, mut heard) = (0, None);
        loop {
            let late = |_| Err(format!("no answer within {} ms", limit.as_millis()));
            match timeout(limit, self.listen()).await.unwrap_or_else(late) {
                Ok(messages) => {
                    if failures > 0 {
                        gauge.failure(format!(
                            "channel {}: nothing was published since the connection was opened anew",
                            self.name
                        ));
                    }
                    failures = 0;
                    // Nothing that is on its way is lost while the old one works.
                    let messages = heard.take().filter(works).unwrap_or(messages);
                    heard = self.hear(messages, &gauge, calm).await;
                }
                Err(why) => {
                    failures += 1;
                    gauge.failure(why);
                    sleep(jittered(backed_off(every, failures), fastrand::f64())).await;
                }
            }
        }
    }
}

fn works(messages: &watch::Receiver<Message>) -> bool {
    messages.has_changed().is_ok()
}
