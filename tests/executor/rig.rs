//! One agent, a bare framework, and the executor under test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use microscaler_testbed::bare::{Framework, framework_info};
use microscaler_testbed::{Agent, Builder, Cluster, marked};
use serde_json::{Value, json};

pub const LIMIT: Duration = Duration::from_secs(30);
const ENDS: [&str; 6] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED"];

pub struct Rig {
    pub cluster: Cluster,
    pub framework: Framework,
    /// All statuses in the order of their arrival.
    pub history: Vec<Value>,
    /// What executors have said.
    pub messages: Vec<Value>,
    executor: &'static str,
    pub executor_cpus: f64,
}

pub fn agent() -> Agent {
    Agent::default().resources("cpus:32;mem:16384;disk:1000;ports:[31000-31099]")
}

impl Rig {
    pub fn start() -> Self {
        Self::with(Cluster::builder().agent(agent()))
    }

    pub fn with(builder: Builder) -> Self {
        let cluster = builder.fast_failure_detection().master_flag("allocation_interval", "50ms").start().unwrap();
        let framework = Framework::subscribe(&cluster.master_url(), &framework_info("pool")).unwrap();
        Self { cluster, framework, history: Vec::new(), messages: Vec::new(), executor: "pool", executor_cpus: 0.1 }
    }

    /// A task; `work` is what the framework tells the executor.
    pub fn task(&self, id: &str, offer: &Value, work: &Value) -> Value {
        let role = &offer["allocation_info"];
        let scalar =
            |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": role});
        let program = env!("CARGO_BIN_EXE_microscaler");
        json!({
            "name": id,
            "task_id": {"value": id},
            "agent_id": offer["agent_id"],
            "resources": [scalar("cpus", 0.02), scalar("mem", 32.0)],
            "data": STANDARD.encode(work.to_string()),
            "executor": {
                "type": "CUSTOM",
                "executor_id": {"value": self.executor},
                "framework_id": {"value": self.framework.id},
                "command": {"shell": false, "value": program, "arguments": ["microscaler", "executor", "--log", "debug"]},
                "resources": [scalar("cpus", self.executor_cpus), scalar("mem", 64.0)],
            },
        })
    }

    pub fn launch_all(&mut self, works: &[(String, Value)], change: impl Fn(&mut Value)) {
        let mem = 128.0 + 64.0 * f64::from(u32::try_from(works.len()).unwrap());
        let offer = self.framework.take_offer(1.0, mem, LIMIT).unwrap();
        let tasks: Vec<Value> = works
            .iter()
            .map(|(id, work)| {
                let mut task = self.task(id, &offer, work);
                change(&mut task);
                task
            })
            .collect();
        self.framework.launch(&offer, &tasks).unwrap();
    }

    pub fn launch(&mut self, id: &str, work: &Value, change: impl Fn(&mut Value)) {
        self.launch_all(&[(id.to_owned(), work.clone())], change);
    }

    pub fn shell(&mut self, id: &str, line: &str) {
        self.launch(id, &json!({"shell": line}), |_| {});
    }

    /// Launches and waits until it runs.
    pub fn run(&mut self, id: &str, line: &str) {
        self.shell(id, line);
        self.reaches(id, "TASK_RUNNING");
    }

    fn next(&mut self) {
        let Some(event) = self.framework.next_event(Duration::from_millis(100)).unwrap() else { return };
        match event["type"].as_str().unwrap() {
            "UPDATE" => self.history.push(event["update"]["status"].clone()),
            "MESSAGE" => {
                let data = STANDARD.decode(event["message"]["data"].as_str().unwrap()).unwrap();
                self.messages.push(serde_json::from_slice(&data).unwrap());
            }
            _ => {}
        }
    }

    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{:#?}\n{}", self.lines(), self.stderr());
            self.next();
        }
    }

    /// The first status of the task for which that holds.
    pub fn sees(&mut self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{id} {what}"), |rig| {
            rig.history.iter().find(|status| status["task_id"]["value"] == id && holds(status)).cloned()
        })
    }

    pub fn reaches(&mut self, id: &str, state: &str) -> Value {
        let status = self.sees(id, state, |status| {
            let found = status["state"].as_str().unwrap();
            found == state || ENDS.contains(&found)
        });
        assert_eq!(status["state"], state, "{status}\n{}", self.stderr());
        status
    }

    pub fn kill(&mut self, id: &str, grace: Option<Duration>) {
        self.framework.calls.kill(id, grace);
        self.framework.calls.confirm().unwrap();
    }

    fn lines(&self) -> Vec<String> {
        let line = |status: &Value| format!("{} {} {}", status["task_id"]["value"], status["state"], status["message"]);
        self.history.iter().map(line).collect()
    }

    // ---- files and processes ----

    /// Where the executor's sandbox is.
    pub fn sandbox(&self) -> PathBuf {
        find(&self.cluster.agent(0).directory().join("work/slaves"), "tasks").unwrap().parent().unwrap().to_owned()
    }

    pub fn file(&self, id: &str, name: &str) -> String {
        std::fs::read_to_string(self.sandbox().join("tasks").join(id).join(name)).unwrap()
    }

    /// Launches what says `ready` when it is: a shell sets its traps only after it runs.
    pub fn run_until_ready(&mut self, id: &str, line: &str) {
        self.run(id, line);
        self.until("ready", |rig| rig.file(id, "stdout").starts_with("ready\n").then_some(()));
    }

    pub fn stderr(&self) -> String {
        let sandbox = find(&self.cluster.agent(0).directory().join("work/slaves"), "tasks");
        sandbox.and_then(|tasks| std::fs::read_to_string(tasks.parent()?.join("stderr")).ok()).unwrap_or_default()
    }

    /// Processes of this cluster whose command line begins with these words.
    pub fn processes(&self, words: &str) -> Vec<u32> {
        let begins = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").starts_with(words)
        };
        marked::processes(self.cluster.id()).iter().map(|process| process.pid).filter(begins).collect()
    }

    pub fn executor(&self) -> u32 {
        self.processes("microscaler executor")[0]
    }

    pub fn no_processes(&mut self, words: &str) {
        self.until(&format!("nothing left of {words}"), |rig| rig.processes(words).is_empty().then_some(()));
    }
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(found) = find(&entry.path(), name)
        {
            return Some(found);
        }
    }
    None
}
