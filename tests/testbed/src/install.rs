//! Runs `mesos/install`, which makes Mesos once and finds it in its cache from then on.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Where the scripts and sources of the testbed are.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mesos")
}

/// The directory with `bin/mesos-master`, `bin/mesos-agent` and `launcher/`, made first if need be (a minute); at most once per
/// process. Progress goes to standard error.
///
/// # Errors
/// If the script fails: what it prints on standard error says why.
pub fn install(with_zookeeper: bool) -> Result<PathBuf> {
    static DONE: Mutex<[Option<PathBuf>; 2]> = Mutex::new([None, None]);
    let mut done = DONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let slot = &mut done[usize::from(with_zookeeper)];
    if let Some(directory) = slot {
        return Ok(directory.clone());
    }
    let directory = run_script(with_zookeeper)?;
    *slot = Some(directory.clone());
    Ok(directory)
}

fn run_script(with_zookeeper: bool) -> Result<PathBuf> {
    let script = scripts().join("install");
    let mut command = Command::new(&script);
    command.args(with_zookeeper.then_some("--zookeeper")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{} cannot be run", script.display()))?;
    ensure!(output.status.success(), "{} failed, {}: see its messages", script.display(), output.status);
    let directory = String::from_utf8(output.stdout).context("the installed directory is not UTF-8")?;
    Ok(PathBuf::from(directory.trim_end()))
}
