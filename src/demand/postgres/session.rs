//! A connection to a PostgreSQL server, with what is notified over it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::demand::tls::Material;

/// An open connection. Questions of several metrics may be on their way at once; the server answers them one after the other.
#[derive(Clone)]
pub struct Session {
    client: Arc<Client>,
    channels: Arc<Channels>,
}

/// What a query yielded.
#[derive(Debug, PartialEq, Eq)]
pub enum Yield {
    /// One row of one column; `None` is NULL.
    Cell(Option<String>),
    NoRow,
    Rows,
    Columns(usize),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Server(#[from] Error),
    #[error("{0}")]
    Tls(String),
}

impl Session {
    /// # Errors
    /// If the server cannot be reached, or does not let us in.
    pub async fn open(config: &Config, material: &Material) -> Result<Self, OpenError> {
        let channels = Arc::<Channels>::default();
        let client = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection, channels.clone()));
            client
        } else {
            let tls = MakeRustlsConnect::new(material.config().map_err(OpenError::Tls)?);
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(drive(connection, channels.clone()));
            client
        };
        Ok(Self { client: Arc::new(client), channels })
    }

    /// Tells each notification of this channel from now on, and the end of the connection.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn listen(&self, channel: &str) -> Result<watch::Receiver<()>, Error> {
        let news = self.channels.receiver(channel);
        // Once more does no harm, and the name holds no quotes.
        self.client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
        Ok(news)
    }

    /// Makes a query that may only read, and not for longer than this.
    ///
    /// # Errors
    /// If there is no answer, or one that says why not.
    pub async fn query(&self, query: &str, timeout_ms: i64) -> Result<Yield, Error> {
        // One message is one transaction: nothing of it outlives the query, also in a connection that a pooler lends.
        let text = format!("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {timeout_ms};\n{query}");
        let mut answer = Box::pin(self.client.simple_query_raw(&text).await?);
        let mut found = Yield::NoRow;
        while let Some(message) = answer.next().await {
            let SimpleQueryMessage::Row(row) = message? else { continue };
            found = match found {
                Yield::NoRow if row.len() == 1 => Yield::Cell(row.get(0).map(str::to_owned)),
                Yield::NoRow => Yield::Columns(row.len()),
                // The others need not be seen.
                _ => return Ok(Yield::Rows),
            };
        }
        Ok(found)
    }
}

/// Carries what goes to and fro, until nobody holds the session any more, or the connection ends.
async fn drive<S, T>(mut connection: Connection<S, T>, channels: Arc<Channels>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    let mut messages = poll_fn(move |context| connection.poll_message(context));
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notification(notification) = message {
            channels.tell(notification.channel());
        }
    }
    channels.end();
}

/// Who waits for which channel.
#[derive(Default)]
struct Channels(Mutex<HashMap<String, watch::Sender<()>>>);

impl Channels {
    fn receiver(&self, channel: &str) -> watch::Receiver<()> {
        self.lock().entry(channel.to_owned()).or_default().subscribe()
    }

    fn tell(&self, channel: &str) {
        if let Some(sender) = self.lock().get(channel) {
            sender.send_replace(());
        }
    }

    /// Wakes all, as with the connection gone, notifications may be missed.
    fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
