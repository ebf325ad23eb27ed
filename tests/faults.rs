//! Deaths at random moments, on a real Mesos: the same tasks afterwards, no duplicate, no orphan, exact counts.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use std::time::Duration;

use microscaler_testbed::Cluster;
use support::place::{Kind, Place};
use support::{PUSHED, REMAINDER, Scaler, alive, cluster, running, sleeper};

scenarios! {
    on_both: [
        killed_at_rest_it_finds_the_same_tasks,
        killed_at_random_moments_it_loses_and_doubles_nothing,
        a_master_killed_at_random_moments_costs_nothing,
        an_agent_that_restarts_keeps_its_tasks,
        a_dead_agent_is_replaced_and_a_surplus_ends_when_it_returns,
        another_master_takes_over,
    ],
    on_mesos_alone: {
        two_at_once_never_act_together: "nothing in Marathon tells two of ours apart: one of them has to be kept from starting",
        a_framework_that_was_torn_down_is_not_made_anew_in_silence: "the framework is Marathon's there",
    },
}

/// The moments are random, but a failure can be repeated with its seed.
fn random() -> fastrand::Rng {
    let seed =
        std::env::var("MICROSCALER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MICROSCALER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn two_apps() -> [(&'static str, String); 2] {
    [
        (
            "search.yaml",
            sleeper(
                "search",
                &format!(
                    "priority: 1\nminReplicas: 1\nbehavior: {{scaleDown: {{stabilizationWindowMilliseconds: 100}}}}\n{PUSHED}"
                ),
            ),
        ),
        ("rest.yaml", sleeper("rest", &format!("priority: 2\nminReplicas: 1\n{REMAINDER}"))),
    ]
}

fn start(mesos: &impl Place) -> Scaler {
    let apps = two_apps();
    let scaler = Scaler::start(mesos, &apps.each_ref().map(|(file, text)| (*file, text.as_str())));
    scaler.push("search", "load", 20.0);
    scaler
}

/// After all the harm: exact counts, and every process that runs is one of these tasks.
fn all_is_well(scaler: &Scaler, mesos: &Cluster, slots: i64) {
    scaler.push("search", "load", 50.0);
    scaler.settle(mesos, &[("search", 5), ("rest", slots - 5)]);
    let slots = usize::try_from(slots).unwrap();
    assert_eq!(alive(mesos).len(), slots, "no orphan at the master");
    scaler.wait("the processes to be exactly the tasks", || mesos.processes().len() == slots);
}

fn killed_at_rest_it_finds_the_same_tasks(kind: Kind) {
    let mesos = kind.cluster(2);
    let mut scaler = start(&mesos);
    scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let before = alive(&mesos);
    for _ in 0..3 {
        scaler.kill();
        scaler.run();
        scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    }
    assert_eq!(alive(&mesos), before);
    all_is_well(&scaler, &mesos, 16);
}

fn killed_at_random_moments_it_loses_and_doubles_nothing(kind: Kind) {
    let mut random = random();
    let mesos = kind.cluster(2);
    let mut scaler = start(&mesos);
    for _ in 0..12 {
        scaler.push("search", "load", f64::from(random.u32(0..16)) * 10.0);
        std::thread::sleep(Duration::from_millis(random.u64(0..150)));
        scaler.kill();
        std::thread::sleep(Duration::from_millis(random.u64(0..100)));
        scaler.run();
    }
    all_is_well(&scaler, &mesos, 16);
}

fn a_master_killed_at_random_moments_costs_nothing(kind: Kind) {
    let mut random = random();
    let mesos = kind.cluster(2);
    let scaler = start(&mesos);
    scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let before = alive(&mesos);
    mesos.master(0).kill();
    std::thread::sleep(Duration::from_millis(500));
    mesos.master(0).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    assert_eq!(alive(&mesos), before, "the same tasks as before");
    for _ in 0..4 {
        scaler.push("search", "load", f64::from(random.u32(0..16)) * 10.0);
        std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        mesos.master(0).kill();
        std::thread::sleep(Duration::from_millis(random.u64(0..500)));
        mesos.master(0).start().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(0..1500)));
    }
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    all_is_well(&scaler, &mesos, 16);
}

