//! How long until what is wanted runs: Microscaler beside a bare client that sends the same calls and decides nothing.
//!
//! Both run in turn on the same real Mesos (four agents, stock allocation interval of one second), and the same onlooker times both: a
//! subscription to the master's own operator events. The bare client knows beforehand what to launch and which tasks to kill; it asks
//! for room in the same way (REVIVE), acknowledges at once, and kills and launches with one write.
//!
//! `cargo bench --bench reaction [-- ROUNDS]` prints a table; the numbers go to `target/bench/reaction.json` as well.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use microscaler_testbed::bare::{Framework, framework_info, scalar, task_info};
use microscaler_testbed::wire::{Connection, Request};
use microscaler_testbed::{Agent, Cluster};
use serde_json::{Value, json};
use support::onlooker::{Onlooker, percentile, sorted};
use support::{PATIENCE, PUSHED, REMAINDER, Scaler, sleeper};

const AGENTS: usize = 4;
/// Room for ten tasks of half a core on each agent.
const SLOTS: usize = 10 * AGENTS;
const SWAP: usize = 20;

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(40);
    let cases = [("+1", 1), ("+10", 10)];
    let mut rows = Vec::new();
    for (name, n) in cases {
        let (ours, floor) = grow(n, rounds);
        rows.push((name.to_owned(), ours, floor));
    }
    let (ours, floor, reactions) = swap(rounds);
    rows.push((format!("swap {SWAP} for {SWAP}"), ours, floor));
    print_table(&rows, rounds, &reactions);
}

fn cluster() -> Cluster {
    let agent = || Agent::default().resources("cpus:5;mem:4096;disk:4096;ports:[31000-31999]");
    (0..AGENTS).fold(Cluster::builder(), |builder, _| builder.agent(agent())).start().unwrap()
}

/// Room is free and nothing is held; n replicas are asked for.
fn grow(n: usize, rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    let mesos = cluster();
    let ours = {
        let scaler = Scaler::start(
            &mesos,
            &[(
                "web.yaml",
                &sleeper("web", &format!("behavior: {{scaleDown: {{stabilizationWindowMilliseconds: 0}}}}\n{PUSHED}")),
            )],
        );
        scaler.push("web", "load", 0.0);
        let mut pusher = Pusher::open(&scaler, "web");
        let round = |_| {
            let onlooker = Onlooker::start(&mesos);
            let start = Instant::now();
            pusher.push(n * 10);
            let took = onlooker.wait_running("web", n) - start;
            pusher.push(0);
            scaler.settle(&mesos, &[("web", 0)]);
            rest();
            took
        };
        (0..rounds).map(round).collect()
    };
    let mut bare = Bare::subscribe(&mesos);
    let round = |_| {
        bare.release();
        rest();
        let onlooker = Onlooker::start(&mesos);
        let start = Instant::now();
        bare.framework.calls.revive();
        bare.framework.calls.flush().unwrap();
        let ids = bare.launch("web", n);
        // Without its acknowledgements nothing would come to run.
        bare.wait_running(&ids);
        let took = onlooker.wait_running("web", n) - start;
        bare.kill(&ids);
        bare.wait_ended(&ids);
        took
    };
    (ours, (0..rounds).map(round).collect())
}

