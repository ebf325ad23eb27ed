//! The election on a real API server, by candidates that may do no more than they need.
//!
//! One control plane, one run: the steps follow one another, and over all of them the mandates are watched.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use microscaler::demand::PushDesk;
use microscaler::engine::clock;
use microscaler::kubernetes::lease::{Candidate, DURATION, Election, Mandate, Peer};
use microscaler::server::{Metrics, Pools};
use microscaler_testbed::ControlPlane;
use serde_json::Value;
use tokio::runtime::{Builder, Handle};
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that a replica needs.
const GRANTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: replica, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: replica, namespace: default}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [microscaler], verbs: [get, list, watch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: replica, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: replica}
subjects: [{kind: ServiceAccount, name: replica, namespace: default}]
";

struct Replica {
    identity: String,
    election: Election,
    metrics: Arc<Metrics>,
}

impl Replica {
    async fn stand(kubeconfig: &Path, identity: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let metrics = Arc::new(Metrics::new(Arc::new(Pools::new()), &PushDesk::new()));
        let candidate = Candidate {
            client: Client::try_from(config).unwrap(),
            namespace: "default".to_owned(),
            name: "microscaler".to_owned(),
            identity: identity.to_owned(),
            address: Some(address(identity)),
            duration: DURATION,
        };
        Self { identity: identity.to_owned(), election: candidate.stand(metrics.clone()), metrics }
    }

    fn leads(&self) -> bool {
        self.election.leadership.term().is_some()
    }

    async fn wait_to_follow(&self, leader: &str) {
        let mut seen = self.election.leader.clone();
        let is_leader = |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| peer.identity == leader);
        let peer = timeout(PATIENCE, seen.wait_for(is_leader)).await.expect("it does not see who leads").unwrap().clone();
        assert_eq!(peer.unwrap().address, Some(address(leader)));
        assert!(!self.leads());
    }
}

fn address(identity: &str) -> String {
    format!("http://{identity}:8910")
}

/// Waits for what has no channel to be awaited on.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not {what}"));
}

/// Looks for two mandates at one moment, all the time.
#[derive(Clone, Default)]
struct Referee {
    mandates: Arc<Mutex<Vec<(String, Mandate)>>>,
    samples: Arc<Mutex<(u64, Vec<String>)>>,
    ended: Arc<AtomicBool>,
}

impl Referee {
    fn watch(&self, replica: &Replica) {
        self.mandates.lock().unwrap().push((replica.identity.clone(), replica.election.mandate.clone()));
    }

    fn start(&self) -> std::thread::JoinHandle<()> {
        let referee = self.clone();
        std::thread::spawn(move || {
            while !referee.ended.load(Ordering::Relaxed) {
                referee.sample();
                std::thread::sleep(Duration::from_micros(500));
            }
        })
    }

    fn sample(&self) {
        let mandates = self.mandates.lock().unwrap().clone();
        let holding = || -> Vec<_> { mandates.iter().filter(|(_, mandate)| mandate.holds()).collect() };
        // One may end just before another begins: at one moment they hold only if both are found in both passes.
        let (before, after) = (holding(), holding());
        let both: Vec<_> = before.iter().filter(|(name, _)| after.iter().any(|(other, _)| other == name)).collect();
        let mut samples = self.samples.lock().unwrap();
        samples.0 += 1;
        if both.len() > 1 {
            samples.1.push(format!("{:?}", both.iter().map(|(name, _)| name).collect::<Vec<_>>()));
        }
    }
}

struct Scene {
    control_plane: ControlPlane,
    kubeconfig: std::path::PathBuf,
    referee: Referee,
    replicas: Vec<Replica>,
}

impl Scene {
    async fn new() -> Self {
        let control_plane = tokio::task::spawn_blocking(ControlPlane::start).await.unwrap().unwrap();
        control_plane.apply(GRANTS).unwrap();
        let kubeconfig = control_plane.kubeconfig_for("default", "replica").unwrap();
        Self { control_plane, kubeconfig, referee: Referee::default(), replicas: Vec::new() }
    }

    async fn add(&mut self, identity: &str) {
        self.add_on(&Handle::current(), identity).await;
    }

    /// On another runtime, which can be paused alone.
    async fn add_on(&mut self, runtime: &Handle, identity: &str) {
        let (kubeconfig, named) = (self.kubeconfig.clone(), identity.to_owned());
        let replica = runtime.spawn(async move { Replica::stand(&kubeconfig, &named).await }).await.unwrap();
        self.referee.watch(&replica);
        self.replicas.push(replica);
    }

