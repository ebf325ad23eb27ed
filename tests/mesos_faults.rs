//! Faults that a real Mesos cannot be made to show.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "real connections take real time")]

#[path = "support/fake_master.rs"]
mod fake_master;
#[path = "support/rig.rs"]
mod rig;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fake_master::{FakeMaster, Subscription};
use microscaler::api::validated::App;
use microscaler::backend::{Backend, End, Orders};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::TaskPhase;
use rig::{Rig, pool, sleeper};
use serde_json::json;
use tempfile::TempDir;

struct Bed {
    master: FakeMaster,
    stream: Subscription,
    rig: Rig,
    web: Arc<App>,
    state: TempDir,
}

impl Bed {
    /// Connected for the first time, with 4 cores held on agent A.
    async fn new() -> Self {
        let (mut master, state) = (FakeMaster::start().await, tempfile::tempdir().unwrap());
        let mut rig = Rig::start(pool(std::slice::from_ref(&master.url), ""), state.path());
        let stream = master.subscription().await;
        stream.subscribed("f-1", 15.0);
        rig.ready().await;
        stream.offer("O1", "A", 4);
        rig.held(Resources::new(4000, 4096)).await;
        master.call("REVIVE").await;
        Self { master, stream, rig, web: sleeper("web"), state }
    }

    async fn running(&mut self) -> Arc<str> {
        let id = self.rig.launch(&self.web, 0, 1)[0].clone();
        self.master.call("ACCEPT").await;
        self.stream.state(&id, "A", "TASK_RUNNING", "dQ==");
        self.rig.running(&self.web, 1).await;
        self.master.call("ACKNOWLEDGE").await;
        id
    }

    /// The connection that is made after the old one broke.
    async fn resubscribed(&mut self) {
        let master = &mut self.master;
        let rig = &mut self.rig;
        let turning = rig.until("never", |_| false);
        self.stream = tokio::select! { stream = master.subscription() => stream, _ = turning => unreachable!() };
        assert_eq!(self.stream.body["framework_id"]["value"], "f-1");
        assert_eq!(self.stream.body["subscribe"]["framework_info"]["id"]["value"], "f-1");
        self.stream.subscribed("f-1", 15.0);
    }
}

#[tokio::test]
async fn masters_without_a_leader_are_tried_until_there_is_one() {
    let (first, mut second) = (FakeMaster::start().await, FakeMaster::start().await);
    first.refuse_subscribe(503, "", "No leader elected");
    first.refuse_subscribe(404, "", "");
    first.refuse_subscribe(503, "", "Master has not finished recovery");
    // A loop: it leads to itself.
    let itself = format!("//{}/master/api/v1/scheduler", first.url.trim_start_matches("http://"));
    (0..6).for_each(|_| first.refuse_subscribe(307, &itself, ""));
    let leader = format!("//{}/master/api/v1/scheduler", second.url.trim_start_matches("http://"));
    first.refuse_subscribe(307, &leader, "");
    let state = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(pool(std::slice::from_ref(&first.url), ""), state.path());
    let mut said = HashSet::new();
    let turning = rig.until("never", |rig| {
        said.insert(rig.mesos.standing().message);
        assert!(!rig.mesos.standing().connected);
        false
    });
    let stream = tokio::select! { stream = second.subscription() => stream, _ = turning => unreachable!() };
    stream.subscribed("f-1", 15.0);
    rig.ready().await;
    assert_eq!(rig.mesos.standing().master, Some(second.url.clone()));
    for part in ["No leader elected", "404", "recovery", "redirected more than 5 times", "3rd try"] {
        assert!(said.iter().any(|message| message.contains(part)), "{part}: {said:?}");
    }
}

#[tokio::test]
async fn silence_ends_the_connection() {
    let (mut master, state) = (FakeMaster::start().await, tempfile::tempdir().unwrap());
    let mut rig = Rig::start(pool(std::slice::from_ref(&master.url), ""), state.path());
    let silent = master.subscription().await;
    silent.subscribed("f-1", 0.1);
    rig.ready().await;
    rig.until("silent", |rig| rig.mesos.standing().message.contains("nothing heard")).await;
    let stream = master.subscription().await;
    assert_eq!(stream.body["framework_id"]["value"], "f-1");
    stream.subscribed("f-1", 15.0);
    rig.until("connected", |rig| rig.mesos.standing().connected).await;
    let call = master.call("RECONCILE").await;
    assert_eq!(call.stream_id, stream.stream_id);
}

#[tokio::test]
async fn calls_that_are_not_answered_end_the_connection() {
    let mut bed = Bed::new().await;
    bed.master.set_deaf(true);
    bed.rig.order(Orders { recall: true, ..Orders::default() });
    bed.rig.until("noticed", |rig| rig.mesos.standing().message.contains("no answer")).await;
    bed.master.set_deaf(false);
    bed.resubscribed().await;
    bed.rig.until("connected", |rig| rig.mesos.standing().connected).await;
}

