//! The event stream of Marathon: server-sent events without ids, with a bare CRLF every ten seconds as a sign of life.
//!
//! [`eventsource_stream`] passes over such empty lines without a word. So silence is measured below it, chunk by chunk.

use std::time::Duration;

use eventsource_stream::{EventStreamError, Eventsource as _};
use futures::stream::{self, Stream, StreamExt as _};
use reqwest::Response;
use tokio::time::timeout;

use super::wire::Event;

/// Longest time without a byte: two heartbeats and a half.
const SILENCE: Duration = Duration::from_secs(25);

/// Why the stream has ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the event stream broke: {0}")]
    Broken(String),
    #[error("the event stream was closed")]
    Closed,
    #[error("nothing heard on the event stream for {} s", SILENCE.as_secs())]
    Silent,
}

/// The events of this answer. Those that cannot be read are passed over: counts are read anew every few seconds in any case.
pub fn events(response: Response) -> impl Stream<Item = Result<Event, StreamError>> + Send {
    let chunks = stream::unfold(Some(response), |response| async {
        let mut response = response?;
        let chunk = match timeout(SILENCE, response.chunk()).await {
            Ok(Ok(Some(chunk))) => return Some((Ok(chunk), Some(response))),
            Ok(Ok(None)) => StreamError::Closed,
            Ok(Err(error)) => StreamError::Broken(error.to_string()),
            Err(_) => StreamError::Silent,
        };
        Some((Err(chunk), None))
    });
    chunks.eventsource().filter_map(async |event| match event {
        Ok(event) => match serde_json::from_str(&event.data) {
            Ok(Event::Other) => None,
            Ok(event) => Some(Ok(event)),
            Err(error) => {
                tracing::info!(kind = event.event, %error, "an event of Marathon cannot be read");
                None
            }
        },
        Err(EventStreamError::Transport(error)) => Some(Err(error)),
        Err(error) => Some(Err(StreamError::Broken(error.to_string()))),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A stream as Marathon sends it: the pieces with so many seconds before each.
    async fn served(pieces: &'static [(u64, &'static str)]) -> Response {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await.unwrap();
            socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            for (seconds, piece) in pieces {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                socket.write_all(piece.as_bytes()).await.unwrap();
            }
            if pieces.last().is_some_and(|(_, piece)| piece.is_empty()) {
                std::future::pending::<()>().await;
            }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap()
    }

    #[tokio::test]
    async fn lines_end_as_marathon_ends_them_and_events_span_chunks() {
        let pieces: &[(u64, &str)] = &[
            (0, "event: deployment_success\r\ndata: {\"id\":\"a\",\"eventType\":\"deployment_suc"),
            (0, "cess\"}\r\n\r\n\r\nevent: nonsense\r\ndata: {}\r\n\r\n"),
            (0, "event: deployment_failed\r\ndata: {\"id\":\"b\",\"eventType\":\"deployment_failed\"}\r\n\r\n"),
        ];
        let events: Vec<_> = events(served(pieces).await).collect().await;
        assert!(matches!(&events[0], Ok(Event::DeploymentSuccess { id }) if &**id == "a"), "{events:?}");
        assert!(matches!(&events[1], Ok(Event::DeploymentFailed { id }) if &**id == "b"), "{events:?}");
        assert!(matches!(&events[2..], [Err(StreamError::Closed)]), "{events:?}");
    }

    #[tokio::test]
    async fn a_bare_line_end_is_a_sign_of_life_and_silence_is_none() {
        let response = served(&[(0, ""), (0, "\r\n"), (1, "\r\n"), (0, "")]).await;
        tokio::time::pause();
        #[allow(clippy::disallowed_methods)]
        let started = Instant::now();
        let mut events = std::pin::pin!(events(response));
        assert!(matches!(events.next().await, Some(Err(StreamError::Silent))));
        assert!(events.next().await.is_none());
        assert!(started.elapsed() < Duration::from_secs(20), "in simulated time");
    }
}
