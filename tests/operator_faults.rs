//! Faults around `microscaler operator`: its own death, rivals, an API server that is away, slow, forgetful or full. What runs goes on,
//! nothing is lost or doubled, and the status catches up.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[macro_use]
mod support;

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use microscaler_testbed::Cluster;
use support::operator::{Kubernetes, Operator};
use support::place::{Ground, Kind, Place};
use support::{PUSHED, REMAINDER, alive, cluster, running, sleeper, wait_for};

scenarios! {
    on_both: [
        killed_at_random_moments_it_loses_and_doubles_nothing,
        with_the_api_server_away_scaling_goes_on_and_the_status_catches_up,
        a_watch_that_has_expired_starts_over,
        a_throttled_operator_goes_on_and_catches_up,
        a_standby_takes_over_from_a_leader_that_ends_in_any_way,
        a_leader_that_was_paused_never_acts_again_before_it_leads_again,
        a_leader_that_wakes_up_with_a_broken_session_does_not_keep_the_framework_from_its_successor,
        a_leader_that_is_halted_while_it_connects_anew_does_not_keep_the_framework_from_its_successor,
        edited_by_hand_the_status_is_put_right_and_nothing_is_fought_over,
        an_object_at_the_size_limit_is_served_like_any_other,
    ],
    on_mesos_alone: {
        thousands_of_apps_are_watched_and_told_of: "it is the API server that is asked for much; tests/marathon_size.rs asks a Marathon for much",
    },
}

/// The moments are random, but a failure can be repeated with its seed.
fn random() -> fastrand::Rng {
    let seed =
        std::env::var("MICROSCALER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MICROSCALER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A pool of 8 or 16 slots with an important app and one that fills the rest.
fn apply_two_apps(kubernetes: &Kubernetes, mesos: &impl Place) {
    let damped = "behavior: {scaleDown: {stabilizationWindowMilliseconds: 100}}";
    kubernetes.apply_pool("default", mesos);
    kubernetes.apply(&sleeper("search", &format!("priority: 1\nminReplicas: 1\n{damped}\n{PUSHED}")));
    kubernetes.apply(&sleeper("rest", &format!("priority: 2\nminReplicas: 1\n{REMAINDER}")));
}

/// After all the harm: exact counts, and every process that runs is one of these tasks. `slots` are those of the two apps together.
fn all_is_well(operator: &Operator, kubernetes: &Kubernetes, mesos: &Cluster, slots: i64) {
    operator.push("search", "load", 50.0);
    kubernetes.settle(mesos, &[("search", 5), ("rest", slots - 5)]);
    let slots = usize::try_from(slots).unwrap() + running(mesos, "steady").len();
    assert_eq!(alive(mesos).len(), slots, "no orphan at the master");
    kubernetes.wait("the processes to be exactly the tasks", || mesos.processes().len() == slots);
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "msa", "--all", "--timeout=60s"]);
}

fn killed_at_random_moments_it_loses_and_doubles_nothing(kind: Kind) {
    let mut random = random();
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    kubernetes.apply(&sleeper("steady", "priority: 1\nreplicas: 2"));
    let mut operator = Operator::start(&kubernetes);
    operator.push("search", "load", 0.0);
    kubernetes.settle(&mesos, &[("steady", 2)]);
    let steady = running(&mesos, "steady");
    for round in 0..8 {
        // At most what leaves the others what is theirs: 13 of 16 slots.
        operator.push("search", "load", f64::from(random.u32(0..14)) * 10.0);
        kubernetes.kubectl(&["label", "msa", "search", "--overwrite", &format!("round=r{round}")]);
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        operator.kill();
        operator.run();
    }
    all_is_well(&operator, &kubernetes, &mesos, 14);
    assert_eq!(
        running(&mesos, "steady"),
        steady,
        "nobody has wanted anything of these, so the same two run from beginning to end"
    );
}

