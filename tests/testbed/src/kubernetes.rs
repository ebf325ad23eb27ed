//! A real Kubernetes API server, with its etcd: what an operator talks to. No kubelet and no scheduler, and controllers only on request.

use crate::cluster::ask;
use crate::daemon::{Daemon, Recipe};
use crate::home::Home;
use crate::install::install_kubernetes;
use crate::kubeconfig::{Kubeconfig, write_private};
use crate::marked;
use crate::wait::wait;
use crate::wire::Request;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long each step of the start may take.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// `kube-apiserver` and `etcd` on the loopback address, on ports of their own. Both end with this value, and so do their files and
/// every `kubectl` and `helm` that it started; also if the process that holds it is killed.
///
/// Several may run at the same time; each takes 300 MB. Authorization is RBAC. Nothing but the API server acts on objects: a
/// namespace that is created stays, without a `default` `ServiceAccount`; one that is deleted stays as well, terminating; and what
/// has an owner outlives it.
pub struct ControlPlane {
    api_server: Daemon,
    etcd: Daemon,
    programs: PathBuf,
    kubeconfig: PathBuf,
    /// Dropped after the daemons: it ends what they leave.
    home: Home,
}

impl ControlPlane {
    /// Installs everything if need be, starts it, and waits until the API server is ready: 3 s on two cores.
    ///
    /// # Errors
    /// If anything of that fails or takes longer than a minute; with the end of the logs.
    pub fn start() -> Result<Self> {
        let programs = install_kubernetes()?;
        let home = Home::make(None, &programs.join("testbed-reaper"))?;
        let start = Start { programs: &programs, root: home.directory(), id: home.id() };
        let etcd = Daemon::launch(start.etcd(), TIME_LIMIT)?;
        let token = random_token()?;
        let api_server = Daemon::launch(start.api_server(&etcd, &token)?, TIME_LIMIT)?;
        let kubeconfig = home.directory().join("kubeconfig");
        fs::create_dir(home.directory().join("home"))?;
        let control_plane = Self { api_server, etcd, programs, kubeconfig, home };
        control_plane.write_kubeconfig(&control_plane.kubeconfig, "admin", &token, "default")?;
        control_plane.wait_until_ready()?;
        Ok(control_plane)
    }

    /// Of the API server, such as `https://127.0.0.1:15050`.
    #[must_use]
    pub fn url(&self) -> String {
        self.api_server.url()
    }

