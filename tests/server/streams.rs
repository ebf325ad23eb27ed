//! Server-sent events, and the end of all streams.

use std::sync::Arc;
use std::time::Duration;

use microscaler::api::validated::Key;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fixture::{Fixture, PATIENCE, Stream, Streamed, engine, event};

#[tokio::test]
async fn events_are_streamed_from_all_pools() {
    let fixture = Fixture::new(None).await;
    let mut all = Stream::open(&fixture, "/v1/events").await;
    let mut one = Stream::open(&fixture, "/v1/events?app=shop/search").await;
    fixture.engine.events.send(event("Disconnected", None)).unwrap();
    fixture.engine.events.send(event("ScaledUp", Some("shop/search"))).unwrap();
    let (name, data) = all.next().await.unwrap();
    assert_eq!((name.as_str(), &data["reason"], &data["type"]), ("Disconnected", &json!("Disconnected"), &json!("Normal")));
    assert_eq!(all.next().await.unwrap().0, "ScaledUp");
    assert_eq!(one.next().await.unwrap().0, "ScaledUp");

    let (late, handle) = engine("late", Vec::new());
    fixture.state.pools.insert(handle);
    // The pool is followed soon after it was inserted; until then nobody listens.
    while late.events.receiver_count() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    late.events.send(event("Hello", None)).unwrap();
    assert_eq!(all.next().await.unwrap().0, "Hello");
    fixture.state.pools.remove(&Key::new("shop", "late"));
    drop(late);
    fixture.engine.events.send(event("Still", None)).unwrap();
    assert_eq!(all.next().await.unwrap().0, "Still");
}

#[tokio::test]
async fn whoever_reads_events_too_slowly_is_told() {
    let fixture = Fixture::new(None).await;
    let mut stream = Stream::open(&fixture, "/v1/events").await;
    // The test has one thread, so nobody reads in between; the channel holds four.
    for i in 0..10 {
        fixture.engine.events.send(event(&format!("E{i}"), None)).unwrap();
    }
    assert_eq!(stream.next().await.unwrap(), ("dropped".to_owned(), json!({"dropped": 6})));
    assert_eq!(stream.next().await.unwrap().0, "E6");
}

#[tokio::test]
async fn a_watcher_sees_each_new_state() {
    let fixture = Fixture::new(None).await;
    let mut stream = Stream::open(&fixture, "/v1/watch").await;
    let (name, data) = stream.next().await.unwrap();
    assert_eq!((name.as_str(), &data["apps"]["kind"]), ("snapshot", &json!("MicroscaledAppList")));
    assert_eq!(data["pools"]["items"][0]["status"]["tasks"], 7);
    for wanted in [6, 7] {
        fixture.engine.reports.send_modify(|report| Arc::make_mut(&mut Arc::make_mut(report).apps[0].status).wanted = wanted);
        assert_eq!(stream.next().await.unwrap().1["apps"]["items"][0]["status"]["wanted"], wanted);
    }
    let (_engine, handle) = engine("late", Vec::new());
    fixture.state.pools.insert(handle);
    assert_eq!(stream.next().await.unwrap().1["pools"]["items"][0]["metadata"]["name"], "late");
    fixture.state.pools.remove(&Key::new("shop", "late"));
    assert_eq!(stream.next().await.unwrap().1["pools"]["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_end_of_the_server_ends_streams() {
    let mut fixture = Fixture::new(None).await;
    let mut events = Stream::open(&fixture, "/v1/events").await;
    let mut watch = Stream::open(&fixture, "/v1/watch").await;
    let pushed = Streamed::open(&fixture);
    pushed.send("1\n");
    while fixture.state.desk.tally().counts().next().unwrap().1 == 0 {
        timeout(PATIENCE, fixture.board.changed()).await.unwrap();
    }
    watch.next().await.unwrap();
    fixture.stop.take().unwrap().send(()).unwrap();
    assert_eq!(events.next().await, None);
    assert_eq!(watch.next().await, None);
    let response = timeout(PATIENCE, pushed.answer).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"error": "the server is ending", "accepted": 1}));
    timeout(PATIENCE, fixture.server).await.expect("the server goes on").unwrap().unwrap();
}