fn with_the_api_server_away_scaling_goes_on_and_the_status_catches_up(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    let operator = Operator::start(&kubernetes);
    operator.push("search", "load", 20.0);
    kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let before = alive(&mesos);

    kubernetes.control.api_server().kill();
    let down = Instant::now();
    for (load, wanted) in [(80.0, 8), (30.0, 3), (100.0, 10)] {
        operator.push("search", "load", load);
        if kind == Kind::Marathon {
            // Mesos takes calls only from the newest subscriber. Marathon takes requests from anybody, so that only a renewed lease says
            // that nobody else has come to lead.
            std::thread::sleep(Duration::from_secs(5));
            continue;
        }
        wait_for("the change without an API server", || {
            (running(&mesos, "search").len() == wanted && running(&mesos, "rest").len() == 16 - wanted).then_some(())
        });
    }
    assert!(running(&mesos, "search").iter().filter(|task| before.contains(task)).count() >= 1, "what runs goes on");
    std::thread::sleep(Duration::from_secs(30).saturating_sub(down.elapsed()));
    assert_eq!(alive(&mesos).len(), 16, "nothing is lost and nothing doubled");
    assert!(operator.leads(), "nobody else can have come to lead");
    kubernetes.control.api_server().start().unwrap();
    kubernetes.control.wait_until_ready().unwrap();
    kubernetes.settle(&mesos, &[("search", 10), ("rest", 6)]);
    all_is_well(&operator, &kubernetes, &mesos, 16);
}

fn a_watch_that_has_expired_starts_over(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    for app in ["a", "b", "c"] {
        kubernetes.apply(&sleeper(app, "replicas: 1"));
    }
    kubernetes.settle(&mesos, &[("a", 1), ("b", 1), ("c", 1)]);
    // While the operator is halted, its watches miss changes, and the history that could make up for them is thrown away.
    operator.pause();
    kubernetes.kubectl(&["scale", "msa/a", "--replicas=3"]);
    kubernetes.kubectl(&["patch", "msa", "b", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    kubernetes.kubectl(&["delete", "msa", "b"]);
    kubernetes.apply(&sleeper("d", "replicas: 2"));
    kubernetes.control.compact().unwrap();
    kubernetes.control.api_server().kill();
    kubernetes.control.api_server().start().unwrap();
    kubernetes.control.wait_until_ready().unwrap();
    assert!(!operator.log().contains("code: 410"));
    operator.resume();
    kubernetes.settle(&mesos, &[("a", 3), ("c", 1), ("d", 2)]);
    assert!(operator.log().contains("code: 410"), "its watches are told that what they ask for is gone");
    kubernetes.wait("the deleted app's task to end", || running(&mesos, "b").is_empty());
    assert_eq!(alive(&mesos).len(), 6);
}

/// Answers every request of the operator with 429, really: a priority level of the API server without room. It serves one request at a
/// time nevertheless, which is the hog's.
const THROTTLE: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: nothing}
spec: {type: Limited, limited: {nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: nothing-for-the-operator}
spec:
  priorityLevelConfiguration: {name: nothing}
  matchingPrecedence: 2
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: microscaler, namespace: microscaler-system}}]
    resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*']}]
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: hog, namespace: default}}]
    resourceRules: [{verbs: [create], apiGroups: [''], resources: [configmaps], namespaces: ['*']}]
";