    /// The credentials of an administrator (group `system:masters`), and the authority that the server's certificate is verified
    /// with. All is within the file, so that it may be copied.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig with a token of that `ServiceAccount`, for 24 hours, and its namespace as the default. It may do what RBAC grants
    /// it, which is nothing at first.
    ///
    /// # Errors
    /// If there is no such `ServiceAccount`.
    pub fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", service_account, "--namespace", namespace, "--duration", "24h"])?;
        let path = self.directory().join(format!("kubeconfig.{namespace}.{service_account}"));
        self.write_kubeconfig(&path, service_account, token.trim(), namespace)?;
        Ok(path)
    }

    fn write_kubeconfig(&self, path: &Path, user: &str, token: &str, namespace: &str) -> Result<()> {
        // The server makes itself an authority and a certificate, and writes both there.
        let certificates = self.api_server.directory().join("certificates/apiserver.crt");
        let authority = fs::read(&certificates).with_context(|| certificates.display().to_string())?;
        Kubeconfig { server: &self.url(), authority: &authority, user, token, namespace }.write(path)
    }

    /// Where the files of all daemons are; gone when this value is dropped.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }

    /// Where `kubectl`, `helm`, `glua`, `kube-apiserver`, `kube-controller-manager` and `etcd` are.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The value of `MICROSCALER_TESTBED` that all processes of this control plane carry.
    #[must_use]
    pub fn id(&self) -> &str {
        self.home.id()
    }

    /// To kill or halt it and start it again, on the same port; what is stored stays. Then [`wait_until_ready`](Self::wait_until_ready).
    #[must_use]
    pub fn api_server(&self) -> &Daemon {
        &self.api_server
    }

    /// To kill or halt it and start it again, on the same port and data.
    #[must_use]
    pub fn etcd(&self) -> &Daemon {
        &self.etcd
    }

    // ---- kubectl and helm ----

    /// Runs `kubectl` as the administrator, and gives what it prints on standard output.
    ///
    /// # Errors
    /// If it fails; with its arguments and what it prints on standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.kubectl_command(arguments))
    }

    /// The same with something on standard input, for `-f -`.
    ///
    /// # Errors
    /// If it fails; with its arguments and what it prints on standard error.
    pub fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        // A file: with a pipe, writing to it and reading the answer would have to go on at the same time.
        let mut file = tempfile::tempfile()?;
        file.write_all(stdin.as_bytes())?;
        file.rewind()?;
        run(self.kubectl_command(arguments).stdin(file))
    }

    /// A `kubectl` to start oneself, such as `get -w`. Its environment holds nothing of the caller's but PATH; another KUBECONFIG
    /// may be set, and `--kubeconfig` among the arguments counts more.
    #[must_use]
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.command("kubectl", arguments)
    }

    /// Runs `helm` as the administrator, and gives what it prints on standard output.
    ///
    /// # Errors
    /// If it fails; with its arguments and what it prints on standard error.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command("helm", arguments))
    }

    /// Applies manifests on the server's side, as the owner of all fields they name.
    ///
    /// # Errors
    /// If any is refused.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], yaml).map(drop)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // Neither settings nor caches of the user.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.directory().join("home")).env("KUBECONFIG", &self.kubeconfig).env(marked::VARIABLE, self.id());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts some of Kubernetes' own controllers, as the administrator: such as `horizontal-pod-autoscaler-controller`, which looks once a
    /// second. Without them, nothing acts on objects. To be dropped before the control plane.
    ///
    /// # Errors
    /// If they do not start; with the end of the log.
    pub fn controllers(&self, names: &str) -> Result<Daemon> {
        let (names, kubeconfig) = (names.to_owned(), self.kubeconfig.display().to_string());
        let arguments = move |port: u16, directory: &Path| {
            flags(&[
                ("kubeconfig", &kubeconfig),
                ("controllers", &names),
                ("leader-elect", "false"),
                ("bind-address", "127.0.0.1"),
                ("secure-port", &port.to_string()),
                ("cert-dir", &directory.join("certificates").display().to_string()),
                ("horizontal-pod-autoscaler-sync-period", "1s"),
            ])
        };
        let start = Start { programs: &self.programs, root: self.home.directory(), id: self.home.id() };
        Daemon::launch(start.recipe("controllers", "kube-controller-manager", "https", Box::new(arguments)), TIME_LIMIT)
    }

    // ---- its state ----

    /// Waits until the API server is ready and can store objects, such as after a restart; at most a minute.
    ///
    /// # Errors
    /// If it takes longer, or a daemon does not run; with the end of the logs.
    pub fn wait_until_ready(&self) -> Result<()> {
        let is_broken = || !self.api_server.is_running() || !self.etcd.is_running();
        let is_ready_or_broken = || {
            if is_broken() {
                return Ok(true);
            }
            // A moment of nothing but sockets before kubectl, which costs more.
            self.api_server.wait_until_listening(TIME_LIMIT)?;
            self.kubectl(&["get", "--raw", "/readyz", "--request-timeout", "5s"])?;
            // The server makes it a little later, on its first start.
            self.kubectl(&["get", "namespace", "default", "--request-timeout", "5s"])?;
            Ok(true)
        };
        wait(TIME_LIMIT, is_ready_or_broken).with_context(|| format!("Kubernetes is not ready\n{}", self.log_tails()))?;
        ensure!(!is_broken(), "Kubernetes is not ready\n{}", self.log_tails());
        Ok(())
    }

    fn log_tails(&self) -> String {
        [&self.etcd, &self.api_server].map(Daemon::state_and_log_tail).concat()
    }

    /// Lets etcd forget all old versions of objects. That alone changes nothing: the API server still serves them from its memory.
    ///
    /// After this and a restart of the API server, a list of an exact old version is answered 410 (`Expired`), and so is the rest
    /// of a list that began at one. For a watch, the restart alone is enough: from a version before it, it tells an `ERROR` event
    /// with code 410, and ends.
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn compact(&self) -> Result<()> {
        let status = self.ask_etcd("/v3/maintenance/status", &json!({}))?;
        let revision = &status["header"]["revision"];
        let compacted = self.ask_etcd("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
        match compacted {
            // Nothing has changed since the last time.
            Err(error) if error.to_string().contains("has been compacted") => Ok(()),
            compacted => compacted.map(drop),
        }
    }

    /// A call of etcd's JSON gateway.
    fn ask_etcd(&self, path: &str, call: &Value) -> Result<Value> {
        let body = call.to_string().into_bytes();
        let headers = "Content-Type: application/json\r\n";
        let answer = ask(self.etcd.address(), Request { method: "POST", path, headers, body: &body })?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "etcd answers {} to {path}: {text}", answer.status);
        serde_json::from_str(&text).with_context(|| format!("etcd answers {text} to {path}"))
    }
}

