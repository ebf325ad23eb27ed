//! How the executor of pooled apps comes to the agents and how it goes again, with the whole program on a real Mesos.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use microscaler_testbed::{AgentHandle, BUSYBOX, Cluster, Feature, busybox_image_with, can_or_skip};
use serde_json::Value;
use support::operator::{Kubernetes, Operator};
use support::pooled::{PROGRAM, agent, cluster_of, executor_pids, executors, kill, pool, pool_with, pooled};
use support::{PUSHED, SLOT, Scaler, alive, app, microscaler, running};
use tempfile::TempDir;

/// What is delivered: the executor alone, which every way of delivery takes as well as the whole program.
const EXECUTOR: &str = env!("CARGO_BIN_EXE_microscaler-executor");

// ---- how it comes -----------------------------------------------------------------------------------------------------------------

/// The program that the process runs, by the path that it has in its own container.
fn program_of(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn programs_of_executors(mesos: &Cluster) -> Vec<PathBuf> {
    let mut programs: Vec<PathBuf> = executor_pids(mesos).into_iter().map(program_of).collect();
    programs.sort();
    programs
}

#[test]
fn the_executor_is_fetched_and_kept_in_the_cache() {
    let mesos = cluster_of(vec![agent(), agent()]);
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("microscaler-executor-1.0");
    std::fs::copy(EXECUTOR, &file).unwrap();
    // As it comes from a web server: it is Mesos that makes it executable.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let pool = pool_with(&mesos, &format!("uri: \"file://{}\"", file.display()), "");
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &pooled("web", "replicas: 12"))]);
    scaler.settle(&mesos, &[("web", 12)]);
    let sandboxes = mesos.directory().canonicalize().unwrap();
    let programs = programs_of_executors(&mesos);
    assert_eq!(programs.len(), 2, "twelve are too many for one agent");
    assert!(programs.iter().all(|program| program.starts_with(&sandboxes) && program.ends_with("microscaler")), "{programs:?}");

    // From now on, only the caches have it.
    std::fs::remove_file(&file).unwrap();
    let before = running(&mesos, "web");
    executor_pids(&mesos).into_iter().for_each(kill);
    scaler.wait("other tasks in place of those", || running(&mesos, "web").iter().all(|task| !before.contains(task)));
    scaler.settle(&mesos, &[("web", 12)]);
}

#[test]
fn an_executor_that_cannot_be_fetched_is_told() {
    let mesos = cluster_of(vec![agent()]);
    let pool = pool_with(&mesos, "uri: \"file:///no/such/microscaler\"", "");
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &pooled("web", "replicas: 1"))]);
    scaler.wait("the reason", || scaler.reason("web").contains("executor"));
    assert_eq!(running(&mesos, "web").len(), 0);
    scaler.write("pool.yaml", &pool_with(&mesos, &format!("uri: \"file://{EXECUTOR}\""), ""));
    scaler.settle(&mesos, &[("web", 1)]);
}

/// No path of this machine, so that it can be found in the image only.
const PROGRAM_IN_IMAGE: &str = "/opt/of-the-image/microscaler-executor";

/// The shared objects that the program is linked with, and what loads them; none if it is static. Their paths are where it looks for
/// them, in an image, too.
fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).filter(|path| path.is_file()).collect()
}

/// An agent that has a busybox with the executor in it, and what that one needs to run; `None` where there are no images. The directory
/// is where the agent finds the image.
fn with_image(test: &str) -> Option<(TempDir, Cluster)> {
    if !can_or_skip(Feature::Images, test) {
        return None;
    }
    let images = tempfile::tempdir().unwrap();
    let libraries = libraries(EXECUTOR).into_iter().map(|library| (library.clone(), library));
    let files: Vec<_> = libraries.chain([(EXECUTOR.into(), PROGRAM_IN_IMAGE.into())]).collect();
    busybox_image_with(images.path(), &files).unwrap();
    let mesos = cluster_of(vec![agent().images(images.path())]);
    Some((images, mesos))
}

/// Replicas that live only inside of that image: no other root has its program and no /usr/share.
fn pooled_in_image(name: &str, spec: &str) -> String {
    let line = format!("test -e {PROGRAM_IN_IMAGE} && test ! -e /usr/share && exec /bin/sleep 100000");
    app(name, spec, SLOT, &format!("launch: pooled\nimage: {BUSYBOX}\nshell: {line}"))
}

#[test]
fn an_executor_is_found_in_the_image_and_elsewhere_on_the_agent() {
    let Some((_images, mesos)) = with_image("an_executor_is_found_in_the_image_and_elsewhere_on_the_agent") else { return };
    let pool = pool_with(&mesos, &format!("path: {PROGRAM}, pathInImages: {PROGRAM_IN_IMAGE}"), "");
    let manifests = [
        ("pool.yaml", &*pool),
        ("inside.yaml", &*pooled_in_image("inside", "replicas: 3")),
        ("outside.yaml", &*pooled("outside", "replicas: 2")),
    ];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.settle(&mesos, &[("inside", 3), ("outside", 2)]);
    let mut expected = [PROGRAM_IN_IMAGE, PROGRAM].map(PathBuf::from);
    expected.sort();
    assert_eq!(programs_of_executors(&mesos), expected);
}

#[test]
fn a_fetched_executor_runs_in_images_too() {
    let Some((_images, mesos)) = with_image("a_fetched_executor_runs_in_images_too") else { return };
    let pool = pool_with(&mesos, &format!("uri: \"file://{EXECUTOR}\""), "");
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &pooled_in_image("web", "replicas: 3"))]);
    scaler.settle(&mesos, &[("web", 3)]);
    let [program] = &programs_of_executors(&mesos)[..] else { panic!("one executor") };
    assert!(program.ends_with("mnt/mesos/sandbox/microscaler"), "{program:?}");
}

