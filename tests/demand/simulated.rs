//! Generated loads.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::fixture::{Fixture, app, metric};

#[tokio::test(start_paused = true)]
async fn simulated_values_come_on_a_steady_grid() {
    let start = tokio::time::sleep(Duration::ZERO).deadline();
    let step = json!({"step": {"from": 1.0, "to": 9.0, "afterMilliseconds": 250}, "everyMilliseconds": 100});
    let fixture = Fixture::of(metric("m", "simulated", &step));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let value = fixture.value().await;
        let elapsed = tokio::time::sleep(Duration::ZERO).deadline() - start;
        seen.push((elapsed.as_millis(), value));
    }
    assert_eq!(seen, [(0, 1.0), (100, 1.0), (200, 1.0), (300, 9.0), (400, 9.0)]);
}

#[tokio::test(start_paused = true)]
async fn sources_start_end_and_restart_with_their_specs() {
    let walk = |seed| {
        let walk = json!({"randomWalk": {"min": 0.0, "max": 100.0, "maxStep": 5.0, "seed": seed}, "everyMilliseconds": 100});
        app("search", json!([metric("m", "simulated", &walk)]))
    };
    let mut fixture = Fixture::new();
    fixture.sources.sync(&[walk(1)]);
    assert!((fixture.value().await - 50.0).abs() < 1e-9, "a walk begins in the middle");
    let second = fixture.value().await;

    // The same definition in a new spec goes on where it was; another one begins anew.
    fixture.sources.sync(&[walk(1)]);
    let third = fixture.value().await;
    assert!((third - 50.0).abs() > 1e-9 && (third - second).abs() > 1e-9);
    fixture.sources.sync(&[walk(2)]);
    assert!((fixture.value().await - 50.0).abs() < 1e-9);

    fixture.sources.sync(&[]);
    assert!(timeout(Duration::from_secs(5), fixture.board.changed()).await.is_err(), "a source outlived its spec");
    fixture.sources.sync(&[walk(2)]);
    fixture.value().await;
    let Fixture { board, sources, .. } = fixture;
    drop(sources);
    assert!(timeout(Duration::from_secs(5), board.changed()).await.is_err(), "a source outlived all sources");
}
