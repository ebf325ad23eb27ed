//! What the sources of a pool share.

use std::sync::Arc;

use reqwest::Client;
use serde::Serialize;

use super::kafka::Cluster;
use super::link::{Link, Links};
use super::tls::Material;
use crate::api::demand::Tls;
use crate::api::secret::{Auth, SecretValue};
use crate::store::secrets::Secrets;

/// Where one metric's source reads secrets and finds connections.
#[derive(Clone)]
pub struct Context {
    pub secrets: Arc<Secrets>,
    /// Where the Secrets are that the spec names.
    pub namespace: Arc<str>,
    pub servers: Arc<Servers>,
    /// The API server, where this Microscaler is on Kubernetes.
    pub kubernetes: Option<kube::Client>,
}

/// The connections of all sources of a pool, by the kind of server.
#[derive(Default)]
pub struct Servers {
    pub http: Links<Client>,
    pub kafka: Links<Arc<Cluster>>,
    #[cfg(feature = "postgres")]
    pub postgres: Links<super::postgres::session::Session>,
}

impl Context {
    /// The value of a secret now.
    ///
    /// # Errors
    /// In words, when it is not there or may not be read.
    pub async fn secret(&self, value: &SecretValue) -> Result<String, String> {
        self.secrets.read(&self.namespace, value).await.map_err(|error| error.to_string())
    }

    /// The value of the header `Authorization`, where there is one.
    ///
    /// # Errors
    /// As for [`secret`](Self::secret).
    pub async fn authorization(&self, auth: Option<&Auth>) -> Result<Option<String>, String> {
        let Some(auth) = auth else { return Ok(None) };
        self.secrets.authorization(&self.namespace, auth).await.map(Some).map_err(|error| error.to_string())
    }

    /// What TLS is spoken with now.
    ///
    /// # Errors
    /// As for [`secret`](Self::secret).
    pub async fn tls(&self, tls: Option<&Tls>) -> Result<Material, String> {
        Material::read(&self.secrets, &self.namespace, tls).await
    }

    /// The link to a server, shared by all whose `server` (address, credentials by reference, TLS, and all else that makes a difference to
    /// the connection) reads the same. Secrets are their namespace's own.
    pub fn link<C>(&self, links: &Links<C>, server: &impl Serialize) -> Arc<Link<C>> {
        let text = serde_json::to_string(server).unwrap_or_else(|error| unreachable!("specs are JSON: {error}"));
        let owner = if text.contains("secretRef") { &*self.namespace } else { "" };
        links.named(format!("{owner} {text}"))
    }
}
