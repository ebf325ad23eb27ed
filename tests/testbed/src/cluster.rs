//! A running Mesos, and what can be asked of it.

use crate::Builder;
use crate::daemon::Daemon;
use crate::handle::AgentHandle;
use crate::home::Home;
use crate::marked::{self, Process};
use crate::task::Task;
use crate::wait::wait;
use crate::wire::{Connection, Request, Response};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Other masters answer by a redirect to the leader, and by 404 while they start.
const LEADERS_PAGES: [&str; 4] = ["/master/state", "/master/slaves", "/master/tasks", "/master/frameworks"];

/// Masters, agents and, with several masters, `ZooKeeper`. Everything ends with this value: daemons, executors, tasks and files;
/// also if the process that holds it is killed.
pub struct Cluster {
    pub(crate) masters: Vec<Daemon>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) zookeeper: Option<Daemon>,
    pub(crate) installed: PathBuf,
    /// Dropped after the daemons: it ends what they leave.
    pub(crate) home: Home,
}

/// One agent process; `copies` whole agents if it was built so.
pub(crate) struct Agent {
    pub daemon: Daemon,
    pub copies: usize,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Of the first master, such as `http://127.0.0.1:15050`.
    ///
    /// # Panics
    /// Never: there is at least one master.
    #[must_use]
    pub fn master_url(&self) -> String {
        self.masters[0].url()
    }

    #[must_use]
    pub fn master_urls(&self) -> Vec<String> {
        self.masters.iter().map(Daemon::url).collect()
    }

    /// # Panics
    /// If there is no such master.
    #[must_use]
    pub fn master(&self, index: usize) -> &Daemon {
        &self.masters[index]
    }

    #[must_use]
    pub fn masters(&self) -> &[Daemon] {
        &self.masters
    }

