//! Demand as something that is kept in a Redis: asked for in intervals, and at once where the server tells of a change.
//!
//! | look for | in |
//! |---|---|
//! | how a server is reached: addresses, Sentinels, TLS, credentials | [`connection`] |
//! | what is asked, and what the answers mean | [`measure`] |
//! | what servers tell without being asked | [`news`] |
//! | values that are published | [`channel`] |
//!
//! One connection serves all that is read from a server with the same credentials, questions and news alike, which is why the protocol
//! is RESP3.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::context::Context;
use super::link::{Link, Trouble};
use super::poll::Query;
use crate::api::demand::{RedisMeasure, RedisServer};

pub mod channel;
pub mod connection;
pub mod measure;
pub mod news;

use connection::{Connected, Credentials, SentOn};
use measure::Measure;

/// A Cluster that is asked for a key sends us to the node that holds it.
const MOST_MOVES: usize = 3;

/// A server (or several, see [`RedisServer::addresses`]) and the link to it.
pub struct Server {
    spec: RedisServer,
    link: Arc<Link<Connected>>,
}

impl Server {
    fn of(context: &Context, spec: RedisServer) -> Self {
        let link = context.link(&context.servers.redis, &spec);
        Self { spec, link }
    }

    /// Asks over the shared connection.
    async fn ask<T, Asking>(&self, credentials: &Credentials, question: impl Fn(Connected) -> Asking) -> Result<T, String>
    where
        Asking: Future<Output = Result<T, Trouble>>,
    {
        self.link.ask(credentials, || connection::connect(&self.spec, credentials), question).await
    }
}

/// What is kept under a key.
pub struct Stored {
    context: Context,
    measure: Measure,
    database: i64,
    home: Arc<Server>,
    /// Where the key was found last.
    node: Mutex<Arc<Server>>,
    news: Mutex<Option<watch::Receiver<news::Message>>>,
}

/// An answer of a Cluster's node.
enum Reply {
    Number(f64),
    SentOn(SentOn),
}

impl Stored {
    /// # Errors
    /// In words, when this is nothing that is kept.
    pub fn new(context: Context, server: &RedisServer, measure: &RedisMeasure) -> Result<Self, String> {
        let measure = Measure::of(measure)?;
        let home = Arc::new(Server::of(&context, server.clone()));
        let node = Mutex::new(home.clone());
        Ok(Self { context, measure, database: server.database_index, home, node, news: Mutex::default() })
    }

    async fn put(&self, connected: Connected, asking: bool) -> Result<Reply, Trouble> {
        // Who may not subscribe is told nothing, and still may ask.
        let channel = format!("__keyspace@{}__:{}", self.database, self.measure.key());
        *lock(&self.news) = connected.listen(&channel).await.ok();
        let discreet = self.context.secrets.are_discreet();
        let command = self.measure.command();
        let answer = if asking { connected.send_asking(command).await } else { connected.send(command).await };
        match answer {
            Ok(value) => self.measure.number(&value, discreet).map(Reply::Number).map_err(Trouble::Answer),
            Err(error) => match connected.sent_on(&error) {
                Some(to) => Ok(Reply::SentOn(to)),
                None => Err(connected.trouble(&self.measure.question(), &error, discreet)),
            },
        }
    }

    fn at(&self, address: String) -> Arc<Server> {
        let spec = RedisServer { addresses: vec![address], sentinel: None, ..self.home.spec.clone() };
        Arc::new(Server::of(&self.context, spec))
    }

    fn go(&self, node: &Arc<Server>) {
        *lock(&self.node) = node.clone();
    }
}

impl Query for Stored {
    async fn ask(&self) -> Result<f64, String> {
        let credentials = Credentials::read(&self.context, &self.home.spec).await?;
        let (mut node, mut asking) = (lock(&self.node).clone(), false);
        for _ in 0..=MOST_MOVES {
            match node.ask(&credentials, |connected| self.put(connected, asking)).await {
                Ok(Reply::Number(number)) => return Ok(number),
                Ok(Reply::SentOn(SentOn { address, for_now })) => {
                    (node, asking) = (self.at(address), for_now);
                    if !for_now {
                        self.go(&node);
                    }
                }
                Err(why) => {
                    self.go(&self.home);
                    return Err(why);
                }
            }
        }
        self.go(&self.home);
        Err(format!("{}: the nodes of the cluster send us from one to the next", self.measure.question()))
    }

    async fn changed(&self) {
        let news = lock(&self.news).take();
        match news {
            // An error: the connection is gone, which is reason enough to ask.
            Some(mut news) => drop(news.changed().await),
            None => std::future::pending().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
