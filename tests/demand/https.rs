//! A small server that speaks TLS, with certificates of the tests' own authority.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use microscaler_testbed::{Authority, Server, Stopped};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::fixture::Fixture;

/// Ends, with the connections it holds, when dropped.
pub struct Https {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Https {
    /// On this address. With `clients`, only to whom that authority knows.
    pub fn serve(address: &str, router: Router, authority: &Authority, clients: Option<&Authority>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (acceptor, count) = (TlsAcceptor::from(Arc::new(config(authority, clients))), connections.clone());
        runtime.spawn(async move {
            let listener = Listener { tcp: TcpListener::from_std(listener).unwrap(), acceptor, count };
            axum::serve(listener, router).await
        });
        Self { address, connections, runtime: Some(runtime) }
    }

    /// How many have been taken so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        end(self.runtime.take().unwrap());
    }
}

/// Ends what runs there, and waits until its address is free again.
pub fn end(runtime: Runtime) {
    // Inside of another runtime, that of the test, none may wait.
    std::thread::spawn(|| drop(runtime)).join().unwrap();
}

/// With a certificate of this authority; with `clients`, only for whom that one knows.
pub fn config(authority: &Authority, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let pair = authority.issue("server").unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap()).unwrap()
}

struct Listener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    count: Arc<AtomicUsize>,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.count.fetch_add(1, Ordering::SeqCst);
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A server that is to speak TLS, with `server.pem` and `server.key` in its directory; and a directory for [`tls`] to trust it by.
pub fn over_tls(name: &str) -> (Stopped, TempDir) {
    let (authority, ours) = (Authority::new().unwrap(), TempDir::new().unwrap());
    authority.write(ours.path(), &[]).unwrap();
    let stopped = Server::new(name).unwrap().scheme("https");
    authority.write(stopped.directory(), &["server"]).unwrap();
    (stopped, ours)
}

/// What holds of any server that wants to see a certificate of its authority, with which `client.pem` of this directory is one. What
/// fails is told after `shown`.
pub async fn certificates_count_on_both_sides(directory: &Path, shown: &str, of: impl Fn(Value) -> Fixture) {
    let known = tls(directory, Some("client"));
    of(known.clone()).value().await;
    of(json!({"unsafeSsl": true, "cert": known["cert"], "key": known["key"]})).value().await;
    let failure = of(json!({"cert": known["cert"], "key": known["key"]})).failure().await;
    assert!(failure.starts_with(shown) && failure.contains(": invalid peer certificate"), "{failure}");
    let failure = certificate_wanted(&of(tls(directory, None))).await;
    assert!(failure.starts_with(shown), "{failure}");
}

/// The first failure that says that the server wants a certificate of ours. Under TLS 1.3 it says so after the handshake, when its
/// connection may be gone before this is read: then it takes another attempt.
pub async fn certificate_wanted(fixture: &Fixture) -> String {
    // The latter is what servers in older Go call none at all.
    let alerts = ["CertificateRequired", "BadCertificate"].map(|alert| format!("received fatal alert: {alert}"));
    let says_so = |failure: &str| alerts.iter().any(|alert| failure.contains(alert));
    fixture.until(|reading| reading.failure.as_deref().is_some_and(says_so)).await.failure.unwrap().to_string()
}

/// To ask servers by hand, whatever certificate they have.
pub fn client() -> reqwest::Client {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

/// `tls` of a spec: the authority and, with a name, the certificate by that name, as [`Authority::write`] writes them.
pub fn tls(directory: &Path, name: Option<&str>) -> Value {
    let file = |name: String| json!({"file": directory.join(name)});
    let mut tls = json!({"ca": file("ca.pem".to_owned())});
    if let Some(name) = name {
        tls["cert"] = file(format!("{name}.pem"));
        tls["key"] = file(format!("{name}.key"));
    }
    tls
}
