//! What stands for `ZooKeeper`: a directory that all processes of one Marathon share, with the state, the leader, and a sign of life of
//! each process.

use crate::core::State;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The directory, as one process uses it.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// `host:port` of this process.
    address: String,
    session_timeout: Duration,
}

impl Store {
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(directory: PathBuf, address: String, session_timeout: Duration) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self { directory, address, session_timeout })
    }

    /// The state that was saved last; an empty one if there is none.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn load(&self) -> Result<State> {
        let path = self.directory.join("state.json");
        if !path.exists() {
            return Ok(State::default());
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, state: &State) -> Result<()> {
        self.replace("state.json", &serde_json::to_vec(state)?)
    }

    /// A reader sees the file as it was or as it is now.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = self.directory.join(format!("{name}.{}", self.address));
        fs::write(&new, bytes).with_context(|| new.display().to_string())?;
        Ok(fs::rename(&new, self.directory.join(name))?)
    }

    fn session(&self, address: &str) -> PathBuf {
        self.directory.join(format!("session-{address}"))
    }

    /// Whether a process of that address has given a sign of life within the session's time, and has not left in order.
    #[must_use]
    pub fn is_alive(&self, address: &str) -> bool {
        let modified = fs::metadata(self.session(address)).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).unwrap_or_default() < self.session_timeout)
    }

    /// A sign of life of this process.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn touch(&self) -> Result<()> {
        Ok(fs::write(self.session(&self.address), b"")?)
    }

    /// Who leads, or has led last.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        fs::read_to_string(self.directory.join("leader")).ok().filter(|address| !address.is_empty())
    }

    /// Becomes the leader if nobody is it who lives. True as well if this process leads already.
    ///
    /// # Errors
    /// If the files cannot be used.
    pub fn try_to_lead(&self) -> Result<bool> {
        let lock = File::create(self.directory.join("election.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        match self.leader() {
            Some(leader) if leader != self.address && self.is_alive(&leader) => Ok(false),
            _ => self.replace("leader", self.address.as_bytes()).map(|()| true),
        }
    }

    /// Leaves in order: others need not wait for the end of the session.
    pub fn leave(&self) {
        // Both fail only if the directory is gone, and then nobody waits.
        let _ = fs::remove_file(self.session(&self.address));
        if self.leader().is_some_and(|leader| leader == self.address) {
            let _ = fs::remove_file(self.directory.join("leader"));
        }
    }
}
