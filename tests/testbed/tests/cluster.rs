//! Clusters start, say what they are, and leave nothing behind, however they end.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::bare::{Framework, framework_info, task_info};
use microscaler_testbed::{Agent, Cluster, Feature, Tasks, can_or_skip, marked};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::LIMIT;
use support::local::{mark_of, start_local, wait_until_nothing_is_left};

fn run_tasks(master_url: &str, count: usize) -> Framework {
    let mut framework = Framework::subscribe(master_url, &framework_info("testbed")).unwrap();
    let offer = framework.take_offer(1.0, 512.0, LIMIT).unwrap();
    // One that clears its environment, and with it the mark, must end as well.
    let commands = ["exec sleep 1000", "exec env -i sleep 1000"].into_iter().cycle();
    let tasks: Vec<Value> =
        (0..count).zip(commands).map(|(i, command)| task_info(&format!("task-{i}"), &offer, command, 0.1, 32.0)).collect();
    framework.launch(&offer, &tasks).unwrap();
    for i in 0..count {
        framework.wait_for_state(&format!("task-{i}"), &["TASK_RUNNING"], LIMIT).unwrap();
    }
    framework
}

#[test]
fn a_cluster_is_as_described_and_leaves_nothing() {
    let special = Agent::default().resources("cpus:2;mem:512;disk:10").attribute("rack", "r1");
    let cluster = Cluster::builder().agents(1).agent(special).start().unwrap();
    let (id, directory) = (cluster.id().to_owned(), cluster.directory().to_owned());

    let agents = cluster.get("/master/slaves").unwrap();
    assert_eq!(agents["slaves"].as_array().unwrap().len(), 2);
    let own_id = cluster.agent(1).id().unwrap();
    let own = agents["slaves"].as_array().unwrap().iter().find(|agent| agent["id"] == *own_id).unwrap();
    assert_eq!((&own["resources"]["cpus"], &own["attributes"]["rack"]), (&json!(2.0), &json!("r1")));
    let version = cluster.operator(&json!({ "type": "GET_VERSION" })).unwrap();
    assert_eq!(version["get_version"]["version_info"]["version"], "1.11.0");
    assert!(cluster.get("/no/such/page").is_err());

    let _framework = run_tasks(&cluster.master_url(), 3);
    assert_eq!(cluster.processes().len(), 3);
    let tasks = cluster.tasks().unwrap().running();
    assert_eq!(tasks.len(), 3);
    assert!(tasks.iter().all(|task| task.is_running() && task.resources["mem"] > 31.0));
    // Two agents, a master; and for each task a container's first process, an executor and the task itself.
    assert_eq!(marked::processes(&id).len(), 3 + 9);

    drop(cluster);
    assert_eq!(marked::processes(&id), []);
    assert!(!directory.exists());
}

#[test]
fn a_halted_agent_is_given_up_and_comes_back() {
    let cluster = Cluster::builder().agents(1).fast_failure_detection().start().unwrap();
    let mut framework = run_tasks(&cluster.master_url(), 1);
    cluster.agent(0).stop().unwrap();
    assert!(cluster.agent(0).is_running());
    framework.wait_for_state("task-0", &["TASK_UNREACHABLE"], LIMIT).unwrap();
    cluster.agent(0).resume().unwrap();
    framework.wait_for_state("task-0", &["TASK_RUNNING"], LIMIT).unwrap();
}

#[test]
fn many_agents_fit_in_one_process() {
    let agents = Agent::default().copies(20).resources("cpus:1;mem:128;disk:10").attribute("rack", "r{i}");
    let cluster = Cluster::builder().agent(agents).start().unwrap();
    assert_eq!(cluster.get("/master/slaves").unwrap()["slaves"].as_array().unwrap().len(), 20);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let run_directory = tempfile::tempdir().unwrap();
    let builder = Cluster::builder().agents(1).agent_flag("isolation", "no/such").run_directory(run_directory.path());
    let error = format!("{:#}", builder.time_limit(Duration::from_secs(20)).start().err().unwrap());
    assert!(error.contains("no/such"), "{error}");
    assert_eq!(std::fs::read_dir(run_directory.path()).unwrap().count(), 0);
}

fn control_groups_of(id: &str) -> Vec<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let groups = hierarchies.filter_map(|hierarchy| std::fs::read_dir(hierarchy.path()).ok()).flatten().flatten();
    groups.map(|group| group.path().display().to_string()).filter(|path| path.contains(id)).collect()
}

#[test]
fn an_owner_that_is_killed_leaves_no_control_groups() {
    if !can_or_skip(Feature::Limits, "an_owner_that_is_killed_leaves_no_control_groups") {
        return;
    }
    let (owner, about) = start_local(&["--agents", "1", "--linux"]);
    let directory = Path::new(about["directory"].as_str().unwrap());
    let id = mark_of(directory);
    let _framework = run_tasks(about["masters"][0].as_str().unwrap(), 2);
    assert!(!control_groups_of(&id).is_empty());
    drop(owner);
    wait_until_nothing_is_left(&id, directory);
    assert_eq!(control_groups_of(&id), [] as [&str; 0]);
}

#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    let (owner, about) = start_local(&["--agents", "1"]);
    let directory = Path::new(about["directory"].as_str().unwrap());
    let id = mark_of(directory);
    let _framework = run_tasks(about["masters"][0].as_str().unwrap(), 2);
    assert_eq!(marked::processes(&id).len(), 2 + 6);
    drop(owner);
    wait_until_nothing_is_left(&id, directory);
}

#[test]
fn mesos_local_ends_with_its_standard_input() {
    let (mut owner, about) = start_local(&["--agents", "2", "--attribute", "rack:r{i}", "--until-stdin-closes"]);
    assert_eq!(about["agents"].as_array().unwrap().len(), 2);
    let directory = Path::new(about["directory"].as_str().unwrap());
    let id = mark_of(directory);
    owner.close_stdin();
    assert!(owner.wait().success());
    assert_eq!(marked::processes(&id), []);
    assert!(!directory.exists());
}
