//! What is pushed.

use std::sync::Arc;

use microscaler::api::validated::Key;
use microscaler::demand::{Board, PushDesk, PushError, Sources};
use microscaler::engine::clock;
use microscaler::store::secrets::Secrets;
use serde_json::json;

use crate::fixture::{Fixture, app, metric};

#[tokio::test]
async fn pushes_reach_the_board_at_once() {
    let mut fixture = Fixture::new();
    let push = metric("waiting", "push", &json!({}));
    let step = json!({"step": {"from": 1.0, "to": 9.0, "afterMilliseconds": 250}, "everyMilliseconds": 100_000});
    fixture.sources.sync(&[app("search", json!([push, metric("load", "simulated", &step)]))]);
    let at = clock::instant();
    fixture.desk.push("shop", "search", "waiting", 200.0, at).unwrap();
    let update = fixture.board.take().remove(0);
    assert_eq!((update.app, &*update.metric, update.at), (Key::new("shop", "search"), "waiting", at));
    assert_eq!(update.reading.value, Some((200.0, clock::to_millis(at))));

    let refused = |app: &str, metric: &str, value| fixture.desk.push("shop", app, metric, value, at).unwrap_err().to_string();
    assert_eq!(refused("find", "waiting", 1.0), "no app shop/find; apps that exist: shop/search");
    assert_eq!(refused("search", "x", 1.0), "app shop/search has no metric x; metrics that exist: load, waiting");
    assert_eq!(refused("search", "load", 1.0), "metric load of app shop/search is not pushed: its source is simulated");
    assert_eq!(refused("search", "waiting", -1.0), "not an amount of demand: -1 is negative");
    assert_eq!(fixture.desk.tally().counts().next().unwrap(), ("push", 1));
}

#[tokio::test]
async fn an_app_that_moves_to_another_pool_stays_known_whatever_the_order() {
    let desk = Arc::new(PushDesk::new());
    let boards = [Arc::new(Board::new()), Arc::new(Board::new())];
    let mut pools = boards.each_ref().map(|board| Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files())));
    let app = app("search", json!([metric("waiting", "push", &json!({}))]));
    pools[0].sync(std::slice::from_ref(&app));
    pools[1].sync(std::slice::from_ref(&app));
    pools[0].sync(&[]);
    desk.push("shop", "search", "waiting", 1.0, clock::instant()).unwrap();
    assert!(boards[0].take().is_empty());
    assert_eq!(boards[1].take().len(), 1);
    drop(pools);
    let gone = desk.push("shop", "search", "waiting", 1.0, clock::instant());
    assert!(matches!(gone, Err(PushError::UnknownApp { .. })));
}
