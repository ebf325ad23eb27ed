//! The framework's identity, the one thing that is stored: in a file, or on Kubernetes in the status of the pool's object.
//!
//! Mesos gives it at the first subscription. Whoever subscribes with it owns the tasks; without it they are out of reach.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::validated::{Key, MesosPool};
use crate::kubernetes::framework::{PoolObject, PoolObjectError};
use crate::store::file;

/// What is stored. Only the id is used; the rest tells people what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framework {
    pub id: Arc<str>,
    pub name: String,
    pub role: String,
    pub masters: Vec<String>,
}

/// Where it is stored.
#[derive(Clone)]
pub enum Store {
    /// A file in the state directory.
    File(PathBuf),
    /// The status of the pool's object on a Kubernetes API server.
    Object(Box<PoolObject>),
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({source}); restore it: it holds the id without which the running tasks are out of reach")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Object(#[from] PoolObjectError),
}

impl StoreError {
    /// Whether it may be over in a moment, without anybody's doing.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Object(_))
    }
}

/// How the framework is called in Mesos' own pages.
pub fn name(pool: &MesosPool) -> String {
    let default = || format!("microscaler/{}/{}", pool.key.namespace(), pool.key.name());
    pool.mesos.framework_name.clone().unwrap_or_else(default)
}

impl Framework {
    pub fn new(id: Arc<str>, pool: &MesosPool) -> Self {
        Self { id, name: name(pool), role: pool.mesos.role.clone(), masters: pool.mesos.masters.clone() }
    }
}

impl Store {
    /// `<namespace>.<pool>.framework.json` in this directory.
    #[must_use]
    pub fn file(state_dir: &Path, pool: &Key) -> Self {
        Self::File(state_dir.join(format!("{}.{}.framework.json", pool.namespace(), pool.name())))
    }

    /// What is stored; `None` when nothing ever was, or it was lost.
    pub(super) async fn load(&self, pool: &MesosPool) -> Result<Option<Framework>, StoreError> {
        match self {
            Self::File(path) => read(path),
            Self::Object(object) => Ok(object.framework_id().await?.map(|id| Framework::new(id.into(), pool))),
        }
    }

    /// Stores it so that it outlives a crash of the machine from the moment this returns.
    pub(super) async fn save(&self, framework: &Framework) -> Result<(), StoreError> {
        match self {
            Self::File(path) => write(path, framework).await.map_err(|source| StoreError::Write { path: path.clone(), source }),
            Self::Object(object) => Ok(object.set_framework_id(&framework.id).await?),
        }
    }

    /// What to do when it is lost and the framework of this id is found to be ours, as the rest of a sentence.
    pub(super) fn remedy(&self, lost: &Framework) -> String {
        match self {
            Self::File(path) => {
                let text = serde_json::to_string(lost).unwrap_or_default();
                format!("{} is missing. Restore it, or write {text} to it", path.display())
            }
            Self::Object(object) => format!("status.frameworkId is missing. To adopt them: {}", object.remedy(&lost.id)),
        }
    }

    /// What to do when Mesos will never take the id again, as the rest of a sentence.
    pub(super) fn begin_anew(&self) -> String {
        match self {
            Self::File(path) => format!("move {} away and start again", path.display()),
            Self::Object(object) => format!("forget its id: {}", object.amnesia()),
        }
    }
}

fn read(path: &Path) -> Result<Option<Framework>, StoreError> {
    match fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map(Some).map_err(|source| StoreError::Damaged { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

async fn write(path: &Path, framework: &Framework) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(framework)?;
    text.push(b'\n');
    file::replace(path, &text).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::pool;
    use super::*;

    #[tokio::test]
    async fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (pool, store) = (pool(), Store::file(&dir.path().join("state"), &Key::new("default", "main")));
        assert_eq!(store.load(&pool).await.unwrap(), None);
        let framework = Framework::new("f-1".into(), &pool);
        store.save(&framework).await.unwrap();
        assert_eq!(store.load(&pool).await.unwrap(), Some(framework));
        assert!(dir.path().join("state/default.main.framework.json").exists());
    }

    #[tokio::test]
    async fn damage_is_said_and_not_papered_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::file(dir.path(), &Key::new("default", "main"));
        fs::write(dir.path().join("default.main.framework.json"), "{").unwrap();
        assert!(matches!(store.load(&pool()).await, Err(StoreError::Damaged { .. })));
    }
}
