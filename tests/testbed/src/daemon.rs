//! One daemon of the testbed: a process that can be killed, halted and started again, on the same port and directory.

use crate::ports::Port;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often another port is tried if one is taken in the moment between finding and using it.
const PORT_ATTEMPTS: usize = 5;

/// Arguments of a daemon on that port and directory.
pub type Arguments = Box<dyn Fn(u16, &Path) -> Vec<String> + Send + Sync>;

/// How a daemon is started; the port is filled in. It ends with the [`Cluster`](crate::Cluster) whose mark its `environment` has.
pub struct Recipe {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Arguments,
    /// Of its URL: `http` or `https`.
    pub scheme: &'static str,
    /// Variables besides the inherited ones.
    pub environment: BTreeMap<String, String>,
    /// The variable that tells the port, if any.
    pub port_variable: Option<&'static str>,
    pub directory: PathBuf,
}

/// A master, an agent, `ZooKeeper`, an API server or etcd. All methods may be called from any thread.
pub struct Daemon {
    recipe: Recipe,
    state: Mutex<State>,
}

struct State {
    port: Port,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it on a free port, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not listen within `limit`; with the end of its log.
    pub fn launch(recipe: Recipe, limit: Duration) -> Result<Self> {
        fs::create_dir_all(&recipe.directory).with_context(|| recipe.directory.display().to_string())?;
        let daemon = Self { recipe, state: Mutex::new(State { port: Port::reserve()?, child: None }) };
        for _ in 1..PORT_ATTEMPTS {
            daemon.start()?;
            match daemon.wait_until_listening(limit) {
                Err(_) if daemon.log_tail().contains("ddress already in use") => daemon.lock().port = Port::reserve()?,
                result => return result.map(|()| daemon),
            }
        }
        bail!("{}: every port that was free is taken when it starts", daemon.recipe.name)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Such as `master-0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.lock().port.number
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.recipe.scheme, self.address())
    }

    /// The file that takes its standard output and error, over all its lives.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.recipe.directory.join("log")
    }

    /// Its own directory, with the log, and the sandboxes of an agent's tasks beneath `work/slaves`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.recipe.directory
    }

    /// The process id; none while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut state = self.lock();
        state.is_running().then(|| state.child.as_ref().map(Child::id)).flatten()
    }

    /// A halted daemon counts as running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().is_running()
    }

    /// Whether it has ended without [`kill`](Self::kill).
    #[must_use]
    pub fn has_ended_by_itself(&self) -> bool {
        let mut state = self.lock();
        state.child.is_some() && !state.is_running()
    }

    /// Starts it (again), on the same port and directory; nothing if it runs. Does not wait until it serves:
    /// see `wait_until_ready` of [`Cluster`](crate::Cluster::wait_until_ready) and
    /// [`ControlPlane`](crate::ControlPlane::wait_until_ready).
    ///
    /// # Errors
    /// If the program cannot be executed.
    pub fn start(&self) -> Result<()> {
        let mut state = self.lock();
        if !state.is_running() {
            state.child = Some(self.spawn(state.port.number)?);
        }
        Ok(())
    }

    fn spawn(&self, port: u16) -> Result<Child> {
        let Recipe { program, arguments, environment, port_variable, directory, .. } = &self.recipe;
        let log = File::options().create(true).append(true).open(self.log()).context("cannot open the log")?;
        let mut command = Command::new(program);
        // Settings for some other Mesos or Kubernetes must not leak in.
        let foreign = std::env::vars_os().map(|(name, _)| name);
        for name in foreign.filter(|name| is_foreign_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(arguments(port, directory)).envs(environment).current_dir(directory);
        if let Some(variable) = port_variable {
            command.env(variable, port.to_string());
        }
        // A group of its own, so that Ctrl-C reaches only the owner, whose end then ends everything in order.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    }

    /// SIGKILL, and waits until the process is gone; nothing if it does not run.
    pub fn kill(&self) {
        let mut state = self.lock();
        if let Some(mut child) = state.child.take() {
            // Both fail only for a process that has been waited for, which is_running() may have done.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: it hangs, with its connections open. Note that an agent's executors go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on after [`stop`](Self::stop).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends any signal, such as SIGUSR1, with which an agent leaves at once and for good.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut state = self.lock();
        if !state.is_running() {
            bail!("{} does not run", self.recipe.name);
        }
        // The child is not waited for while the lock is held, so the id is still its own.
        let pid = state.child.as_ref().map(Pid::from_child).context("no process")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.recipe.name))
    }

    /// Waits until it accepts connections.
    pub(crate) fn wait_until_listening(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_err() {
            if !self.is_running() {
                bail!("{} has ended:\n{}", self.recipe.name, self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("{} does not listen after {limit:?}:\n{}", self.recipe.name, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// For messages.
    #[must_use]
    pub fn state_and_log_tail(&self) -> String {
        let state = if self.is_running() { "running" } else { "ENDED" };
        format!("{} ({state}), end of its log:\n{}", self.name(), self.log_tail())
    }

    /// The last lines of the log, for messages.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        let lines: Vec<String> = lines.iter().rev().map(|line| format!("  {line}\n")).collect();
        lines.concat()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

fn is_foreign_setting(name: &str) -> bool {
    ["MESOS_", "LIBPROCESS_", "MESOSD_", "ETCD_", "KUBE"].iter().any(|prefix| name.starts_with(prefix))
}
