//! Statuses, with an API server in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use microscaler::api::status::Phase;
use microscaler::kubernetes::schedule::Limits;
use serde_json::json;
use tokio::time::sleep;

use super::fixture::{FAULT, Rig, app, condition, converged, shared, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_changes_are_coalesced_and_nothing_is_written_without_one() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    let before = rig.quiet().await;
    let begun = Instant::now();
    for running in 0..600 {
        rig.engine.judge(&a, |status| status.running = running);
        sleep(Duration::from_millis(5)).await;
    }
    rig.until("a", |status| status.running == 599).await;
    let halves = begun.elapsed().as_secs() * 2 + 2;
    let writes = rig.quiet().await - before;
    println!("600 changes: {writes} writes; {}", rig.lag());
    // One in half a second, and no more than two beside these; on a busy machine fewer.
    assert!((2..=halves + 3).contains(&writes), "{writes} in {halves} half seconds");
    // Reports go on, but say nothing new: not even the ages of readings.
    let version = rig.get("a").await.metadata.resource_version;
    for age in 0..200 {
        rig.engine.judge(&a, |status| status.demand[0].age_milliseconds = Some(age));
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.get("a").await.metadata.resource_version, version);
    assert_eq!(rig.quiet().await - before, writes);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tools_wait_for_is_written_at_once() {
    let rig = Rig::new(shared()).await;
    let (a, b) = (rig.app("a").await, rig.app("b").await);
    rig.engine.judge(&a, |_| {});
    rig.engine.judge(&b, |_| {});
    rig.until("a", |status| status.phase == Some(Phase::Growing)).await;
    rig.until("b", |status| status.phase == Some(Phase::Growing)).await;
    let mut overtakes = 0;
    for round in 0..10 {
        sleep(Duration::from_millis(700)).await;
        // Counts of both have just been written, so that their next ones have to wait.
        for (app, name) in [(&a, "a"), (&b, "b")] {
            rig.engine.judge(app, |status| status.starting = 100 + round);
            rig.until(name, |status| status.starting == 100 + round).await;
        }
        let phase = if round % 2 == 0 { Phase::Converged } else { Phase::Growing };
        rig.engine.judge(&b, |status| status.starting = 200 + round);
        rig.engine.judge(&a, |status| status.phase = Some(phase));
        rig.until("a", |status| status.phase == Some(phase)).await;
        let count = rig.status("b").await.starting;
        overtakes += i32::from(count < 200);
        rig.until("b", |status| status.starting == 200 + round).await;
    }
    // If the phase had to wait too, it would come after the counts, which were told first. On a busy machine some reads come late.
    assert!(overtakes > 0, "{}", rig.lag());
    rig.engine.judge(&a, converged);
    rig.kubectl(&["wait", "--for=condition=Ready", "msa/a", "--timeout=20s"]).await;
    rig.kubectl(&["wait", "--for=jsonpath={.status.phase}=Converged", "msa/a", "--timeout=20s"]).await;
    rig.kubectl(&["wait", "--for=condition=Ready", "mpool/main", "--timeout=20s"]).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_edit_is_put_right_and_what_others_own_is_left() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    rig.quiet().await;
    let edit = json!({"status": {"wanted": 77, "phase": "Failed"}}).to_string();
    rig.kubectl(&["patch", "msa", "a", "--subresource=status", "--type=merge", "-p", &edit]).await;
    rig.until("a", |status| status.wanted == 5 && status.phase == Some(Phase::Growing)).await;
    let foreign = json!([{"op": "add", "path": "/status/conditions/-", "value": condition("Watched", "True")}]).to_string();
    rig.kubectl(&["patch", "msa", "a", "--subresource=status", "--type=json", "-p", &foreign]).await;
    let framework = json!({"status": {"frameworkId": "f-1"}}).to_string();
    rig.kubectl(&["patch", "mpool", "main", "--subresource=status", "--type=merge", "-p", &framework]).await;
    let before = rig.quiet().await;
    rig.engine.judge(&a, |status| status.running = 2);
    let status = rig.until("a", |status| status.running == 2).await;
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Watched"));
    assert_eq!(rig.quiet().await, before + 1, "no quarrel");
    assert_eq!(rig.pool_status("main").await.framework_id.as_deref(), Some("f-1"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_framework_is_put_back() {
    let rig = Rig::new(shared()).await;
    let until = async |id: &str| {
        for () in wait() {
            let status = rig.pool_status("main").await;
            if status.framework_id.as_deref() == Some(id) && status.agents == 3 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{:#?}", rig.pool_status("main").await)
    };
    until("f-1").await;
    for patch in [r#"{"status":null}"#, r#"{"status":{"frameworkId":"another"}}"#] {
        rig.kubectl(&["patch", "mpool", "main", "--subresource=status", "--type=merge", "-p", patch]).await;
        until("f-1").await;
    }
    // An engine that is not sure says nothing, so that a person can make it forget the id.
    rig.engine.change(|report| report.standing.ready = false);
    let amnesia = r#"{"status":{"frameworkId":null}}"#;
    rig.kubectl(&["patch", "mpool", "main", "--subresource=status", "--type=merge", "-p", amnesia]).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(rig.pool_status("main").await.framework_id, None);
    rig.mandate.extend_to(0);
    rig.engine.change(|report| report.standing.ready = true);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.pool_status("main").await.framework_id, None, "a standby says nothing either");
    rig.lead();
    until("f-1").await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_that_no_engine_speaks_of() {
    let rig = Rig::new(shared()).await;
    let bad = app(&rig.namespace, "bad", "main");
    rig.plane.apply(&bad.to_string()).unwrap();
    rig.kubectl(&["annotate", "msa", "bad", &format!("{FAULT}=spec.x: unknown field")]).await;
    let status = rig.until("bad", |status| status.phase == Some(Phase::Failed)).await;
    assert!(status.reason.starts_with("spec.x: unknown field"), "{}", status.reason);
    rig.kubectl(&["wait", "--for=condition=Stalled", "msa/bad", "--timeout=20s"]).await;
    rig.kubectl(&["wait", "--for=jsonpath={.status.observedGeneration}=1", "msa/bad", "--timeout=20s"]).await;
    rig.create("lost", "nowhere").await;
    let status = rig.until("lost", |status| status.phase.is_some()).await;
    assert!(status.reason.contains("there is no MicroscalingPool nowhere"), "{}", status.reason);
    // An app that the engine has not judged yet keeps the status of those of which nothing is known.
    rig.app("new").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.status("new").await.observed_generation, -1);
    let before = rig.quiet().await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.written(), before);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namesake_does_not_get_the_old_ones_status() {
    let rig = Rig::new(shared()).await;
    for round in 0..5 {
        let old = rig.app("a").await;
        rig.engine.judge(&old, |status| status.running = 1000);
        rig.until("a", |status| status.running == 1000).await;
        // Without waiting for anything, as a hand that is in a hurry would do it.
        rig.engine.judge(&old, |status| status.running = 2000 + round);
        rig.kubectl(&["patch", "msa", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
        rig.kubectl(&["delete", "msa", "a", "--wait=false"]).await;
        rig.engine.end(&rig.key("a"), 0);
        rig.until_gone("msa/a").await;
        rig.engine.judge(&old, |status| status.running = 3000 + round);
        rig.app("a").await;
        for _ in 0..20 {
            assert_eq!(rig.status("a").await.running, 0);
            sleep(Duration::from_millis(20)).await;
        }
        rig.engine.end(&rig.key("a"), 0);
        rig.kubectl(&["delete", "msa", "a", "--timeout=20s"]).await;
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_at_the_limit_gets_a_short_status() {
    let rig = Rig::new(shared()).await;
    let mut big = app(&rig.namespace, "big", "main");
    let text = |length: usize| "x".repeat(length);
    let mut command = vec!["/bin/true".to_owned()];
    command.extend((0..47).map(|_| text(32_000)));
    // So that the finalizer and a short status fit, and a long one does not (etcd takes 1.5 MiB).
    command.push(text(65_000 % 32_768));
    big["spec"]["template"]["command"] = json!(command);
    rig.plane.apply(&big.to_string()).unwrap();
    let object = rig.get("big").await;
    let size = serde_json::to_vec(&object).unwrap().len();
    rig.kubectl(&["wait", "--for=jsonpath={.metadata.finalizers}", "msa/big", "--timeout=20s"]).await;
    let words = "ü".repeat(900);
    rig.engine.judge(&object, |status| {
        status.reason = words.clone();
        let one = status.demand[0].clone();
        let metric =
            |n| microscaler::api::status::DemandStatus { name: format!("m{n}"), message: Some(text(1000)), ..one.clone() };
        status.demand = (0..((1_572_864 - size) / 1000)).map(metric).collect();
    });
    let status = rig.until("big", |status| status.wanted == 5).await;
    println!("an object of {size} bytes: {}", status.reason.chars().take(60).collect::<String>());
    assert!(status.reason.starts_with("(shortened") && status.demand.is_empty());
    let before = rig.quiet().await;
    rig.engine.judge(&object, |status| status.running = 3);
    rig.until("big", |status| status.running == 3).await;
    assert!(rig.quiet().await <= before + 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_writes_nothing_and_a_new_leader_everything() {
    let rig = Rig::with(shared(), shared().kubeconfig(), Limits::default()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.get("a").await.metadata.resource_version, a.metadata.resource_version);
    rig.lead();
    rig.until("a", |status| status.wanted == 5).await;
    rig.mandate.extend_to(0);
    rig.engine.judge(&a, |status| status.wanted = 9);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.status("a").await.wanted, 5);
    rig.lead();
    rig.until("a", |status| status.wanted == 9).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_what_tools_wait_for_is_still_written() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    let apps = rig.apps();
    rig.engine.judge(&a, converged);
    rig.end().await;
    assert_eq!(apps.get("a").await.unwrap().status.unwrap().phase, Some(Phase::Converged));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_apps_keep_within_the_budget() {
    let rig = Rig::new(shared()).await;
    let mut apps = Vec::new();
    for n in 0..200 {
        apps.push(rig.app(&format!("a{n}")).await);
    }
    let begun = Instant::now();
    apps.iter().for_each(|app| rig.engine.judge(app, |_| {}));
    for name in ["a0", "a199", "a100"] {
        rig.until(name, |status| status.wanted == 5).await;
    }
    rig.quiet().await;
    println!("200 new statuses: {}", rig.lag());
    sleep(Duration::from_secs(2)).await;
    let before = rig.written();
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_secs(5) {
        rig.engine.change(|report| report.apps.iter_mut().for_each(|app| Arc::make_mut(&mut app.status).running += 1));
        sleep(Duration::from_millis(20)).await;
    }
    let (writes, seconds) = (rig.written() - before, busy.elapsed().as_secs() + 1);
    let coalesced = rig.count("microscaler_status_writes_total{result=\"coalesced\"}");
    println!(
        "200 busy apps: {writes} writes in {seconds} s or less, {coalesced} coalesced; {} ({:.0?})",
        rig.lag(),
        begun.elapsed()
    );
    assert!(writes <= 50 * (seconds + 1) + 10, "{writes}");
    // Nobody starves, and what tools wait for goes ahead of the rest.
    let begun = Instant::now();
    rig.engine.judge(&apps[7], converged);
    rig.until("a7", |status| status.phase == Some(Phase::Converged)).await;
    println!("a change of state beside them: {:.0?}", begun.elapsed());
    rig.end().await;
}