    fn leaders(&self) -> Vec<&str> {
        self.replicas.iter().filter(|replica| replica.leads()).map(|replica| replica.identity.as_str()).collect()
    }

    /// Takes the only leader out; the others follow it at that moment.
    async fn take_leader(&mut self) -> Replica {
        self.settled().await;
        let index = self.replicas.iter().position(Replica::leads).unwrap();
        self.replicas.swap_remove(index)
    }

    /// Waits until exactly one leads and all others follow it.
    async fn settled(&self) -> &Replica {
        until("led by one", || self.leaders().len() == 1).await;
        let leader = self.replicas.iter().find(|replica| replica.leads()).unwrap();
        for replica in self.replicas.iter().filter(|replica| replica.identity != leader.identity) {
            replica.wait_to_follow(&leader.identity).await;
        }
        until("in power", || leader.election.mandate.holds()).await;
        leader
    }

    /// As [`Self::settled`]; also says how long it took.
    async fn succession(&self, after: &str) -> &Replica {
        let start = clock::now();
        until("led by another", || !self.leaders().is_empty()).await;
        println!("after {after}: led again after {} ms", clock::now() - start);
        self.settled().await
    }

    fn lease(&self) -> Value {
        serde_json::from_str(&self.control_plane.kubectl(&["get", "lease", "microscaler", "-o", "json"]).unwrap()).unwrap()
    }

