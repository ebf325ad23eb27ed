//! The processes of tasks: started, signalled, reaped, and swept up.
//!
//! A subreaper reaps everybody's orphans anyway, and so all ends are seen in one place, by SIGCHLD and wait: that is as quick as a pidfd
//! for each task, and takes no file. Until it is reaped, a process id belongs to nobody else, so what is signalled here is what was meant.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Rlimit, Signal, WaitOptions, kill_process, kill_process_group, wait};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::cgroup::{Bounds, Cage, Cgroups};
use super::checks::{Outcome, Probe, Role};
use super::exit::Exit;
use super::machine::Job;
use super::probe::{Look, look};
use super::processes;
use super::rotate::Growth;
use super::sandbox::Sandbox;
use super::spawn::{Program, Start, environment, spawn};
use super::wire::CommandInfo;

type Environment = Vec<(std::ffi::OsString, std::ffi::OsString)>;

/// What cannot be killed for so long is in the kernel's hands, and is left to it.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// Something that has happened by the side.
#[derive(Debug)]
pub enum Input {
    Probed { id: Arc<str>, role: Role, number: u64, outcome: Outcome },
    OverMemory(Arc<str>),
}

/// What became of a process that was ours.
#[derive(Debug)]
pub enum Ended {
    Task { id: Arc<str>, exit: Exit, over_memory: Option<String> },
    Probe { id: Arc<str>, role: Role, outcome: Outcome },
}

pub struct Host {
    pub cgroups: Cgroups,
    pub sandbox: Sandbox,
    base: Environment,
    open_files: Option<Rlimit>,
    tasks: HashMap<Arc<str>, Hosted>,
    owners: HashMap<Pid, Owner>,
    /// Which task adopted processes come from, as far as they say it.
    marks: HashMap<Pid, Box<str>>,
    sweeping: Vec<Sweep>,
    inputs: mpsc::UnboundedSender<Input>,
    probes: u64,
    rounds: u32,
}

/// A task that has been started.
struct Hosted {
    pid: Pid,
    cage: Option<Cage>,
    /// Waits for the kernel to say that memory has run out.
    _alarm: Option<AbortOnDropHandle<()>>,
    growth: Growth,
    /// For checks that are commands.
    context: Option<Box<Context>>,
    check: Option<Running>,
    health: Option<Running>,
}

struct Context {
    environment: Environment,
    directory: PathBuf,
}

enum Running {
    Command(Pid),
    Network { number: u64, _task: AbortOnDropHandle<()> },
}

enum Owner {
    Task(Arc<str>),
    Probe(Arc<str>, Role),
}

/// A task whose main process has ended, and what is left of it has to.
struct Sweep {
    id: Arc<str>,
    session: Pid,
    since: Instant,
}

/// A child that was not started here.
struct Stranger {
    pid: Pid,
    session: Option<Pid>,
}

impl Hosted {
    fn running(&mut self, role: Role) -> &mut Option<Running> {
        match role {
            Role::Check => &mut self.check,
            Role::Health => &mut self.health,
        }
    }
}

impl Host {
    pub fn new(
        base: Environment,
        open_files: Option<Rlimit>,
        cgroups: Cgroups,
        sandbox: Sandbox,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let (tasks, owners, marks) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { cgroups, sandbox, base, open_files, tasks, owners, marks, sweeping: Vec::new(), inputs, probes: 0, rounds: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    // ---- tasks ----

    /// # Errors
    /// In words.
    pub fn start(&mut self, id: &Arc<str>, job: &Job) -> Result<(), String> {
        let files = self.sandbox.open(id).map_err(|error| format!("its directory cannot be made: {error}"))?;
        let cage = self.cgroups.make(id, Bounds { cpus: job.cpus, mem: job.mem });
        let environment = environment(&self.base, &job.work, id, &files.directory);
        let directory = job.work.working_directory.as_ref().map_or(files.directory, PathBuf::from);
        let started = joins(cage.as_ref()).and_then(|joins| {
            let program = Program::of_work(&job.work);
            let (stdout, stderr) = (files.stdout, files.stderr);
            spawn(&Start {
                program,
                environment: &environment,
                directory: &directory,
                stdout,
                stderr,
                joins,
                open_files: self.open_files,
            })
        });
        let pid = match started {
            Ok(pid) => pid,
            Err(why) => {
                self.cgroups.remove(cage);
                self.sandbox.ended(id);
                return Err(why);
            }
        };
        let context = job.has_command_check.then(|| Box::new(Context { environment, directory }));
        let alarm = cage.as_ref().and_then(Cage::alarm).map(|alarm| self.listen(id, alarm));
        let hosted = Hosted { pid, cage, _alarm: alarm, growth: Growth::default(), context, check: None, health: None };
        self.tasks.insert(id.clone(), hosted);
        self.owners.insert(pid, Owner::Task(id.clone()));
        Ok(())
    }

    fn listen(&self, id: &Arc<str>, alarm: Arc<OwnedFd>) -> AbortOnDropHandle<()> {
        let (id, inputs) = (id.clone(), self.inputs.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let Some(alarm) = watch(alarm) else { return };
            // Each time: it may have been for the whole container. What is not read stays, and the kernel still says when there is more.
            while let Ok(mut ready) = alarm.readable().await {
                ready.clear_ready();
                let _ = inputs.send(Input::OverMemory(id.clone()));
            }
        }))
    }

