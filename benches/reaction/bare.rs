//! The floor: a client that knows beforehand what to launch and what to kill.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use microscaler_testbed::bare::{Framework, executor_info, framework_info, pooled_task_info, scalar, task_info};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::contest::{Case, Contender};
use crate::support::onlooker::Onlooker;
use crate::{AGENTS, SLOTS};

const CPU: f64 = 0.5;
const EXECUTOR_CPU: f64 = 0.01;
const LINE: &str = "exec sleep 100000";

/// What runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// Mesos' own command executor, a new one for each task.
    Fresh,
    /// A bare executor on each agent, which runs before the tasks come.
    Running,
    /// The same, without processes for its tasks.
    Pretending,
}

/// What a framework may do otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Plain,
    /// Five labels on each task.
    Labels,
    /// Agents write nothing down, so that tasks end with their agent's process.
    NoCheckpoints,
    /// Agents are told in turn to kill, not one after the other.
    KillsInTurn,
}

impl Habit {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Labels, Self::NoCheckpoints, Self::KillsInTurn];
}

/// A task and the agent that it runs on.
type Task = (String, String);

pub struct Bare {
    framework: Framework,
    onlooker: Onlooker,
    executor: Executor,
    habit: Habit,
    program: PathBuf,
    serial: usize,
    /// Work that can wait, when it fills the pool.
    low: Vec<Task>,
}

impl Bare {
    pub fn start(mesos: &Cluster, executor: Executor, habit: Habit) -> Self {
        let mut info = framework_info("floor");
        info["checkpoint"] = (habit != Habit::NoCheckpoints).into();
        let framework = Framework::subscribe(&mesos.master_url(), &info).unwrap();
        let (onlooker, program) = (Onlooker::start(mesos), mesos.program("bare-executor").unwrap());
        let mut bare = Self { framework, onlooker, executor, habit, program, serial: 0, low: Vec::new() };
        if executor != Executor::Fresh {
            bare.start_executors();
        }
        bare
    }

    /// A first task on each agent starts the executor there.
    fn start_executors(&mut self) {
        let tasks = self.launch("starter", AGENTS * SLOTS);
        let agents: BTreeSet<&String> = tasks.iter().map(|(_, agent)| agent).collect();
        assert_eq!(agents.len(), AGENTS, "the starters fill all agents");
        self.wait_state(&tasks, "TASK_RUNNING");
        self.end(&tasks);
    }

    /// Gives back all offers, also those that have come and are not read yet: with these, it would not have to ask for room.
    fn release(&mut self) {
        while self.framework.next_event(Duration::ZERO).unwrap().is_some() {}
        let offers: Vec<Value> =
            std::mem::take(&mut self.framework.offers).into_values().map(|offer| offer["id"].clone()).collect();
        if !offers.is_empty() {
            self.framework.calls.decline(&offers.iter().collect::<Vec<_>>(), Duration::from_mins(5));
            self.framework.calls.flush().unwrap();
        }
    }

    fn revive(&mut self) {
        self.framework.calls.revive();
        self.framework.calls.flush().unwrap();
    }

    /// Launches n tasks on whatever is offered, one ACCEPT for each agent, as soon as it is offered.
    fn launch(&mut self, app: &str, n: usize) -> Vec<Task> {
        let mut launched = Vec::new();
        let end = Instant::now() + PATIENCE;
        while launched.len() < n {
            let offers: Vec<Value> = std::mem::take(&mut self.framework.offers).into_values().collect();
            for offer in offers {
                launched.extend(self.launch_on(&offer, app, n - launched.len()));
            }
            self.framework.calls.flush().unwrap();
            if launched.len() < n {
                assert!(Instant::now() < end, "room for {n} tasks in time");
                self.framework.next_event(Duration::from_secs(5)).unwrap();
            }
        }
        launched
    }

    fn launch_on(&mut self, offer: &Value, app: &str, most: usize) -> Vec<Task> {
        let cpus = scalar(offer, "cpus");
        let fits = |count: usize| CPU * f64::from(u32::try_from(count).unwrap()) <= cpus + 1e-6;
        let count = (1..=most).take_while(|count| fits(*count)).count();
        if count == 0 {
            self.framework.calls.decline(&[&offer["id"]], Duration::from_mins(5));
            return Vec::new();
        }
        let ids: Vec<String> = (self.serial..self.serial + count).map(|i| format!("bare.{app}.{i}")).collect();
        self.serial += count;
        let mut tasks: Vec<Value> = ids.iter().map(|id| self.task(id, offer)).collect();
        if self.habit == Habit::Labels {
            tasks.iter_mut().for_each(|task| task["labels"] = labels());
        }
        self.framework.launch(offer, &tasks).unwrap();
        let agent = offer["agent_id"]["value"].as_str().unwrap();
        ids.into_iter().map(|id| (id, agent.to_owned())).collect()
    }