#[tokio::test]
async fn a_stale_stream_is_left_and_a_bad_call_is_not_made_much_of() {
    let mut bed = Bed::new().await;
    bed.master.refuse_call(400, "Failed to parse body");
    bed.rig.order(Orders { quiet: true, ..Orders::default() });
    bed.master.call("SUPPRESS").await;
    bed.rig.pass(Duration::from_millis(50)).await;
    assert!(bed.rig.mesos.standing().connected && bed.rig.mesos.stats().refused_calls() == 1);
    bed.master.refuse_call(400, "The stream ID included in this request didn't match the stream ID currently associated");
    bed.rig.order(Orders { recall: true, ..Orders::default() });
    bed.resubscribed().await;
}

#[tokio::test]
async fn updates_are_acknowledged_each_time_and_believed_once() {
    let mut bed = Bed::new().await;
    let id = bed.running().await;
    bed.rig.kill(&bed.web, std::slice::from_ref(&id));
    // Repeated, late, and out of order.
    let states = ["TASK_KILLED", "TASK_RUNNING", "TASK_KILLED", "TASK_STARTING"];
    for (state, uuid) in states.iter().zip(["YQ==", "Yg==", "YQ==", "Yw=="]) {
        bed.stream.state(&id, "A", state, uuid);
    }
    let mut uuids = Vec::new();
    for _ in states {
        uuids.push(bed.master.call("ACKNOWLEDGE").await.body["acknowledge"]["uuid"].as_str().unwrap().to_owned());
    }
    assert_eq!(uuids, ["YQ==", "Yg==", "YQ==", "Yw=="]);
    bed.rig.pass(Duration::from_millis(50)).await;
    assert!(bed.rig.tasks(&bed.web).is_empty() && bed.rig.endings.len() == 1);
}

#[tokio::test]
async fn a_lost_kill_is_repeated() {
    let mut bed = Bed::new().await;
    let id = bed.running().await;
    bed.rig.kill(&bed.web, std::slice::from_ref(&id));
    let first = bed.master.call("KILL").await;
    let Bed { master, rig, .. } = &mut bed;
    let second = tokio::select! { call = master.call("KILL") => call, _ = rig.until("never", |_| false) => unreachable!() };
    assert_eq!(first.body, second.body);
    assert_eq!(first.body["kill"]["kill_policy"]["grace_period"]["nanoseconds"], 0);
}

#[tokio::test]
async fn an_offer_that_is_withdrawn_as_it_is_accepted_costs_only_a_new_try() {
    let mut bed = Bed::new().await;
    let id = bed.rig.launch(&bed.web, 0, 1)[0].clone();
    bed.stream.send(&json!({"type": "RESCIND", "rescind": {"offer_id": {"value": "O1"}}}));
    let (task_id, agent_id) = (json!({"value": &*id}), json!({"value": "A"}));
    let (state, reason) = ("TASK_DROPPED", "REASON_INVALID_OFFERS");
    bed.stream
        .update(&json!({"task_id": task_id, "agent_id": agent_id, "state": state, "reason": reason, "source": "SOURCE_MASTER"}));
    bed.rig.gone(&bed.web).await;
    assert_eq!(bed.rig.endings[0].how, End::Dropped);
    bed.rig.pass(Duration::from_millis(50)).await;
    assert!(bed.master.calls().iter().all(|call| call.kind != "ACKNOWLEDGE"), "made by the master, so not to be acknowledged");
}

