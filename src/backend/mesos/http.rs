//! How masters are reached: addresses, credentials, TLS, and the redirects that lead to the leader.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, LOCATION};
use reqwest::{Client, Response, StatusCode};
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

use crate::api::validated::MesosPool;
use crate::store::secrets::{SecretError, Secrets, basic_authorization};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the head of an answer; a stream's body has no end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HOPS: u32 = 5;

/// What is needed to speak to the masters of a pool.
#[derive(Clone)]
pub struct Http {
    pub tls: Arc<rustls::ClientConfig>,
    client: Client,
    pool: Arc<MesosPool>,
    secrets: Arc<Secrets>,
    hosts: Arc<[String]>,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the pool is not on Mesos")]
    NotMesos,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("HTTP cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    #[error("master address {address:?}: {source}")]
    Address { address: String, source: url::ParseError },
}

/// Why a master gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{url}: {}", chain(source))]
    Failed { url: Url, source: reqwest::Error },
    #[error("{url}: no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent { url: Url },
    #[error("{url}: {status} {body}")]
    Refused { url: Url, status: StatusCode, body: String },
    #[error("{url}: redirected more than {MAX_HOPS} times; the masters do not agree on their leader")]
    Loop { url: Url },
    #[error("{url}: redirected to {location:?}, which is no address")]
    Location { url: Url, location: String },
    #[error("the secret of principal {principal:?}: {source}")]
    Secret { principal: String, source: SecretError },
}

/// An error's innermost cause: reqwest's own words name only the outermost.
pub fn chain(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl Http {
    pub fn new(pool: Arc<MesosPool>, secrets: Arc<Secrets>) -> Result<Self, SetupError> {
        let tls = tls()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .http1_only()
            .no_proxy()
            .build()?;
        let parsed = pool
            .mesos
            .masters
            .iter()
            .map(|address| Url::parse(address).map_err(|source| SetupError::Address { address: address.clone(), source }));
        let masters = parsed.collect::<Result<Vec<_>, _>>()?;
        let hosts = masters.iter().filter_map(|url| url.host_str().map(str::to_owned)).collect();
        Ok(Self { tls: Arc::new(tls), client, pool, secrets, hosts })
    }

    /// The master that is tried the `n`th time.
    pub fn master(&self, n: usize) -> Url {
        let masters = &self.pool.mesos.masters;
        let address = &masters[n % masters.len().max(1)];
        Url::parse(address).unwrap_or_else(|_| unreachable!("read in new"))
    }

    /// The value of the header `Authorization` for a master, if there is a principal. The secret is read anew each time, as it may change.
    pub async fn authorization(&self, url: &Url) -> Result<Option<String>, HttpError> {
        let mesos = &self.pool.mesos;
        let (Some(principal), Some(secret)) = (&mesos.principal, mesos.secret()) else { return Ok(None) };
        if !self.trusts(url) {
            return Ok(None);
        }
        let secret = self.secrets.read(self.pool.key.namespace(), &secret).await;
        let secret = secret.map_err(|source| HttpError::Secret { principal: principal.clone(), source })?;
        Ok(Some(basic_authorization(principal, &secret)))
    }

    /// Credentials go to the masters that the pool names and to their neighbours: a redirect must not carry them anywhere else.
    fn trusts(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let is_address = |url: &Url| matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
        let domain = |host: &str| host.split_once('.').map(|(_, domain)| domain.to_owned());
        let neighbour = |known: &String| {
            let known_is_address = known.parse::<std::net::IpAddr>().is_ok() || known.starts_with('[');
            known == host
                || (is_address(url) && known_is_address)
                || (!is_address(url) && !known_is_address && domain(known).is_some() && domain(known) == domain(host))
        };
        self.hosts.iter().any(neighbour)
    }

    /// Posts to the leader, found from `master` through redirects. Gives the leader's address and its answer, which is a success.
    pub async fn post(&self, master: Url, path: &str, body: &serde_json::Value) -> Result<(Url, Response), HttpError> {
        let mut url = master;
        for _ in 0..=MAX_HOPS {
            url.set_path(path);
            let response = self.send(&url, self.client.post(url.clone()).json(body)).await?;
            if response.status() != StatusCode::TEMPORARY_REDIRECT {
                return Ok((url.clone(), accepted(url, response).await?));
            }
            url = redirected(&url, &response)?;
        }
        Err(HttpError::Loop { url })
    }

    /// Reads a JSON document of the leader, found from `master` through redirects.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, master: &Url, path: &str, query: &str) -> Result<T, HttpError> {
        let mut url = master.clone();
        for _ in 0..=MAX_HOPS {
            url.set_path(path);
            url.set_query(Some(query).filter(|query| !query.is_empty()));
            let response = self.send(&url, self.client.get(url.clone())).await?;
            if response.status() != StatusCode::TEMPORARY_REDIRECT {
                let response = accepted(url.clone(), response).await?;
                return response.json().await.map_err(|source| HttpError::Failed { url, source });
            }
            url = redirected(&url, &response)?;
        }
        Err(HttpError::Loop { url })
    }

    async fn send(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
        let request = request.header(ACCEPT, "application/json");
        let request = match self.authorization(url).await? {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => Err(HttpError::Failed { url: url.clone(), source }),
            Err(_) => Err(HttpError::Silent { url: url.clone() }),
        }
    }
}

/// TLS with the roots that the system trusts.
pub fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_platform_verifier()?.with_no_client_auth())
}

async fn accepted(url: Url, response: Response) -> Result<Response, HttpError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = tokio::time::timeout(ANSWER_TIMEOUT, response.text()).await;
    let body: String = body.ok().and_then(Result::ok).unwrap_or_default().chars().take(500).collect();
    Err(HttpError::Refused { url, status, body })
}

/// Mesos names the leader without a scheme, `//host:port/path`; ours is kept in any case, so that TLS is never left.
fn redirected(url: &Url, response: &Response) -> Result<Url, HttpError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut target = url.join(location).ok().filter(|_| !location.is_empty());
    if let Some(target) = &mut target
        && target.set_scheme(url.scheme()).is_ok()
        && target.has_host()
    {
        return Ok(target.clone());
    }
    Err(HttpError::Location { url: url.clone(), location: location.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::MicroscalingPool;
    use crate::api::validated::Pool;

    fn http(masters: &str) -> Http {
        let text = format!(
            "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscalingPool, metadata: {{name: main}}, spec: {{mesos: {{masters: {masters}}}}}}}"
        );
        let pool = Pool::read(&serde_saphyr::from_str::<MicroscalingPool>(&text).unwrap()).unwrap();
        Http::new(Arc::new(pool.on_mesos().unwrap()), Arc::new(Secrets::in_files())).unwrap()
    }

    #[test]
    fn credentials_stay_among_neighbours() {
        let trusted = |masters: &str, to: &str| http(masters).trusts(&Url::parse(to).unwrap());
        assert!(trusted("['http://m1.dc.example:5050']", "http://m2.dc.example:5050"));
        assert!(trusted("['http://10.0.0.1:5050']", "http://10.0.0.2:5050"));
        assert!(trusted("['http://master:5050']", "http://master:5051"));
        assert!(!trusted("['http://m1.dc.example:5050']", "http://m1.evil.example:5050"));
        assert!(!trusted("['http://master:5050']", "http://other:5050"));
        assert!(!trusted("['http://master:5050']", "http://10.0.0.2:5050"));
    }

    #[test]
    fn masters_are_taken_in_turn() {
        let http = http("['http://a:1', 'http://b:2/']");
        assert_eq!(http.master(3).as_str(), "http://b:2/");
    }
}