    /// # Panics
    /// If there is no such agent.
    #[must_use]
    pub fn agent(&self, index: usize) -> AgentHandle<'_> {
        AgentHandle::new(self, &self.agents[index].daemon)
    }

    pub fn agents(&self) -> impl Iterator<Item = AgentHandle<'_>> {
        self.agents.iter().map(|agent| AgentHandle::new(self, &agent.daemon))
    }

    #[must_use]
    pub fn zookeeper(&self) -> Option<&Daemon> {
        self.zookeeper.as_ref()
    }

    /// Where the files of all daemons are; gone when the cluster is dropped.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }

    /// The value of `MICROSCALER_TESTBED` that all processes of this cluster carry.
    #[must_use]
    pub fn id(&self) -> &str {
        self.home.id()
    }

    /// The path of an installed program, such as `bare-executor`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let mut candidates = ["bin", "launcher"].map(|directory| self.installed.join(directory).join(name)).into_iter();
        let found = candidates.find(|path| path.is_file());
        found.with_context(|| format!("no program {name} in {}/{{bin,launcher}}", self.installed.display()))
    }

    // ---- asking the leading master ----

    /// GET on the leading master, such as `/master/state`.
    ///
    /// # Errors
    /// If no master leads, or the answer is not 200 with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let headers = "Accept: application/json\r\n";
        self.ask_leader(Request { method: "GET", path, headers, body: b"" })
    }

    /// A call of the v1 operator API; `Null` if its answer has no body.
    ///
    /// # Errors
    /// If no master leads, or it refuses the call.
    pub fn operator(&self, call: &Value) -> Result<Value> {
        let body = call.to_string().into_bytes();
        let headers = "Content-Type: application/json\r\nAccept: application/json\r\n";
        self.ask_leader(Request { method: "POST", path: "/api/v1", headers, body: &body })
    }

    /// The index of the master that leads and serves.
    ///
    /// # Errors
    /// If there is none now.
    pub fn leader(&self) -> Result<usize> {
        let (address, _) = self.find_leader("/master/state-summary")?;
        let index = self.masters.iter().position(|master| master.address() == address);
        index.context("the leader is none of this cluster's masters")
    }

    fn ask_leader(&self, request: Request) -> Result<Value> {
        // What is asked mostly is a page that tells by itself who leads: one request then does.
        let (leader, page) = self.find_leader(request.path)?;
        let is_answer = request.method == "GET" && is_leaders_page(request.path);
        let response = if is_answer { page } else { ask(leader, request)? };
        let text = String::from_utf8_lossy(&response.body);
        ensure!(matches!(response.status, 200 | 202), "{} answers {} {text}", request.path, response.status);
        if response.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&response.body).with_context(|| format!("{} answers {text}", request.path))
    }

    /// Asks all masters for a page that only the leader gives: `path`, if it is one.
    fn find_leader(&self, path: &str) -> Result<(SocketAddr, Response)> {
        let path = if is_leaders_page(path) { path } else { "/master/state-summary" };
        let mut answers = Vec::new();
        for master in self.masters.iter().filter(|master| master.is_running()) {
            let request = Request { method: "GET", path, headers: "Accept: application/json\r\n", body: b"" };
            match ask(master.address(), request) {
                Ok(response) if !matches!(response.status, 307 | 404 | 503) => return Ok((master.address(), response)),
                Ok(response) => answers.push(format!("{}: {}", master.name(), response.status)),
                Err(error) => answers.push(format!("{}: {error}", master.name())),
            }
        }
        bail!("no master leads ({})", answers.join(", "))
    }

    /// All tasks that the master still remembers, completed ones too. See [`Tasks::running`](crate::Tasks::running).
    ///
    /// # Errors
    /// If no master leads.
    pub fn tasks(&self) -> Result<Vec<Task>> {
        let answer = self.get("/master/tasks?limit=100000")?;
        Ok(answer["tasks"].as_array().into_iter().flatten().map(Task::from_json).collect())
    }

    /// How many agents are registered and reachable.
    fn registered(&self) -> Result<usize> {
        let answer = self.get("/master/slaves")?;
        let agents = answer["slaves"].as_array().into_iter().flatten();
        Ok(agents.filter(|agent| agent["active"] == true).count())
    }

    /// Waits until a master leads and all agents that are not killed are registered with it.
    ///
    /// # Errors
    /// If `limit` is over, or an agent or the only master has ended by itself; with the end of the logs.
    pub fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let is_broken = || self.agents.iter().any(|agent| agent.daemon.has_ended_by_itself()) || self.only_master_has_ended();
        let is_ready_or_broken = || {
            let started = self.agents.iter().filter(|agent| agent.daemon.is_running());
            let wanted: usize = started.map(|agent| agent.copies).sum();
            if is_broken() {
                return Ok(true);
            }
            let registered = self.registered()?;
            ensure!(registered >= wanted, "{registered} of {wanted} agents are registered");
            Ok(true)
        };
        wait(limit, is_ready_or_broken).with_context(|| format!("the cluster is not ready\n{}", self.log_tails()))?;
        ensure!(!is_broken(), "the cluster is not ready\n{}", self.log_tails());
        Ok(())
    }

    /// Among several, it is normal that a deposed leader ends itself.
    fn only_master_has_ended(&self) -> bool {
        matches!(self.masters.as_slice(), [master] if master.has_ended_by_itself())
    }

    /// Waits until all replicas of the masters' log vote. A master that loses the others before that cannot lead.
    pub(crate) fn wait_until_log_is_replicated(&self, limit: Duration) -> Result<()> {
        let is_recovered = |master: &Daemon| {
            let request = Request { method: "GET", path: "/metrics/snapshot", headers: "", body: b"" };
            let metrics: Value = serde_json::from_slice(&ask(master.address(), request)?.body)?;
            Ok(metrics["registrar/log/recovered"].as_f64() == Some(1.0))
        };
        let all = || self.masters.iter().map(is_recovered).try_fold(true, |all, one: Result<bool>| Ok(all && one?));
        wait(limit, all).with_context(|| format!("the masters' log is not replicated\n{}", self.log_tails()))
    }

    fn log_tails(&self) -> String {
        let daemons = self.masters.iter().chain(self.agents.iter().map(|agent| &agent.daemon)).chain(&self.zookeeper);
        daemons.map(Daemon::state_and_log_tail).collect()
    }

    // ---- processes ----

    /// The processes of users' tasks that run now: the children of executors, and those whose executor is gone. For a task that
    /// Mesos' own executor runs, that is one process, whatever it starts in turn; for one in Docker, it is its `docker run`.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let all = marked::processes(self.home.id());
        let children_of = |parents: &BTreeSet<u32>| -> BTreeSet<u32> {
            all.iter().filter(|process| parents.contains(&process.parent)).map(|process| process.pid).collect()
        };
        let ours = all.iter().map(|process| process.pid).collect::<BTreeSet<u32>>();
        let containers = self.containers();
        let of_docker: BTreeSet<u32> =
            all.iter().filter(|process| process.is_docker_executor()).map(|process| process.pid).collect();
        let executors = &children_of(&containers) | &of_docker;
        let tasks = children_of(&executors);
        let is_orphan = |process: &Process| {
            process.has_variable("MESOS_EXECUTOR_ID")
                && ![&containers, &of_docker].iter().any(|group| group.contains(&process.pid))
                && !ours.contains(&process.parent)
        };
        let is_helper = |process: &Process| process.has_variable(marked::HELPER_VARIABLE);
        let is_task = |process: &&Process| (tasks.contains(&process.pid) || is_orphan(process)) && !is_helper(process);
        all.iter().filter(is_task).map(|process| process.pid).collect()
    }

    /// The first process of each container (`mesos-containerizer launch`, the parent of the executor), which an agent writes down.
    fn containers(&self) -> BTreeSet<u32> {
        let containers = self.agents.iter().flat_map(|agent| container_directories(agent.daemon.directory()));
        let pids = containers.filter_map(|container| fs::read_to_string(container.join("pid")).ok()?.trim().parse().ok());
        pids.collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The daemons first, so that nothing new starts.
        self.agents.iter().for_each(|agent| agent.daemon.kill());
        self.masters.iter().chain(&self.zookeeper).for_each(Daemon::kill);
    }
}

fn is_leaders_page(path: &str) -> bool {
    LEADERS_PAGES.iter().any(|page| path.starts_with(page))
}

/// One request to one daemon.
pub(crate) fn ask(address: SocketAddr, request: Request) -> Result<Response> {
    let mut connection = Connection::open(address, REQUEST_TIMEOUT)?;
    connection.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    Ok(connection.call(request)?)
}

/// `run/containers/<id>` of an agent, or of each of several in one process, `run/<i>/containers/<id>`.
fn container_directories(agent: &Path) -> Vec<PathBuf> {
    let run = agent.join("run");
    let mut roots = subdirectories(&run);
    roots.push(run);
    roots.iter().flat_map(|root| subdirectories(&root.join("containers"))).collect()
}

pub(crate) fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