#[tokio::test]
async fn lost_revives_are_repeated_and_silence_starts_over() {
    let mut bed = Bed::new().await;
    bed.rig.order(Orders { recall: true, ..Orders::default() });
    bed.rig.pass(Duration::from_millis(2600)).await;
    let calls: Vec<_> = bed.master.calls().into_iter().map(|call| call.kind).collect();
    assert!(calls.iter().any(|kind| kind == "DECLINE"), "{calls:?}");
    let revives = calls.iter().filter(|kind| *kind == "REVIVE").count();
    assert!((3..8).contains(&revives), "{calls:?}");
    assert!(bed.rig.world.agents[0].held.is_zero());
    bed.stream.offer("O2", "A", 4);
    bed.rig.held(Resources::new(4000, 4096)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_updates_is_acknowledged_in_order() {
    const UPDATES: usize = 10_000;
    let mut bed = Bed::new().await;
    let id = bed.running().await;
    for n in 0..UPDATES {
        bed.stream.state(&id, "A", "TASK_RUNNING", &n.to_string());
    }
    let Bed { master, rig, web, .. } = &mut bed;
    let acknowledged = async {
        for n in 0..UPDATES {
            assert_eq!(master.call("ACKNOWLEDGE").await.body["acknowledge"]["uuid"], n.to_string());
        }
    };
    tokio::select! { () = acknowledged => {}, _ = rig.until("never", |_| false) => unreachable!() };
    assert!(rig.mesos.standing().ready && rig.count(web, TaskPhase::Running) == 1);
}

#[tokio::test]
async fn what_is_not_known_is_ignored_and_counted() {
    let mut bed = Bed::new().await;
    bed.stream.send(&json!({"type": "TEA_TIME", "tea_time": {"sugar": 2}}));
    bed.stream.send(&json!({"type": "HEARTBEAT", "beats": 72}));
    let offer = json!({"id": {"value": "O2"}, "agent_id": {"value": "B"}, "resources": [{"name": "luck", "type": "SET", "set": {"item": ["x"]}}], "mood": 1});
    bed.stream.send(&json!({"type": "OFFERS", "offers": {"offers": [offer], "weather": "fine"}}));
    bed.rig.until("known", |rig| rig.world.agents.len() == 2).await;
    assert_eq!(bed.rig.mesos.stats().unknown_events(), 1);
    // An event that cannot be read may have been an offer, which nobody would ever give back.
    bed.stream.send(&json!({"type": "OFFERS", "offers": "many"}));
    bed.resubscribed().await;
    assert_eq!(bed.rig.mesos.stats().unreadable_events(), 1);
}

#[tokio::test]
async fn after_another_instance_has_taken_over_nothing_is_done() {
    let mut bed = Bed::new().await;
    let id = bed.running().await;
    bed.stream.error("Framework failed over");
    bed.rig.until("stalled", |rig| rig.mesos.standing().stalled).await;
    bed.master.calls();
    bed.rig.kill(&bed.web, &[id]);
    bed.rig.order(Orders { recall: true, ..Orders::default() });
    bed.rig.pass(Duration::from_millis(1500)).await;
    assert!(bed.master.no_subscription() && bed.master.calls().is_empty());
}

#[tokio::test]
async fn a_removed_framework_is_not_registered_anew() {
    let mut bed = Bed::new().await;
    let state = bed.state;
    drop(bed.rig);
    let mut rig = Rig::start(pool(std::slice::from_ref(&bed.master.url), ""), state.path());
    let stream = bed.master.subscription().await;
    assert_eq!(stream.body["framework_id"]["value"], "f-1", "the id was stored");
    stream.error("Framework has been removed");
    rig.until("stalled", |rig| rig.mesos.standing().stalled).await;
    rig.pass(Duration::from_secs(1)).await;
    assert!(bed.master.no_subscription());
    assert!(state.path().join("default.main.framework.json").exists());
}

#[tokio::test]
async fn a_lost_launch_is_found_out_and_told() {
    let mut bed = Bed::new().await;
    let id = bed.rig.launch(&bed.web, 0, 1)[0].clone();
    bed.master.call("ACCEPT").await;
    let Bed { master, rig, stream, web, .. } = &mut bed;
    let asked = tokio::select! { call = master.call("RECONCILE") => call, _ = rig.until("never", |_| false) => unreachable!() };
    assert_eq!(asked.body["reconcile"]["tasks"][0]["task_id"]["value"], *id);
    assert_eq!(asked.body["reconcile"]["tasks"][0]["agent_id"]["value"], "A");
    let (state, reason) = ("TASK_GONE", "REASON_RECONCILIATION");
    stream.update(&json!({"task_id": {"value": &*id}, "agent_id": {"value": "A"}, "state": state, "reason": reason}));
    rig.gone(web).await;
    assert_eq!(rig.endings[0].how, End::Dropped);
}

#[tokio::test]
async fn a_refused_principal_is_said() {
    let (mut master, state) = (FakeMaster::start().await, tempfile::tempdir().unwrap());
    let secret = state.path().join("secret");
    std::fs::write(&secret, "open sesame\n").unwrap();
    let more = format!(", principal: ali, secretFile: '{}'", secret.display());
    let mut rig = Rig::start(pool(std::slice::from_ref(&master.url), &more), state.path());
    let stream = master.subscription().await;
    assert_eq!(stream.authorization.as_deref(), Some("Basic YWxpOm9wZW4gc2VzYW1l"));
    assert_eq!(stream.body["subscribe"]["framework_info"]["principal"], "ali");
    stream.subscribed("f-1", 15.0);
    rig.ready().await;
    master.refuse_subscribe(401, "", "");
    drop(stream);
    rig.until("said", |rig| rig.mesos.standing().stalled).await;
    assert!(rig.mesos.standing().message.contains("401"), "{:?}", rig.mesos.standing());
}
