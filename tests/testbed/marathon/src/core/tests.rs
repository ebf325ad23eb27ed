//! The core by itself, in a time of its own, with a Mesos that does as it is told.

use super::view::Embed;
use super::{Call, Change, Core, Definition, State};
use crate::settings::Settings;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A core, and what the time is.
struct World {
    core: Core,
    now: i64,
    offers: usize,
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = 1_700_000_000_000;
        let settings = Settings { testbed_scheduling_delay: 0, ..settings };
        Self { core: Core::new(settings, State::default(), now), now, offers: 0 }
    }

    fn set(&mut self, fields: &Value, is_forced: bool) -> Result<(), u16> {
        self.now += 1;
        let before = self.core.state.apps.get("/a").map(|app| app.definition.clone());
        let definition = Definition::update("/a", before.as_ref(), fields).map_err(|refusal| refusal.status)?;
        let change = Change { apps: BTreeMap::from([("/a".to_owned(), Some(definition))]), is_forced, ..Change::default() };
        self.core.change(&change, self.now).map(drop).map_err(|refusal| refusal.status)
    }

    fn scale(&mut self, count: usize) -> Result<(), u16> {
        self.set(&json!({ "instances": count }), false)
    }

    /// What Mesos is told after so many milliseconds.
    fn pass(&mut self, milliseconds: i64) -> Vec<Call> {
        self.now += milliseconds;
        self.core.tick(self.now);
        std::mem::take(&mut self.core.calls)
    }

    /// Offers an agent with so many cpus; the tasks that are launched there.
    fn offer(&mut self, cpus: f64) -> Vec<String> {
        self.offers += 1;
        let scalar = |name: &str, value: f64| json!({ "name": name, "scalar": { "value": value } });
        let ports = json!({ "name": "ports", "ranges": { "range": [{ "begin": 31000, "end": 31999 }] } });
        let offer = json!({
            "id": { "value": format!("O{}", self.offers) }, "agent_id": { "value": format!("S{}", self.offers) }, "hostname": "host",
            "resources": [scalar("cpus", cpus), scalar("mem", 10_000.0), ports],
        });
        self.core.on_offers(vec![offer], self.now);
        launched(std::mem::take(&mut self.core.calls))
    }

    fn tell(&mut self, task: &str, state: &str) {
        self.core.on_status(&json!({ "task_id": { "value": task }, "state": state, "agent_id": { "value": "S1" } }), self.now);
    }

    /// Launches and runs all that fits.
    fn run(&mut self, cpus: f64) -> Vec<String> {
        let tasks = self.offer(cpus);
        tasks.iter().for_each(|task| self.tell(task, "TASK_RUNNING"));
        tasks
    }

    fn count(&self, name: &str) -> u64 {
        let app = self.core.app("/a").unwrap();
        self.core.app_view("/a", app, Embed::default())[name].as_u64().unwrap()
    }

    fn kills(&mut self) -> usize {
        self.pass(0).iter().filter(|call| matches!(call, Call::Kill { .. })).count()
    }
}

/// The tasks that calls launch.
fn launched(calls: Vec<Call>) -> Vec<String> {
    let launched = calls.into_iter().filter_map(|call| match call {
        Call::Accept { tasks, .. } => Some(tasks),
        _ => None,
    });
    launched.flatten().map(|task| task["task_id"]["value"].as_str().unwrap().to_owned()).collect()
}

fn app(instances: usize) -> Value {
    json!({ "cmd": "sleep 1000", "cpus": 1, "mem": 16, "instances": instances })
}

#[test]
fn an_offer_takes_as_many_as_may_be_and_as_there_are_tokens() {
    let mut world = World::new(Settings { launch_tokens: 7, ..Settings::default() });
    world.set(&app(10), false).unwrap();
    let first = world.offer(20.0);
    assert_eq!(first.len(), 5);
    assert_eq!(world.offer(20.0).len(), 2);
    assert_eq!((world.count("tasksStaged"), world.count("tasksRunning")), (7, 0));
    // A token for each that runs; offers that found no token are still there.
    world.tell(&first[0], "TASK_STARTING");
    world.tell(&first[0], "TASK_RUNNING");
    assert_eq!(world.offer(20.0).len(), 1);
    world.pass(30_000);
    assert_eq!(world.offer(20.0).len(), 2);
    assert_eq!(world.core.state.deployments.len(), 1);
}

#[test]
fn what_does_not_fit_is_told_by_its_reason() {
    let mut world = World::new(Settings::default());
    world.set(&app(2), false).unwrap();
    assert_eq!(world.offer(1.5).len(), 1);
    let view = world.core.queue_view(true, world.now);
    let item = &view["queue"][0];
    assert_eq!(item["count"], 1);
    let reasons = item["processedOffersSummary"]["rejectSummaryLaunchAttempt"].as_array().unwrap();
    let cpus = reasons.iter().find(|reason| reason["reason"] == "InsufficientCpus").unwrap();
    assert_eq!((&cpus["declined"], &cpus["processed"]), (&json!(1), &json!(2)));
    // A restored offer is declined once nothing has come of it.
    assert_eq!(world.offer(0.5), Vec::<String>::new());
    assert_eq!(item["lastUnusedOffers"][0]["reason"], json!(["InsufficientCpus"]));
}

