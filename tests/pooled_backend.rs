//! Pooled executors, images and checks of the Mesos backend, against a real Apache Mesos.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

#[path = "support/rig.rs"]
mod rig;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use microscaler::api::validated::{App, Pool};
use microscaler::backend::{End, Orders};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{BasePhase, Fitted, TaskPhase};
use microscaler_testbed::{Agent, BUSYBOX, Cluster, Feature, can_or_skip};
use rig::{Rig, app, pool};

const ALL: Resources = Resources { cpu: 4000, memory: 1_024_000, disk: 0, gpu: 0, ports: 0 };

fn cluster() -> Cluster {
    let agent = Agent::default().resources("cpus:4;mem:1024;disk:100;ports:[31000-31009]");
    Cluster::builder().agent(agent).master_flag("allocation_interval", "100ms").fast_failure_detection().start().unwrap()
}

/// The executor is this same program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_microscaler");

fn pool_with(cluster: &Cluster, program: &str) -> Arc<Pool> {
    pool(&[cluster.master_url()], &format!(", executor: {{path: {program}}}"))
}

fn pooled(name: &str) -> Arc<App> {
    app(name, "{launch: pooled, shell: exec sleep 1000, resources: {cpu: 100m, memory: 32Mi}, gracePeriodMilliseconds: 0}")
}

