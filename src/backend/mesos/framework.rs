//! The framework's identity, the one thing that is stored: `<namespace>.<pool>.framework.json` in the state directory.
//!
//! Mesos gives it at the first subscription. Whoever subscribes with it owns the tasks; without it they are out of reach.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::validated::Pool;

/// What is stored. Only the id is used; the rest tells people what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framework {
    pub id: Arc<str>,
    pub name: String,
    pub role: String,
    pub masters: Vec<String>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({source}); restore it: it holds the id without which the running tasks are out of reach")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// How the framework is called in Mesos' own pages.
pub fn name(pool: &Pool) -> String {
    let default = || format!("microscaler/{}/{}", pool.key.namespace(), pool.key.name());
    pool.mesos.framework_name.clone().unwrap_or_else(default)
}

impl Store {
    pub fn new(state_dir: &Path, pool: &Pool) -> Self {
        Self { path: state_dir.join(format!("{}.{}.framework.json", pool.key.namespace(), pool.key.name())) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is stored; `None` when nothing ever was, or it was lost.
    pub fn load(&self) -> Result<Option<Framework>, StoreError> {
        let path = self.path.clone();
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| StoreError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// Stores it so that it outlives a crash of the machine from the moment this returns.
    pub fn save(&self, framework: &Framework) -> Result<(), StoreError> {
        self.write(framework).map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    fn write(&self, framework: &Framework) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, framework)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store { path: dir.join("state").join("default.main.framework.json") }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.load().unwrap(), None);
        let framework = Framework { id: "f-1".into(), name: "n".into(), role: "r".into(), masters: vec!["http://m:5050".into()] };
        store.save(&framework).unwrap();
        assert_eq!(store.load().unwrap(), Some(framework));
    }

    #[test]
    fn damage_is_said_and_not_papered_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fs::create_dir_all(dir.path().join("state")).unwrap();
        fs::write(store.path(), "{").unwrap();
        assert!(matches!(store.load(), Err(StoreError::Damaged { .. })));
    }
}
