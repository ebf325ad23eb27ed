//! GitOps end to end: each commit of a real git repository is applied as Flux or Argo CD would, and health is read from the conventions of
//! kstatus alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use serde_json::Value;
use support::operator::{Kubernetes, Operator, pool};
use support::{alive, cluster, running, sleeper};
use tempfile::TempDir;

/// A repository of manifests, and what reconciles a cluster with it.
struct Repository {
    dir: TempDir,
}

impl Repository {
    fn init() -> Self {
        let repository = Self { dir: TempDir::new().unwrap() };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.dir.path()).args(["-c", "user.name=shop", "-c", "user.email=shop@example.org"]).args(arguments);
        let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Commits these files, and nothing else besides the kustomization that names them.
    fn commit(&self, message: &str, files: &[(&str, String)]) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
        let write = |name: &str, text: &str| std::fs::write(self.dir.path().join(name), text).unwrap();
        files.iter().for_each(|(name, text)| write(name, text));
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let kustomization = format!("labels: [{{pairs: {{app.kubernetes.io/part-of: shop}}}}]\nresources: {names:?}\n");
        write("kustomization.yaml", &kustomization);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// What a GitOps controller does with the newest commit.
    fn sync(&self, kubernetes: &Kubernetes) {
        let checkout = TempDir::new().unwrap();
        self.git(&["clone", "--quiet", ".", checkout.path().to_str().unwrap()]);
        let mut apply = kubernetes.control.kubectl_command(&["apply", "-k", checkout.path().to_str().unwrap(), "-n", "default"]);
        // With server-side apply, what is to be pruned is known by such a set.
        apply.args(APPLY).args(["--prune", "--applyset=shop"]).env("KUBECTL_APPLYSET", "true");
        let output = apply.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether the newest commit would change nothing.
    fn is_in_step(&self, kubernetes: &Kubernetes) -> bool {
        let directory = self.dir.path().to_str().unwrap();
        let would_be = kubernetes.kubectl(&[&["apply", "-k", directory, "--dry-run=server", "-o", "json"][..], &APPLY].concat());
        specs(&would_be) == specs(&kubernetes.kubectl(&["get", "mpool,msa", "-o", "json"]))
    }
}

const APPLY: [&str; 3] = ["--server-side", "--force-conflicts", "--field-manager=gitops"];

/// The specs in a list of objects, by kind and name.
fn specs(list: &str) -> BTreeMap<(String, String), Value> {
    let list: Value = serde_json::from_str(list).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let spec = |object: &Value| ((text(&object["kind"]), text(&object["metadata"]["name"])), object["spec"].clone());
    list["items"].as_array().unwrap().iter().map(spec).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Current,
    InProgress,
    Failed,
    Terminating,
}

/// As sigs.k8s.io/cli-utils/pkg/kstatus judges a custom resource that it knows nothing of.
fn health(object: &Value) -> Health {
    let condition = |kind: &str| {
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
        found.and_then(|condition| condition["status"].as_str())
    };
    let observed = object["status"]["observedGeneration"].as_i64();
    if object["metadata"]["deletionTimestamp"].is_string() {
        Health::Terminating
    } else if observed.is_some_and(|observed| Some(observed) != object["metadata"]["generation"].as_i64())
        || condition("Reconciling") == Some("True")
    {
        Health::InProgress
    } else if condition("Stalled") == Some("True") {
        Health::Failed
    } else if condition("Ready").is_none_or(|ready| ready == "True") {
        Health::Current
    } else {
        Health::InProgress
    }
}

fn healths(kubernetes: &Kubernetes) -> Vec<(String, Health)> {
    let list: Value = serde_json::from_str(&kubernetes.kubectl(&["get", "mpool,msa", "-o", "json"])).unwrap();
    let judge = |object: &Value| (object["metadata"]["name"].as_str().unwrap().to_owned(), health(object));
    list["items"].as_array().unwrap().iter().map(judge).collect()
}

fn wait_until_current(kubernetes: &Kubernetes) {
    kubernetes.wait("everything to be current", || healths(kubernetes).iter().all(|(_, health)| *health == Health::Current));
}

fn web(replicas: u32, greeting: &str) -> String {
    let web = sleeper("web", &format!("replicas: {replicas}\npriority: 1\nrollout: {{maxSurge: 4}}"));
    web + &format!("    env: [{{name: GREETING, value: {greeting}}}]\n")
}

/// How many tasks of the app run that were started with this greeting.
fn greeting(mesos: &Cluster, greeting: &str) -> usize {
    let wanted = format!("GREETING={greeting}");
    let has = |pid: &u32| std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ"));
    let matching = |environ: Vec<u8>| environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
    mesos.processes().iter().filter_map(|pid| has(pid).ok()).filter(|environ| matching(environ.clone())).count()
}

#[test]
fn a_repository_is_the_truth() {
    let (mesos, kubernetes, repository) = (cluster(2), Kubernetes::start(), Repository::init());
    let _operator = Operator::start(&kubernetes);
    let pool = || ("pool.yaml", pool("default", "default", &mesos.master_urls(), ""));
    let batch = || ("batch.yaml", sleeper("batch", "priority: 9").replace("spec:\n", "spec:\n  minReplicas: 1\n"));

    repository.commit("Open the shop", &[pool(), ("web.yaml", web(2, "hello")), batch()]);
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    // Current is not said before it is true.
    assert_eq!((running(&mesos, "web").len(), running(&mesos, "batch").len()), (2, 1));
    assert_eq!(greeting(&mesos, "hello"), 2);

    repository.commit("Greet more, and otherwise", &[pool(), ("web.yaml", web(4, "welcome")), batch()]);
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    assert_eq!((running(&mesos, "web").len(), greeting(&mesos, "welcome"), greeting(&mesos, "hello")), (4, 4, 0));

    // A bad commit is seen as failed, and going back mends it.
    let broken = web(4, "oops").replace("exec sleep 100000", "exit 3");
    repository.commit("Break it", &[pool(), ("web.yaml", broken), batch()]);
    repository.sync(&kubernetes);
    kubernetes.wait("the failure to be seen", || healths(&kubernetes).contains(&("web".to_owned(), Health::Failed)));
    repository.git(&["revert", "--no-edit", "HEAD"]);
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    assert_eq!((running(&mesos, "web").len(), greeting(&mesos, "welcome")), (4, 4));

    // Drift of what the repository says is put right; what it does not say belongs to whoever sets it.
    assert!(repository.is_in_step(&kubernetes));
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"priority":7}}"#]);
    kubernetes.kubectl(&["scale", "msa/batch", "--replicas=3"]);
    kubernetes.kubectl(&[
        "patch",
        "msa",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"phase":"Failed"}}"#,
    ]);
    assert!(!repository.is_in_step(&kubernetes));
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    kubernetes.settle(&mesos, &[("web", 4), ("batch", 3)]);
    assert!(repository.is_in_step(&kubernetes));
    assert_eq!(kubernetes.object("msa", "default", "web").unwrap()["spec"]["priority"], 1);
    assert_eq!(kubernetes.status("web").phase, Some(microscaler::api::status::Phase::Converged));
    repository.sync(&kubernetes);
    assert_eq!(kubernetes.object("msa", "default", "batch").unwrap()["spec"]["replicas"], 3, "no fight over a field");
    let owners = kubernetes.kubectl(&["get", "msa", "web", "--show-managed-fields", "-o", "json"]);
    let owners: Value = serde_json::from_str(&owners).unwrap();
    for owner in owners["metadata"]["managedFields"].as_array().unwrap() {
        let ours = owner["manager"].as_str().unwrap().starts_with("microscaler");
        assert!(!ours || owner["fieldsV1"]["f:spec"].is_null(), "the operator owns no field of a spec: {owner}");
    }

    // What leaves the repository is pruned: its tasks first.
    repository.commit("Close the warehouse", &[pool(), ("web.yaml", web(4, "welcome"))]);
    repository.sync(&kubernetes);
    kubernetes.wait("the object to go", || kubernetes.object("msa", "default", "batch").is_none());
    assert_eq!(alive(&mesos), running(&mesos, "web"));
    wait_until_current(&kubernetes);
}