#[test]
fn an_offer_is_kept_for_a_moment_while_nothing_waits() {
    let mut world = World::new(Settings::default());
    assert_eq!(world.offer(8.0), Vec::<String>::new());
    world.set(&app(1), false).unwrap();
    assert!(world.pass(0).iter().any(|call| matches!(call, Call::Accept { .. })));
    world.offer(8.0);
    let declined = world.pass(3_000);
    assert!(declined.iter().any(|call| matches!(call, Call::Decline { refuse: 120_000, .. })), "{declined:?}");
}

#[test]
fn a_scale_down_kills_what_runs_before_what_waits() {
    let mut world = World::new(Settings::default());
    world.set(&app(2), false).unwrap();
    let running = world.run(2.0);
    assert_eq!(running.len(), 2);
    world.scale(5).unwrap();
    assert_eq!(world.scale(2), Err(409));
    world.set(&json!({ "instances": 2 }), true).unwrap();
    assert_eq!(world.kills(), 2);
    running.iter().for_each(|task| world.tell(task, "TASK_KILLED"));
    assert!(world.core.state.deployments.is_empty());
    assert_eq!(world.count("tasksRunning"), 0);
    assert_eq!(world.run(2.0).len(), 2);
}

#[test]
fn the_delay_after_failures_grows_and_ends_with_a_changed_definition() {
    let mut world = World::new(Settings::default());
    world.set(&app(1), false).unwrap();
    let mut task = world.offer(8.0).pop().expect("a launch");
    for expected in [1_000, 1_150, 1_322] {
        world.tell(&task, "TASK_RUNNING");
        world.tell(&task, "TASK_FAILED");
        let left = world.core.queue["/a"].next_start(world.now).expect("a delay") - world.now;
        assert_eq!(left, expected);
        assert!(world.offer(8.0).is_empty());
        assert!(launched(world.pass(left - 1)).is_empty());
        task = launched(world.pass(1)).pop().expect("a launch");
    }
    world.tell(&task, "TASK_FAILED");
    assert!(world.core.queue["/a"].is_delayed(world.now));
    world.set(&json!({ "cmd": "sleep 2000" }), true).unwrap();
    assert!(!world.core.queue["/a"].is_delayed(world.now));
}

#[test]
fn kills_are_repeated_until_they_are_heard() {
    let mut world = World::new(Settings::default());
    world.set(&app(1), false).unwrap();
    world.run(8.0);
    world.scale(0).unwrap();
    assert_eq!(world.kills(), 1);
    assert_eq!(world.pass(29_000).iter().filter(|call| matches!(call, Call::Kill { .. })).count(), 0);
    assert_eq!(world.pass(1_000).iter().filter(|call| matches!(call, Call::Kill { .. })).count(), 1);
}

#[test]
fn a_rolling_restart_keeps_the_capacity_that_it_is_to() {
    let mut world = World::new(Settings::default());
    let strategy = json!({ "minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0 });
    let mut definition = app(4);
    definition["upgradeStrategy"] = strategy;
    world.set(&definition, false).unwrap();
    world.run(8.0);
    world.set(&json!({ "cmd": "sleep 2000" }), false).unwrap();
    let mut steps = 0;
    while !world.core.state.deployments.is_empty() {
        let victims: Vec<String> = world
            .pass(0)
            .into_iter()
            .filter_map(|call| match call {
                Call::Kill { task } => Some(task),
                _ => None,
            })
            .collect();
        victims.iter().for_each(|task| world.tell(task, "TASK_KILLED"));
        let running = world.count("tasksRunning");
        assert!((2..=4).contains(&running), "{running} run");
        world.run(8.0);
        assert!(world.core.instances_of("/a").count() <= 4);
        steps += 1;
        assert!(steps < 20, "it does not end");
    }
    assert_eq!(world.count("tasksRunning"), 4);
}

#[test]
fn a_state_that_is_taken_over_goes_on_without_a_word() {
    let mut world = World::new(Settings::default());
    world.set(&app(2), false).unwrap();
    world.run(1.0);
    let bytes = serde_json::to_vec(&world.core.state).unwrap();
    world.core = Core::new(Settings::default(), serde_json::from_slice(&bytes).unwrap(), world.now);
    world.pass(10);
    assert!(world.core.state.deployments.is_empty());
    assert!(!world.core.events.iter().any(|event| event.kind.starts_with("deployment")));
    assert_eq!((world.count("tasksRunning"), world.count("instances")), (1, 2));
    assert_eq!(world.run(1.0).len(), 1);
}

#[test]
fn only_so_many_versions_are_kept() {
    let mut world = World::new(Settings::default());
    for count in 0..100 {
        world.set(&app(count % 2), true).unwrap();
    }
    assert!(world.core.app("/a").unwrap().history.len() <= 51);
}
