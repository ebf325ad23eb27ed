//! What metrics will be: real forecasts of a load that comes round once a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use microscaler::demand::{Board, PushDesk, Sources};
use microscaler::engine::clock;
use microscaler::policy::world::Foreseen;
use microscaler::store::secrets::Secrets;
use serde_json::{Value, json};

use crate::fixture::{Fixture, app};

/// Ten and a hundred in turn, half a second each.
fn wave(season: &str) -> Value {
    let square = json!({"square": {"min": 10, "max": 100, "periodMilliseconds": 1000}, "everyMilliseconds": 50});
    let forecast = json!({"horizonMilliseconds": 300, "stepMilliseconds": 100, "season": season});
    json!({"name": "load", "simulated": square, "target": {"averageValue": 10}, "forecast": forecast})
}

fn fixture(histories: &Path) -> Fixture {
    let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
    let sources = Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_files()));
    Fixture { sources: sources.with_histories(Some(PathBuf::from(histories))), board, desk }
}

/// Waits until a rush is foreseen, with a forecast that is trusted, while there is none.
async fn foreseen(fixture: &Fixture) {
    let calm = |value: Option<(f64, u64)>| value.is_some_and(|(value, _)| value < 50.0);
    let reading = fixture.until(|reading| {
        let Some(Foreseen(curve)) = &reading.foreseen else { return false };
        let most = curve.most(clock::now(), clock::now() + 300);
        curve.trusted && calm(reading.value) && most.is_some_and(|(value, _)| value > 80.0)
    });
    reading.await;
}

#[tokio::test]
async fn a_load_that_comes_round_is_foreseen() {
    for season in ["auto", "1s"] {
        foreseen(&Fixture::of(wave(season))).await;
    }
}

#[tokio::test]
async fn a_history_is_read_and_one_that_is_no_history_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let now = clock::wall_ms();
    // 20 s of it in steps of 100 ms, with a line that somebody has spoilt.
    let line = |ago: u64| format!("{},{}\n", now - ago * 100, if (now - ago * 100) % 1000 < 500 { 100 } else { 10 });
    let text: String = (1..200).rev().map(line).chain(["what?\n".to_owned()]).collect();
    std::fs::write(directory.path().join("shop_search_load.csv"), text).unwrap();
    let mut fixture = fixture(directory.path());
    fixture.sources.sync(&[app("search", json!([wave("1s")]))]);
    // The first forecast there is knows of two seasons.
    let first = fixture.until(|reading| reading.foreseen.is_some()).await.foreseen.unwrap();
    let within = |most: f64| first.0.values.iter().filter(|value| (**value - most).abs() < 30.0).count();
    assert!(within(100.0) > 100 && within(10.0) > 100, "{:?}", first.0);
    drop(fixture);

    std::fs::write(directory.path().join("shop_search_load.csv"), [0xff, 0xfe]).unwrap();
    let mut fixture = self::fixture(directory.path());
    fixture.sources.sync(&[app("search", json!([wave("1s")]))]);
    foreseen(&fixture).await;
}

#[tokio::test]
async fn a_metric_without_a_forecast_has_none() {
    let mut wave = wave("auto");
    wave.as_object_mut().unwrap().remove("forecast");
    let fixture = Fixture::of(wave);
    let until = clock::now() + 1000;
    while clock::now() < until {
        assert!(fixture.next().await.iter().all(|update| update.reading.foreseen.is_none()));
    }
}
