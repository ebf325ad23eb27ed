//! Events, as kubectl shows them.

use std::time::{Duration, Instant};

use microscaler::engine::report::EventKind;
use serde_json::Value;
use tokio::time::sleep;

use super::fixture::{FAULT, Rig, shared, wait};

async fn events(rig: &Rig<'_>) -> Vec<Value> {
    let list: Value = serde_json::from_str(&rig.kubectl(&["get", "events", "-o", "json"]).await).unwrap();
    list["items"].as_array().unwrap().clone()
}

async fn until(rig: &Rig<'_>, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    for () in wait() {
        last = events(rig).await;
        if is(&last) {
            return last;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{last:#?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repetitions_become_one_event_with_the_newest_words() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    for n in 1..=30 {
        rig.tell(Some("a"), EventKind::Normal, "ScaledUp", &format!("from {} to {n} replicas", n - 1));
        rig.tell(Some("a"), EventKind::Warning, "TaskFailed", &format!("task {n} failed"));
        sleep(Duration::from_millis(50)).await;
    }
    rig.tell(None, EventKind::Warning, "Disconnected", "the master is gone");
    rig.tell(Some("unknown"), EventKind::Normal, "ScaledUp", "of nothing");
    let find = |all: &[Value], reason: &str| all.iter().find(|event| event["reason"] == reason).cloned();
    let done = |all: &[Value]| find(all, "ScaledUp").is_some_and(|event| event["series"]["count"] == 30);
    let all = until(&rig, done).await;
    println!("61 events became {}", all.len());
    assert_eq!(all.iter().filter(|event| event["involvedObject"]["name"] == "a").count(), 2, "{all:#?}");
    let event = find(&all, "ScaledUp").unwrap();
    assert_eq!(event["message"], "from 29 to 30 replicas");
    assert_eq!(event["involvedObject"]["uid"].as_str(), a.metadata.uid.as_deref());
    assert_eq!(
        (&event["reportingComponent"], &event["reportingInstance"]),
        (&"microscaling.dev/microscaler".into(), &"replica-1".into())
    );
    let pool = find(&all, "Disconnected").unwrap();
    assert_eq!((&pool["involvedObject"]["kind"], &pool["type"]), (&"MicroscalingPool".into(), &"Warning".into()));
    let described = rig.kubectl(&["describe", "msa", "a"]).await;
    let events = described.split("Events:").nth(1).unwrap();
    println!("{events}");
    assert!(events.contains("(x30 over") && events.contains("from 29 to 30 replicas"), "{events}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_cut_down_and_a_standby_tells_nothing() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    rig.mandate.extend_to(0);
    sleep(Duration::from_millis(500)).await;
    rig.tell(Some("a"), EventKind::Normal, "Hidden", "x");
    sleep(Duration::from_millis(500)).await;
    rig.lead();
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    for n in 0..100 {
        rig.tell(Some("a"), EventKind::Normal, &format!("Reason{n}"), "x");
    }
    // More bytes than the API server takes, though not more characters.
    rig.tell(Some("a"), EventKind::Warning, "Important", &"ü".repeat(1000));
    until(&rig, |all| all.len() >= 10).await;
    // In which the rest would be written if nothing stopped it.
    sleep(Duration::from_secs(3)).await;
    let all = events(&rig).await;
    println!("of 101 events of one object at once, {} were written", all.len());
    // Ten at once, and one more in ten seconds.
    let more = usize::try_from(begun.elapsed().as_secs() / 10).unwrap();
    assert!((10..=11 + more).contains(&all.len()), "{} in {:.0?}", all.len(), begun.elapsed());
    assert!(!all.iter().any(|event| event["reason"] == "Hidden"));
    assert!(all.iter().any(|event| event["reason"] == "Important"), "its words were cut to fit");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_engine_tells_is_told_as_well() {
    let rig = Rig::new(shared()).await;
    rig.create("lost", "nowhere").await;
    let bad = rig.app("bad").await;
    rig.kubectl(&["annotate", "msa", "bad", &format!("{FAULT}=spec.x: unknown field")]).await;
    let has = |all: &[Value], reason: &str, object: &str| {
        all.iter().any(|event| event["reason"] == reason && event["involvedObject"]["name"] == object)
    };
    until(&rig, |all| has(all, "PoolNotFound", "lost") && has(all, "BadSpec", "bad")).await;
    rig.engine.judge(&bad, |_| {});
    rig.kubectl(&["delete", "mpool", "main", "--wait=false"]).await;
    let all = until(&rig, |all| has(all, "Deleting", "main")).await;
    let deleting = all.iter().find(|event| event["reason"] == "Deleting").unwrap();
    assert_eq!(deleting["message"], "being deleted: waits for 1 app: bad");
    rig.kubectl(&["delete", "msa", "bad", "--wait=false"]).await;
    rig.engine.end(&rig.key("bad"), 0);
    rig.until_gone("mpool/main").await;
    until(&rig, |all| has(all, "Deleted", "main")).await;
    assert_eq!(events(&rig).await.iter().filter(|event| event["reason"] == "BadSpec").count(), 1);
    rig.end().await;
}