fn a_throttled_operator_goes_on_and_catches_up(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    let operator = Operator::start(&kubernetes);
    operator.push("search", "load", 20.0);
    kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    kubernetes.kubectl(&["create", "serviceaccount", "hog"]);
    kubernetes.kubectl(&["create", "clusterrolebinding", "hog", "--clusterrole=cluster-admin", "--serviceaccount=default:hog"]);
    let hogs = kubernetes.control.kubeconfig_for("default", "hog").unwrap();
    kubernetes.apply(THROTTLE);
    // The API server takes a moment to heed it.
    std::thread::sleep(Duration::from_secs(1));
    // A request whose body does not come.
    let mut hog = kubernetes.control.kubectl_command(&["create", "--raw", "/api/v1/namespaces/default/configmaps", "-f", "-"]);
    let mut hog = hog.env("KUBECONFIG", hogs).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kubernetes.wait("renewals to be refused", || operator.metric("microscaler_lease_renewal_failures_total") > Some(2.0));
    operator.push("search", "load", 90.0);
    wait_for("the change in spite of it", || (running(&mesos, "search").len() == 9).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_ne!(kubernetes.status("search").granted, 9, "the API server takes no status");
    hog.kill().unwrap();
    hog.wait().unwrap();
    kubernetes.kubectl(&["delete", "flowschema", "nothing-for-the-operator"]);
    kubernetes.settle(&mesos, &[("search", 9), ("rest", 7)]);
    all_is_well(&operator, &kubernetes, &mesos, 16);
}

/// Two operators on one lease; gives them as `(leader, standby)`.
fn two(kubernetes: &Kubernetes) -> (Operator, Operator) {
    let first = Operator::named(kubernetes, "microscaler-0", &[]);
    kubernetes.wait("a leader", || first.leads());
    let second = Operator::named(kubernetes, "microscaler-1", &[]);
    kubernetes.wait("the standby to be ready", || second.get("/readyz").is_some());
    assert!(first.leads() && !second.leads());
    (first, second)
}

/// Whether it says of itself that it does not lead; no answer is no such word.
fn stands_by(operator: &Operator) -> bool {
    operator.metric("microscaler_leader") == Some(0.0)
}

/// All apps with their versions, once they have stood still for 3 s.
fn objects_at_rest(kubernetes: &Kubernetes) -> String {
    let objects = || kubernetes.kubectl(&["get", "msa", "-o", "yaml"]);
    wait_for("the status to come to rest", || {
        let before = objects();
        std::thread::sleep(Duration::from_secs(3));
        (objects() == before).then_some(before)
    })
}

fn framework(kubernetes: &Kubernetes) -> String {
    kubernetes.object("mpool", "default", "default").unwrap()["status"]["frameworkId"].to_string()
}

fn a_standby_takes_over_from_a_leader_that_ends_in_any_way(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    let (mut leader, mut standby) = two(&kubernetes);
    // Either of them takes pushes.
    standby.push("search", "load", 20.0);
    kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let (before, id) = (alive(&mesos), framework(&kubernetes));
    for clean in [false, true, false, true, true, true] {
        let start = Instant::now();
        if clean {
            leader.terminate();
        } else {
            leader.kill();
        }
        wait_for("the standby to lead", || standby.leads().then_some(()));
        let led = start.elapsed();
        wait_for("the standby to be in control", || in_control(&standby).then_some(()));
        if clean {
            // It goes on answering for a moment, by passing on.
            assert!(leader.wait_for_end().success());
            assert!(leader.log().contains("resigned: the lease is released"), "so that nobody has to wait until it runs out");
        }
        println!("{}: leads after {led:?}, in control after {:?}", if clean { "SIGTERM" } else { "kill -9" }, start.elapsed());
        standby.push("search", "load", 20.0);
        kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
        assert_eq!(alive(&mesos), before, "the same tasks, all of them");
        assert_eq!(framework(&kubernetes), id, "the same framework");
        leader.run();
        std::mem::swap(&mut leader, &mut standby);
    }
    all_is_well(&leader, &kubernetes, &mesos, 16);
}

fn a_leader_that_was_paused_never_acts_again_before_it_leads_again(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    let (paused, standby) = two(&kubernetes);
    paused.push("search", "load", 20.0);
    kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    for _ in 0..2 {
        paused.pause();
        wait_for("the standby to lead", || standby.leads().then_some(()));
        standby.push("search", "load", 60.0);
        kubernetes.settle(&mesos, &[("search", 6), ("rest", 10)]);
        let (objects, tasks) = (objects_at_rest(&kubernetes), alive(&mesos));
        paused.resume();
        // It wakes up with old readings and old orders in hand.
        wait_for("the paused one to stand by", || stands_by(&paused).then_some(()));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(alive(&mesos), tasks, "it has changed nothing in Mesos");
        let after = objects_at_rest(&kubernetes);
        assert!(after == objects, "nor a status:\n{objects}\nnow:\n{after}");
        assert!(standby.leads());
        // Back again.
        standby.pause();
        wait_for("the first one to lead", || paused.leads().then_some(()));
        standby.resume();
        wait_for("the other to stand by", || stands_by(&standby).then_some(()));
        paused.push("search", "load", 20.0);
        kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    }
    all_is_well(&paused, &kubernetes, &mesos, 16);
}

/// A leader is halted and woken up again; meanwhile, `meanwhile` takes care that its session with Mesos is broken when it wakes up.
fn woken_up_with_a_broken_session(kind: Kind, meanwhile: impl Fn(&Ground, &Operator, &dyn Fn())) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    apply_two_apps(&kubernetes, &mesos);
    let (mut leader, mut standby) = two(&kubernetes);
    leader.push("search", "load", 20.0);
    kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
    let id = framework(&kubernetes);
    for round in 0..2 {
        let before = alive(&mesos);
        meanwhile(&mesos, &leader, &|| {
            wait_for("the standby to lead", || standby.leads().then_some(()));
            kubernetes.wait("the standby to be in control", || in_control(&standby));
        });
        assert_eq!(alive(&mesos), before, "no task has ended with the master");
        leader.resume();
        wait_for("the halted one to stand by", || stands_by(&leader).then_some(()));
        let start = Instant::now();
        standby.push("search", "load", 90.0);
        wait_for("the new leader to go on scaling", || {
            assert!(!is_stalled(&kubernetes), "the new leader has lost the framework");
            (running(&mesos, "search").len() == 9 && running(&mesos, "rest").len() == 7).then_some(())
        });
        println!("round {round}: scaled {:?} after the other one woke up", start.elapsed());
        while start.elapsed() < Duration::from_secs(5) {
            assert!(!is_stalled(&kubernetes) && standby.leads() && stands_by(&leader));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(in_control(&standby));
        standby.push("search", "load", 20.0);
        kubernetes.settle(&mesos, &[("search", 2), ("rest", 14)]);
        assert_eq!(framework(&kubernetes), id, "the same framework");
        std::mem::swap(&mut leader, &mut standby);
    }
    all_is_well(&leader, &kubernetes, &mesos, 16);
}

fn a_leader_that_wakes_up_with_a_broken_session_does_not_keep_the_framework_from_its_successor(kind: Kind) {
    woken_up_with_a_broken_session(kind, |mesos, leader, succeed| {
        leader.pause();
        succeed();
        mesos.kill();
        mesos.come_back();
        mesos.wait_until_ready(support::PATIENCE).unwrap();
    });
}

/// Here the successor is also the first to come to the new master, before the agents are back.
fn a_leader_that_is_halted_while_it_connects_anew_does_not_keep_the_framework_from_its_successor(kind: Kind) {
    woken_up_with_a_broken_session(kind, |mesos, leader, succeed| {
        mesos.kill();
        std::thread::sleep(Duration::from_millis(700));
        leader.pause();
        mesos.come_back();
        succeed();
        mesos.wait_until_ready(support::PATIENCE).unwrap();
    });
}

/// Whether it says that it has the pool's framework.
fn in_control(operator: &Operator) -> bool {
    operator.get("/v1/pools").is_some_and(|pools| pools.contains(r#""reason":"InControl""#))
}

fn is_stalled(kubernetes: &Kubernetes) -> bool {
    kubernetes.condition("mpool", "default", "Stalled").is_some_and(|(status, _)| status == "True")
}

fn edited_by_hand_the_status_is_put_right_and_nothing_is_fought_over(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 2"));
    kubernetes.settle(&mesos, &[("web", 2)]);
    kubernetes.kubectl(&[
        "patch",
        "msa",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"running":77,"reason":"me"}}"#,
    ]);
    kubernetes.settle(&mesos, &[("web", 2)]);
    assert_eq!(kubernetes.status("web").reason, "2 replicas as set");
    // Labels, annotations and finalizers of others stay, and nothing is written any more once all is said.
    kubernetes.kubectl(&[
        "patch",
        "msa",
        "web",
        "--type=merge",
        "-p",
        r#"{"metadata":{"annotations":{"owner":"shop"},"labels":{"team":"a"}}}"#,
    ]);
    std::thread::sleep(Duration::from_secs(3));
    let version = || kubernetes.object("msa", "default", "web").unwrap()["metadata"]["resourceVersion"].to_string();
    let at_rest = version();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(version(), at_rest, "at rest nothing is written");
    let object = kubernetes.object("msa", "default", "web").unwrap();
    assert_eq!(object["metadata"]["annotations"]["owner"], "shop");
    assert!(operator.leads());
}

fn an_object_at_the_size_limit_is_served_like_any_other(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    // A trace of 250 KiB, the largest that a spec may hold, and annotations of 250 KiB, the most that an object may have.
    let mut trace = String::new();
    for i in 0..13_000_u64 {
        let _ = write!(trace, "{},{}\\n", i * 1_000_000_000, 20);
    }
    let demand =
        format!("demand:\n- name: recorded\n  simulated: {{trace: {{csv: \"{trace}\"}}}}\n  target: {{averageValue: 10}}");
    let large = sleeper("large", &demand);
    let note = "x".repeat(250_000);
    let large = large.replace("metadata:\n", &format!("metadata:\n  annotations: {{note: {note}}}\n"));
    kubernetes.apply(&large);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.settle(&mesos, &[("large", 2), ("web", 1)]);
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "msa/large", "--timeout=60s"]);
}

