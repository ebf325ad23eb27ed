//! A number that a query of PostgreSQL yields: polled, and asked for at once when the server notifies that it may have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_postgres::config::{Host, SslMode as Mode};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Config, Error};

use self::session::{OpenError, Session, Yield};
use super::context::Context;
use super::link::{Link, Trouble};
use super::poll::Query;
use super::web::root_cause;
use crate::api::demand::{Postgres, SslMode};
use crate::engine::clock;

pub mod session;

const PORT: u16 = 5432;
/// So much of a text that is no number is shown.
const SHOWN: usize = 100;

/// Why a server that answers gives no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostgresError {
    #[error("the query yields no row, and one is needed")]
    NoRow,
    #[error("the query yields several rows, and one is needed")]
    Rows,
    #[error("the query yields {0} columns, and one is needed")]
    Columns(usize),
    #[error("the query yields NULL: see whether it needs coalesce(…, 0)")]
    Null,
    #[error("the query yields {found}, which is no number")]
    NoNumber { found: String },
}

/// A query that is made again and again.
pub struct Number {
    context: Context,
    spec: Postgres,
    link: Arc<Link<Session>>,
    /// Of what the last answer does not know yet.
    news: Mutex<Option<watch::Receiver<()>>>,
}

impl Number {
    #[must_use]
    pub fn new(context: Context, spec: &Postgres) -> Self {
        let server = (
            (&spec.connection, &spec.host, spec.port, &spec.user_name),
            (&spec.password, &spec.db_name, spec.sslmode, &spec.tls),
        );
        let link = context.link(&context.servers.postgres, &server);
        Self { context, spec: spec.clone(), link, news: Mutex::default() }
    }

    /// Where to connect to and as whom, and the secret among that.
    async fn config(&self) -> Result<(Config, String), String> {
        let spec = &self.spec;
        let (mut config, secret) = if let Some(connection) = &spec.connection {
            let text = self.context.secret(connection).await?;
            // What is wrong with it is not told, for it might be told with a part of it.
            let bad = |_| {
                "connection: it is not as PostgreSQL's, which is a URL or words as host=HOST user=USER dbname=DATABASE, where sslmode \
                 is disable, prefer or require"
            };
            (text.parse::<Config>().map_err(bad)?, text)
        } else {
            let mut config = Config::new();
            config.host(spec.host.as_deref().unwrap_or_default()).port(port(spec.port)).ssl_mode(mode(spec.sslmode));
            config.user(spec.user_name.as_deref().unwrap_or_default()).dbname(spec.db_name.as_deref().unwrap_or_default());
            let Some(password) = &spec.password else { return Ok((config, String::new())) };
            let password = self.context.secret(password).await?;
            config.password(&password);
            (config, password)
        };
        if config.get_application_name().is_none() {
            config.application_name("microscaler");
        }
        Ok((config, secret))
    }

    async fn measure(&self, session: &Session, begun: Instant) -> Result<f64, Trouble> {
        let failed = |error: Error| self.trouble(&error);
        let news = match &self.spec.listen {
            // What changes from here on is notified, and what has changed before is in the answer.
            Some(channel) => Some(session.listen(channel).await.map_err(failed)?),
            None => None,
        };
        let found = session.query(&self.spec.query, self.patience(begun)).await.map_err(failed)?;
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = news;
        number(found, self.is_discreet()).map_err(|error| Trouble::Answer(error.to_string()))
    }

    /// How long the query may take, in milliseconds: until a little before we give up what was begun then, so that the server does first,
    /// and the connection stays.
    fn patience(&self, begun: Instant) -> i64 {
        let gone = i64::try_from((clock::instant() - begun).as_millis()).unwrap_or(i64::MAX);
        (self.spec.polling.timeout_milliseconds * 9 / 10).saturating_sub(gone).max(1)
    }

    fn is_discreet(&self) -> bool {
        self.context.secrets.are_discreet()
    }

    fn trouble(&self, error: &Error) -> Trouble {
        let Some(refusal) = error.as_db_error() else { return Trouble::Connection(root_cause(error)) };
        let words = self.in_words(refusal);
        // Such as: shutting down, starting up.
        if refusal.code().code().starts_with("57P") { Trouble::Connection(words) } else { Trouble::Answer(words) }
    }