/// The pool is full of work that can wait; as many important replicas are asked for as take half of it.
fn swap(rounds: usize) -> (Vec<Duration>, Vec<Duration>, Value) {
    let mesos = cluster();
    let (ours, reactions) = {
        let web =
            sleeper("web", &format!("priority: 1\nbehavior: {{scaleDown: {{stabilizationWindowMilliseconds: 0}}}}\n{PUSHED}"));
        let scaler =
            Scaler::start(&mesos, &[("web.yaml", &web), ("rest.yaml", &sleeper("rest", &format!("priority: 2\n{REMAINDER}")))]);
        let slots = i64::try_from(SLOTS).unwrap();
        scaler.push("web", "load", 0.0);
        scaler.settle(&mesos, &[("web", 0), ("rest", slots)]);
        let mut pusher = Pusher::open(&scaler, "web");
        let round = |_| {
            let onlooker = Onlooker::start(&mesos);
            let start = Instant::now();
            pusher.push(SWAP * 10);
            let took = onlooker.wait_running("web", SWAP) - start;
            pusher.push(0);
            scaler.settle(&mesos, &[("web", 0), ("rest", slots)]);
            rest();
            took
        };
        let ours = (0..rounds).map(round).collect();
        // Stopping leaves the tasks, and the bare client needs their room.
        let id = scaler.get("/v1/pools").unwrap()["items"][0]["status"]["frameworkId"].clone();
        mesos.operator(&json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": id}}})).unwrap();
        let status = scaler.get("/v1/pools").unwrap()["items"][0]["status"].clone();
        (ours, json!({"median": status["medianReactionMilliseconds"], "p99": status["p99ReactionMilliseconds"]}))
    };
    let mut bare = Bare::subscribe(&mesos);
    bare.framework.calls.revive();
    bare.framework.calls.flush().unwrap();
    let mut low = bare.launch("rest", SLOTS);
    bare.wait_running(&low);
    let round = |_| {
        rest();
        // As many from each agent, as a plan over four agents would.
        let victims: Vec<(String, String)> =
            (0..AGENTS).flat_map(|i| on_agent(&low, i).into_iter().take(SWAP / AGENTS)).collect();
        let onlooker = Onlooker::start(&mesos);
        let start = Instant::now();
        bare.kill(&victims);
        bare.wait_ended(&victims);
        bare.framework.calls.revive();
        bare.framework.calls.flush().unwrap();
        let high = bare.launch("web", SWAP);
        bare.wait_running(&high);
        let took = onlooker.wait_running("web", SWAP) - start;
        bare.kill(&high);
        bare.wait_ended(&high);
        low.retain(|task| !victims.contains(task));
        bare.framework.calls.revive();
        bare.framework.calls.flush().unwrap();
        let back = bare.launch("rest", SWAP);
        bare.wait_running(&back);
        low.extend(back);
        took
    };
    let floor = (0..rounds).map(round).collect();
    (ours, floor, reactions)
}

/// The tasks on the i-th of the agents that they run on.
fn on_agent(tasks: &[(String, String)], i: usize) -> Vec<(String, String)> {
    let agents: BTreeSet<&String> = tasks.iter().map(|(_, agent)| agent).collect();
    let agent = agents.into_iter().nth(i).unwrap();
    tasks.iter().filter(|(_, on)| on == agent).cloned().collect()
}

/// Processes that end and logs that are written should not weigh on the next round.
fn rest() {
    std::thread::sleep(Duration::from_millis(150));
}

/// Pushes over one connection that stays open, as a program would.
struct Pusher {
    connection: Connection,
    path: String,
}

impl Pusher {
    fn open(scaler: &Scaler, app: &str) -> Self {
        let address = scaler.url().trim_start_matches("http://").parse().unwrap();
        Self { connection: Connection::open(address, PATIENCE).unwrap(), path: format!("/v1/demand/default/{app}/load") }
    }

    fn push(&mut self, value: usize) {
        let body = value.to_string();
        let request =
            Request { method: "POST", path: &self.path, headers: "Content-Type: text/plain\r\n", body: body.as_bytes() };
        let response = self.connection.call(request).unwrap();
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    }
}

/// The bare client. Tasks are `(id, agent)`.
struct Bare {
    framework: Framework,
    serial: usize,
}

impl Bare {
    fn subscribe(mesos: &Cluster) -> Self {
        Self { framework: Framework::subscribe(&mesos.master_url(), &framework_info("floor")).unwrap(), serial: 0 }
    }

    /// Gives back all offers.
    fn release(&mut self) {
        let offers: Vec<Value> =
            std::mem::take(&mut self.framework.offers).into_values().map(|offer| offer["id"].clone()).collect();
        if !offers.is_empty() {
            self.framework.calls.decline(&offers.iter().collect::<Vec<_>>(), Duration::from_mins(5));
            self.framework.calls.flush().unwrap();
        }
    }

    /// Launches n tasks on whatever is offered, one ACCEPT for each agent, as soon as it is offered.
    fn launch(&mut self, app: &str, n: usize) -> Vec<(String, String)> {
        let mut launched = Vec::new();
        let end = Instant::now() + PATIENCE;
        while launched.len() < n {
            let offers: Vec<Value> = std::mem::take(&mut self.framework.offers).into_values().collect();
            for offer in offers {
                let room = (0..n - launched.len())
                    .take_while(|i| scalar(&offer, "cpus") + 1e-6 >= 0.5 * (1.0 + f64::from(u32::try_from(*i).unwrap())));
                let ids: Vec<String> = room.map(|i| format!("bare.{app}.{}", self.serial + i)).collect();
                self.serial += ids.len();
                if ids.is_empty() {
                    self.framework.calls.decline(&[&offer["id"]], Duration::from_mins(5));
                    continue;
                }
                let tasks: Vec<Value> = ids.iter().map(|id| task_info(id, &offer, "exec sleep 100000", 0.5, 32.0)).collect();
                self.framework.launch(&offer, &tasks).unwrap();
                let agent = offer["agent_id"]["value"].as_str().unwrap().to_owned();
                launched.extend(ids.into_iter().map(|id| (id, agent.clone())));
            }
            self.framework.calls.flush().unwrap();
            if launched.len() < n {
                assert!(Instant::now() < end, "room for {n} tasks in time");
                self.framework.next_event(Duration::from_secs(5)).unwrap();
            }
        }
        launched
    }

    fn kill(&mut self, tasks: &[(String, String)]) {
        for (id, _) in tasks {
            self.framework.calls.kill(id, Some(Duration::ZERO));
        }
        self.framework.calls.flush().unwrap();
    }

    fn wait_running(&mut self, tasks: &[(String, String)]) {
        self.wait_state(tasks, "TASK_RUNNING");
    }

    fn wait_ended(&mut self, tasks: &[(String, String)]) {
        self.wait_state(tasks, "TASK_KILLED");
    }

    fn wait_state(&mut self, tasks: &[(String, String)], state: &str) {
        let reached = |framework: &mut Framework| {
            tasks.iter().all(|(id, _)| framework.statuses.get(id).is_some_and(|status| status["state"] == state)).then_some(())
        };
        self.framework.wait_for(PATIENCE, reached).unwrap();
    }
}

fn print_table(rows: &[(String, Vec<Duration>, Vec<Duration>)], rounds: usize, reactions: &Value) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\npush → last RUNNING, milliseconds; {rounds} rounds each, load {}", load.split(' ').next().unwrap_or("?"));
    println!("{:<16} {:>10} {:>10} {:>12} {:>10} {:>7} {:>7}", "", "median", "p99", "bare median", "bare p99", "ratio", "p99");
    let mut report = Vec::new();
    for (name, ours, floor) in rows {
        let (ours, floor) = (sorted(ours), sorted(floor));
        let [om, op, fm, fp] = [percentile(&ours, 50), percentile(&ours, 99), percentile(&floor, 50), percentile(&floor, 99)];
        println!("{name:<16} {om:>10.1} {op:>10.1} {fm:>12.1} {fp:>10.1} {:>7.2} {:>7.2}", om / fm, op / fp);
        report.push(json!({"case": name, "median": om, "p99": op, "bareMedian": fm, "bareP99": fp, "ratio": om / fm}));
    }
    println!("push → calls written (our own share): median {} ms, p99 {} ms", reactions["median"], reactions["p99"]);
    let report = json!({"rounds": rounds, "load": load.trim(), "reaction": reactions, "cases": report});
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/reaction.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
}
