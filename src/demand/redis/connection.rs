//! How a Redis is reached: its address, asked of Sentinels if need be, TLS, and who we are.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
    cmd,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::news::{Message, News};
use crate::api::demand::RedisServer;
use crate::demand::context::Context;
use crate::demand::link::Trouble;
use crate::demand::tls::Material;
use crate::demand::web::root_cause;

/// Of several addresses, one that does not answer must leave time for the others.
const PATIENCE: Duration = Duration::from_millis(300);

/// What lets us in, as it reads now.
#[derive(Hash)]
pub struct Credentials {
    password: Option<String>,
    sentinel_password: Option<String>,
    tls: Option<Material>,
    discreet: bool,
}

impl Credentials {
    /// # Errors
    /// In words, when a secret cannot be read.
    pub async fn read(context: &Context, server: &RedisServer) -> Result<Self, String> {
        let password = context.optional_secret(server.password.as_ref()).await?;
        let of_sentinel = server.sentinel.as_ref().and_then(|sentinel| sentinel.password.as_ref());
        let sentinel_password = context.optional_secret(of_sentinel).await?;
        let tls = if server.tls.is_some() { Some(context.tls(server.tls.as_ref()).await?) } else { None };
        Ok(Self { password, sentinel_password, tls, discreet: context.secrets.are_discreet() })
    }
}

/// The node of a Cluster that has a key.
#[derive(Clone, Debug)]
pub struct SentOn {
    pub address: String,
    /// The key is on its way there: it is asked for there only this once.
    pub for_now: bool,
}

/// An open connection, to ask and to listen. It ends with its last clone.
#[derive(Clone)]
pub struct Connected {
    commands: MultiplexedConnection,
    news: News,
    address: Arc<str>,
}

impl Connected {
    /// # Errors
    /// When there is no answer, or one that says no.
    pub async fn send(&self, command: Cmd) -> Result<Value, RedisError> {
        self.commands.clone().send_packed_command(&command).await?.extract_error()
    }

    /// Messages of this channel from now on.
    ///
    /// # Errors
    /// When the server does not let us subscribe.
    pub async fn listen(&self, channel: &str) -> Result<watch::Receiver<Message>, RedisError> {
        let mut commands = self.commands.clone();
        let (messages, is_new) = self.news.listen(channel);
        if is_new {
            commands.subscribe(channel).await.inspect_err(|_| self.news.forget(channel))?;
        }
        for idle in self.news.forget_idle() {
            commands.unsubscribe(idle).await?;
        }
        Ok(messages)
    }

    /// The same of a node that is about to get the key from another one, which has sent us.
    ///
    /// # Errors
    /// As above.
    pub async fn send_asking(&self, command: Cmd) -> Result<Value, RedisError> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command);
        let answers = self.commands.clone().send_packed_commands(&both, 1, 1).await?;
        answers.into_iter().next().unwrap_or(Value::Nil).extract_error()
    }

    /// Where a node of a Cluster sends us, if it does.
    pub fn sent_on(&self, error: &RedisError) -> Option<SentOn> {
        let (node, _) = error.redirect_node()?;
        // Without a host, it is the one that was asked.
        let address = if node.starts_with(':') { format!("{}{node}", host(&self.address)) } else { node.to_owned() };
        Some(SentOn { address, for_now: error.kind() == ErrorKind::Server(ServerErrorKind::Ask) })
    }

    pub fn trouble(&self, question: &str, error: &RedisError, discreet: bool) -> Trouble {
        let why = format!("redis {}: {question}: {}", self.address, words(error, discreet));
        if error.is_unrecoverable_error() || error.is_io_error() { Trouble::Connection(why) } else { Trouble::Answer(why) }
    }
}

/// Opens a connection to the server, or to the master that the Sentinels name.
///
/// # Errors
/// In words, when none of them lets us in.
pub async fn connect(server: &RedisServer, credentials: &Credentials) -> Result<Connected, String> {
    let info = login(server.username.as_ref(), credentials.password.as_ref()).set_db(server.database_index);
    match &server.sentinel {
        None => first(&server.addresses, &info, credentials).await,
        Some(sentinel) => {
            let login = login(sentinel.username.as_ref(), credentials.sentinel_password.as_ref());
            let asked = first(&server.addresses, &login, credentials).await.map_err(|why| format!("sentinel: {why}"))?;
            open(&master(&asked, &sentinel.master, credentials.discreet).await?, &info, credentials).await
        }
    }
}