    fn in_words(&self, refusal: &DbError) -> String {
        match refusal.code() {
            &SqlState::QUERY_CANCELED => "the query takes too long, and was given up: see timeoutMilliseconds".to_owned(),
            code if self.is_discreet() => of_code(code),
            _ => refusal.message().to_owned(),
        }
    }
}

/// What has gone wrong without a word of the server's.
fn of_code(code: &SqlState) -> String {
    let words = match code.code() {
        "28000" | "28P01" => "the user or the password is refused",
        "3D000" => "there is no such database",
        "42501" => "the user may not read what the query reads",
        "42601" => "the query's syntax is wrong",
        "42P01" => "a table of the query does not exist",
        "42703" => "a column of the query does not exist",
        "25006" => "the query would write, and may only read",
        code => return format!("the server's error {code} (SQLSTATE)"),
    };
    words.to_owned()
}

fn port(port: Option<i32>) -> u16 {
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT)
}

fn mode(mode: Option<SslMode>) -> Mode {
    match mode {
        Some(SslMode::Disable) => Mode::Disable,
        Some(SslMode::Prefer) => Mode::Prefer,
        Some(SslMode::Require) | None => Mode::Require,
    }
}

fn number(found: Yield, discreet: bool) -> Result<f64, PostgresError> {
    match found {
        Yield::NoRow => Err(PostgresError::NoRow),
        Yield::Rows => Err(PostgresError::Rows),
        Yield::Columns(count) => Err(PostgresError::Columns(count)),
        Yield::Cell(None) => Err(PostgresError::Null),
        Yield::Cell(Some(text)) => text.trim().parse().map_err(|_| {
            let found =
                if discreet { "a text".to_owned() } else { format!("{:?}", text.chars().take(SHOWN).collect::<String>()) };
            PostgresError::NoNumber { found }
        }),
    }
}

/// The server without credentials, for messages.
fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map_or_else(|| "nowhere".to_owned(), ToString::to_string),
    };
    format!("{host}:{}", config.get_ports().first().unwrap_or(&PORT))
}

impl Query for Number {
    async fn ask(&self) -> Result<f64, String> {
        let begun = clock::instant();
        let (config, secret) = self.config().await?;
        let material = self.context.tls(self.spec.tls.as_ref()).await?;
        let connect = async || {
            let session = Session::open(&config, &material).await;
            session.map_err(|error| match error {
                OpenError::Server(error) => match self.trouble(&error) {
                    Trouble::Answer(why) | Trouble::Connection(why) => why,
                },
                OpenError::Tls(why) => why,
            })
        };
        let question = |session: Session| async move { self.measure(&session, begun).await };
        let number = self.link.ask(&(&material, secret), connect, question).await;
        number.map_err(|why| format!("PostgreSQL at {}: {why}", shown(&config)))
    }

    async fn changed(&self) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner).take();
        match news {
            // An error is the end of the connection, which is as much of a reason to ask.
            Some(mut news) => drop(news.changed().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)]
    fn one_cell_is_a_number() {
        let read = |text: &str| number(Yield::Cell(Some(text.to_owned())), false);
        assert_eq!(read("42"), Ok(42.0));
        assert_eq!(read("12.50"), Ok(12.5));
        assert_eq!(read("many").unwrap_err().to_string(), "the query yields \"many\", which is no number");
        let hidden = number(Yield::Cell(Some("s3cret".to_owned())), true).unwrap_err().to_string();
        assert_eq!(hidden, "the query yields a text, which is no number");
        for found in [Yield::NoRow, Yield::Rows, Yield::Columns(2), Yield::Cell(None)] {
            assert!(number(found, false).is_err());
        }
    }

    #[test]
    fn a_server_is_shown_without_credentials() {
        let shown = |text: &str| shown(&text.parse().unwrap());
        assert_eq!(shown("postgres://bob:s3cret@db.example.org/shop"), "db.example.org:5432");
        assert_eq!(shown("host=db port=6432 user=bob password=s3cret"), "db:6432");
    }
}
