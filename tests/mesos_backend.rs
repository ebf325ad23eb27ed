//! The Mesos backend against a real Apache Mesos.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

#[path = "support/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use microscaler::backend::{Backend, End, Orders};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::TaskPhase;
use microscaler_testbed::{Agent, Cluster};
use rig::{Rig, app, kill_of, pool, sleeper};

fn cluster(agents: usize) -> Cluster {
    let mut builder = Cluster::builder().fast_failure_detection();
    for _ in 0..agents {
        builder =
            builder.agent(Agent::default().resources("cpus:4;mem:1024;disk:100;ports:[31000-31009]").attribute("rack", "r1"));
    }
    builder.start().unwrap()
}

fn running(cluster: &Cluster) -> usize {
    cluster.tasks().unwrap().iter().filter(|task| task.is_running()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_launched_runs_and_ends() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(Resources::new(4000, 1024)).await;
    assert_eq!(rig.world.agents[0].attributes["rack"], "r1");
    let web = app(
        "web",
        "{command: [sh, -c, 'echo port $(PORT_HTTP) $GREETING; exec sleep 1000'], resources: {cpu: 1, memory: 64Mi},
          env: [{name: GREETING, value: 'hello $(MICROSCALER_APP)'}], ports: [{name: http}], gracePeriodMilliseconds: 0}",
    );
    let ids = rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    let task = cluster.get("/master/tasks").unwrap()["tasks"][0].clone();
    assert_eq!((task["name"].as_str(), task["role"].as_str()), (Some("web"), Some("web")));
    assert!(task["labels"].to_string().contains("microscaling.dev/priority"));
    rig.kill(&web, &ids);
    rig.gone(&web).await;
    assert!(rig.endings.iter().all(|ending| ending.how == End::Killed) && rig.endings.len() == 2, "{:?}", rig.endings);
    let once = app("once", "{shell: exit 3, resources: {cpu: 1, memory: 64Mi}}");
    rig.order(Orders { recall: true, ..Orders::default() });
    rig.held(Resources::new(4000, 1024)).await;
    rig.launch(&once, 0, 1);
    rig.until("failed", |rig| rig.endings.iter().any(|ending| ending.how == End::Failed)).await;
    rig.mesos.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_agent_swaps_at_once() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(Resources::new(4000, 1024)).await;
    let (low, high) = (sleeper("low"), sleeper("high"));
    let mut apps = [(low.clone(), rig.launch(&low, 0, 4)), (high, Vec::new())];
    rig.running(&low, 4).await;
    let mut rounds = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let victim = apps[0].1.pop().unwrap();
        let kills = vec![kill_of(&apps[0].0, &victim)];
        rig.order(Orders { kills, ..Orders::default() });
        rig.until("killed", |rig| rig.endings.iter().any(|ending| ending.task == victim)).await;
        let killed = started.elapsed();
        rig.order(Orders { recall: true, ..Orders::default() });
        rig.held(Resources::new(1000, 64)).await;
        let offered = started.elapsed();
        let winner = apps[1].0.clone();
        apps[1].1.extend(rig.launch(&winner, 0, 1));
        let count = apps[1].1.len();
        rig.running(&winner, count).await;
        let whole = started.elapsed();
        rounds.push([killed, offered.saturating_sub(killed), whole.saturating_sub(offered), whole]);
        if apps[0].1.is_empty() {
            apps.reverse();
        }
    }
    for (name, step) in ["kill→killed", "revive→offer", "accept→running", "whole"].iter().zip(0..) {
        let mut times: Vec<_> = rounds.iter().map(|round| round[step].as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        println!("{name}: median {:.1} ms, max {:.1} ms", times[times.len() / 2], times[times.len() - 1]);
    }
    let mut reactions = rig.mesos.stats().take_reactions();
    reactions.sort();
    println!("order→written: median {:?}, max {:?}", reactions[reactions.len() / 2], reactions[reactions.len() - 1]);
    assert_eq!(running(&cluster), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_agent_is_left_without_blame() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let web = sleeper("web");
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(Resources::new(2000, 128)).await;
    rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    cluster.agent(0).drain(Duration::ZERO).unwrap();
    rig.gone(&web).await;
    assert!(rig.endings.iter().all(|ending| ending.how == End::Lost), "{:?}", rig.endings);
    assert!(!rig.world.agents[0].present && rig.world.agents[0].held.is_zero());
    rig.order(Orders { recall: true, ..Orders::default() });
    rig.pass(Duration::from_secs(1)).await;
    assert!(!rig.world.agents[0].present, "nothing is offered there");
    cluster.agent(0).reactivate().unwrap();
    rig.until("back", |rig| rig.world.agents[0].present).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_outlive_us_and_are_adopted() {
    let (cluster, state) = (cluster(2), tempfile::tempdir().unwrap());
    let pool = pool(&[cluster.master_url()], "");
    let web = sleeper("web");
    let mut rig = Rig::start(pool.clone(), state.path());
    rig.ready().await;
    rig.until("offered", |rig| rig.world.agents.len() == 2).await;
    rig.launch(&web, 0, 2);
    rig.launch(&web, 1, 1);
    rig.running(&web, 3).await;
    let id = rig.mesos.standing().framework_id;
    drop(rig);
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut rig = Rig::start(pool, state.path());
    let started = Instant::now();
    rig.ready().await;
    println!("ready after {:?}", started.elapsed());
    assert_eq!(rig.mesos.standing().framework_id, id);
    assert_eq!((rig.count(&web, TaskPhase::Running), rig.tasks(&web).len()), (3, 3), "known as soon as orders can be given");
    assert!(rig.tasks(&web).iter().all(|task| task.resources == web.size), "{:?}", rig.tasks(&web));
    assert!(rig.world.agents.iter().all(|agent| agent.present && agent.attributes["rack"] == "r1"));
    let ids: Vec<_> = rig.tasks(&web).iter().map(|task| task.id.clone()).collect();
    rig.kill(&web, &ids);
    rig.gone(&web).await;
    assert_eq!(running(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_master_changes_nothing() {
    let (cluster, state) = (cluster(2), tempfile::tempdir().unwrap());
    let web = sleeper("web");
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.until("offered", |rig| rig.world.agents.len() == 2).await;
    rig.launch(&web, 0, 2);
    let ids = rig.launch(&web, 1, 2);
    rig.running(&web, 4).await;
    cluster.master(0).kill();
    rig.until("disconnected", |rig| !rig.mesos.standing().connected).await;
    // Asked for while nobody listens: done when somebody does.
    rig.kill(&web, &ids[..1]);
    cluster.master(0).start().unwrap();
    let took = rig.until("ready", |rig| rig.mesos.standing().ready).await;
    println!("ready {took:?} after the master's start");
    rig.running(&web, 3).await;
    rig.until("offered again", |rig| {
        rig.world.agents.iter().filter(|agent| Resources::new(1000, 64).fits(agent.held)).count() == 2
    })
    .await;
    rig.launch(&web, 1, 1);
    rig.running(&web, 4).await;
    assert_eq!(running(&cluster), 4);
    assert_eq!(rig.endings.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leader_is_found_through_any_master() {
    let agent = || Agent::default().resources("cpus:4;mem:1024");
    let cluster = Cluster::builder().masters(3).agent(agent()).fast_failure_detection().start().unwrap();
    let first = cluster.leader().unwrap();
    let state = tempfile::tempdir().unwrap();
    // One that does not lead, and will not be killed: it leads to the leader by redirects, before and after.
    let other = cluster.master((first + 1) % 3).url();
    let web = sleeper("web");
    let mut rig = Rig::start(pool(&[other], ""), state.path());
    rig.ready().await;
    assert_eq!(rig.mesos.standing().master, Some(cluster.master(first).url()));
    rig.held(Resources::new(4000, 1024)).await;
    rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    cluster.master(first).kill();
    rig.until("disconnected", |rig| !rig.mesos.standing().connected).await;
    let took = rig.until("ready", |rig| rig.mesos.standing().ready).await;
    println!("ready {took:?} after the leader's end");
    rig.held(Resources::new(2000, 128)).await;
    rig.launch(&web, 0, 1);
    rig.running(&web, 3).await;
    assert_eq!((running(&cluster), rig.endings.len()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_keeps_its_tasks() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let web = sleeper("web");
    let mut rig = Rig::start(pool(&[cluster.master_url()], ""), state.path());
    rig.ready().await;
    rig.held(Resources::new(2000, 128)).await;
    let ids = rig.launch(&web, 0, 2);
    rig.running(&web, 2).await;
    cluster.agent(0).kill();
    cluster.agent(0).start().unwrap();
    rig.kill(&web, &ids[..1]);
    rig.until("one left", |rig| rig.tasks(&web).len() == 1 && rig.count(&web, TaskPhase::Running) == 1).await;
    // Gone for good, and back.
    cluster.agent(0).kill();
    rig.until("unreachable", |rig| rig.count(&web, TaskPhase::Unreachable) == 1 && !rig.world.agents[0].present).await;
    cluster.agent(0).start().unwrap();
    rig.running(&web, 1).await;
    rig.until("offered", |rig| rig.world.agents[0].present && !rig.world.agents[0].held.is_zero()).await;
    assert_eq!(running(&cluster), 1);
    assert_eq!(rig.world.agents.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_id_is_said() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let pool = pool(&[cluster.master_url()], "");
    let web = sleeper("web");
    let mut rig = Rig::start(pool.clone(), state.path());
    rig.ready().await;
    rig.held(Resources::new(1000, 64)).await;
    rig.launch(&web, 0, 1);
    rig.running(&web, 1).await;
    let id = rig.mesos.standing().framework_id.unwrap();
    drop(rig);

    let lost = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(pool.clone(), lost.path());
    rig.until("stalled", |rig| rig.mesos.standing().stalled).await;
    let said = rig.mesos.standing().message;
    assert!(said.contains(&id) && said.contains("default.main.framework.json") && said.contains("1 tasks"), "{said}");
    assert_eq!(running(&cluster), 1);

    let mut rig = Rig::start_as(pool, lost.path(), true);
    rig.ready().await;
    assert_ne!(rig.mesos.standing().framework_id, Some(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_instances_wins_and_the_other_keeps_still() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let pool = pool(&[cluster.master_url()], "");
    let web = sleeper("web");
    let mut first = Rig::start(pool.clone(), state.path());
    first.ready().await;
    first.held(Resources::new(1000, 64)).await;
    first.launch(&web, 0, 1);
    first.running(&web, 1).await;
    let mut second = Rig::start(pool, state.path());
    second.ready().await;
    first.until("stalled", |rig| rig.mesos.standing().stalled).await;
    assert!(first.mesos.standing().message.contains("another instance"), "{:?}", first.mesos.standing());
    let ids: Vec<_> = first.tasks(&web).iter().map(|task| task.id.clone()).collect();
    first.kill(&web, &ids);
    first.pass(Duration::from_secs(2)).await;
    second.pass(Duration::from_millis(100)).await;
    assert!(second.mesos.standing().ready && !first.mesos.standing().connected);
    assert_eq!(running(&cluster), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_that_was_torn_down_is_not_replaced_in_silence() {
    let (cluster, state) = (cluster(1), tempfile::tempdir().unwrap());
    let pool = pool(&[cluster.master_url()], "");
    let mut rig = Rig::start(pool.clone(), state.path());
    rig.ready().await;
    let id = rig.mesos.standing().framework_id.unwrap();
    cluster.operator(&serde_json::json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": id}}})).unwrap();
    rig.until("stalled", |rig| rig.mesos.standing().stalled).await;
    assert!(rig.mesos.standing().message.contains("removed"), "{:?}", rig.mesos.standing());
    // Nor by the next run.
    let mut rig = Rig::start(pool, state.path());
    rig.until("stalled", |rig| rig.mesos.standing().stalled).await;
    assert!(rig.mesos.standing().message.contains("removed"), "{:?}", rig.mesos.standing());
}
