//! Health, lists, questions to engines.

use std::sync::Arc;

use microscaler::engine::report::{Ask, TaskReport};
use microscaler::policy::world::TaskPhase;
use serde_json::{Value, json};

use super::fixture::Fixture;

#[tokio::test]
async fn health_and_readiness() {
    let fixture = Fixture::new(None).await;
    assert_eq!(fixture.get("/healthz").await.status(), 200);
    assert_eq!(fixture.get("/readyz").await.status(), 200);
    fixture.engine.reports.send_modify(|report| {
        let standing = &mut Arc::make_mut(report).standing;
        standing.ready = false;
        standing.message = "connecting to http://127.0.0.1:5050: connection refused".to_owned();
    });
    let response = fixture.get("/readyz").await;
    assert_eq!(response.status(), 503);
    let expected = "pool shop/main: connecting to http://127.0.0.1:5050: connection refused\n";
    assert_eq!(response.text().await.unwrap(), expected);
    assert_eq!(fixture.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn apps_and_pools_are_kubernetes_lists() {
    let fixture = Fixture::new(None).await;
    let list = fixture.json("/v1/apps").await;
    assert_eq!(list["apiVersion"], "microscaling.dev/v1alpha1");
    assert_eq!(list["kind"], "MicroscaledAppList");
    assert_eq!(list["problems"], json!(["bad.yaml:3: spec.x: unknown field"]));
    let app = &list["items"][0];
    assert_eq!((&app["kind"], &app["metadata"]["name"]), (&json!("MicroscaledApp"), &json!("search")));
    assert_eq!((&app["spec"]["pool"], &app["status"]["wanted"]), (&json!("main"), &json!(5)));
    assert_eq!(fixture.json("/v1/apps/shop/search").await, *app);
    assert_eq!(fixture.json("/v1/apps?namespace=shop").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.json("/v1/apps?namespace=other").await["items"], json!([]));

    let response = fixture.get("/v1/apps/shop/find").await;
    assert_eq!(response.status(), 404);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error, json!({"error": "no app shop/find; apps that exist: shop/search"}));
    let response = fixture.get("/v1/apps?ns=shop").await;
    assert_eq!(response.status(), 400);
    let error: Value = response.json().await.unwrap();
    assert!(error["error"].as_str().unwrap().contains("unknown field `ns`"), "{error}");

    let list = fixture.json("/v1/pools").await;
    assert_eq!(list["kind"], "MicroscalingPoolList");
    assert_eq!((&list["items"][0]["kind"], &list["items"][0]["status"]["agents"]), (&json!("MicroscalingPool"), &json!(3)));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_explained() {
    let fixture = Fixture::new(None).await;
    let response = fixture.get("/v2/x").await;
    assert_eq!(response.status(), 404);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"], "no such path: /v2/x");
    assert!(error["paths"].as_array().unwrap().contains(&json!("POST /v1/demand/{namespace}/{app}/{metric}")));
    let response = fixture.get("/v1/demand/shop/search/waiting").await;
    assert_eq!(response.status(), 405);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"], "GET is not possible at /v1/demand/shop/search/waiting");
}

fn task(id: &str, app: &str) -> TaskReport {
    TaskReport {
        id: id.to_owned(),
        namespace: "shop".to_owned(),
        app: app.to_owned(),
        pool: "main".to_owned(),
        version: None,
        agent: "a1".to_owned(),
        host: "localhost".to_owned(),
        phase: TaskPhase::Running,
        ready: true,
        age_milliseconds: 10,
    }
}

#[tokio::test]
async fn engines_are_asked_for_tasks_and_told_to_drain() {
    let mut fixture = Fixture::new(None).await;
    let mut asks = fixture.engine.asks.take().unwrap();
    tokio::spawn(async move {
        while let Some(ask) = asks.recv().await {
            match ask {
                Ask::Tasks(answer) => drop(answer.send(vec![task("2", "search"), task("1", "search"), task("3", "batch")])),
                Ask::Drain(answer) => drop(answer.send(3)),
            }
        }
    });
    for (path, ids) in [
        ("/v1/tasks", vec!["3", "1", "2"]),
        ("/v1/tasks?namespace=shop&app=search", vec!["1", "2"]),
        ("/v1/tasks?app=shop/batch&pool=main", vec!["3"]),
        ("/v1/tasks?pool=other", vec![]),
        ("/v1/tasks?namespace=other", vec![]),
    ] {
        let list = fixture.json(path).await;
        let found: Vec<&str> = list["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{path}");
    }
    let drain = async |pool: &str| fixture.client.post(format!("{}/v1/drain/shop/{pool}", fixture.url)).send().await.unwrap();
    assert_eq!(drain("main").await.json::<Value>().await.unwrap(), json!({"tasks": 3}));
    let response = drain("other").await;
    assert_eq!(response.status(), 404);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"], "no pool shop/other; pools that exist: shop/main");
}

#[tokio::test]
async fn a_silent_engine_is_a_problem_and_no_failure() {
    let mut fixture = Fixture::new(None).await;
    drop(fixture.engine.asks.take());
    let list = fixture.json("/v1/tasks").await;
    assert_eq!((&list["items"], &list["problems"]), (&json!([]), &json!(["pool shop/main does not answer"])));
}