/// A start in progress.
struct Start<'a> {
    programs: &'a Path,
    root: &'a Path,
    id: &'a str,
}

impl Start<'_> {
    fn etcd(&self) -> Recipe {
        let arguments = |port, directory: &Path| {
            let url = format!("http://127.0.0.1:{port}");
            flags(&[
                ("data-dir", &directory.join("data").display().to_string()),
                ("listen-client-urls", &url),
                ("advertise-client-urls", &url),
                // It has no peers, and is not to take the port at which others would look for one.
                ("listen-peer-urls", "http://127.0.0.1:0"),
                // What it writes survives its own death, if not the machine's.
                ("unsafe-no-fsync", "true"),
                ("log-level", "warn"),
            ])
        };
        self.recipe("etcd", "etcd", "http", Box::new(arguments))
    }

    fn api_server(&self, etcd: &Daemon, token: &str) -> Result<Recipe> {
        let name = "api-server";
        let directory = self.root.join(name);
        fs::create_dir_all(&directory)?;
        write_private(&directory.join("tokens"), &format!("{token},admin,admin,\"system:masters\"\n"))?;
        let etcd = etcd.url();
        let arguments = move |port: u16, directory: &Path| {
            let path = |part: &str| directory.join(part).display().to_string();
            // The server makes this key with its certificate, on the first start; any key does for the tokens of ServiceAccounts.
            let key = path("certificates/apiserver.key");
            flags(&[
                ("etcd-servers", &etcd),
                ("bind-address", "127.0.0.1"),
                ("secure-port", &port.to_string()),
                // Otherwise it looks for the machine's outside address, which there may be none of, and publishes it.
                ("advertise-address", "127.0.0.1"),
                ("endpoint-reconciler-type", "none"),
                ("cert-dir", &path("certificates")),
                ("token-auth-file", &path("tokens")),
                ("authorization-mode", "RBAC"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-account-key-file", &key),
                ("service-account-signing-key-file", &key),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                // It would refuse pods until a controller has made their namespace's `default` ServiceAccount.
                ("disable-admission-plugins", "ServiceAccount"),
                ("profiling", "false"),
            ])
        };
        Ok(self.recipe(name, "kube-apiserver", "https", Box::new(arguments)))
    }

    fn recipe(&self, name: &str, program: &str, scheme: &'static str, arguments: crate::daemon::Arguments) -> Recipe {
        Recipe {
            name: name.to_owned(),
            program: self.programs.join(program),
            arguments,
            scheme,
            environment: BTreeMap::from([(marked::VARIABLE.to_owned(), self.id.to_owned())]),
            port_variable: None,
            directory: self.root.join(name),
        }
    }
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// Other users of this machine can reach the port.
fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("no random numbers")?;
    ensure!(filled == bytes.len(), "too few random numbers");
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().display();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("{program} {}: {}\n{}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}
