//! The id of a pool's framework, kept in the status of its object.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::MicroscalingPool;
use crate::api::validated::Key;

/// Its own, beside the one of the rest of the status: what one manager leaves out, another one keeps.
const MANAGER: &str = "microscaler-framework";

/// A pool waits for this, so an API server that hangs must not hold it up; it is tried again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The object of a pool.
#[derive(Clone)]
pub struct PoolObject {
    api: Api<MicroscalingPool>,
    key: Key,
}

/// The API server did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the framework id of MicroscalingPool {pool}: {why}")]
pub struct PoolObjectError {
    what: &'static str,
    pool: Key,
    why: String,
}

impl PoolObject {
    #[must_use]
    pub fn new(client: Client, pool: &Key) -> Self {
        Self { api: Api::namespaced(client, pool.namespace()), key: pool.clone() }
    }

    /// As stored on the API server, not in any cache: another process may have written it a moment ago.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn framework_id(&self) -> Result<Option<String>, PoolObjectError> {
        let pool = self.in_time("read", self.api.get(self.key.name())).await?;
        Ok(pool.status.and_then(|status| status.framework_id))
    }

    /// Stores it; from then on it outlives this process.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn set_framework_id(&self, id: &str) -> Result<(), PoolObjectError> {
        self.apply("store", id, json!({})).await
    }

    /// Stores it again if the object is still the one of this version: the API server does not look at the uid in a status.
    ///
    /// # Errors
    /// When the API server does not take it, and when there is a newer version.
    pub async fn restore_framework_id(&self, id: &str, version: &str) -> Result<(), PoolObjectError> {
        self.apply("restore", id, json!({ "resourceVersion": version })).await
    }

    async fn apply(&self, what: &'static str, id: &str, metadata: Value) -> Result<(), PoolObjectError> {
        let patch = json!({
            "apiVersion": MicroscalingPool::api_version(&()),
            "kind": MicroscalingPool::kind(&()),
            "metadata": metadata,
            "status": { "frameworkId": id },
        });
        let params = PatchParams::apply(MANAGER).force();
        self.in_time(what, self.api.patch_status(self.key.name(), &params, &Patch::Apply(patch))).await.map(drop)
    }

    /// The command that stores this id.
    #[must_use]
    pub fn remedy(&self, id: &str) -> String {
        self.patch_by_hand(&format!("\"{id}\""))
    }

    /// The command that forgets it.
    #[must_use]
    pub fn amnesia(&self) -> String {
        self.patch_by_hand("null")
    }

    fn patch_by_hand(&self, id: &str) -> String {
        format!(
            "kubectl patch mpool {} -n {} --subresource=status --type=merge -p '{{\"status\":{{\"frameworkId\":{id}}}}}'",
            self.key.name(),
            self.key.namespace()
        )
    }

    async fn in_time<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, PoolObjectError> {
        let error = |why| PoolObjectError { what, pool: self.key.clone(), why };
        match timeout(PATIENCE, call).await {
            Ok(Err(kube::Error::Api(status))) => Err(error(format!("{} ({})", status.message, status.code))),
            Ok(answer) => answer.map_err(|source| error(super::causes(&source))),
            Err(_) => Err(error(format!("the API server has not answered within {PATIENCE:?}"))),
        }
    }
}
