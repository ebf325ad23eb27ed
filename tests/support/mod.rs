//! What tests of the whole program share: a real Mesos, and a real `microscaler run` beside it.
#![allow(dead_code, unused_macros, clippy::disallowed_methods, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod adapter;
pub mod contest;
pub mod front;
pub mod marathon;
pub mod onlooker;
pub mod operator;
#[macro_use]
pub mod place;
pub mod pooled;
pub mod pusher;
pub mod times;
pub mod usage;
pub mod web;

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use microscaler::api::MicroscaledApp;
use microscaler_testbed::{Agent, Cluster, Task, marked};
use serde_json::Value;
use tempfile::TempDir;

use place::Place;

/// No test waits longer for anything; a slow machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A Mesos of `agents` hosts with 4 cores each.
pub fn cluster(agents: usize) -> Cluster {
    let agent = |i: usize| {
        Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]").attribute("rack", format!("r{}", i % 2))
    };
    (0..agents).fold(Cluster::builder().fast_failure_detection(), |builder, i| builder.agent(agent(i))).start().unwrap()
}

/// The manifest of the pool, where it is not the one that `--mesos` makes.
const POOL: &str = "pool.yaml";

/// A running `microscaler run`, its manifests and its state.
pub struct Scaler {
    pub dir: TempDir,
    masters: Vec<String>,
    /// Of the cluster: should this process be killed, its reaper ends the Scaler, too.
    mark: String,
    child: Option<Child>,
    url: String,
    runs: u32,
    log: &'static str,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Scaler {
    /// Starts it with these manifests, each a file name and its text.
    pub fn start(place: &impl Place, manifests: &[(&str, &str)]) -> Self {
        Self::start_logging("microscaler=debug,info", place, manifests)
    }

    /// As users do, without the words that a failed test needs.
    pub fn start_quietly(place: &impl Place, manifests: &[(&str, &str)]) -> Self {
        Self::start_logging("info", place, manifests)
    }

