//! A task in a Docker container, by way of Docker's own command line.

use crate::options::Options;
use crate::process::{arguments, is_shell, variables};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microscaler_testbed::marked;
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks whether the container runs, and two attempts to end one that is not there yet.
const POLL_INTERVAL: Duration = Duration::from_millis(30);
/// As the real one: less is refused by Docker, or means none.
const LEAST_CPU_SHARES: f64 = 2.0;
const LEAST_CPU_QUOTA: f64 = 1000.0;
const LEAST_MEMORY: f64 = 32.0 * MEGABYTE;
const MEGABYTE: f64 = 1_048_576.0;

pub struct Docker {
    program: String,
    host: String,
    /// Of the container.
    name: String,
    /// On this machine, and in the container.
    sandbox: String,
    mapped_sandbox: String,
    /// JSON.
    task_environment: Option<String>,
    has_cpu_quota: bool,
    /// `docker run` has ended: nothing more to wait for.
    is_over: Arc<AtomicBool>,
}

impl Docker {
    pub fn from_options(options: &Options) -> Result<Self> {
        let socket = options.get("docker_socket").unwrap_or_else(|| "/var/run/docker.sock".to_owned());
        Ok(Self {
            program: options.get("docker").unwrap_or_else(|| "docker".to_owned()),
            host: if socket.contains("://") { socket } else { format!("unix://{socket}") },
            name: options.needed("container")?,
            sandbox: options.needed("sandbox_directory")?,
            mapped_sandbox: options.get("mapped_directory").unwrap_or_else(|| "/mnt/mesos/sandbox".to_owned()),
            task_environment: options.get("task_environment"),
            has_cpu_quota: options.get("cgroups_enable_cfs").is_some_and(|value| value == "true"),
            is_over: Arc::default(),
        })
    }

    fn docker(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-H").arg(&self.host).arg(verb);
        if verb != "run" {
            // Tells the testbed that this is no task.
            command.env(marked::HELPER_VARIABLE, "1");
        }
        command
    }

    // ---- the container ----

    /// Runs in the foreground, and ends with the container and its status.
    pub fn run(&self, task: &Value) -> Result<Command> {
        let (container, command) = (&task["container"], &task["command"]);
        let docker = &container["docker"];
        let mut run = self.docker("run");
        run.args(["--name", &self.name, "-v", &format!("{}:{}", self.sandbox, self.mapped_sandbox)]);
        run.args(self.limits(task));
        for (name, value) in self.environment(command)? {
            run.arg("-e").arg(format!("{name}={value}"));
        }
        for volume in container["volumes"].as_array().into_iter().flatten() {
            run.args(self.volume(volume));
        }
        run.args(network(container));
        if docker["privileged"] == true {
            run.arg("--privileged");
        }
        for parameter in docker["parameters"].as_array().into_iter().flatten() {
            run.arg(format!("--{}={}", text(parameter, "key"), text(parameter, "value")));
        }
        add_program(&mut run, docker["image"].as_str().context("the task has no Docker image")?, command);
        Ok(run)
    }

    fn limits(&self, task: &Value) -> Vec<String> {
        let resource = |name: &str| {
            let mut found = task["resources"].as_array().into_iter().flatten().filter(|resource| resource["name"] == name);
            found.next().and_then(|resource| resource["scalar"]["value"].as_f64())
        };
        let mut limits = Vec::new();
        if let Some(cpus) = resource("cpus") {
            limits.extend(["--cpu-shares".to_owned(), format!("{:.0}", (cpus * 1024.0).max(LEAST_CPU_SHARES))]);
            if self.has_cpu_quota {
                limits.extend(["--cpu-quota".to_owned(), format!("{:.0}", (cpus * 100_000.0).max(LEAST_CPU_QUOTA))]);
            }
        }
        if let Some(memory) = resource("mem") {
            limits.extend(["--memory".to_owned(), format!("{:.0}", (memory * MEGABYTE).max(LEAST_MEMORY))]);
        }
        limits
    }

