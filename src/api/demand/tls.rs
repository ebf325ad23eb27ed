//! How a source is reached over TLS; the names are those of KEDA's authentication parameters.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::secret::SecretValue;

/// How TLS is spoken with a server. All that is not given is as usual: the certificates that the system trusts, and none of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cert) == has(self.key)").message("cert and key are given together"))]
pub struct Tls {
    /// Certificates of the authorities to trust, in PEM, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretValue>,
    /// Our own certificate (chain), in PEM, where the server asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretValue>,
    /// Its private key, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValue>,
    /// Do not check the server's certificate. Only to try something out: whoever is on the way can answer in the server's place.
    #[serde(default)]
    pub unsafe_ssl: bool,
}