fn an_agent_that_restarts_keeps_its_tasks(kind: Kind) {
    let mut random = random();
    let mesos = kind.cluster(2);
    let scaler = start(&mesos);
    scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let before = alive(&mesos);
    mesos.agent(0).kill();
    std::thread::sleep(Duration::from_millis(300));
    mesos.agent(0).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    scaler.settle(&mesos, &[("search", 2), ("rest", 14)]);
    assert_eq!(alive(&mesos), before, "the same tasks as before");
    for round in 0..3 {
        scaler.push("search", "load", f64::from(random.u32(0..16)) * 10.0);
        std::thread::sleep(Duration::from_millis(random.u64(0..100)));
        mesos.agent(round % 2).kill();
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        mesos.agent(round % 2).start().unwrap();
        mesos.wait_until_ready(support::PATIENCE).unwrap();
    }
    all_is_well(&scaler, &mesos, 16);
}

fn a_dead_agent_is_replaced_and_a_surplus_ends_when_it_returns(kind: Kind) {
    let mesos = kind.cluster(2);
    let scaler = Scaler::start(&mesos, &[("web.yaml", &sleeper("web", "replicas: 6\nplacement: {spread: rack}"))]);
    scaler.settle(&mesos, &[("web", 6)]);
    mesos.agent(0).kill();
    scaler.wait("the lost half to be replaced", || {
        scaler.counts("web").is_some_and(|(_, running, _)| running == 6) && running(&mesos, "web").len() == 6
    });
    mesos.agent(0).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    scaler.settle(&mesos, &[("web", 6)]);
    scaler.wait("the processes to be exactly the tasks", || mesos.processes().len() == 6);
}

fn another_master_takes_over(kind: Kind) {
    let mesos = kind.on(Cluster::builder().masters(3).agents(1).fast_failure_detection().start().unwrap());
    let scaler = Scaler::start(&mesos, &[("web.yaml", &sleeper("web", &format!("priority: 1\n{PUSHED}")))]);
    scaler.push("web", "load", 30.0);
    scaler.settle(&mesos, &[("web", 3)]);
    let before = running(&mesos, "web");
    mesos.master(mesos.leader().unwrap()).kill();
    support::wait_for("another leader", || mesos.leader().ok());
    scaler.push("web", "load", 50.0);
    scaler.settle(&mesos, &[("web", 5)]);
    assert!(before.iter().all(|task| running(&mesos, "web").contains(task)), "the same tasks as before");
}

fn two_at_once_never_act_together() {
    let mesos = cluster(1);
    let scaler = start(&mesos);
    scaler.settle(&mesos, &[("search", 2), ("rest", 6)]);

    // With the same state it does not even start.
    let output = scaler.command().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("another microscaler uses the state directory"), "{error}");

    // With its state lost it neither takes over nor starts a second set of tasks, and says what to do.
    let before = alive(&mesos);
    let apps = two_apps();
    let other = Scaler::start(&mesos, &apps.each_ref().map(|(file, text)| (*file, text.as_str())));
    other.wait("the loss to be said", || other.get("/v1/pools").is_some_and(|pools| pools.to_string().contains("--fresh")));
    assert_eq!(alive(&mesos), before);
    all_is_well(&scaler, &mesos, 8);
}

fn a_framework_that_was_torn_down_is_not_made_anew_in_silence() {
    let mesos = cluster(1);
    let mut scaler = start(&mesos);
    scaler.settle(&mesos, &[("search", 2), ("rest", 6)]);
    let pools = scaler.get("/v1/pools").unwrap();
    let id = pools["items"][0]["status"]["frameworkId"].as_str().unwrap().to_owned();
    mesos.operator(&serde_json::json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": id}}})).unwrap();
    scaler.wait("the removal to be said", || scaler.get("/v1/pools").is_some_and(|pools| pools.to_string().contains("removed")));
    std::thread::sleep(Duration::from_secs(2));
    assert!(alive(&mesos).is_empty(), "nothing was started anew");
    scaler.kill();
}