    /// What the task was allowed and has taken of memory, in words, if that is what its alarm was for.
    pub fn heed_alarm(&self, id: &str) -> Option<String> {
        let cage = self.tasks.get(id)?.cage.as_ref()?;
        cage.heed_alarm().then(|| cage.memory())
    }

    /// To the task's whole group.
    pub fn signal(&self, id: &str, signal: Signal) {
        // The main process is not reaped yet. An error says that it has just ended.
        if let Some(hosted) = self.tasks.get(id) {
            let _ = kill_process_group(hosted.pid, signal);
        }
    }

    // ---- checks ----

    /// Sets out to look; the outcome comes as an [`Input`] or an [`Ended`].
    pub fn probe(&mut self, id: &Arc<str>, role: Role, probe: &Probe) {
        self.probes += 1;
        let number = self.probes;
        let running = match probe {
            Probe::Command(command) => match self.run_command(id, role, command) {
                Ok(pid) => Running::Command(pid),
                Err(why) => self.network(id, role, number, std::future::ready(Outcome::Failed(why))),
            },
            Probe::Tcp { .. } | Probe::Http { .. } => {
                let Some(wanted) = Look::of(probe) else { return };
                self.network(id, role, number, look(wanted))
            }
        };
        if let Some(hosted) = self.tasks.get_mut(id) {
            *hosted.running(role) = Some(running);
        }
    }

    fn network(
        &self,
        id: &Arc<str>,
        role: Role,
        number: u64,
        outcome: impl Future<Output = Outcome> + Send + 'static,
    ) -> Running {
        let (id, inputs) = (id.clone(), self.inputs.clone());
        let task = tokio::spawn(async move {
            let outcome = outcome.await;
            let _ = inputs.send(Input::Probed { id, role, number, outcome });
        });
        Running::Network { number, _task: AbortOnDropHandle::new(task) }
    }

    fn run_command(&mut self, id: &Arc<str>, role: Role, command: &CommandInfo) -> Result<Pid, String> {
        let hosted = self.tasks.get(id).ok_or("the task is gone")?;
        let Context { environment, directory } = hosted.context.as_deref().ok_or("the task's environment is gone")?;
        let mut environment = environment.clone();
        // The mark is the last, and stays so.
        let mark = environment.pop();
        environment.extend(command.environment.variables.iter().map(|it| (it.name.clone().into(), it.value.clone().into())));
        environment.extend(mark);
        let stderr = self.sandbox.check_output(id, output_name(role)).map_err(|error| error.to_string())?;
        let stdout = stderr.try_clone().map_err(|error| error.to_string())?;
        let (program, joins) = (Program::of_command(command), joins(hosted.cage.as_ref())?);
        let (environment, files) = (&*environment, self.open_files);
        let pid = spawn(&Start { program, environment, directory, stdout, stderr, joins: Vec::new(), open_files: files })?;
        // Only now: the child shares our memory until it has executed its program, and where the task runs out of its own then, the kernel
        // would end us with them; and a task that has used up its quota would hold us up.
        for join in &joins {
            // An error says that it has ended.
            let _ = rustix::io::write(join, pid.as_raw_nonzero().to_string().as_bytes());
        }
        self.owners.insert(pid, Owner::Probe(id.clone(), role));
        Ok(pid)
    }

    /// Ends a probe that is out.
    pub fn abort(&mut self, id: &Arc<str>, role: Role) {
        let running = self.tasks.get_mut(id).and_then(|hosted| hosted.running(role).take());
        if let Some(Running::Command(pid)) = running {
            let _ = kill_process_group(pid, Signal::KILL);
            self.owners.remove(&pid);
        }
    }

    /// Whether the probe of that number was still waited for.
    pub fn take_probe(&mut self, id: &str, role: Role, wanted: u64) -> bool {
        let Some(hosted) = self.tasks.get_mut(id) else { return false };
        let running = hosted.running(role);
        running.take_if(|running| matches!(running, Running::Network { number, .. } if *number == wanted)).is_some()
    }

    // ---- ends ----