fn thousands_of_apps_are_watched_and_told_of() {
    const APPS: usize = 2000;
    let (mesos, kubernetes) = (cluster(1), Kubernetes::start());
    kubernetes.apply_pool("default", &mesos);
    let mut all = String::new();
    for i in 0..APPS {
        let _ =
            write!(all, "---\n{}", sleeper(&format!("app-{i}"), &format!("priority: {}\nreplicas: {}", 1 + i, i32::from(i < 3))));
    }
    let client_side = kubernetes.control.kubectl_with(&["create", "-f", "-"], &all).unwrap();
    assert_eq!(client_side.lines().count(), APPS);
    let mut operator = Operator::named(&kubernetes, "microscaler-0", &["--status-writes-per-second", "400"]);
    kubernetes.settle(&mesos, &[("app-0", 1), ("app-1", 1), ("app-2", 1)]);
    let converged = || {
        let phases = kubernetes.kubectl(&["get", "msa", "-o", "jsonpath={range .items[*]}{.status.phase}{'\\n'}{end}"]);
        phases.lines().filter(|phase| *phase == "Converged").count()
    };
    kubernetes.wait("every status", || converged() == APPS);
    let finalizers = || {
        let lists = kubernetes.kubectl(&["get", "msa", "-o", "jsonpath={range .items[*]}{.metadata.finalizers[0]}{'\\n'}{end}"]);
        lists.lines().filter(|finalizer| *finalizer == "microscaling.dev/tasks").count()
    };
    // Some 50 a second are put on, so that this takes most of a minute on its own.
    let start = Instant::now();
    while finalizers() < APPS {
        assert!(start.elapsed() < 3 * support::PATIENCE, "only {} of {APPS} have their finalizer", finalizers());
        std::thread::sleep(Duration::from_millis(500));
    }
    // A restart reads them all again, and has next to nothing to write.
    operator.kill();
    operator.run();
    kubernetes.kubectl(&["scale", "msa/app-1999", "--replicas=2"]);
    kubernetes.settle(&mesos, &[("app-0", 1), ("app-1999", 2)]);
    let written = || operator.metric(r#"microscaler_status_writes_total{result="written"}"#).unwrap_or(0.0);
    let start = Instant::now();
    let (mut last, mut since) = (written(), Instant::now());
    while since.elapsed() < Duration::from_secs(5) {
        assert!(start.elapsed() < support::PATIENCE, "writing does not end: {last}");
        std::thread::sleep(Duration::from_millis(200));
        if written() > last {
            (last, since) = (written(), Instant::now());
        }
    }
    // Those of app-1999 and of the pool; on a machine so busy that the engine is not ready within its patience, also what is said meanwhile.
    println!("{last} statuses written after a restart with {APPS} apps");
    assert!(last >= 1.0 && last < f64::from(u32::try_from(APPS / 2).unwrap()), "{last} statuses written");
    assert_eq!(alive(&mesos).len(), 5);
}
