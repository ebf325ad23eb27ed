//! gRPC: one HTTP/2 connection to each server, with TLS as a spec wants it, and errors in words.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use super::link::Trouble;
use super::tls::Material;
use super::web::root_cause;

/// A server that does not answer at all is not waited for any longer: others wait for the same connection.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is asked for a sign of life after this time, and is given up after as long again.
const SILENCE: Duration = Duration::from_secs(10);

/// Connects to `host:port`, with TLS if there is material for it.
///
/// # Errors
/// In words, when that is no address, nobody listens there, or TLS cannot be agreed upon.
pub async fn connect(address: &str, material: Option<&Material>) -> Result<Channel, String> {
    let no_address = || format!("{address} is no address: write host:port");
    let (host, _) = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).ok_or_else(no_address)?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| no_address())?;
    let tls =
        material.map(|material| Ok::<_, String>((TlsConnector::from(Arc::new(http2(material.config()?))), name))).transpose()?;
    let uri = |scheme: &str| format!("{scheme}://{address}").parse::<Uri>().map_err(|_| no_address());
    // Tonic speaks plainly, over a stream that is enciphered already, and tells the server that it is.
    let endpoint = Endpoint::from(uri("http")?)
        .origin(uri(if tls.is_some() { "https" } else { "http" })?)
        .connect_timeout(TO_CONNECT)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true);
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move { open(&address, tls).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| root_cause(&error))
}

type Stream = Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>;

async fn open(address: &str, tls: Option<(TlsConnector, ServerName<'static>)>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some((connector, name)) => Either::Right(connector.connect(name, stream).await?),
        None => Either::Left(stream),
    })
}

fn http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What went wrong with a call. Where others may read it who may not ask the server themselves, nothing of its message is told.
#[must_use]
pub fn trouble(call: &str, status: &Status, discreet: bool) -> Trouble {
    match status.source() {
        // Not the server's answer, but what became of the connection.
        Some(source) => Trouble::Connection(format!("{call}: {}", root_cause(source))),
        None if discreet || status.message().is_empty() => Trouble::Answer(format!("{call}: {}", status.code())),
        None => Trouble::Answer(format!("{call}: {}: {}", status.code(), shown(status.message()))),
    }
}

/// The first characters of a message, in one line.
fn shown(message: &str) -> String {
    const SHOWN: usize = 200;
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}
