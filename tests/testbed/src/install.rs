//! Runs the `install` scripts, each of which makes its part once and finds it in its cache from then on.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What a script has installed in this process' time.
type Done = Mutex<Option<PathBuf>>;

/// Where the scripts and sources for Mesos are.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mesos")
}

/// Debian packages that only some testbeds need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extra {
    /// For several masters.
    ZooKeeper,
    /// For [`busybox_image`].
    Images,
    /// For [`Docker`](crate::Docker), and for [`busybox_image`].
    Docker,
}

impl Extra {
    fn option(self) -> &'static str {
        match self {
            Self::ZooKeeper => "--zookeeper",
            Self::Images => "--images",
            Self::Docker => "--docker",
        }
    }
}

/// The directory with `bin/mesos-master`, `bin/mesos-agent` and `launcher/`, made first if need be (a minute); at most once per
/// process. Progress goes to standard error.
///
/// # Errors
/// If the script fails: what it prints on standard error says why.
pub fn install(extra: Option<Extra>) -> Result<PathBuf> {
    static DONE: [Done; 4] = [const { Mutex::new(None) }; 4];
    let arguments: Vec<&str> = extra.map(Extra::option).into_iter().collect();
    once(&DONE[extra.map_or(0, |extra| extra as usize + 1)], &scripts().join("install"), &arguments)
}

/// What [`busybox_image`] is called in a `ContainerInfo`.
pub const BUSYBOX: &str = "local/busybox:1";

/// Writes the image [`BUSYBOX`] into a directory of images, as `docker save` would, and returns the file: for
/// [`Agent::images`](crate::Agent::images) or `docker load`.
///
/// # Errors
/// If busybox cannot be installed, or the file not be written.
pub fn busybox_image(directory: &Path) -> Result<PathBuf> {
    busybox_image_with(directory, &[])
}

/// As [`busybox_image`], but with further files in it, executable: each is named here, and by its path in the image.
///
/// # Errors
/// As before, or if there is no such file.
pub fn busybox_image_with(directory: &Path, files: &[(PathBuf, PathBuf)]) -> Result<PathBuf> {
    install(Some(Extra::Images))?;
    let script = scripts().join("make-image");
    let mut command = Command::new(&script);
    command.arg(directory).args(files.iter().flat_map(|(here, there)| [here, there]));
    let status = command.status().with_context(|| format!("{} cannot be run", script.display()))?;
    ensure!(status.success(), "{} failed, {status}: see its messages", script.display());
    Ok(directory.join(format!("{BUSYBOX}.tar")))
}

/// The directory with `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, `helm` and `glua`, made first if need be (seven
/// minutes, for Go to build them); at most once per process. Progress goes to standard error.
///
/// # Errors
/// If the script fails: what it prints on standard error says why.
pub fn install_kubernetes() -> Result<PathBuf> {
    static DONE: Done = Mutex::new(None);
    once(&DONE, &Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/install"), &[])
}

/// The directory with the programs of a demand server, installed first if need be: see `servers/install`. Progress goes to standard error.
///
/// # Errors
/// If the script fails: what it prints on standard error says why.
pub fn install_server(name: &str) -> Result<PathBuf> {
    run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/install"), &[name])
}

fn once(done: &Done, script: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = &*done {
        return Ok(directory.clone());
    }
    let directory = run(script, arguments)?;
    *done = Some(directory.clone());
    Ok(directory)
}

fn run(script: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let mut command = Command::new(script);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{} cannot be run", script.display()))?;
    ensure!(output.status.success(), "{} failed, {}: see its messages", script.display(), output.status);
    let directory = String::from_utf8(output.stdout).context("the installed directory is not UTF-8")?;
    Ok(PathBuf::from(directory.trim_end()))
}
