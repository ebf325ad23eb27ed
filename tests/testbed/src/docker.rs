//! A Docker of one's own.

use crate::cgroups;
use crate::features::{Feature, can};
use crate::home::Home;
use crate::install::{BUSYBOX, Extra, busybox_image, install};
use crate::marked;
use crate::wait::wait;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(30);
/// It ends its containers' keepers in that time, or is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A dockerd with its own data and socket, and with one image: [`BUSYBOX`]. It leaves the machine's network alone, so containers
/// have the machine's (`HOST`) or none. It ends with this value, containers and files included; also if the process that holds it
/// is killed.
pub struct Docker {
    daemon: Mutex<Child>,
    /// Dropped after the daemon: it ends what that leaves.
    home: Home,
}

impl Docker {
    /// Installs Docker if need be, starts it, and loads the image.
    ///
    /// # Errors
    /// If this machine cannot do it (see [`Feature::Docker`]), or it does not start; with the end of its log.
    pub fn start() -> Result<Self> {
        can(Feature::Docker).map_err(|why| anyhow!("Docker cannot work here: {why}"))?;
        let installed = install(Some(Extra::Docker))?;
        let home = Home::make(None, &installed.join("bin/testbed-reaper"))?;
        let daemon = Mutex::new(launch(&home)?);
        let docker = Self { daemon, home };
        wait(START_LIMIT, || docker.is_up()).with_context(|| docker.log_tail())?;
        let image = busybox_image(&docker.home.directory().join("images"))?;
        docker.run(&["load", "--quiet", "--input", &image.display().to_string()])?;
        Ok(docker)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.home)
    }

    /// The value of `MICROSCALER_TESTBED` that its processes carry.
    #[must_use]
    pub fn id(&self) -> &str {
        self.home.id()
    }

    /// Where its files are; gone when it is dropped.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }

    /// Runs Docker's command line, such as `["ps", "--all"]`, and returns what it prints.
    ///
    /// # Errors
    /// If it fails; with what it says.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(arguments).stdin(Stdio::null());
        let output = command.output().context("cannot run docker, which mesos/install --docker installs")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {} fails: {error}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The names of the containers that run.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn containers(&self) -> Result<Vec<String>> {
        let names = self.run(&["ps", "--format", "{{.Names}}"])?;
        Ok(names.lines().map(ToOwned::to_owned).collect())
    }

    /// An end by itself is an error with [`wait`]; until then it only is not there yet.
    fn is_up(&self) -> Result<bool> {
        let ended = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        ensure!(ended.is_none(), "dockerd has ended");
        ensure!(UnixStream::connect(self.socket()).is_ok(), "dockerd does not listen");
        // It listens before it answers.
        self.run(&["version"]).map(|_| true)
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.home.directory().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // As far as it still works: containers would outlive the daemon. What is left then, the home ends.
        if let Ok(containers) = self.run(&["ps", "--quiet"]) {
            let containers: Vec<&str> = containers.lines().collect();
            let _ = self.run(&[&["rm", "--force", "--volumes"], &*containers].concat());
        }
        let daemon = self.daemon.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Fails only for one that has ended.
        let _ = kill_process(Pid::from_child(daemon), Signal::TERM);
        let daemon = Mutex::new(daemon);
        let has_ended = || {
            let mut daemon = daemon.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(daemon.try_wait()?.is_some())
        };
        if wait(STOP_LIMIT, has_ended).is_err() {
            eprintln!("testbed {}: dockerd does not end in {STOP_LIMIT:?}, and is killed", self.home.id());
        }
        let mut daemon = daemon.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

fn socket(home: &Home) -> PathBuf {
    home.directory().join("docker.sock")
}

fn launch(home: &Home) -> Result<Child> {
    // Runs its helpers, and is itself, where only root's PATH leads.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()));
    let mut programs = path.split(':').map(|directory| Path::new(directory).join("dockerd")).filter(|program| program.is_file());
    let Some(program) = programs.next() else { bail!("no dockerd in {path}: mesos/install --docker installs it") };
    let at = |name: &str| home.directory().join(name);
    // The machine's own settings must not leak in.
    fs::write(at("settings.json"), "{}")?;
    let log = File::create(at("log"))?;
    let mut command = Command::new(program);
    command.arg("--host").arg(format!("unix://{}", socket(home).display()));
    for (option, name) in
        [("config-file", "settings.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "dockerd.pid")]
    {
        command.arg(format!("--{option}")).arg(at(name));
    }
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--userland-proxy=false"]);
    // A group of its own, so that whoever is left can remove it; systemd's driver would want another kind of name.
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"]);
    command.arg(format!("/{}", cgroups::name(home.id(), "docker")));
    command.env("PATH", path).env(marked::VARIABLE, home.id()).current_dir(home.directory()).process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("cannot start dockerd")
}

/// The flags of an agent that uses it.
pub(crate) fn agent_flags(socket: &Path) -> [(&'static str, String); 5] {
    [
        ("containerizers", "docker,mesos".to_owned()),
        ("docker_socket", socket.display().to_string()),
        ("docker_remove_delay", "1secs".to_owned()),
        ("docker_stop_timeout", "1secs".to_owned()),
        // Several agents may share it, and what is an orphan to one may be another's.
        ("docker_kill_orphans", "false".to_owned()),
    ]
}

/// `ContainerInfo` of a task in [`BUSYBOX`] with the machine's network.
#[must_use]
pub fn docker_container() -> serde_json::Value {
    serde_json::json!({ "type": "DOCKER", "docker": { "image": BUSYBOX, "network": "HOST" } })
}
