//! Checks over the network. Those that are commands are processes like a task's own.

use std::net::Ipv4Addr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::checks::{Outcome, Probe};
use super::http;

/// Looks once; has an end only if the task or whoever waits makes one.
pub async fn look(probe: Look) -> Outcome {
    match probe {
        Look::Tcp(port) => Outcome::Connected(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()),
        Look::Http(port, path) => get(port, &path).await.unwrap_or_else(Outcome::Failed),
    }
}

/// A probe of the network that needs nothing of the checker any longer.
#[derive(Debug)]
pub enum Look {
    Tcp(u16),
    Http(u16, String),
}

impl Look {
    /// None for a command.
    pub fn of(probe: &Probe) -> Option<Self> {
        match probe {
            Probe::Tcp { port } => Some(Self::Tcp(*port)),
            Probe::Http { port, path } => Some(Self::Http(*port, path.clone())),
            Probe::Command(_) => None,
        }
    }
}

/// The status of the answer; a redirect is an answer, too, and not followed.
async fn get(port: u16, path: &str) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("http://127.0.0.1:{port}{path}: {error}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: microscaler/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut input = BytesMut::new();
    loop {
        match http::head(&mut input).map_err(|error| error.to_string())? {
            // 100 Continue and the like come before the answer.
            Some(head) if head.status < 200 => {}
            Some(head) => return Ok(Outcome::StatusCode(head.status)),
            None if stream.read_buf(&mut input).await.map_err(failed)? == 0 => {
                return Err(format!("http://127.0.0.1:{port}{path}: closed without an answer"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn serve(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut BytesMut::with_capacity(4096)).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn the_status_of_an_answer_counts() {
        let port = serve("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n").await;
        assert_eq!(look(Look::Http(port, "/".to_owned())).await, Outcome::StatusCode(302));
        let port = serve("").await;
        let closed = Outcome::Failed(format!("http://127.0.0.1:{port}/: closed without an answer"));
        assert_eq!(look(Look::Http(port, "/".to_owned())).await, closed);
        assert!(matches!(look(Look::Http(port, "/".to_owned())).await, Outcome::Failed(_)));
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let port = serve("").await;
        assert_eq!(look(Look::Tcp(port)).await, Outcome::Connected(true));
        // Whoever listened has gone with its one connection.
        while look(Look::Tcp(port)).await == Outcome::Connected(true) {
            tokio::task::yield_now().await;
        }
    }
}
