//! The secrets that specs name, read each time they are used, as they may change at any time.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use crate::api::secret::{Auth, SecretRef, SecretValue};
use base64::Engine as _;

/// A Secret's namespace and name.
pub type SecretKey = (String, String);

/// Where secrets are read.
pub struct Secrets {
    /// `None`: without Kubernetes, where only files can be read.
    known: Option<RwLock<BTreeMap<SecretKey, Secret>>>,
    changes: watch::Sender<u64>,
}

/// What is known of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Key to value.
    Data(BTreeMap<String, Vec<u8>>),
    /// It does not exist, may not be read, or the like: in words.
    Unreadable(String),
}

/// Why a secret value cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read {path}: {problem}")]
    File { path: String, problem: String },
    #[error("{0}: files are not read on Kubernetes, as they are Microscaler's own: use secretRef")]
    FileOnKubernetes(String),
    #[error("Secret {0}: there are no Secrets without Kubernetes: name a file")]
    NoKubernetes(String),
    #[error("Secret {0} has not been read yet")]
    NotYet(String),
    #[error("Secret {name}: {problem}")]
    Unreadable { name: String, problem: String },
    #[error("Secret {name} has no key {key}")]
    NoKey { name: String, key: String },
    #[error("Secret {name}: the value of {key} is not text")]
    NotText { name: String, key: String },
}

impl Secrets {
    /// For a Microscaler without Kubernetes: secrets are in files.
    #[must_use]
    pub fn in_files() -> Self {
        Self { known: None, changes: watch::Sender::new(0) }
    }

    /// For a Microscaler on Kubernetes: what specs name is [`put`](Self::put) here by whoever watches it. Files are refused, for whoever
    /// may write a spec would else be able to send Microscaler's own files to anywhere.
    #[must_use]
    pub fn in_kubernetes() -> Self {
        Self { known: Some(RwLock::default()), changes: watch::Sender::new(0) }
    }

    /// Whether what other servers answer is not to be shown in a status: on Kubernetes, who may write an app is not who may reach all that
    /// Microscaler reaches.
    #[must_use]
    pub fn are_discreet(&self) -> bool {
        self.known.is_some()
    }

    /// The value now, without the line end that editors leave behind.
    ///
    /// # Errors
    /// When it is not there or may not be read.
    pub async fn read(&self, namespace: &str, value: &SecretValue) -> Result<String, SecretError> {
        let text = match value {
            SecretValue::SecretRef(reference) => self.of_secret(namespace, reference)?,
            SecretValue::File(path) if self.known.is_some() => return Err(SecretError::FileOnKubernetes(path.clone())),
            SecretValue::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                text.map_err(|error| SecretError::File { path: path.clone(), problem: error.to_string() })?
            }
        };
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The value of the header `Authorization`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn authorization(&self, namespace: &str, auth: &Auth) -> Result<String, SecretError> {
        Ok(match auth {
            Auth::Bearer(token) => format!("Bearer {}", self.read(namespace, token).await?),
            Auth::Basic(basic) => basic_authorization(&basic.username, &self.read(namespace, &basic.password).await?),
        })
    }

    fn of_secret(&self, namespace: &str, reference: &SecretRef) -> Result<String, SecretError> {
        let name = format!("{namespace}/{}", reference.name);
        let Some(known) = &self.known else { return Err(SecretError::NoKubernetes(name)) };
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(&(namespace.to_owned(), reference.name.clone())) {
            None => Err(SecretError::NotYet(name)),
            Some(Secret::Unreadable(problem)) => Err(SecretError::Unreadable { name, problem: problem.clone() }),
            Some(Secret::Data(data)) => {
                let key = reference.key.clone();
                let Some(value) = data.get(&key) else { return Err(SecretError::NoKey { name, key }) };
                String::from_utf8(value.clone()).map_err(|_| SecretError::NotText { name, key })
            }
        }
    }

    /// Takes over what is known of a Secret now; `None`: nobody names it any more.
    pub fn put(&self, key: &SecretKey, secret: Option<&Secret>) {
        let Some(known) = &self.known else { return };
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        let before = match secret {
            Some(secret) => known.insert(key.clone(), secret.clone()),
            None => known.remove(key),
        };
        drop(known);
        if before.as_ref() != secret {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Waits until what is known of this one has changed. Of a file, for ever: it is read anew each time.
    pub async fn changed(&self, namespace: &str, value: &SecretValue) {
        let (Some(known), SecretValue::SecretRef(reference)) = (&self.known, value) else { return std::future::pending().await };
        let key = (namespace.to_owned(), reference.name.clone());
        let now = || known.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let mut changes = self.changes.subscribe();
        let before = now();
        while now() == before && changes.changed().await.is_ok() {}
    }
}

/// The header of HTTP Basic authentication (RFC 7617).
#[must_use]
pub fn basic_authorization(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reference(name: &str, key: &str) -> SecretValue {
        SecretValue::SecretRef(SecretRef { name: name.to_owned(), key: key.to_owned() })
    }

    fn secret(value: &[u8]) -> Secret {
        Secret::Data(BTreeMap::from([("token".to_owned(), value.to_vec())]))
    }

    #[tokio::test]
    async fn a_secret_is_read_as_it_is_now() {
        let secrets = Secrets::in_kubernetes();
        let key = ("shop".to_owned(), "mesos".to_owned());
        let read = || async { secrets.read("shop", &reference("mesos", "token")).await.map_err(|error| error.to_string()) };
        assert_eq!(read().await.unwrap_err(), "Secret shop/mesos has not been read yet");
        secrets.put(&key, Some(&secret(b"one\n")));
        assert_eq!(read().await.unwrap(), "one");
        secrets.put(&key, Some(&secret(b"two")));
        assert_eq!(read().await.unwrap(), "two");
        secrets.put(&key, Some(&secret(&[0xff])));
        assert_eq!(read().await.unwrap_err(), "Secret shop/mesos: the value of token is not text");
        secrets.put(&key, Some(&Secret::Unreadable("it does not exist".to_owned())));
        assert_eq!(read().await.unwrap_err(), "Secret shop/mesos: it does not exist");
        assert!(secrets.read("other", &reference("mesos", "token")).await.is_err(), "other namespaces have their own");
    }

    #[tokio::test]
    async fn each_surrounding_has_its_own_kind() {
        let path = "/etc/hostname".to_owned();
        let error = Secrets::in_kubernetes().read("shop", &SecretValue::File(path)).await.unwrap_err();
        assert!(error.to_string().contains("use secretRef"), "{error}");
        let error = Secrets::in_files().read("shop", &reference("a", "b")).await.unwrap_err();
        assert!(error.to_string().contains("name a file"), "{error}");
    }

    #[tokio::test]
    async fn only_a_change_is_news() {
        let secrets = Secrets::in_kubernetes();
        let (key, other) = (("shop".to_owned(), "mesos".to_owned()), ("depot".to_owned(), "mesos".to_owned()));
        let value = reference("mesos", "token");
        let mut news = std::pin::pin!(secrets.changed("shop", &value));
        assert!(futures::poll!(news.as_mut()).is_pending());
        secrets.put(&other, Some(&secret(b"one")));
        assert!(futures::poll!(news.as_mut()).is_pending(), "somebody else's");
        secrets.put(&key, Some(&secret(b"one")));
        assert!(futures::poll!(news.as_mut()).is_ready());
        let mut news = std::pin::pin!(secrets.changed("shop", &value));
        secrets.put(&key, Some(&secret(b"one")));
        assert!(futures::poll!(news.as_mut()).is_pending());
    }
}