    fn start_logging(log: &'static str, place: &impl Place, manifests: &[(&str, &str)]) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("manifests")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut scaler = Self {
            dir,
            masters: place.mesos().master_urls(),
            mark: place.mesos().id().to_owned(),
            child: None,
            url: String::new(),
            runs: 0,
            log,
            runtime,
            client: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap(),
        };
        if !place.is_default() {
            scaler.write(POOL, &place::pool("default", "default", place, ""));
        }
        for (file, text) in manifests {
            scaler.write(file, text);
        }
        scaler.run();
        scaler
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("log.{}", self.runs))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The command that runs it, without its place to log.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_microscaler"));
        command.args(["run", "--listen", "127.0.0.1:0"]);
        if !self.manifests().join(POOL).exists() {
            command.args(["--mesos", &self.masters.join(",")]);
        }
        command.arg("--manifests").arg(self.manifests()).arg("--state-dir").arg(self.state_dir());
        command.env("MICROSCALER_LOG", self.log).env("NO_COLOR", "1").env(marked::VARIABLE, &self.mark);
        command.stdin(Stdio::null());
        command
    }

    /// Starts it anew and waits until it serves.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.runs += 1;
        self.child = Some(spawn(self.command(), &self.log_path()));
        self.url = served(&self.log_path());
    }

    /// Of the running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap()
    }

    /// Writes a manifest as an editor or `git checkout` does: complete at once.
    pub fn write(&self, file: &str, text: &str) {
        let hidden = self.manifests().join(format!(".{file}"));
        std::fs::write(&hidden, text).unwrap();
        std::fs::rename(hidden, self.manifests().join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.manifests().join(file)).unwrap();
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        let request = self.client.get(format!("{}{path}", self.url));
        self.runtime.block_on(async { request.send().await.ok()?.json().await.ok() })
    }

    pub fn text(&self, path: &str) -> Option<String> {
        let request = self.client.get(format!("{}{path}", self.url));
        self.runtime.block_on(async { request.send().await.ok()?.text().await.ok() })
    }

    /// Pushes a value, with patience for a server that just starts.
    pub fn push(&self, app: &str, metric: &str, value: f64) {
        let url = format!("{}/v1/demand/default/{app}/{metric}", self.url);
        wait_for(&format!("{metric} of {app} to be taken"), || {
            let request = self.client.post(&url).body(value.to_string());
            self.runtime.block_on(async { request.send().await.ok()?.status().is_success().then_some(()) })
        });
    }

    pub fn apps(&self) -> Vec<MicroscaledApp> {
        let list = self.get("/v1/apps").unwrap_or_default();
        serde_json::from_value(list["items"].clone()).unwrap_or_default()
    }

    pub fn app(&self, name: &str) -> Option<MicroscaledApp> {
        self.apps().into_iter().find(|app| app.metadata.name.as_deref() == Some(name))
    }

    /// `(granted, running, starting + stopping)` of an app.
    pub fn counts(&self, name: &str) -> Option<(i64, i64, i64)> {
        let status = self.app(name)?.status?;
        Some((status.granted, status.running, status.starting + status.stopping))
    }

    pub fn reason(&self, name: &str) -> String {
        self.app(name).and_then(|app| app.status).map(|status| status.reason).unwrap_or_default()
    }

    /// Waits until each app runs exactly so many replicas and nothing is on its way.
    pub fn settle(&self, cluster: &Cluster, wanted: &[(&str, i64)]) {
        self.wait(&format!("to settle at {wanted:?}"), || {
            wanted.iter().all(|(app, count)| {
                self.counts(app) == Some((*count, *count, 0)) && running(cluster, app).len() == usize::try_from(*count).unwrap()
            })
        });
    }

    /// Waits; shows the state of everything when it takes too long.
    pub fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > end {
                panic!("waited in vain for {what}\n{}", self.describe());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for app in self.apps() {
            let status = app.status.unwrap_or_default();
            let _ = writeln!(
                text,
                "{}: {:?} wanted {} granted {} running {} ready {} starting {} stopping {}: {}",
                app.metadata.name.unwrap_or_default(),
                status.phase,
                status.wanted,
                status.granted,
                status.running,
                status.ready,
                status.starting,
                status.stopping,
                status.reason
            );
        }
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        let _ = writeln!(text, "log:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        text
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "log of microscaler:\n{}",
                self.log().lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// Starts a `microscaler` with its output in a file.
fn spawn(mut command: Command, log: &Path) -> Child {
    let file = File::create(log).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap()
}

/// The address that it serves, as it tells there.
fn served(log: &Path) -> String {
    wait_for("the address that it serves", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let rest = text.split_once("serving ")?.1;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    })
}

/// The ids of the app's tasks that Mesos itself says are running, in order. Marathon calls those of `/default/web` `web.default`.
pub fn running(cluster: &Cluster, app: &str) -> Vec<String> {
    let tasks = cluster.tasks().unwrap_or_default();
    let mut ids: Vec<String> =
        tasks.into_iter().filter(|task| is_of(task, app) && task.state == "TASK_RUNNING").map(|task| task.id).collect();
    ids.sort();
    ids
}

pub fn is_of(task: &Task, app: &str) -> bool {
    task.name.split('.').next() == Some(app)
}

/// All tasks that Mesos holds to be alive.
pub fn alive(cluster: &Cluster) -> Vec<String> {
    let mut ids: Vec<String> =
        cluster.tasks().unwrap().into_iter().filter(|task| !task.is_terminal()).map(|task| task.id).collect();
    ids.sort();
    ids
}

/// Tries until there is an answer.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An app that sleeps. `spec` is put in front of the template, indented by two.
pub fn app(name: &str, spec: &str, resources: &str, rest_of_template: &str) -> String {
    let indent = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscaledApp\nmetadata:\n  name: {name}\nspec:\n{}  template:\n    resources: {resources}\n    \
         gracePeriodMilliseconds: 0\n{}",
        indent(spec, "  "),
        indent(rest_of_template, "    ")
    )
}

/// Half a core each, so that an agent of [`cluster`] takes eight.
pub const SLOT: &str = "{cpu: 500m, memory: 32Mi}";

/// `app` with a task that sleeps until it is ended.
pub fn sleeper(name: &str, spec: &str) -> String {
    app(name, spec, SLOT, "shell: exec sleep 100000")
}

/// Demand that is pushed: one replica per 10.
pub const PUSHED: &str = "demand:\n- {name: load, push: {}, target: {averageValue: 10}}";

/// Fills what is left.
pub const REMAINDER: &str = "demand:\n- {name: rest, remainder: {}}";

/// Runs `microscaler` with these arguments; `(exit code, stdout, stderr)`.
pub fn microscaler(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_microscaler")).args(args).env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
