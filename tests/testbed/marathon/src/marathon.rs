//! Marathon in a test, beside its cluster.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microscaler_testbed::wire::{Connection, Request, Response};
use microscaler_testbed::{Cluster, Daemon, Recipe, marked};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Several Marathons may use one cluster.
static COUNT: AtomicUsize = AtomicUsize::new(0);
const TIME_LIMIT: Duration = Duration::from_mins(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Describes a [`Marathon`], and starts it.
#[must_use]
pub struct Builder<'a> {
    cluster: &'a Cluster,
    processes: usize,
    flags: BTreeMap<String, String>,
    credentials: Option<String>,
    program: Option<PathBuf>,
}

impl Builder<'_> {
    /// A flag of `marathon-local`, most of which are Marathon's own: `("min_revive_offers_interval", "100")`. What is not set has
    /// Marathon's value.
    pub fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.insert(name.to_owned(), value.into());
        self
    }

    /// So many processes, of which one leads; 1 if not set.
    pub fn processes(mut self, count: usize) -> Self {
        self.processes = count;
        self
    }

    /// Everything wants that name and password.
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some(format!("{user}:{password}"));
        self
    }

    /// The `marathon-local` to run, in place of one that is built for it: `env!("CARGO_BIN_EXE_marathon-local")` in this package.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Starts all processes, and waits until one leads and is subscribed with Mesos.
    ///
    /// # Errors
    /// If anything of that fails or takes longer than a minute; with the end of the logs.
    pub fn start(self) -> Result<Marathon> {
        ensure!(self.processes > 0, "Marathon needs a process");
        let program = self.program.clone().map_or_else(install, Ok)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = self.cluster.directory().join(format!("marathon-{number}"));
        let mut marathon = Marathon { processes: Vec::new(), credentials: self.credentials.clone() };
        for index in 0..self.processes {
            let recipe = self.recipe(&program, &home, number, index);
            marathon.processes.push(Daemon::launch(recipe, TIME_LIMIT)?);
            // In this order, so that the first one leads.
            marathon.wait_until_ready()?;
        }
        Ok(marathon)
    }

    fn recipe(&self, program: &Path, home: &Path, number: usize, index: usize) -> Recipe {
        let masters = self.cluster.masters().iter().map(|master| master.address().to_string());
        let mut flags = self.flags.clone();
        flags.entry("master".to_owned()).or_insert_with(|| masters.collect::<Vec<_>>().join(","));
        flags.insert("testbed_state".to_owned(), home.join("state").display().to_string());
        if let Some(credentials) = &self.credentials {
            flags.insert("http_credentials".to_owned(), credentials.clone());
        }
        let flags: Vec<String> = flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect();
        Recipe {
            name: format!("marathon-{number}-{index}"),
            program: program.to_owned(),
            arguments: Box::new(move |port, _| [&flags[..], &[format!("--http_port={port}")]].concat()),
            scheme: "http",
            environment: BTreeMap::from([(marked::VARIABLE.to_owned(), self.cluster.id().to_owned())]),
            port_variable: None,
            directory: home.join(index.to_string()),
        }
    }
}

/// One or more processes of one Marathon on a cluster's Mesos. They end with this value, or with the cluster; their tasks with the
/// cluster alone.
pub struct Marathon {
    processes: Vec<Daemon>,
    credentials: Option<String>,
}