    fn task(&self, id: &str, offer: &Value) -> Value {
        let mode = match self.executor {
            Executor::Fresh => return task_info(id, offer, LINE, CPU, 32.0),
            Executor::Running => "--run",
            Executor::Pretending => "--pretend",
        };
        let executor = executor_info("bare", offer, &self.program, mode, EXECUTOR_CPU, 32.0);
        pooled_task_info(id, offer, &executor, LINE, CPU, 32.0)
    }

    fn kill(&mut self, tasks: &[Task]) {
        for (id, _) in tasks {
            self.framework.calls.kill(id, Some(Duration::ZERO));
        }
        self.framework.calls.flush().unwrap();
    }

    fn end(&mut self, tasks: &[Task]) {
        self.kill(tasks);
        self.wait_state(tasks, "TASK_KILLED");
    }

    /// Takes events in meanwhile: without its acknowledgements nothing would go on.
    fn wait_state(&mut self, tasks: &[Task], state: &str) {
        let mut left: HashSet<&str> = tasks.iter().map(|(id, _)| id.as_str()).collect();
        let reached = |framework: &mut Framework| {
            left.retain(|id| framework.statuses.get(*id).is_none_or(|status| status["state"] != state));
            left.is_empty().then_some(())
        };
        self.framework.wait_for(PATIENCE, reached).unwrap();
    }

    /// The onlooker's word counts.
    fn seen(&self, tasks: &[Task], state: &str) -> Instant {
        self.onlooker.wait_all(tasks.iter().map(|(id, _)| (id.clone(), state)).collect())
    }

    fn burst(&mut self, n: usize) -> (Duration, Duration) {
        self.release();
        std::thread::sleep(Duration::from_millis(20));
        self.onlooker.forget();
        let start = Instant::now();
        self.revive();
        let tasks = self.launch("web", n);
        self.wait_state(&tasks, "TASK_RUNNING");
        let up = self.seen(&tasks, "TASK_RUNNING") - start;
        (up, self.down(&tasks))
    }

    fn down(&mut self, tasks: &[Task]) -> Duration {
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        self.end(tasks);
        self.seen(tasks, "TASK_KILLED") - start
    }

    fn swap(&mut self, n: usize) -> (Duration, Duration) {
        let victims = self.victims(n);
        self.onlooker.forget();
        let start = Instant::now();
        self.kill(&victims);
        let high = self.launch_behind(&victims, n);
        self.wait_state(&high, "TASK_RUNNING");
        let up = self.seen(&high, "TASK_RUNNING") - start;
        let down = self.down(&high);
        self.low.retain(|task| !victims.contains(task));
        self.fill(n);
        (up, down)
    }

    /// Asks for the room of victims as they end, and launches on what is offered meanwhile.
    fn launch_behind(&mut self, victims: &[Task], n: usize) -> Vec<Task> {
        let mut left: HashSet<&str> = victims.iter().map(|(id, _)| id.as_str()).collect();
        let mut launched = Vec::new();
        while launched.len() < n {
            self.framework.next_event(Duration::from_secs(5)).unwrap();
            let before = left.len();
            left.retain(|id| self.framework.statuses.get(*id).is_none_or(|status| status["state"] != "TASK_KILLED"));
            if left.len() < before {
                self.revive();
            }
            let offers: Vec<Value> = std::mem::take(&mut self.framework.offers).into_values().collect();
            for offer in offers {
                launched.extend(self.launch_on(&offer, "web", n - launched.len()));
            }
            self.framework.calls.flush().unwrap();
        }
        launched
    }

    /// As many from each agent, as a plan over all agents would.
    fn victims(&self, n: usize) -> Vec<Task> {
        let agents: BTreeSet<&String> = self.low.iter().map(|(_, agent)| agent).collect();
        let on = |agent: &String| self.low.iter().filter(|(_, on)| on == agent).take(n.div_ceil(AGENTS)).cloned().collect();
        let by_agent: Vec<Vec<Task>> = agents.into_iter().map(on).collect();
        if self.habit == Habit::KillsInTurn {
            let nth = |i: usize| by_agent.iter().filter_map(move |tasks| tasks.get(i).cloned());
            return (0..n).flat_map(nth).take(n).collect();
        }
        by_agent.into_iter().flatten().take(n).collect()
    }

    fn fill(&mut self, n: usize) {
        self.revive();
        let back = self.launch("rest", n);
        self.wait_state(&back, "TASK_RUNNING");
        self.low.extend(back);
    }
}

fn labels() -> Value {
    let label = |i: usize| json!({"key": format!("microscaling.dev/label-{i}"), "value": "a value of some length"});
    json!({"labels": (0..5).map(label).collect::<Vec<_>>()})
}

impl Contender for Bare {
    fn prepare(&mut self, case: Case) {
        if matches!(case, Case::Swap(_)) && self.low.is_empty() {
            self.fill(AGENTS * SLOTS);
        }
    }

    fn round(&mut self, case: Case) -> (Duration, Duration) {
        self.framework.statuses.clear();
        match case {
            Case::Burst(n) => self.burst(n),
            Case::Swap(n) => self.swap(n),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.framework.calls.teardown();
        let _ = self.framework.calls.confirm();
    }
}
