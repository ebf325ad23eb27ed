//! TLS as a spec wants it, from secrets that may change at any time.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::api::demand::Tls;
use crate::store::secrets::Secrets;

/// What a [`Tls`] names, as it reads now. The same material makes the same configuration.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Material {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    unsafe_ssl: bool,
}

impl Material {
    /// Reads the secrets that `tls` names.
    ///
    /// # Errors
    /// In words, when one cannot be read.
    pub async fn read(secrets: &Secrets, namespace: &str, tls: Option<&Tls>) -> Result<Self, String> {
        let Some(tls) = tls else { return Ok(Self::default()) };
        let read = async |name: &str, value: &Option<_>| match value {
            Some(value) => secrets.read(namespace, value).await.map(Some).map_err(|error| format!("tls.{name}: {error}")),
            None => Ok(None),
        };
        Ok(Self {
            ca: read("ca", &tls.ca).await?,
            cert: read("cert", &tls.cert).await?,
            key: read("key", &tls.key).await?,
            unsafe_ssl: tls.unsafe_ssl,
        })
    }

    /// For a client.
    ///
    /// # Errors
    /// In words, when something is not what it should be.
    pub fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = if self.unsafe_ssl {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else if let Some(ca) = &self.ca {
            builder.with_root_certificates(roots(ca)?)
        } else {
            builder.with_platform_verifier().map_err(|error| error.to_string())?
        };
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("tls.key: {error}"))?;
        builder.with_client_auth_cert(certificates("cert", cert)?, key).map_err(|error| format!("tls.cert and tls.key: {error}"))
    }
}

fn roots(ca: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", ca)? {
        roots.add(certificate).map_err(|error| format!("tls.ca: {error}"))?;
    }
    Ok(roots)
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| format!("tls.{field}: {error}"))?;
    if read.is_empty() { Err(format!("tls.{field}: there is no certificate in it")) } else { Ok(read) }
}

/// Takes any certificate, as `unsafeSsl` wants it. Signatures are checked all the same, so that at least it is the server's own.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
