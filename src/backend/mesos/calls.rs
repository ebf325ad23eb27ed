//! The connection for calls: one, kept alive, its requests written without waiting for the answers to those before.
//!
//! Order matters (a RECONCILE in front of its ACCEPT is answered "gone", a REVIVE in front of it does not bring the rest of the room),
//! and so does time: a batch is rendered into one buffer and leaves in one write.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use url::Url;

use super::stats::Stats;
use super::wire::{Call, Kind, Value};
use crate::engine::clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The master answers within a millisecond; one that takes this long does not hear us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// No more is rendered ahead of what the master reads.
const MAX_UNWRITTEN: usize = 4 << 20;

/// Calls that leave together.
#[derive(Debug, Default)]
pub struct Batch {
    pub calls: Vec<Call>,
    /// When what led to them arrived.
    pub caused_at: Option<Instant>,
    /// Told when all calls so far have been answered.
    pub flushed: Option<oneshot::Sender<()>>,
}

pub type Sender = mpsc::UnboundedSender<Batch>;

/// Where and as whom.
pub struct Target {
    pub leader: Url,
    pub tls: Arc<rustls::ClientConfig>,
    pub authorization: Option<String>,
    pub stream_id: String,
    pub framework_id: Arc<str>,
}

/// Why the connection is of no use any longer.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    #[error("calls: {0}")]
    Io(#[from] io::Error),
    #[error("calls: cannot connect within {} s", CONNECT_TIMEOUT.as_secs())]
    Connect,
    #[error("calls: no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Unanswered,
    #[error("calls: closed by the master")]
    Closed,
    #[error("calls: answer is not HTTP: {0}")]
    NotHttp(#[from] httparse::Error),
    #[error("calls: answer of unknown length")]
    Length,
    #[error("calls: {call} was refused: {status} {body}")]
    Refused { call: &'static str, status: u16, body: String },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(target: &Target) -> Result<Box<dyn Stream>, CallsError> {
    let host = target.leader.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = target.leader.port_or_known_default().unwrap_or(5050);
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    if target.leader.scheme() != "https" {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(target.tls.clone()).connect(name, tcp).await?))
}

/// Writes batches until their senders are gone and all answers are in.
pub async fn run(target: Target, mut batches: mpsc::UnboundedReceiver<Batch>, stats: Arc<Stats>) -> Result<(), CallsError> {
    let stream = timeout(CONNECT_TIMEOUT, connect(&target)).await.map_err(|_| CallsError::Connect)??;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut pipe = Pipe::new(&target);
    let mut input = BytesMut::with_capacity(4096);
    let mut silence = pin!(sleep(ANSWER_TIMEOUT));
    let mut open = true;
    while open || !pipe.is_idle() {
        tokio::select! {
            biased;
            written = writer.write_buf(&mut pipe.output), if !pipe.output.is_empty() => {
                written?;
                if pipe.output.is_empty() {
                    writer.flush().await?;
                    pipe.written(&stats);
                }
            }
            batch = batches.recv(), if open && pipe.output.len() < MAX_UNWRITTEN => {
                if pipe.unanswered.is_empty() {
                    silence.set(sleep(ANSWER_TIMEOUT));
                }
                open = batch.is_some();
                let mut next = batch;
                while let Some(batch) = next {
                    pipe.render(batch, &stats);
                    next = batches.try_recv().ok().filter(|_| pipe.output.len() < MAX_UNWRITTEN);
                }
                pipe.settle();
            }
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(CallsError::Closed);
                }
                silence.set(sleep(ANSWER_TIMEOUT));
                while let Some(answer) = answer(&mut input)? {
                    pipe.answered(&answer, &stats)?;
                }
            }
            () = &mut silence, if !pipe.unanswered.is_empty() => return Err(CallsError::Unanswered),
        }
    }
    Ok(())
}

/// What has been rendered but not written, and written but not answered.
struct Pipe {
    head: String,
    framework_id: Arc<str>,
    output: BytesMut,
    unanswered: VecDeque<Kind>,
    causes: Vec<Instant>,
    flushed: Vec<oneshot::Sender<()>>,
}

#[derive(serde::Serialize)]
struct Addressed<'a> {
    framework_id: &'a Value<Arc<str>>,
    #[serde(flatten)]
    call: &'a Call,
}

