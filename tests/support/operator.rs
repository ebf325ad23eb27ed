//! A real Kubernetes API server with Microscaler's definitions and roles, and `microscaler operator` processes that use them.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use microscaler::api::status::AppStatus;
use microscaler_testbed::{Cluster, ControlPlane, marked};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::place::{self, Place};
use super::{PATIENCE, running, wait_for};

/// Where the operator's own objects are.
pub const HOME: &str = "microscaler-system";

/// A control plane on which Microscaler is installed, as the chart does it; but nothing runs its Deployment.
pub struct Kubernetes {
    pub control: ControlPlane,
}

impl Kubernetes {
    pub fn start() -> Self {
        Self::with_values(&[])
    }

    /// `values` are arguments of helm: `--set`, `rbac.secrets.names={mesos}`.
    pub fn with_values(values: &[&str]) -> Self {
        let kubernetes = Self { control: ControlPlane::start().unwrap() };
        kubernetes.kubectl(&["create", "namespace", HOME]);
        kubernetes.install("microscaler", values);
        kubernetes.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]);
        kubernetes
    }

    /// A release of the chart besides the first one, `microscaler`, or that one with other values.
    pub fn install(&self, release: &str, values: &[&str]) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/microscaler");
        let name = format!("fullnameOverride={release}");
        let arguments = ["template", release, chart, "--namespace", HOME, "--set", &name];
        self.apply(&self.control.helm(&[&arguments, values].concat()).unwrap());
    }

    /// The pool `default` of a namespace.
    pub fn apply_pool(&self, namespace: &str, place: &impl Place) {
        self.apply(&place::pool("default", namespace, place, ""));
    }

    pub fn apply(&self, yaml: &str) {
        self.control.apply(yaml).unwrap();
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.control.kubectl(arguments).unwrap()
    }

    /// An object as JSON; `None` if it is not there.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let text = self.control.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found"]).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub fn status(&self, name: &str) -> AppStatus {
        let object = self.object("msa", "default", name).unwrap_or_default();
        serde_json::from_value(object["status"].clone()).unwrap_or_default()
    }

    /// The status of a condition, and its reason.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<(String, String)> {
        let object = self.object(kind, "default", name)?;
        let found = object["status"]["conditions"].as_array()?.iter().find(|found| found["type"] == condition)?.clone();
        Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
    }

    /// Waits until status and Mesos agree on so many running replicas of each app.
    pub fn settle(&self, cluster: &Cluster, wanted: &[(&str, i64)]) {
        self.wait(&format!("the status and Mesos to settle at {wanted:?}"), || {
            wanted.iter().all(|(app, count)| {
                let status = self.status(app);
                (status.granted, status.running, status.starting + status.stopping) == (*count, *count, 0)
                    && running(cluster, app).len() == usize::try_from(*count).unwrap()
            })
        });
    }

    /// Waits; shows all objects when it takes too long.
    pub fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > end {
                let all = self.control.kubectl(&["get", "mpool,msa", "-A", "-o", "wide"]).unwrap_or_default();
                let events = self.control.kubectl(&["get", "events", "-A"]).unwrap_or_default();
                panic!("waited in vain for {what}\n{all}\n{events}");
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// A pool of this name; `rest` is put behind the masters, inside of `mesos: {…}`.
pub fn pool(name: &str, namespace: &str, masters: &[String], rest: &str) -> String {
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{mesos: {{masters: {masters:?}{rest}}}}}\n"
    )
}

/// A running `microscaler operator`.
pub struct Operator {
    release: String,
    name: String,
    dir: TempDir,
    kubeconfig: PathBuf,
    /// Of the control plane: should this process be killed, its reaper ends the operator, too.
    mark: String,
    arguments: Vec<String>,
    child: Option<Child>,
    url: String,
    runs: u32,
}

impl Operator {
    /// Starts it with the rights of the chart, and waits until it serves.
    pub fn start(kubernetes: &Kubernetes) -> Self {
        Self::named(kubernetes, "microscaler-0", &[])
    }

    pub fn named(kubernetes: &Kubernetes, name: &str, arguments: &[&str]) -> Self {
        Self::of_release(kubernetes, "microscaler", name, arguments)
    }

    /// With the rights of that release of the chart.
    pub fn of_release(kubernetes: &Kubernetes, release: &str, name: &str, arguments: &[&str]) -> Self {
        let mut operator = Self {
            release: release.to_owned(),
            name: name.to_owned(),
            dir: TempDir::new().unwrap(),
            // Of the chart's ServiceAccount: the operator may do here what it may do anywhere, and nothing else.
            kubeconfig: kubernetes.control.kubeconfig_for(HOME, release).unwrap(),
            mark: kubernetes.control.id().to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            child: None,
            url: String::new(),
            runs: 0,
        };
        std::fs::write(operator.token(), "the token of the tests").unwrap();
        operator.run();
        operator
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_microscaler"));
        command.args(["operator", "--listen", "127.0.0.1:0"]).args(&self.arguments);
        // As the chart does: the only lease that its Role lets the operator have.
        if !self.arguments.iter().any(|argument| argument == "--lease-name") {
            command.args(["--lease-name", &self.release]);
        }
        command
            .arg("--push-token-file")
            .arg(self.token())
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .env("POD_NAME", &self.name)
            .env(marked::VARIABLE, &self.mark)
            .env("NO_COLOR", "1");
        command.env("MICROSCALER_LOG", "microscaler=debug,kube_runtime=debug,info").env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.runs += 1;
        self.child = Some(super::spawn(self.command(), &self.log_path()));
        self.url = super::served(&self.log_path());
    }

    /// The push token, the same for all replicas: pushes pass from one to another.
    fn token(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("log.{}", self.runs))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait_for_end()
    }

    /// The body of a GET of this path, as text; `None` unless the answer is a success.
    pub fn get(&self, path: &str) -> Option<String> {
        let address = self.url.strip_prefix("http://")?;
        let (status, body) = super::web::fetch(address, path)?;
        (status == 200).then_some(body)
    }

    /// A sample of /metrics; the name with its labels.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let page = self.get("/metrics")?;
        let line = page.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Whether it says of itself that it leads.
    pub fn leads(&self) -> bool {
        self.metric("microscaler_leader") == Some(1.0)
    }

    /// Pushes a value, with patience for a server that just starts.
    pub fn push(&self, app: &str, metric: &str, value: f64) {
        let app = format!("default/{app}");
        wait_for(&format!("{metric} of {app} to be taken"), || {
            let (value, token) = (value.to_string(), self.token());
            let token = token.to_str().unwrap();
            let (code, _, _) =
                super::microscaler(&["push", &app, metric, &value, "--server", &self.url, "--push-token-file", token]);
            (code == 0).then_some(())
        });
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("log of {}:\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
