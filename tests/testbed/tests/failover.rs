//! Several masters, with `ZooKeeper`. Slow: about 20 s.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

use microscaler_testbed::Cluster;
use microscaler_testbed::bare::{Framework, framework_info, task_info};
use serde_json::json;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn another_master_leads_when_the_leader_dies_and_tasks_go_on() {
    let cluster = Cluster::builder().masters(3).agents(1).fast_failure_detection().start().unwrap();
    let first = cluster.leader().unwrap();
    let mut framework = Framework::subscribe(&cluster.master(first).url(), &framework_info("testbed")).unwrap();
    let offer = framework.take_offer(0.5, 64.0, LIMIT).unwrap();
    framework.launch(&offer, &[task_info("survivor", &offer, "exec sleep 1000", 0.1, 32.0)]).unwrap();
    framework.wait_for_state("survivor", &["TASK_RUNNING"], LIMIT).unwrap();

    cluster.master(first).kill();
    cluster.wait_until_ready(LIMIT).unwrap();

    let second = cluster.leader().unwrap();
    assert_ne!(first, second);
    let mut info = framework_info("testbed");
    info["id"] = json!({ "value": framework.id });
    let mut framework = Framework::subscribe(&cluster.master(second).url(), &info).unwrap();
    framework.calls.reconcile(&[]);
    framework.calls.confirm().unwrap();
    framework.wait_for_state("survivor", &["TASK_RUNNING"], LIMIT).unwrap();
    assert_eq!(cluster.processes().len(), 1);

    cluster.master(first).start().unwrap();
    assert_eq!(cluster.masters().iter().filter(|master| master.is_running()).count(), 3);
}
