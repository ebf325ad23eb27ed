//! Certificates for servers of the testbed and their clients.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// An authority that nobody trusts by himself.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// # Errors
    /// If no key can be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate by this common name, for localhost and 127.0.0.1.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn issue(&self, common_name: &str) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes `ca.pem`, and `NAME.pem` with `NAME.key` for each name, into a directory.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, directory: &Path, names: &[&str]) -> Result<PathBuf> {
        fs::write(directory.join("ca.pem"), &self.pem)?;
        for name in names {
            let pair = self.issue(name)?;
            fs::write(directory.join(format!("{name}.pem")), pair.certificate)?;
            fs::write(directory.join(format!("{name}.key")), pair.key)?;
        }
        Ok(directory.to_owned())
    }
}