fn login(username: Option<&String>, password: Option<&String>) -> RedisConnectionInfo {
    let info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("microscaler", env!("CARGO_PKG_VERSION"));
    let info = username.iter().fold(info, RedisConnectionInfo::set_username);
    password.iter().fold(info, RedisConnectionInfo::set_password)
}

/// The first of these that lets us in.
async fn first(addresses: &[String], info: &RedisConnectionInfo, credentials: &Credentials) -> Result<Connected, String> {
    let mut problems = Vec::new();
    for address in addresses {
        let opening = open(address, info, credentials);
        let opened = if addresses.len() == 1 {
            opening.await
        } else {
            let late = |_| Err(format!("redis {address}: no answer within {} ms", PATIENCE.as_millis()));
            timeout(PATIENCE, opening).await.unwrap_or_else(late)
        };
        match opened {
            Ok(connected) => return Ok(connected),
            Err(why) => problems.push(why),
        }
    }
    Err(problems.join("; "))
}

async fn master(sentinel: &Connected, name: &str, discreet: bool) -> Result<String, String> {
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let asked = format!("sentinel {}: master {name}", sentinel.address);
    let answer = sentinel.send(question).await.map_err(|error| format!("{asked}: {}", words(&error, discreet)))?;
    let found: Option<(String, u16)> =
        redis::from_redis_value(answer).map_err(|_| format!("{asked}: the answer is no address"))?;
    found.map(|(host, port)| format!("{host}:{port}")).ok_or_else(|| format!("{asked} is not known there"))
}

async fn open(address: &str, info: &RedisConnectionInfo, credentials: &Credentials) -> Result<Connected, String> {
    let socket = TcpStream::connect(address).await.and_then(|socket| socket.set_nodelay(true).map(|()| socket));
    let socket = socket.map_err(|error| format!("redis {address}: {}", root_cause(&error)))?;
    let Some(material) = &credentials.tls else { return log_in(address, info, socket, credentials.discreet).await };
    let config = Arc::new(material.config()?);
    let name = ServerName::try_from(host(address).to_owned()).map_err(|_| format!("redis {address}: not a host's name"))?;
    let stream = TlsConnector::from(config).connect(name, socket).await;
    log_in(address, info, stream.map_err(|error| format!("redis {address}: TLS: {}", root_cause(&error)))?, credentials.discreet)
        .await
}

async fn log_in(
    address: &str,
    info: &RedisConnectionInfo,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    discreet: bool,
) -> Result<Connected, String> {
    let news = News::default();
    let taken = news.clone();
    let take = move |push: PushInfo| {
        taken.take(push);
        Ok::<(), ()>(())
    };
    // How long an answer may take is the poll's to say.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(take);
    let opened = MultiplexedConnection::new_with_config(info, stream, config).await;
    let (commands, driver) = opened.map_err(|error| format!("redis {address}: {}", words(&error, discreet)))?;
    // It ends when the last handle is gone.
    tokio::spawn(driver);
    Ok(Connected { commands, news, address: address.into() })
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// As the server says it. With `discreet`, the code that an answer begins with, and nothing else of it.
fn words(error: &RedisError, discreet: bool) -> String {
    match (error.code(), error.detail()) {
        (Some(code), _) if discreet && code.bytes().all(|byte| byte.is_ascii_uppercase()) => code.to_owned(),
        _ if discreet && error.kind() != ErrorKind::Io => error.category().to_owned(),
        (Some(code), detail) => format!("{code} {}", detail.unwrap_or_default()).trim_end().to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use redis::{make_extension_error, parse_redis_value};

    use super::*;

    #[test]
    fn where_it_has_to_be_nothing_of_the_answer_is_shown() {
        let wrong = || make_extension_error("WRONGTYPE".to_owned(), Some("s3cret".to_owned()));
        assert_eq!(words(&wrong(), false), "WRONGTYPE s3cret");
        assert_eq!(words(&wrong(), true), "WRONGTYPE");
        let other = make_extension_error("Password:s3cret".to_owned(), None);
        assert_eq!(words(&other, true), "extension error");
        let garbage = parse_redis_value(b"HTTP/1.1 s3cret\r\n").unwrap_err();
        assert!(!words(&garbage, true).contains("s3cret"));
    }
}
