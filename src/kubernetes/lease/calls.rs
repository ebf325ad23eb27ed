//! Requests about the lease, each with an end.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::watch_object;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::super::MANAGER;
use super::record::Record;

/// Why a request about the lease has come to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Somebody has written, made or deleted the lease since it was read.
    #[error("the lease has been changed since it was read")]
    Outdated,
    #[error("the API server has not answered within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("{0}")]
    Failed(#[from] Box<kube::Error>),
}

/// The lease on the API server.
pub(super) struct Calls {
    api: Api<Lease>,
    name: String,
    timeout: Duration,
}

impl Calls {
    pub fn new(client: Client, namespace: &str, name: &str, timeout: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), timeout }
    }

    /// The newest version, from no cache; `None`: there is no lease.
    pub async fn read(&self) -> Result<Option<Record>, CallError> {
        Ok(self.within(self.api.get_opt(&self.name)).await?.map(Record::from))
    }

    pub async fn create(&self, lease: &Lease) -> Result<Record, CallError> {
        self.within(self.api.create(&params(), lease)).await.map_err(outdated_if(&[409])).map(Record::from)
    }

    /// Only if it still is the version that this one was made from.
    pub async fn replace(&self, lease: &Lease) -> Result<Record, CallError> {
        let replaced = self.within(self.api.replace(&self.name, &params(), lease)).await;
        replaced.map_err(outdated_if(&[409, 404])).map(Record::from)
    }

    /// Each version that is seen, `None` for no lease. It never ends: broken off, it is begun again after `pause`. Versions may be missed,
    /// and may be late.
    pub fn watch(&self, pause: Duration) -> BoxStream<'static, Option<Record>> {
        let seen = watch_object(self.api.clone(), &self.name).filter_map(move |seen| match seen {
            Ok(lease) => futures::future::ready(Some(lease.map(Record::from))).left_future(),
            Err(error) => {
                debug!("the watch on the lease has broken off: {error}");
                sleep(pause).map(|()| None).right_future()
            }
        });
        seen.boxed()
    }

    async fn within<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
        let answer = timeout(self.timeout, request).await.map_err(|_| CallError::Silent(self.timeout))?;
        Ok(answer.map_err(Box::new)?)
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Answers with these codes mean that something else has happened meanwhile.
fn outdated_if(codes: &[u16]) -> impl Fn(CallError) -> CallError {
    move |error| match error {
        CallError::Failed(failed) if matches!(&*failed, kube::Error::Api(status) if codes.contains(&status.code)) => {
            CallError::Outdated
        }
        error => error,
    }
}
