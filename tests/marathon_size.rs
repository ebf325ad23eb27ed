//! Many apps on a Marathon. Their instances are tasks of an executor that only pretends; all else is as ever.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use microscaler_testbed::{Agent, Cluster};
use microscaler_testbed_marathon::Marathon;
use serde_json::Value;
use support::{PATIENCE, PUSHED, Scaler, app};

const APPS: usize = 200;
const REPLICAS: usize = 10;
const ALL: usize = APPS * REPLICAS;
/// A swap takes so many from as many apps.
const SWAP: usize = 20;

/// Of all of them: `app-0` gets what others have to give.
fn name(n: usize) -> String {
    format!("app-{n}")
}

/// Each agent takes more than its share.
fn cluster() -> Cluster {
    let agent = || Agent::default().resources("cpus:400;mem:65536;disk:4096;ports:[31000-31999]");
    let builder = Cluster::builder().master_flag("allocation_interval", "100ms");
    (0..4).fold(builder, |builder, _| builder.agent(agent())).start().unwrap()
}

fn marathon(cluster: &Cluster) -> Marathon {
    let builder = Marathon::builder(cluster).flag("min_revive_offers_interval", "100").flag("disable_suppress_offers", "true");
    let pretender = cluster.program("bare-executor").unwrap().display().to_string();
    let builder =
        builder.flag("max_instances_per_offer", "500").flag("launch_tokens", "10000").flag("testbed_pretender", pretender);
    builder.start().unwrap()
}

fn manifests(marathon: &Marathon) -> String {
    let urls = marathon.urls();
    let mut text = format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: default}}\nspec:\n  marathon:\n    \
         urls: {urls:?}\n    capacity: {{instances: {ALL}}}\n"
    );
    let at_once = "behavior: {scaleDown: {stabilizationWindowSeconds: 0}}";
    for n in 0..APPS {
        let spec = if n == 0 {
            format!("priority: 1\nminReplicas: {REPLICAS}\nmaxReplicas: 1000\n{PUSHED}\n{at_once}")
        } else {
            format!("priority: {}\nreplicas: {REPLICAS}\n{at_once}", 1 + n)
        };
        let _ = write!(text, "---\n{}", app(&name(n), &spec, "{cpu: 500m, memory: 32Mi}", "shell: exec sleep 100000"));
    }
    text
}

/// The running tasks by app, as Mesos has them.
fn tasks(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for task in cluster.tasks().unwrap().into_iter().filter(|task| task.state == "TASK_RUNNING") {
        all.entry(task.name.split('.').next().unwrap().to_owned()).or_default().push(task.id);
    }
    all.values_mut().for_each(|ids| ids.sort());
    all
}

/// Until `app-0` runs so many, and all of them together what there is room for: by our status, by Marathon and by Mesos.
fn settle(cluster: &Cluster, marathon: &Marathon, scaler: &Scaler, first: usize) -> Duration {
    let start = Instant::now();
    let settled = || {
        let ours: Vec<_> = scaler.apps().into_iter().filter_map(|app| app.status).collect();
        let at_rest = ours.iter().all(|status| status.starting + status.stopping == 0 && status.running == status.granted);
        let running: i64 = ours.iter().map(|status| status.running).sum();
        if !at_rest || running != i64::try_from(ALL).unwrap() {
            return false;
        }
        let apps = marathon.get("/v2/apps").unwrap()["apps"].as_array().cloned().unwrap_or_default();
        let asked: u64 = apps.iter().map(|app| app["instances"].as_u64().unwrap()).sum();
        let tasks = tasks(cluster);
        asked == ALL as u64 && tasks.values().map(Vec::len).sum::<usize>() == ALL && tasks["app-0"].len() == first
    };
    // Two thousand take longer than a few.
    let end = Instant::now() + 2 * PATIENCE;
    while !settled() {
        assert!(Instant::now() < end, "{} of {ALL} run", tasks(cluster).values().map(Vec::len).sum::<usize>());
        std::thread::sleep(Duration::from_millis(250));
    }
    start.elapsed()
}

/// Numbers and versions, as Marathon has them.
fn definitions(marathon: &Marathon) -> BTreeMap<String, [Value; 2]> {
    let apps = marathon.get("/v2/apps").unwrap()["apps"].as_array().cloned().unwrap();
    apps.into_iter().map(|app| (app["id"].to_string(), ["instances", "version"].map(|field| app[field].clone()))).collect()
}

#[test]
fn two_thousand_instances_of_two_hundred_apps() {
    let cluster = cluster();
    let marathon = marathon(&cluster);
    let mut scaler = Scaler::start(&cluster, &[("pool.yaml", &manifests(&marathon))]);
    println!("all came up in {:?}", settle(&cluster, &marathon, &scaler, REPLICAS));
    let before = tasks(&cluster);

    scaler.push("app-0", "load", f64::from(u32::try_from(REPLICAS + SWAP).unwrap()) * 10.0);
    println!("a swap of {SWAP} took {:?}", settle(&cluster, &marathon, &scaler, REPLICAS + SWAP));
    let swapped = tasks(&cluster);
    assert!(before["app-0"].iter().all(|task| swapped["app-0"].contains(task)), "what was there goes on");
    let others = |tasks: &BTreeMap<String, Vec<String>>| {
        tasks.iter().filter(|(app, _)| *app != "app-0").flat_map(|(_, ids)| ids.clone()).collect::<Vec<_>>()
    };
    let kept = others(&swapped);
    assert_eq!(kept.len(), ALL - REPLICAS - SWAP);
    assert!(kept.iter().all(|task| others(&before).contains(task)), "of the others, {SWAP} have ended and none was started");

    let known = definitions(&marathon);
    scaler.kill();
    scaler.run();
    println!("known again after {:?}", settle(&cluster, &marathon, &scaler, REPLICAS + SWAP));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((tasks(&cluster), definitions(&marathon)), (swapped, known), "a restart of ours changes nothing");
}