    fn patch(&self, patch: &str) {
        self.control_plane.kubectl(&["patch", "lease", "microscaler", "--type=merge", "-p", patch]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_whatever_happens() {
    let mut scene = Scene::new().await;
    let referee = scene.referee.clone();
    let watching = referee.start();

    let pausable = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    one_of_three_leads(&mut scene, pausable.handle()).await;
    a_paused_leader_is_followed_and_finds_out(&scene, pausable.handle()).await;
    a_killed_leader_is_followed(&mut scene).await;
    a_leader_that_resigns_is_followed_at_once(&mut scene).await;
    a_leader_outlasts_the_api_server(&scene).await;
    a_touched_lease_stays_whose_it_is(&scene).await;
    a_lease_given_to_another_is_lost(&scene).await;
    a_deleted_lease_is_made_anew(&scene).await;
    the_last_one_leaves_it_free(&mut scene).await;

    referee.ended.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    pausable.shutdown_background();
    let samples = referee.samples.lock().unwrap();
    println!("{} samples of the mandates", samples.0);
    assert_eq!(samples.1, Vec::<String>::new(), "two mandates at one moment");
}

async fn one_of_three_leads(scene: &mut Scene, pausable: &Handle) {
    scene.add_on(pausable, "a").await;
    let leader = scene.succession("a first start").await;
    assert_eq!(leader.election.leadership.term(), Some(1));
    let metrics = leader.metrics.clone();
    for identity in ["b", "c"] {
        scene.add(identity).await;
    }
    assert_eq!(scene.settled().await.identity, "a");
    until("renewed", || !metrics.text().contains("microscaler_lease_renewals_total 0\n")).await;
    assert!(metrics.text().contains("microscaler_leader 1\n"));
    let lease = scene.lease();
    assert_eq!(lease["spec"]["holderIdentity"], "a");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 2);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    assert_eq!(lease["metadata"]["annotations"]["microscaling.dev/address"], address("a"));
}

/// As with SIGSTOP: no task of the replica runs for a while.
async fn a_paused_leader_is_followed_and_finds_out(scene: &Scene, pausable: &Handle) {
    let [paused, others @ ..] = &scene.replicas[..] else { panic!("there are some") };
    let pause = pausable.spawn(async { std::thread::sleep(DURATION * 4) });
    until("followed", || others.iter().any(Replica::leads)).await;
    assert!(!paused.election.mandate.holds(), "it does not hold whatever the paused one thinks");
    assert_eq!(paused.election.leadership.term(), Some(1), "it has heard of nothing");
    pause.await.unwrap();
    assert_ne!(scene.settled().await.identity, "a");
    assert!(!paused.leads());
}

async fn a_killed_leader_is_followed(scene: &mut Scene) {
    let before = scene.lease()["spec"]["leaseTransitions"].as_i64().unwrap();
    for round in 1..=5 {
        let Replica { election, .. } = scene.take_leader().await;
        drop(election);
        scene.succession("a kill").await;
        assert_eq!(scene.lease()["spec"]["leaseTransitions"], before + round);
        scene.add(&format!("d{round}")).await;
    }
}

async fn a_leader_that_resigns_is_followed_at_once(scene: &mut Scene) {
    for round in 1..=5 {
        let mut leader = scene.take_leader().await;
        let start = clock::now();
        let mandate = leader.election.mandate.clone();
        leader.election.resign().await;
        assert!(!mandate.holds());
        println!("to resign takes {} ms", clock::now() - start);
        scene.succession("a resignation").await;
        scene.add(&format!("e{round}")).await;
    }
}

/// Halted, the API server answers nobody.
async fn a_leader_outlasts_the_api_server(scene: &Scene) {
    let leader = scene.settled().await;
    let (term, transitions) = (leader.election.leadership.term(), scene.lease()["spec"]["leaseTransitions"].clone());
    scene.control_plane.api_server().stop().unwrap();
    until("without a mandate", || !leader.election.mandate.holds()).await;
    // So long that each standby finds the lease run out, and more than once.
    for _ in 0..40 {
        sleep(DURATION / 10).await;
        assert_eq!(leader.election.leadership.term(), term, "it goes on");
        assert_eq!(scene.leaders(), [leader.identity.as_str()]);
        assert!(!leader.election.mandate.holds());
    }
    let start = clock::now();
    scene.control_plane.api_server().resume().unwrap();
    until("in power again", || leader.election.mandate.holds()).await;
    println!("after the API server went on: a mandate again after {} ms", clock::now() - start);
    // Longer than any standby would wait for.
    sleep(DURATION * 3).await;
    assert_eq!(scene.settled().await.identity, leader.identity);
    assert_eq!(leader.election.leadership.term(), term);
    assert_eq!(scene.lease()["spec"]["leaseTransitions"], transitions);
    assert!(!leader.metrics.text().contains("microscaler_lease_renewal_failures_total 0\n"));

    scene.control_plane.api_server().kill();
    until("without a mandate", || !leader.election.mandate.holds()).await;
    scene.control_plane.api_server().start().unwrap();
    until("in power again", || leader.election.mandate.holds()).await;
    assert_eq!(scene.settled().await.identity, leader.identity);
    assert_eq!(leader.election.leadership.term(), term);
}

async fn a_touched_lease_stays_whose_it_is(scene: &Scene) {
    let leader = scene.settled().await;
    let term = leader.election.leadership.term();
    scene.patch(r#"{"metadata": {"annotations": {"note": "touched", "microscaling.dev/address": null}}}"#);
    let is_mended = || scene.lease()["metadata"]["annotations"]["microscaling.dev/address"] == address(&leader.identity);
    until("mended", is_mended).await;
    assert_eq!(scene.lease()["metadata"]["annotations"]["note"], "touched");
    assert_eq!(leader.election.leadership.term(), term);
    assert_eq!(scene.settled().await.identity, leader.identity);
}

async fn a_lease_given_to_another_is_lost(scene: &Scene) {
    let leader = scene.settled().await;
    scene.patch(r#"{"spec": {"holderIdentity": "nobody"}}"#);
    let patched = clock::now();
    until("stepped down", || !leader.leads()).await;
    println!("after the lease was given away: stepped down within {} ms of the end of kubectl", clock::now() - patched);
    assert!(!leader.election.mandate.holds());
    scene.succession("the lease was given to nobody").await;
}

async fn a_deleted_lease_is_made_anew(scene: &Scene) {
    let leader = scene.settled().await;
    let (term, old) = (leader.election.leadership.term(), scene.lease()["metadata"]["uid"].clone());
    scene.control_plane.kubectl(&["delete", "lease", "microscaler"]).unwrap();
    until("made anew", || scene.control_plane.kubectl(&["get", "lease", "microscaler"]).is_ok()).await;
    sleep(DURATION * 2).await;
    let now = scene.settled().await;
    assert_ne!(scene.lease()["metadata"]["uid"], old);
    assert_eq!((&now.identity, now.election.leadership.term()), (&leader.identity, term), "standbys leave it the time to notice");
    assert_eq!(scene.lease()["spec"]["holderIdentity"], now.identity);
}

async fn the_last_one_leaves_it_free(scene: &mut Scene) {
    while !scene.replicas.is_empty() {
        let mut leader = scene.take_leader().await;
        leader.election.resign().await;
        assert!(leader.metrics.text().contains("microscaler_leader 0\n"));
    }
    let lease = scene.lease();
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null);
    assert_eq!(lease["metadata"]["annotations"]["microscaling.dev/address"], Value::Null);
}
