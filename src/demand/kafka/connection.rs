//! A connection to one broker: TLS, authentication, and one request at a time.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::messages::{ApiVersions, Call, FindCoordinator, ListOffsets, Metadata, OffsetFetch, SaslAuthenticate, SaslHandshake};
use super::sasl::{Identity, Scram};
use super::wire::{Reader, Writer};
use crate::api::demand::SaslMechanism;
use crate::demand::link::Trouble;
use crate::demand::web::root_cause;

/// What would be longer is no answer to anything that is asked here.
const LONGEST: i32 = 16 << 20;
const CLIENT: &str = "microscaler";

/// Why a broker did not answer. `broker` is its address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    #[error("broker {broker}: {problem}")]
    Unreachable { broker: String, problem: String },
    #[error("broker {broker}: it has closed the connection after {request}: see whether it wants tls or sasl")]
    Closed { broker: String, request: &'static str },
    #[error("broker {broker}: what came for {request} is no answer of Kafka's: see whether it wants tls")]
    Garbled { broker: String, request: &'static str },
    #[error("broker {broker}: it does not know {request} in version {version}, as Kafka does from 1.0 on")]
    Version { broker: String, request: &'static str, version: i16 },
    #[error("broker {broker}: it does not take {mechanism}{}{others}", if others.is_empty() { "" } else { ", but " })]
    Mechanism { broker: String, mechanism: &'static str, others: String },
    #[error("broker {broker}: the user or the password is refused{}{problem}", if problem.is_empty() { "" } else { ": " })]
    Refused { broker: String, problem: String },
}

/// Whatever is wrong here, a new connection may be better off.
impl From<BrokerError> for Trouble {
    fn from(error: BrokerError) -> Self {
        Self::Connection(error.to_string())
    }
}

/// How all brokers of a cluster are reached.
pub struct Access {
    pub tls: Option<Arc<ClientConfig>>,
    pub identity: Option<Identity>,
    /// Nothing of what brokers say is told.
    pub discreet: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub struct Broker {
    address: String,
    /// Nothing, once a request was given up or failed: what comes next might be the answer to that.
    wire: Mutex<Option<Wire>>,
}

struct Wire {
    stream: Box<dyn Stream>,
    requests: i32,
}

impl Broker {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// If either fails.
    pub async fn open(host: &str, port: u16, access: &Access) -> Result<Self, BrokerError> {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let opened = stream(host, port, access).await;
        let stream = opened.map_err(|problem| BrokerError::Unreachable { broker: address.clone(), problem })?;
        let broker = Self { address, wire: Mutex::new(Some(Wire { stream, requests: 0 })) };
        broker.check_versions().await?;
        if let Some(identity) = &access.identity {
            broker.authenticate(identity, access.discreet).await?;
        }
        Ok(broker)
    }

    /// Asks, and waits for the answer. After an error, or if it is given up, the connection is of no more use.
    ///
    /// # Errors
    /// If there is no answer, or none of Kafka's.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, BrokerError> {
        let closed = || BrokerError::Closed { broker: self.address.clone(), request: C::NAME };
        let mut slot = self.wire.lock().await;
        let mut wire = slot.take().ok_or_else(closed)?;
        let answer = wire.exchange(call).await.map_err(|failed| match failed {
            Failed::Closed => closed(),
            Failed::Garbled => BrokerError::Garbled { broker: self.address.clone(), request: C::NAME },
        })?;
        *slot = Some(wire);
        Ok(answer)
    }

    async fn check_versions(&self) -> Result<(), BrokerError> {
        let (_, known) = self.call(&ApiVersions).await?;
        let needed = [needed::<Metadata>(), needed::<FindCoordinator>(), needed::<OffsetFetch>(), needed::<ListOffsets>()];
        for (key, version, request) in needed {
            if !known.iter().any(|known| known.key == key && known.versions.contains(&version)) {
                return Err(BrokerError::Version { broker: self.address.clone(), request, version });
            }
        }
        Ok(())
    }

    async fn authenticate(&self, identity: &Identity, discreet: bool) -> Result<(), BrokerError> {
        let broker = || self.address.clone();
        let mechanism = identity.mechanism();
        let (error, on) = self.call(&SaslHandshake { mechanism }).await?;
        if error != 0 {
            let others = if discreet || on.is_empty() { String::new() } else { on.join(", ") };
            return Err(BrokerError::Mechanism { broker: broker(), mechanism, others });
        }
        let refused = |problem: String| BrokerError::Refused { broker: self.address.clone(), problem };
        if identity.mechanism == SaslMechanism::Plaintext {
            return self.step(&identity.plain(), discreet).await.map(drop);
        }
        let scram = Scram::new(identity).map_err(|error| refused(error.to_string()))?;
        let challenge = self.step(&scram.first(), discreet).await?;
        let proof = scram.prove(&challenge).map_err(|error| refused(error.to_string()))?;
        let proven = self.step(&proof.message, discreet).await?;
        proof.check(&proven).map_err(|error| refused(error.to_string()))
    }

    /// Sends what the mechanism says, and returns what the broker says to it.
    async fn step(&self, message: &str, discreet: bool) -> Result<String, BrokerError> {
        let (error, problem, answer) = self.call(&SaslAuthenticate { step: message.as_bytes() }).await?;
        if error != 0 {
            let problem = problem.filter(|_| !discreet).unwrap_or_default();
            return Err(BrokerError::Refused { broker: self.address.clone(), problem });
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn needed<C: Call>() -> (i16, i16, &'static str) {
    (C::KEY, C::VERSION, C::NAME)
}

async fn stream(host: &str, port: u16, access: &Access) -> Result<Box<dyn Stream>, String> {
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| root_cause(&error))?;
    tcp.set_nodelay(true).map_err(|error| root_cause(&error))?;
    let Some(tls) = &access.tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let spoken = TlsConnector::from(tls.clone()).connect(name, tcp).await;
    Ok(Box::new(spoken.map_err(|error| format!("TLS: {}", root_cause(&error)))?))
}

enum Failed {
    Closed,
    Garbled,
}

impl Wire {
    async fn exchange<C: Call>(&mut self, call: &C) -> Result<C::Answer, Failed> {
        self.requests = self.requests.wrapping_add(1);
        let mut writer = Writer::default();
        writer.i16(C::KEY);
        writer.i16(C::VERSION);
        writer.i32(self.requests);
        writer.string(CLIENT);
        call.write(&mut writer);
        self.stream.write_all(&writer.framed()).await.map_err(|_| Failed::Closed)?;
        self.stream.flush().await.map_err(|_| Failed::Closed)?;
        let answer = self.frame().await?;
        let mut reader = Reader::new(&answer);
        if reader.i32() != Ok(self.requests) {
            return Err(Failed::Garbled);
        }
        C::read(&mut reader).map_err(|_| Failed::Garbled)
    }

    async fn frame(&mut self) -> Result<Vec<u8>, Failed> {
        let length = self.stream.read_i32().await.map_err(|_| Failed::Closed)?;
        if !(0..=LONGEST).contains(&length) {
            return Err(Failed::Garbled);
        }
        let length = u64::from(length.unsigned_abs());
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut answer).await.map_err(|_| Failed::Closed)?;
        if read as u64 == length { Ok(answer) } else { Err(Failed::Closed) }
    }
}