    fn environment(&self, command: &Value) -> Result<Vec<(String, String)>> {
        let of_agent: Value = match &self.task_environment {
            Some(text) => serde_json::from_str(text).with_context(|| format!("--task_environment is not JSON: {text}"))?,
            None => json!({}),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_agent = of_agent.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value)));
        let of_task = variables(command).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = [("MESOS_SANDBOX", &self.mapped_sandbox), ("MESOS_CONTAINER_NAME", &self.name)];
        let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
        // So that the testbed finds the container's processes: they are no descendants of ours.
        let mark = std::env::var(marked::VARIABLE).ok().map(|value| (marked::VARIABLE.to_owned(), value));
        Ok(of_agent.chain(of_task).chain(own).chain(mark).collect())
    }

    /// Relative paths are in the sandbox, on either side.
    fn volume(&self, volume: &Value) -> [String; 2] {
        let absolute = |path: &str, root: &str| if path.starts_with('/') { path.to_owned() } else { format!("{root}/{path}") };
        let host = absolute(text(volume, "host_path"), &self.sandbox);
        let inside = absolute(text(volume, "container_path"), &self.mapped_sandbox);
        let mode = volume["mode"].as_str().unwrap_or("RW").to_lowercase();
        ["-v".to_owned(), format!("{host}:{inside}:{mode}")]
    }

    /// Runs a command in the container, for checks.
    pub fn exec(&self, info: &Value) -> Command {
        let mut exec = self.docker("exec");
        for (name, value) in variables(info) {
            exec.arg("-e").arg(format!("{name}={value}"));
        }
        exec.arg(&self.name);
        let value = info["value"].as_str().unwrap_or_default();
        if is_shell(info) {
            exec.args(["sh", "-c", value]);
        } else {
            exec.arg(value).args(arguments(info).skip(1));
        }
        exec
    }

    /// Calls `on_running`, in a thread of its own, when the container runs, with the members of its TASK_RUNNING.
    pub fn watch_start(self: &Arc<Self>, on_running: impl FnOnce(Value) + Send + 'static) {
        let docker = Arc::clone(self);
        std::thread::spawn(move || {
            while !docker.is_over.load(Ordering::Relaxed) {
                if let Some(members) = docker.running_members() {
                    return on_running(members);
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        });
    }

    fn running_members(&self) -> Option<Value> {
        let output = self.docker("inspect").arg(&self.name).stdin(Stdio::null()).output().ok()?;
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        let about = &answer[0];
        if about["State"]["Running"] != true {
            return None;
        }
        let networks = about["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
        let addresses = networks.filter_map(|(_, network)| network["IPAddress"].as_str().filter(|address| !address.is_empty()));
        let addresses: Vec<Value> = addresses.map(|address| json!({ "ip_address": address })).collect();
        let status = json!({ "executor_pid": std::process::id(), "network_infos": [{ "ip_addresses": addresses }] });
        Some(json!({ "data": STANDARD.encode(&output.stdout), "container_status": status }))
    }

    // ---- its end ----

    /// To be called when `docker run` has ended.
    pub fn note_end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn stop(&self, grace: Duration) {
        let mut stop = self.docker("stop");
        stop.arg("-t").arg(grace.as_secs().to_string()).arg(&self.name);
        self.insist(stop);
    }

    pub fn kill(&self) {
        let mut kill = self.docker("kill");
        kill.arg(&self.name);
        self.insist(kill);
    }

    /// A container that is only just being made cannot be ended yet.
    fn insist(&self, mut command: Command) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let is_over = Arc::clone(&self.is_over);
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) && !command.status().is_ok_and(|status| status.success()) {
                std::thread::sleep(POLL_INTERVAL);
            }
        });
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn network(container: &Value) -> Vec<String> {
    let docker = &container["docker"];
    let kind = match docker["network"].as_str().unwrap_or("HOST") {
        "BRIDGE" => "bridge",
        "NONE" => "none",
        _ => "host",
    };
    let mut options = vec!["--net".to_owned(), kind.to_owned()];
    for mapping in docker["port_mappings"].as_array().into_iter().flatten() {
        let protocol = mapping["protocol"].as_str().unwrap_or("tcp");
        options.extend(["-p".to_owned(), format!("{}:{}/{protocol}", mapping["host_port"], mapping["container_port"])]);
    }
    if let Some(hostname) = container["hostname"].as_str() {
        options.extend(["--hostname".to_owned(), hostname.to_owned()]);
    }
    options
}

/// The image, and what to run in it: the command, or else the image's own.
fn add_program(run: &mut Command, image: &str, command: &Value) {
    match command["value"].as_str() {
        Some(line) if is_shell(command) => run.args(["--entrypoint", "/bin/sh", image, "-c", line]),
        Some(program) => run.args(["--entrypoint", program, image]).args(arguments(command).skip(1)),
        None => run.arg(image).args(arguments(command)),
    };
}