/// How many tasks besides the old ones the operator was told to have begun to run before it was told that one had failed.
fn began_before_a_failure(log: &str, old: &[String]) -> usize {
    let updates = log.lines().filter(|line| line.contains(" update task=") && !old.iter().any(|task| line.contains(task)));
    let until_failure = updates.take_while(|line| !line.contains("state=TaskFailed"));
    until_failure.filter(|line| line.contains("state=TaskRunning")).count()
}

fn health_of(kubernetes: &Kubernetes, name: &str) -> Health {
    kubernetes.object("msa", "default", name).map_or(Health::Terminating, |object| health(&object))
}

#[test]
fn a_commit_of_a_template_alone_is_current_when_all_tasks_are_of_it() {
    let (mesos, kubernetes, repository) = (cluster(2), Kubernetes::start(), Repository::init());
    let operator = Operator::start(&kubernetes);
    let pool = || ("pool.yaml", pool("default", "default", &mesos.master_urls(), ""));
    // One after the other, so that there is something to be early with.
    let web = |greeting: &str| web(4, greeting).replace("maxSurge: 4", "maxSurge: 1");
    repository.commit("Open the shop", &[pool(), ("web.yaml", web("g-0"))]);
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    for round in 1..4 {
        let (old, new) = (format!("g-{}", round - 1), format!("g-{round}"));
        repository.commit("Greet otherwise", &[pool(), ("web.yaml", web(&new))]);
        assert_eq!(greeting(&mesos, &old), 4);
        repository.sync(&kubernetes);
        let mut seen = Vec::new();
        while seen.last() != Some(&Health::Current) {
            let health = health_of(&kubernetes, "web");
            assert_ne!(health, Health::Failed, "{seen:?}");
            if health == Health::Current {
                assert_eq!((greeting(&mesos, &new), greeting(&mesos, &old)), (4, 0), "current before it is true: {seen:?}");
            }
            seen.push(health);
        }
        println!("round {round}: {} times in progress", seen.len() - 1);
    }

    // A template that cannot run, with the old tasks serving on.
    let broken = web("oops").replace("exec sleep 100000", "exit 3");
    repository.commit("Break it", &[pool(), ("web.yaml", broken)]);
    let (old, logged) = (running(&mesos, "web"), operator.log().len());
    repository.sync(&kubernetes);
    kubernetes.wait("the failure to be seen", || {
        let health = health_of(&kubernetes, "web");
        assert_ne!(health, Health::Current, "nothing of it runs");
        health == Health::Failed
    });
    let (start, mut least) = (Instant::now(), 4);
    while start.elapsed() < Duration::from_secs(8) {
        assert_eq!(health_of(&kubernetes, "web"), Health::Failed, "it stays after {:?}", start.elapsed());
        least = least.min(greeting(&mesos, "g-3"));
    }
    // Without a readiness, one that begins to run counts as serving, and so costs an old one; none goes once a failure is known. That is
    // one, as much as `maxSurge`, unless the machine is so busy that the next begins to run before the failure of the first is told.
    let began = began_before_a_failure(&operator.log()[logged..], &old);
    println!("at least {least} of the old ones served on; {began} new ones had begun before one was known to fail");
    assert!(least + began >= 4, "the old ones serve on: {least}, although only {began} new ones began to run");
    repository.git(&["revert", "--no-edit", "HEAD"]);
    repository.sync(&kubernetes);
    wait_until_current(&kubernetes);
    assert_eq!((running(&mesos, "web").len(), greeting(&mesos, "g-3")), (4, 4));

    // Renamed in one commit: the new one runs, and the old one is pruned.
    let renamed = web("g-3").replace("name: web", "name: shop");
    repository.commit("Call it what it is", &[pool(), ("shop.yaml", renamed)]);
    repository.sync(&kubernetes);
    kubernetes.wait("the old object to go", || kubernetes.object("msa", "default", "web").is_none());
    wait_until_current(&kubernetes);
    assert_eq!((running(&mesos, "shop").len(), greeting(&mesos, "g-3")), (4, 4));
    assert_eq!(alive(&mesos), running(&mesos, "shop"));
}
