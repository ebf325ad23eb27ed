//! Finalizers, and objects that are deleted in all ways.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::DeleteParams;
use microscaler::backend::Standing;
use serde_json::json;
use tokio::time::sleep;

use super::fixture::{PATIENCE, Rig, app, pool, shared, start_engine, wait};

async fn until_kept(rig: &Rig<'_>, name: &str) {
    for _ in wait() {
        if rig.get(name).await.finalizers().contains(&"microscaling.dev/tasks".to_owned()) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} has no finalizer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_kept_until_its_tasks_have_ended() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    until_kept(&rig, "a").await;
    let other = json!([{"op": "add", "path": "/metadata/finalizers/0", "value": "other.dev/x"}]).to_string();
    rig.kubectl(&["patch", "msa", "a", "--type=json", "-p", &other]).await;
    rig.kubectl(&["delete", "msa", "a", "--wait=false"]).await;
    rig.engine.end(&rig.key("a"), 3);
    let status = rig.until("a", |status| status.reason == "being deleted: 3 tasks still end").await;
    assert_eq!((status.phase, status.stopping), (Some(microscaler::api::status::Phase::Growing), 3));
    rig.kubectl(&["wait", "--for=condition=Reconciling", "msa/a", "--timeout=20s"]).await;
    rig.engine.end(&rig.key("a"), 0);
    for _ in wait() {
        if rig.get("a").await.finalizers() == ["other.dev/x"] {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rig.get("a").await.finalizers(), ["other.dev/x"], "others' are untouched");
    rig.kubectl(&["patch", "msa", "a", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
    rig.until_gone("msa/a").await;
    let before = rig.quiet().await;
    sleep(Duration::from_secs(2)).await;
    assert!(!rig.exists("msa/a").await, "nothing is created");
    assert_eq!(rig.written(), before);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_deletion_takes_without_tasks() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    until_kept(&rig, "a").await;
    let begun = Instant::now();
    rig.apps().delete("a", &DeleteParams::default()).await.unwrap();
    rig.engine.end(&rig.key("a"), 0);
    while rig.apps().get_opt("a").await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(5)).await;
    }
    println!("gone {:.0?} after the deletion was asked for", begun.elapsed());
    // And one without a pool does not wait for anything.
    rig.create("lost", "nowhere").await;
    until_kept(&rig, "lost").await;
    rig.kubectl(&["delete", "msa", "lost", "--timeout=20s"]).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_waits_for_its_apps_and_for_mesos() {
    let rig = Rig::new(shared()).await;
    let apps = [rig.app("a").await, rig.app("b").await];
    apps.iter().for_each(|app| rig.engine.judge(app, |_| {}));
    until_kept(&rig, "b").await;
    rig.kubectl(&["delete", "mpool", "main", "--wait=false"]).await;
    let message = |words: &'static str| {
        let rig = &rig;
        async move {
            for _ in wait() {
                if rig.pool_status("main").await.message.contains(words) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
            panic!("{}", rig.pool_status("main").await.message)
        }
    };
    message("being deleted: waits for 2 apps: a, b").await;
    rig.kubectl(&[
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Deleting",
        "mpool/main",
        "--timeout=20s",
    ])
    .await;
    rig.kubectl(&["delete", "msa", "a", "b", "--wait=false"]).await;
    rig.engine.end(&rig.key("a"), 2);
    rig.engine.end(&rig.key("b"), 0);
    rig.until_gone("msa/b").await;
    message("being deleted: waits for 1 app: a").await;
    rig.engine
        .change(|report| report.standing = Standing { ready: false, message: "no route".to_owned(), ..report.standing.clone() });
    rig.engine.end(&rig.key("a"), 0);
    message("waits for 1 app: a").await;
    let status = rig.until("a", |status| status.reason.contains("which alone can tell")).await;
    println!("{}", status.reason);
    sleep(Duration::from_secs(2)).await;
    assert!(rig.exists("msa/a").await);
    // As the words say.
    let command = status.reason.split("kubectl ").nth(1).unwrap();
    let (arguments, patch) = command.split_once("-p ").unwrap();
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["-p", patch.trim_matches('\'')]);
    rig.kubectl(&arguments).await;
    rig.until_gone("msa/a").await;
    message("To let go without knowing: kubectl patch mpool main").await;
    rig.engine.change(|report| report.standing.ready = true);
    rig.until_gone("mpool/main").await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_deleted_together_and_created_anew() {
    let rig = Rig::new(shared()).await;
    for _ in 0..3 {
        let a = rig.app("a").await;
        rig.engine.judge(&a, |_| {});
        until_kept(&rig, "a").await;
        rig.kubectl(&["delete", "mpool/main", "msa/a", "--wait=false"]).await;
        rig.engine.end(&rig.key("a"), 1);
        sleep(Duration::from_millis(700)).await;
        assert!(rig.exists("mpool/main").await && rig.exists("msa/a").await);
        rig.engine.end(&rig.key("a"), 0);
        rig.until_gone("mpool/main").await;
        rig.until_gone("msa/a").await;
        rig.plane.apply(&pool(&rig.namespace, "main").to_string()).unwrap();
    }
    let uid = rig.app("a").await.uid();
    until_kept(&rig, "a").await;
    assert_eq!(rig.get("a").await.uid(), uid);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_is_emptied() {
    let rig = Rig::new(shared()).await;
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    until_kept(&rig, "a").await;
    rig.kubectl(&["delete", "namespace", &rig.namespace, "--wait=false"]).await;
    // The controller that would do this is not here.
    rig.kubectl(&["delete", "mpool/main", "msa/a", "--wait=false"]).await;
    rig.engine.end(&rig.key("a"), 2);
    rig.until("a", |status| status.reason.contains("2 tasks still end")).await;
    rig.engine.end(&rig.key("a"), 0);
    rig.until_gone("msa/a").await;
    rig.until_gone("mpool/main").await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_was_moved_waits_for_its_tasks_in_the_old_pool() {
    let rig = Rig::new(shared()).await;
    rig.plane.apply(&pool(&rig.namespace, "second").to_string()).unwrap();
    let (second, heart) = start_engine(&rig.pools, &rig.namespace, "second");
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    until_kept(&rig, "a").await;
    rig.plane.apply(&app(&rig.namespace, "a", "second").to_string()).unwrap();
    rig.engine.end(&rig.key("a"), 4);
    let moved = rig.get("a").await;
    second.judge(&moved, |status| status.running = 44);
    rig.until("a", |status| status.running == 44).await;
    rig.kubectl(&["delete", "msa", "a", "--wait=false"]).await;
    second.end(&rig.key("a"), 0);
    rig.until("a", |status| status.reason == "being deleted: 4 tasks still end").await;
    sleep(Duration::from_secs(1)).await;
    rig.engine.end(&rig.key("a"), 0);
    rig.until_gone("msa/a").await;
    heart.abort();
    rig.end().await;
}
