//! One URI: from where it is to where it shall be.

use crate::http;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Directories {
    pub sandbox: PathBuf,
    cache: PathBuf,
    /// Where relative paths begin.
    home: PathBuf,
}

impl Directories {
    pub fn from_info(info: &Value) -> Result<Self> {
        let path = |name: &str| info[name].as_str().map(PathBuf::from);
        Ok(Self {
            sandbox: path("sandbox_directory").context("MESOS_FETCHER_INFO names no sandbox")?,
            cache: path("cache_directory").unwrap_or_default(),
            home: path("frameworks_home").unwrap_or_default(),
        })
    }
}

/// What the agent says about its cache.
enum Action {
    Bypass,
    Download,
    Retrieve,
}

pub struct Item<'a> {
    pub uri: String,
    directories: &'a Directories,
    action: Action,
    /// In the cache.
    cached: PathBuf,
    /// In the sandbox.
    target: PathBuf,
    is_executable: bool,
    extracts: bool,
}

impl<'a> Item<'a> {
    pub fn new(item: &Value, directories: &'a Directories) -> Result<Self> {
        let about = &item["uri"];
        let uri = about["value"].as_str().unwrap_or_default().trim().to_owned();
        let name = match about["output_file"].as_str() {
            Some(name) => name,
            None => last_segment(&uri).with_context(|| format!("'{uri}' names no file"))?,
        };
        let is_executable = about["executable"] == true;
        Ok(Self {
            target: directories.sandbox.join(name),
            directories,
            action: match item["action"].as_str() {
                Some("DOWNLOAD_AND_CACHE") => Action::Download,
                Some("RETRIEVE_FROM_CACHE") => Action::Retrieve,
                _ => Action::Bypass,
            },
            cached: directories.cache.join(item["cache_filename"].as_str().unwrap_or_default()),
            is_executable,
            extracts: about["extract"].as_bool().unwrap_or(true) && !is_executable,
            uri,
        })
    }

    pub fn fetch(&self) -> Result<()> {
        let source = match self.action {
            Action::Bypass => &self.target,
            Action::Download | Action::Retrieve => &self.cached,
        };
        if !matches!(self.action, Action::Retrieve) {
            self.bring(source)?;
        }
        let is_extracted = self.extracts && extract(source, &self.target, &self.directories.sandbox)?;
        if source != &self.target && !is_extracted {
            copy(source, &self.target)?;
        }
        if self.is_executable {
            fs::set_permissions(&self.target, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    fn bring(&self, to: &Path) -> Result<()> {
        eprintln!("Fetching '{}' to '{}'", self.uri, to.display());
        if self.uri.starts_with("http://") {
            make_parent(to)?;
            return fs::write(to, http::get(&self.uri)?).with_context(|| to.display().to_string());
        }
        let path = self.uri.strip_prefix("file://").unwrap_or(&self.uri);
        ensure!(!path.contains("://"), "this fetcher knows only paths, file:// and http://");
        copy(&self.directories.home.join(path), to)
    }
}

/// Without a query.
fn last_segment(uri: &str) -> Option<&str> {
    let path = uri.split(['?', '#']).next()?;
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display())).map(drop)
}

/// Unpacks it into the sandbox if it is an archive by the name it shall have; false if it is none.
fn extract(archive: &Path, named: &Path, sandbox: &Path) -> Result<bool> {
    let name = named.to_string_lossy();
    let is_any_of = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let mut command;
    if is_any_of(&[".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"]) {
        command = Command::new("tar");
        command.arg("-C").arg(sandbox).arg("-xf").arg(archive);
    } else if is_any_of(&[".gz"]) {
        command = Command::new("sh");
        command.args(["-c", r#"gzip -dc "$1" > "$2""#, "sh"]).arg(archive).arg(name.trim_end_matches(".gz"));
    } else if is_any_of(&[".zip"]) {
        command = Command::new("unzip");
        command.args(["-q", "-o", "-d"]).arg(sandbox).arg(archive);
    } else {
        return Ok(false);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(true),
        Ok(status) => bail!("cannot extract {}: {command:?}: {status}", archive.display()),
        Err(error) => bail!("cannot extract {}: {command:?}: {error}", archive.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_is_last_in_a_uri() {
        assert_eq!(last_segment("http://host/a/b.tar?x=/y"), Some("b.tar"));
        assert_eq!(last_segment("/a/b/"), Some("b"));
        assert_eq!(last_segment(""), None);
    }
}