    /// Reaps whoever has ended, orphans that came to us too.
    pub fn reap(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => ended.extend(self.ended(pid, status.into())),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return ended,
            }
        }
    }

    fn ended(&mut self, pid: Pid, exit: Exit) -> Option<Ended> {
        self.marks.remove(&pid);
        let owner = self.owners.remove(&pid)?;
        // While any of the group lives, the kernel gives its number to nobody else; and to come round to it takes much longer than this.
        let _ = kill_process_group(pid, Signal::KILL);
        Some(match owner {
            Owner::Task(id) => {
                let cage = self.tasks.get(&id).and_then(|hosted| hosted.cage.as_ref());
                let over_memory = cage.filter(|cage| cage.is_over_memory()).map(Cage::memory);
                Ended::Task { id, exit, over_memory }
            }
            Owner::Probe(id, role) => {
                self.tasks.get_mut(&id)?.running(role).take();
                let outcome = match exit {
                    Exit::Status(code) => Outcome::ExitCode(code),
                    Exit::Signal(_) => Outcome::Failed(exit.to_string()),
                };
                Ended::Probe { id, role, outcome }
            }
        })
    }

    /// The main process has ended: all that it has left behind is to end, too.
    pub fn clear(&mut self, id: &Arc<str>, now: Instant) {
        if let Some(hosted) = self.tasks.get(id) {
            self.sweeping.push(Sweep { id: id.clone(), session: hosted.pid, since: now });
        }
    }

    pub fn is_sweeping(&self) -> bool {
        !self.sweeping.is_empty()
    }

    /// Kills what is left of tasks, and gives those of which nothing is.
    pub fn sweep(&mut self, now: Instant) -> Vec<Arc<str>> {
        if self.sweeping.is_empty() {
            return Vec::new();
        }
        let strangers = self.strangers();
        let (mut cleared, sweeping) = (Vec::new(), std::mem::take(&mut self.sweeping));
        for sweep in sweeping {
            let left = self.left_of(&sweep, &strangers);
            left.iter().for_each(|pid| _ = kill_process(*pid, Signal::KILL));
            let is_late = now.saturating_duration_since(sweep.since) > SWEEP_LIMIT;
            if !left.is_empty() && !is_late {
                self.sweeping.push(sweep);
                continue;
            }
            if is_late {
                tracing::warn!(task = %sweep.id, processes = ?left, "cannot be ended");
            }
            self.forget(&sweep.id);
            cleared.push(sweep.id);
        }
        cleared
    }

    /// Children that were not started here: they have lost their parents.
    fn strangers(&mut self) -> Vec<Stranger> {
        let children = processes::children().into_iter().filter(|pid| !self.owners.contains_key(pid));
        let strangers: Vec<_> = children.map(|pid| Stranger { pid, session: processes::session(pid) }).collect();
        for Stranger { pid, .. } in &strangers {
            // Tasks may have many that live as long as they do: their environment is read once.
            if !self.marks.contains_key(pid)
                && let Some(mark) = processes::mark(*pid)
            {
                self.marks.insert(*pid, mark.into());
            }
        }
        strangers
    }

    fn left_of(&self, sweep: &Sweep, strangers: &[Stranger]) -> Vec<Pid> {
        let is_its =
            |it: &&Stranger| it.session == Some(sweep.session) || self.marks.get(&it.pid).is_some_and(|mark| **mark == *sweep.id);
        let orphans = strangers.iter().filter(is_its).map(|it| it.pid);
        let caged = self.tasks.get(&sweep.id).and_then(|hosted| hosted.cage.as_ref()).map(Cage::processes);
        orphans.chain(caged.into_iter().flatten()).collect()
    }

    fn forget(&mut self, id: &Arc<str>) {
        if let Some(hosted) = self.tasks.remove(id) {
            self.cgroups.remove(hosted.cage);
        }
        self.sandbox.ended(id);
    }

    // ---- logs ----

    pub fn look_at_logs(&mut self, most: u64) {
        self.rounds = self.rounds.wrapping_add(1);
        for (id, hosted) in &mut self.tasks {
            hosted.growth.look(&self.sandbox.directory(id), most, self.rounds);
        }
    }
}

#[allow(unsafe_code)]
fn watch(alarm: Arc<OwnedFd>) -> Option<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the file has to stay open, and the same, for as long as it is registered: what registers it shares in it, and a shared
    // `OwnedFd` neither changes nor closes before the last share is dropped.
    unsafe { AsyncFd::register_with_interest(alarm, Interest::READABLE) }.ok()
}

fn joins(cage: Option<&Cage>) -> Result<Vec<OwnedFd>, String> {
    cage.map(Cage::joins).transpose().map(Option::unwrap_or_default).map_err(|error| error.to_string())
}

/// The file in the task's directory that has the output of the last check.
fn output_name(role: Role) -> &'static Path {
    Path::new(match role {
        Role::Check => "check",
        Role::Health => "health_check",
    })
}