async fn all_held(rig: &mut Rig, room: Resources) {
    rig.order(Orders { recall: true, ..Orders::default() });
    rig.until("room held", |rig| {
        rig.world.agents.iter().any(|agent| room.fits(agent.held + agent.expected) && room.fits(agent.held))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_is_prepared_used_and_retired() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let web = pooled("web");
    let mut rig = Rig::start(pool_with(&cluster, PROGRAM), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    rig.prepare(&web, 0);
    assert!(matches!(rig.bases(0), [Fitted { phase: BasePhase::Coming, .. }]));
    let took = rig.until("prepared", |rig| rig.executor(0).is_some()).await;
    println!("an executor is ready after {took:?}");
    let executor = rig.executor(0).unwrap();
    // All but the executor's own room.
    all_held(&mut rig, ALL - Resources::new(10, 32)).await;
    assert_eq!(rig.world.agents[0].held.cpu, 3990);

    let started = Instant::now();
    let ids = rig.launch(&web, 0, 10);
    rig.running(&web, 10).await;
    println!("10 tasks run after {:?}", started.elapsed());
    assert!(rig.tasks(&web).iter().all(|task| task.executor.as_ref() == Some(&executor) && task.ready));
    rig.kill(&web, &ids);
    rig.gone(&web).await;
    assert!(rig.endings.iter().all(|ending| ending.how == End::Killed), "{:?}", rig.endings);

    rig.retire(&executor, 0);
    rig.until("retired", |rig| rig.bases(0).is_empty()).await;
    all_held(&mut rig, ALL).await;
    // Room that was said to be free twice would be missed now.
    assert_eq!(rig.world.futile_until, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_brings_its_executor_along_and_outlives_its_end() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let web = pooled("web");
    let mut rig = Rig::start(pool_with(&cluster, PROGRAM), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    rig.launch(&web, 0, 3);
    let took = rig.running(&web, 3).await;
    println!("with their executor, they run after {took:?}");
    let first = rig.executor(0).unwrap();

    kill_executor(&first);
    rig.gone(&web).await;
    assert_eq!(rig.endings.len(), 3);
    assert!(rig.endings.iter().all(|ending| ending.how == End::Lost), "{:?}", rig.endings);
    println!("{:?}; {:?}", rig.endings[0].message, rig.notes);
    rig.until("gone", |rig| rig.executor(0).is_none()).await;
    assert_eq!(rig.bases(0), []);

    all_held(&mut rig, ALL).await;
    rig.launch(&web, 0, 3);
    rig.running(&web, 3).await;
    assert_ne!(rig.executor(0), Some(first));
}

/// As if it had crashed.
fn kill_executor(id: &str) {
    let variable = format!("MESOS_EXECUTOR_ID={id}");
    let mut found = false;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let is_program = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == Path::new(PROGRAM));
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if is_program && environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) {
            found |= std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success();
        }
    }
    assert!(found, "{id} does not run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_said() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let web = pooled("web");
    let mut rig = Rig::start(pool_with(&cluster, "/none/such"), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    rig.launch(&web, 0, 2);
    rig.gone(&web).await;
    assert!(rig.endings.len() == 2 && rig.endings.iter().all(|ending| ending.how == End::Dropped), "{:?}", rig.endings);
    rig.pass(Duration::from_millis(300)).await;
    let [Fitted { phase: BasePhase::Failed { why, tries: 1, .. }, executor: None, .. }] = rig.bases(0) else {
        panic!("{:?}", rig.bases(0))
    };
    println!("{why}");
    assert!(why.starts_with("executor ended before it registered: "), "{why}");
    all_held(&mut rig, ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pooled_tasks_outlive_us_and_are_adopted() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let web = pooled("web");
    let pool = pool_with(&cluster, PROGRAM);
    let mut rig = Rig::start(pool.clone(), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    let executor = rig.executor(0);
    assert!(executor.is_some());
    drop(rig);

    let mut rig = Rig::start(pool, state.path());
    rig.ready().await;
    assert_eq!(rig.count(&web, TaskPhase::Running), 2);
    assert!(rig.tasks(&web).iter().all(|task| task.executor == executor), "{:?}", rig.tasks(&web));
    assert_eq!(rig.executor(0), executor);
    rig.held(Resources::new(1000, 64)).await;
    rig.launch(&web, 0, 1);
    rig.running(&web, 3).await;
    assert_eq!((rig.executor(0), rig.endings.len()), (executor, 0), "the same goes on");
    println!("what it said when it was asked: {:?}", rig.bases(0)[0].limits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_ready_while_its_check_succeeds() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    let flag = state.path().join("up");
    let probe = format!("exec: {{command: [test, -f, {}]}}, periodMilliseconds: 50, timeoutMilliseconds: 5000", flag.display());
    let resources = "resources: {cpu: 100m, memory: 32Mi}, gracePeriodMilliseconds: 0";
    let web = app("web", &format!("{{shell: exec sleep 1000, readiness: {{{probe}}}, {resources}}}"));
    rig.launch(&web, 0, 1);
    rig.running(&web, 1).await;
    rig.pass(Duration::from_millis(300)).await;
    assert!(!rig.tasks(&web)[0].ready);
    std::fs::write(&flag, "").unwrap();
    rig.until("ready", |rig| rig.tasks(&web)[0].ready).await;
    std::fs::remove_file(&flag).unwrap();
    rig.until("not ready", |rig| !rig.tasks(&web)[0].ready).await;
    assert_eq!(rig.count(&web, TaskPhase::Running), 1, "that ends nothing");

    all_held(&mut rig, Resources::new(1000, 64)).await;
    let sick = app("sick", &format!("{{shell: exec sleep 1000, liveness: {{{probe}, failureThreshold: 2}}, {resources}}}"));
    rig.launch(&sick, 0, 1);
    rig.until("ended", |rig| !rig.endings.is_empty()).await;
    assert_eq!((&rig.endings[0].app, rig.endings[0].how), (&sick.key, End::Failed), "{:?}", rig.endings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_entered() {
    let (cluster, state) = (cluster(), tempfile::tempdir().unwrap());
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    let directory = state.path().join("it's here");
    std::fs::create_dir(&directory).unwrap();
    let more = format!("workingDirectory: \"{}\", resources: {{cpu: 100m, memory: 32Mi}}", directory.display());
    let (shell, argv) =
        (app("shell", &format!("{{shell: pwd > shell, {more}}}")), app("argv", &format!("{{command: [touch, argv], {more}}}")));
    rig.launch(&shell, 0, 1);
    rig.until("done", |rig| rig.endings.len() == 1).await;
    all_held(&mut rig, Resources::new(1000, 64)).await;
    rig.launch(&argv, 0, 1);
    rig.until("done", |rig| rig.endings.len() == 2).await;
    assert!(rig.endings.iter().all(|ending| ending.how == End::Finished), "{:?}", rig.endings);
    assert!(directory.join("shell").exists() && directory.join("argv").exists());
}

fn with_images(directory: &Path) -> Cluster {
    let images = directory.join("images");
    microscaler_testbed::busybox_image(&images).unwrap();
    let agent = Agent::default().resources("cpus:4;mem:1024;disk:100;ports:[31000-31009]").images(images);
    Cluster::builder().agent(agent).master_flag("allocation_interval", "100ms").start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_fetched_ahead() {
    if !can_or_skip(Feature::Images, "images_are_fetched_ahead") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let cluster = with_images(state.path());
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    let of = |name: &str, image: &str| app(name, &format!("{{image: '{image}', prefetch: true, {SLEEPS}}}"));
    let (web, none) = (of("web", BUSYBOX), of("none", "no/such/image"));
    rig.prepare(&web, 0);
    let took = rig.until("fetched", |rig| matches!(rig.bases(0), [Fitted { phase: BasePhase::Ready, executor: None, .. }])).await;
    println!("an image is there after {took:?}");
    all_held(&mut rig, Resources::new(1000, 64)).await;
    rig.prepare(&none, 0);
    rig.until("failed", |rig| matches!(rig.bases(0), [_, Fitted { phase: BasePhase::Failed { .. }, .. }])).await;
    println!("{:?}", rig.bases(0)[1]);
    all_held(&mut rig, ALL).await;
    rig.launch(&web, 0, 1);
    rig.running(&web, 1).await;
    assert_eq!(rig.endings, []);
}

const SLEEPS: &str = "shell: exec sleep 1000, resources: {cpu: 100m, memory: 32Mi}, gracePeriodMilliseconds: 0";

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_in_an_image_has_the_program_of_the_agent() {
    if !can_or_skip(Feature::Images, "an_executor_in_an_image_has_the_program_of_the_agent") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let cluster = with_images(state.path());
    // What this build of the program is linked with is not in the image.
    let directories = ["/usr/lib", "/lib", "/lib64"];
    let volume = |directory: &&str| format!("{{hostPath: {directory}, mountPath: {directory}, readOnly: true}}");
    let volumes = directories.iter().map(volume).collect::<Vec<_>>().join(", ");
    let line = "shell: 'test ! -d /usr/share && exec sleep 1000', resources: {cpu: 100m, memory: 32Mi}";
    let web = app("web", &format!("{{launch: pooled, image: '{BUSYBOX}', volumes: [{volumes}], {line}}}"));
    let mut rig = Rig::start(pool_with(&cluster, PROGRAM), state.path());
    rig.ready().await;
    rig.held(ALL).await;
    rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    rig.pass(Duration::from_millis(500)).await;
    assert_eq!((rig.count(&web, TaskPhase::Running), rig.endings.len()), (2, 0), "{:?}", rig.endings);
    assert!(rig.executor(0).is_some());
}
