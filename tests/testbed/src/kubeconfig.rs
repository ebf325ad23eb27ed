//! The files that say where a Kubernetes API server is, how it proves who it is, and who we are.

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One server, one user.
pub(crate) struct Kubeconfig<'a> {
    pub server: &'a str,
    /// Certificates in PEM.
    pub authority: &'a [u8],
    pub user: &'a str,
    pub token: &'a str,
    pub namespace: &'a str,
}

impl Kubeconfig<'_> {
    /// Writes it in JSON, which is YAML.
    pub fn write(&self, path: &Path) -> Result<()> {
        let cluster = json!({ "server": self.server, "certificate-authority-data": BASE64_STANDARD.encode(self.authority) });
        let context = json!({ "cluster": "testbed", "user": self.user, "namespace": self.namespace });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": cluster }],
            "users": [{ "name": self.user, "user": { "token": self.token } }],
            "contexts": [{ "name": "testbed", "context": context }],
            "current-context": "testbed",
        });
        write_private(path, &format!("{config:#}\n"))
    }
}

/// Writes a file that only its owner can read: Helm warns of others.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}