// ---- how it goes ------------------------------------------------------------------------------------------------------------------

/// How many executors the agent itself says it has.
fn executors_of(agent: &AgentHandle) -> usize {
    let (status, body) = support::web::fetch(&agent.address().to_string(), "/state").unwrap();
    assert_eq!(status, 200, "{body}");
    let state: Value = serde_json::from_str(&body).unwrap();
    let frameworks = state["frameworks"].as_array().into_iter().flatten();
    frameworks.map(|framework| framework["executors"].as_array().unwrap().len()).sum()
}

/// By the master, by the agents, and by the processes of this machine.
fn assert_empty(mesos: &Cluster) {
    assert_eq!(alive(mesos), [""; 0]);
    assert!(executors(mesos).is_empty());
    assert_eq!(mesos.agents().map(|agent| executors_of(&agent)).sum::<usize>(), 0);
    assert_eq!((executor_pids(mesos), mesos.processes()), (vec![], vec![]));
}

/// Replicas that take a while to end, and leave a file each when they have been let.
fn farewells(name: &str, spec: &str, directory: &Path) -> String {
    let line = format!("trap 'sleep 1; echo > {}/$$; exit 0' TERM; while true; do sleep 0.1; done", directory.display());
    let text = app(name, spec, SLOT, &format!("launch: pooled\nshell: \"{line}\""));
    text.replace("gracePeriodMilliseconds: 0", "gracePeriodMilliseconds: 60000")
}

fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn draining_ends_executors_after_their_replicas_and_they_do_not_come_back() {
    let mesos = cluster_of(vec![agent(), agent()]);
    let said = tempfile::tempdir().unwrap();
    let manifests = [
        ("pool.yaml", &*pool(&mesos, PROGRAM, "")),
        ("slow.yaml", &*farewells("slow", "replicas: 3", said.path())),
        ("web.yaml", &*pooled("web", PUSHED)),
    ];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.push("web", "load", 10.0);
    scaler.settle(&mesos, &[("slow", 3), ("web", 1)]);
    scaler.wait("executors on both agents", || mesos.agents().all(|agent| executors_of(&agent) == 1));

    let (code, _, error) = microscaler(&["drain", "default/default", "--server", scaler.url()]);
    assert_eq!(code, 0, "{error}");
    assert_empty(&mesos);
    assert_eq!(count(said.path()), 3, "no executor has ended before its replicas had");

    scaler.push("web", "load", 40.0);
    std::thread::sleep(Duration::from_secs(1));
    assert_empty(&mesos);
}

#[test]
fn draining_without_a_running_one_finds_executors_with_and_without_replicas() {
    let mesos = cluster_of(vec![agent(), agent()]);
    let said = tempfile::tempdir().unwrap();
    let pool = pool(&mesos, PROGRAM, "");
    let mut scaler =
        Scaler::start(&mesos, &[("pool.yaml", &pool), ("slow.yaml", &farewells("slow", "replicas: 1", said.path()))]);
    scaler.settle(&mesos, &[("slow", 1)]);
    scaler.wait("executors on both agents", || mesos.agents().all(|agent| executors_of(&agent) == 1));
    scaler.wait("the end of the task that brought the second", || alive(&mesos).len() == 1);
    assert!(scaler.stop().success());
    assert_eq!((alive(&mesos).len(), executor_pids(&mesos).len()), (1, 2), "stopping leaves all of it alone");

    let paths = [scaler.manifests(), scaler.state_dir()].map(|path| path.display().to_string());
    let (code, _, error) = microscaler(&["drain", "--manifests", &paths[0], "--state-dir", &paths[1]]);
    assert_eq!(code, 0, "{error}");
    assert_empty(&mesos);
    assert_eq!(count(said.path()), 1, "no executor has ended before its replicas had");
}

/// In a directory, a missing file is as likely a slip as a farewell: whoever wants a pool empty drains it.
#[test]
fn a_pools_manifest_that_is_deleted_ends_neither_replicas_nor_executors() {
    let mesos = cluster_of(vec![agent()]);
    let pool = pool(&mesos, PROGRAM, "    executorIdleSeconds: 0\n");
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &pooled("web", "replicas: 3"))]);
    scaler.settle(&mesos, &[("web", 3)]);
    let before = (alive(&mesos), executor_pids(&mesos));
    scaler.remove("pool.yaml");
    scaler
        .wait("the pool to be forgotten", || scaler.get("/v1/pools").is_some_and(|pools| pools["items"] == Value::Array(vec![])));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((alive(&mesos), executor_pids(&mesos)), before);

    scaler.write("pool.yaml", &pool);
    scaler.settle(&mesos, &[("web", 3)]);
    assert_eq!((alive(&mesos), executor_pids(&mesos)), before, "what was left alone is found again");
}

#[test]
fn a_pool_object_goes_when_its_executors_have_gone() {
    let (mesos, kubernetes) = (cluster_of(vec![agent(), agent()]), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    let executor = format!(", executor: {{path: {PROGRAM}}}");
    kubernetes.apply(&support::operator::pool("default", "default", &mesos.master_urls(), &executor));
    kubernetes.apply(&pooled("web", "replicas: 2"));
    kubernetes.settle(&mesos, &[("web", 2)]);
    kubernetes.wait("executors on both agents", || mesos.agents().all(|agent| executors_of(&agent) == 1));
    kubernetes.kubectl(&["delete", "msa", "web", "--timeout=60s"]);
    assert_eq!((alive(&mesos).len(), executor_pids(&mesos).len()), (0, 2), "they are kept for a next app");
    kubernetes.kubectl(&["delete", "mpool", "default", "--timeout=60s"]);
    assert_empty(&mesos);
}
