//! Hosts are left before their planned maintenance, on a real Mesos: what is wanted moves without a gap, in the room of others, and
//! whoever planned it sees when it may begin. On a Marathon, that is a matter of Marathon.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use microscaler_testbed::{Agent, Cluster};
use support::{PUSHED, REMAINDER, Scaler, alive, running, sleeper};

const SOON: Duration = Duration::from_mins(5);

/// Two hosts with 8 slots each.
fn cluster() -> Cluster {
    let agent = || Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]");
    let other = agent().flag("hostname", "localhost");
    Cluster::builder().fast_failure_detection().agent(agent()).agent(other).start().unwrap()
}

fn start(mesos: &Cluster) -> Scaler {
    let damped = "behavior: {scaleDown: {stabilizationWindowMilliseconds: 100}}";
    let search = sleeper("search", &format!("priority: 1\nminReplicas: 1\nplacement: {{spread: hostname}}\n{damped}\n{PUSHED}"));
    let rest = sleeper("rest", &format!("priority: 2\nminReplicas: 1\n{REMAINDER}"));
    Scaler::start(mesos, &[("search.yaml", &search), ("rest.yaml", &rest)])
}

/// How many tasks run on the agent of that index.
fn on(mesos: &Cluster, agent: usize) -> usize {
    let id = mesos.agent(agent).id().unwrap();
    mesos.tasks().unwrap().iter().filter(|task| task.agent_id == id && !task.is_terminal()).count()
}

#[test]
fn a_host_is_left_before_its_maintenance_and_used_again_afterwards() {
    let mesos = cluster();
    let scaler = start(&mesos);
    scaler.push("search", "load", 60.0);
    scaler.settle(&mesos, &[("search", 6), ("rest", 10)]);
    assert_eq!((on(&mesos, 0), on(&mesos, 1)), (8, 8));

    mesos.agent(1).plan_maintenance(SOON).unwrap();
    scaler.wait("the host to be left", || {
        assert!(running(&mesos, "search").len() >= 6, "never fewer than wanted");
        on(&mesos, 1) == 0
    });
    scaler.settle(&mesos, &[("search", 6), ("rest", 2)]);
    assert!(scaler.log().contains("maintenance of agent localhost"), "it says why");
    scaler.wait("the plan to be agreed to", || mesos.maintenance_answers().unwrap() == ["ACCEPT"]);

    let before = alive(&mesos);
    let host = mesos.agent(1).begin_maintenance().unwrap();
    scaler.wait("the agent to be gone", || mesos.get("/master/slaves").unwrap()["slaves"].as_array().unwrap().len() == 1);
    assert_eq!(alive(&mesos), before, "nobody was there any more");
    mesos.end_maintenance(&host).unwrap();
    mesos.agent(1).kill();
    mesos.agent(1).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    scaler.settle(&mesos, &[("search", 6), ("rest", 10)]);
    assert!(before.iter().all(|task| alive(&mesos).contains(task)), "what has moved stays where it is");
}

#[test]
fn what_finds_no_room_elsewhere_stays_and_is_lacked_until_the_plan_is_dropped() {
    let mesos = cluster();
    let scaler = start(&mesos);
    scaler.push("search", "load", 120.0);
    scaler.settle(&mesos, &[("search", 12), ("rest", 4)]);

    // Of the 8 slots that stay, one is the minimum of the rest.
    mesos.agent(1).plan_maintenance(SOON).unwrap();
    let pool = || scaler.get("/v1/pools").unwrap()["items"][0]["status"].clone();
    scaler.wait("the lack to be told", || pool()["shortfall"]["replicas"] == 5);
    scaler.wait("the move to be over", || (on(&mesos, 0), on(&mesos, 1)) == (8, 5));
    scaler.settle(&mesos, &[("search", 12), ("rest", 1)]);
    assert!(scaler.reason("search").contains("5 replicas to move off hosts that are due for maintenance, but there is no room"));
    assert_eq!(mesos.maintenance_answers().unwrap(), [""; 0], "it is not agreed to while it would cost what is wanted");

    mesos.drop_maintenance_plans().unwrap();
    scaler.settle(&mesos, &[("search", 12), ("rest", 4)]);
    scaler.wait("the lack to be over", || pool()["shortfall"].is_null());
}
