//! The push API: what takes effect, what is refused, and who may.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fixture::{Fixture, PATIENCE, Streamed};

#[tokio::test]
async fn a_push_is_on_the_board_when_it_is_answered() {
    let fixture = Fixture::new(None).await;
    for (body, expected) in [("200", 200.0), (" 3.5\n", 3.5), (r#"{"value": 7}"#, 7.0)] {
        assert_eq!(fixture.push("shop/search/waiting", body).await, (200, json!({"accepted": 1})));
        let update = fixture.board.take().into_iter().find(|update| &*update.metric == "waiting").unwrap();
        assert!((update.reading.value.unwrap().0 - expected).abs() < 1e-9);
    }
}

#[tokio::test]
async fn refused_pushes_say_why() {
    let fixture = Fixture::new(None).await;
    let long = "1".repeat(5000);
    for (path, body, status, error) in [
        ("shop/search/waiting", "abc", 400, "a number or {\"value\": 200} is needed, got: abc"),
        ("shop/search/waiting", "-1", 400, "not an amount of demand: -1 is negative"),
        ("shop/search/waiting", "NaN", 400, "not an amount of demand: NaN is not a finite number"),
        ("shop/search/waiting", &long, 413, "the body is longer than 4096 bytes; send a stream of lines as application/x-ndjson"),
        ("shop/find/waiting", "1", 404, "no app shop/find; apps that exist: shop/search"),
        ("shop/search/x", "1", 404, "app shop/search has no metric x; metrics that exist: load, waiting"),
        ("shop/search/load", "1", 409, "metric load of app shop/search is not pushed: its source is simulated"),
    ] {
        assert_eq!(fixture.push(path, body).await, (status, json!({"error": error})), "{path} {body:.20}");
    }
    assert!(fixture.state.metrics.text().contains("microscaler_push_errors_total 7\n"));
    assert_eq!(fixture.board.take().iter().filter(|update| &*update.metric == "waiting").count(), 0);
}

#[tokio::test]
async fn each_line_of_a_stream_takes_effect_before_the_next_is_sent() {
    let fixture = Fixture::new(None).await;
    fixture.board.changed().await;
    drop(fixture.board.take());
    let stream = Streamed::open(&fixture);
    for (text, expected) in [("1\n", 1.0), ("{\"value\": 2}\n\n", 2.0), ("3\r\n4\n5", 4.0)] {
        stream.send(text);
        let value = loop {
            timeout(PATIENCE, fixture.board.changed()).await.expect("a line had no effect before the body's end");
            match fixture.taken() {
                // Several lines of one piece may be taken one by one.
                Some(value) if value < expected => {}
                Some(value) => break value,
                None => {}
            }
        };
        assert!((value - expected).abs() < 1e-9);
    }
    stream.send("6");
    assert_eq!(stream.end().await, (200, json!({"accepted": 5})));
    assert!((fixture.taken().unwrap() - 56.0).abs() < 1e-9, "a line may come in pieces");
}

#[tokio::test]
async fn a_bad_line_ends_the_stream_and_tells_what_was_accepted() {
    let fixture = Fixture::new(None).await;
    let long = format!("1\n{}", "2".repeat(5000));
    for (body, status, error) in [
        ("1\n\nx\n2\n", 400, "line 3: a number or {\"value\": 200} is needed, got: x"),
        (&long, 413, "line 2 is longer than 4096 bytes; a number needs less"),
    ] {
        let stream = Streamed::open(&fixture);
        stream.send(body);
        assert_eq!(stream.end().await, (status, json!({"error": error, "accepted": 1})));
    }
}

#[tokio::test]
async fn with_a_token_configured_it_is_needed() {
    let fixture = Fixture::new(Some("secret")).await;
    for path in ["/v1/demand/shop/search/waiting", "/v1/drain/shop/other"] {
        let post = || fixture.client.post(format!("{}{path}", fixture.url)).body("1");
        let response = post().send().await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
        );
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "a token is needed: Authorization: Bearer TOKEN");
        assert_eq!(post().bearer_auth("wrong").send().await.unwrap().status(), 401);
        assert_ne!(post().bearer_auth("secret").send().await.unwrap().status(), 401);
    }
    assert_eq!(fixture.get("/v1/apps").await.status(), 200, "reading needs no token");
}