impl Pipe {
    fn new(target: &Target) -> Self {
        let host = &target.leader[url::Position::BeforeHost..url::Position::AfterPort];
        let authorization = target.authorization.as_ref().map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             {authorization}Mesos-Stream-Id: {}\r\nContent-Length: ",
            target.leader.path(),
            target.stream_id
        );
        let framework_id = target.framework_id.clone();
        let (unanswered, causes, flushed) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { head, framework_id, output: BytesMut::new(), unanswered, causes, flushed }
    }

    fn is_idle(&self) -> bool {
        self.output.is_empty() && self.unanswered.is_empty()
    }

    fn render(&mut self, batch: Batch, stats: &Stats) {
        let framework_id = Value { value: self.framework_id.clone() };
        for call in &batch.calls {
            // Only maps with keys that are no text cannot be rendered.
            let Ok(body) = serde_json::to_vec(&Addressed { framework_id: &framework_id, call }) else { continue };
            tracing::debug!(call = call.kind().as_str(), "written");
            self.output.extend_from_slice(self.head.as_bytes());
            self.output.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
            self.output.extend_from_slice(&body);
            self.unanswered.push_back(call.kind());
            stats.written(call.kind());
        }
        self.causes.extend(batch.caused_at);
        self.flushed.extend(batch.flushed);
    }

    fn written(&mut self, stats: &Stats) {
        for cause in self.causes.drain(..) {
            stats.reacted(clock::instant().saturating_duration_since(cause));
        }
    }

    fn settle(&mut self) {
        if self.is_idle() {
            for flushed in self.flushed.drain(..) {
                let _ = flushed.send(());
            }
        }
    }

    fn answered(&mut self, answer: &Answer, stats: &Stats) -> Result<(), CallsError> {
        let Some(kind) = self.unanswered.pop_front() else { return Err(CallsError::Closed) };
        self.settle();
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        stats.refused();
        let body = String::from_utf8_lossy(&answer.body).chars().take(500).collect::<String>();
        // A call that is wrong in itself concerns no other; but a stream id that is not known any longer concerns all.
        if answer.status == 400 && !body.to_lowercase().contains("stream") {
            tracing::warn!(call = kind.as_str(), %body, "the master does not understand a call");
            return Ok(());
        }
        Err(CallsError::Refused { call: kind.as_str(), status: answer.status, body })
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Takes one whole answer off the input, if it is there.
fn answer(input: &mut BytesMut) -> Result<Option<Answer>, CallsError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(input)? else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let header = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = header("content-length").and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    let length: usize = match (length, header("transfer-encoding")) {
        (Some(length), None) => length,
        (None, None) if status == 202 || status == 204 => 0,
        _ => return Err(CallsError::Length),
    };
    if input.len() < head + length {
        return Ok(None);
    }
    input.advance(head);
    Ok(Some(Answer { status, body: input.split_to(length).to_vec() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pipe() -> Pipe {
        Pipe::new(&Target {
            leader: Url::parse("http://m:5050/master/api/v1/scheduler").unwrap(),
            tls: Arc::new(crate::backend::mesos::http::tls().unwrap()),
            authorization: Some("Basic eA==".to_owned()),
            stream_id: "s-1".to_owned(),
            framework_id: "f-1".into(),
        })
    }

    #[test]
    fn a_batch_is_one_buffer_in_order() {
        let (mut pipe, stats) = (pipe(), Stats::default());
        pipe.render(Batch { calls: vec![Call::kill(&"t".into(), None, None), Call::revive("web")], ..Batch::default() }, &stats);
        let text = String::from_utf8(pipe.output.to_vec()).unwrap();
        let body = r#"{"framework_id":{"value":"f-1"},"type":"REVIVE","revive":{"roles":["web"]}}"#;
        assert!(text.starts_with("POST /master/api/v1/scheduler HTTP/1.1\r\nHost: m:5050\r\n"));
        assert!(text.contains("\r\nAuthorization: Basic eA==\r\nMesos-Stream-Id: s-1\r\n"));
        assert!(text.ends_with(&format!("Content-Length: {}\r\n\r\n{body}", body.len())), "{text}");
        assert_eq!(pipe.unanswered, [Kind::Kill, Kind::Revive]);
        assert_eq!(stats.calls().find(|(name, _)| *name == "kill"), Some(("kill", 1)));
    }

    #[test]
    fn answers_are_taken_whole() {
        let two = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nno";
        let mut input = BytesMut::from(two);
        assert_eq!(answer(&mut input).unwrap(), Some(Answer { status: 202, body: Vec::new() }));
        assert_eq!(answer(&mut input).unwrap(), None);
        input.extend_from_slice(b"pe");
        assert_eq!(answer(&mut input).unwrap(), Some(Answer { status: 400, body: b"nope".to_vec() }));
    }

    #[test]
    fn only_a_refusal_of_the_stream_ends_the_connection() {
        let (mut pipe, stats) = (pipe(), Stats::default());
        pipe.render(Batch { calls: vec![Call::revive("web"), Call::revive("web")], ..Batch::default() }, &stats);
        let refusal = |body: &str| Answer { status: 400, body: body.into() };
        assert!(pipe.answered(&refusal("Failed to validate scheduler::Call"), &stats).is_ok());
        let stale = pipe.answered(&refusal("The stream ID included in this request didn't match the stream ID"), &stats);
        assert!(matches!(stale, Err(CallsError::Refused { status: 400, .. })));
        assert_eq!(stats.refused_calls(), 2);
    }
}
