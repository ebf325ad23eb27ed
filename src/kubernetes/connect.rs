//! The way to the API server: a kubeconfig, or from inside a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot use the kubeconfig {path}: {source}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error("neither a kubeconfig nor a cluster around this process was found (--kubeconfig names a file): {0}")]
    Nowhere(#[from] kube::config::InferConfigError),
    #[error("cannot use the context {context}: {source}")]
    Context { context: String, source: kube::config::KubeconfigError },
    #[error("cannot set up the connection to {url}: {source}")]
    Client { url: String, source: Box<kube::Error> },
}

/// A client, and the namespace that it is at home in.
///
/// Without a name, the file is what `KUBECONFIG` or `~/.kube/config` say, and where there is none, the cluster that this process runs in.
///
/// # Errors
/// When the configuration is missing or unusable. Whether the server answers is not tried.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Client, String), ConnectError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = match (kubeconfig, context) {
        (Some(path), _) => {
            let unusable = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path).map_err(unusable)?, &options).await.map_err(unusable)?
        }
        (None, Some(context)) => {
            let unusable = |source| ConnectError::Context { context: context.to_owned(), source };
            Config::from_kubeconfig(&options).await.map_err(unusable)?
        }
        (None, None) => Config::infer().await?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Whoever asks tries again, with what is the newest by then.
    config.default_retry = false;
    let (url, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|source| ConnectError::Client { url, source: Box::new(source) })?;
    Ok((client, namespace))
}
