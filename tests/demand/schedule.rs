//! Windows of time, by the wall clock of this machine: their edges are tried in simulated time, beside the source.

use std::time::Duration;

use jiff::tz::TimeZone;
use microscaler::engine::clock;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fixture::{Fixture, app};

/// Open, or closed, for months before and after this moment.
fn window(open: bool, effect: &Value) -> Value {
    let month = clock::timestamp().to_zoned(TimeZone::UTC).month();
    let first_of = |month: i8| format!("0 0 1 {} *", (month - 1).rem_euclid(12) + 1);
    let (start, end) = if open { (month - 3, month + 3) } else { (month + 3, month - 3) };
    let mut schedule = json!({"timezone": "Pacific/Auckland", "start": first_of(start), "end": first_of(end)});
    schedule.as_object_mut().unwrap().extend(effect.as_object().unwrap().clone());
    json!([{"name": "m", "schedule": schedule}])
}

#[tokio::test]
async fn a_window_says_its_value_once_and_silence_once() {
    let mut fixture = Fixture::new();
    for (effect, expected) in [(json!({"replicas": 7}), 7.0), (json!({"factor": 1.5}), 1.5)] {
        fixture.sources.sync(&[app("search", window(true, &effect))]);
        assert!((fixture.value().await - expected).abs() < 1e-9);
        fixture.sources.sync(&[app("search", window(false, &effect))]);
        let reading = fixture.until(|reading| reading.silent).await;
        assert_eq!((reading.value, reading.failure), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_while_nothing_changes() {
    let fixture = Fixture::of(window(true, &json!({"replicas": 7}))[0].clone());
    fixture.value().await;
    assert!(timeout(Duration::from_hours(24), fixture.board.changed()).await.is_err(), "the clock was looked at, and no more");
}