impl Marathon {
    pub fn builder(cluster: &Cluster) -> Builder<'_> {
        Builder { cluster, processes: 1, flags: BTreeMap::new(), credentials: None, program: None }
    }

    /// Of the first process, such as `http://127.0.0.1:15080`.
    #[must_use]
    pub fn url(&self) -> String {
        self.processes[0].url()
    }

    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.processes.iter().map(Daemon::url).collect()
    }

    /// To kill, halt or signal one of several.
    ///
    /// # Panics
    /// If there is no such process.
    #[must_use]
    pub fn process(&self, index: usize) -> &Daemon {
        &self.processes[index]
    }

    // ---- the first process ----

    /// SIGKILL. Its session lasts on for `zk_session_timeout`.
    pub fn kill(&self) {
        self.processes[0].kill();
    }

    /// Starts it again after [`kill`](Self::kill), and waits until Marathon is ready. Within the session of its last life it ends at
    /// once, as Marathon does, and is started again.
    ///
    /// # Errors
    /// If that takes longer than a minute.
    pub fn start(&self) -> Result<()> {
        self.processes[0].start()?;
        self.wait_until_ready()
    }

    /// SIGSTOP: it hangs, with its connections open. One that hangs for longer than its session ends when it goes on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<()> {
        self.processes[0].stop()
    }

    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.processes[0].resume()
    }

    /// What goes wrong from now on, in the first process, such as `{"delay": 500}` (ms, before each answer), `{"fail_after_apply": 1}`
    /// (updates that are carried out, and answered 503), `{"drop_events": true}` (all streams end now), `{"refuse": 3000}` (nobody
    /// listens for so many ms), `{"freeze": true}` (requests are not answered, until it is false).
    ///
    /// # Errors
    /// If it does not answer.
    pub fn fault(&self, fault: &Value) -> Result<()> {
        let answer = self.ask(0, "POST", "/testbed/fault", Some(fault))?;
        ensure!(answer.status == 204, "the fault is answered {}", answer.status);
        Ok(())
    }

    // ---- requests ----

    /// One request to one of the processes.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&self, index: usize, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut connection = Connection::open(self.processes[index].address(), REQUEST_TIMEOUT)?;
        connection.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        let mut headers = "Connection: close\r\n".to_owned();
        if let Some(credentials) = &self.credentials {
            headers = headers + "Authorization: Basic " + &STANDARD.encode(credentials) + "\r\n";
        }
        if body.is_some() {
            headers.push_str("Content-Type: application/json\r\n");
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        Ok(connection.call(Request { method, path, headers: &headers, body: &body })?)
    }

    /// GET on the first process.
    ///
    /// # Errors
    /// If the answer is not 200 with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask(0, "GET", path, None)?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{path} is answered {} {text}", answer.status);
        serde_json::from_str(&text).with_context(|| format!("{path} is answered {text}"))
    }

    /// Any other request to the first process, with the status and the JSON of the answer; `Null` if it has none.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.ask(0, method, path, Some(body).filter(|body| !body.is_null()))?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    /// Waits until a process leads that is subscribed with Mesos, and every one that runs knows it.
    ///
    /// # Errors
    /// If it takes longer than a minute; with the end of the logs.
    pub fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            for process in self.processes.iter().filter(|process| process.has_ended_by_itself()) {
                // Of an unfinished session of its own: whoever supervises Marathon starts it again.
                process.start()?;
            }
            let mut wanted = (0..self.processes.len()).filter(|index| !self.is_killed(*index)).peekable();
            if wanted.peek().is_some() && wanted.all(|index| self.is_ready(index)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let logs: String = self.processes.iter().map(Daemon::state_and_log_tail).collect();
                bail!("Marathon is not ready\n{logs}");
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn is_killed(&self, index: usize) -> bool {
        let process = &self.processes[index];
        !process.is_running() && !process.has_ended_by_itself()
    }

    fn is_ready(&self, index: usize) -> bool {
        let Ok(answer) = self.ask(index, "GET", "/v2/info", None) else { return false };
        let info: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        answer.status == 200 && info["frameworkId"].is_string()
    }
}

/// The path of `marathon-local`, built first if need be; at most once per process. Progress goes to standard error.
///
/// # Errors
/// If the build fails: what the script prints on standard error says why.
pub fn install() -> Result<PathBuf> {
    static DONE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = &*done {
        return Ok(program.clone());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{} cannot be run", script.display()))?;
    ensure!(output.status.success(), "{} failed, {}: see its messages", script.display(), output.status);
    let directory = String::from_utf8(output.stdout).context("the installed directory is not UTF-8")?;
    let program = Path::new(directory.trim_end()).join("marathon-local");
    *done = Some(program.clone());
    Ok(program)
}
