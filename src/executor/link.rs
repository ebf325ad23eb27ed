//! The connections with the agent: one for the stream of its events, one for our calls, which are written without waiting for the answers
//! to those before.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::codec::Decoder;

use super::http::{self, Chunks, HttpError};
use super::settings::Settings;
use super::wire::Event;
use crate::backend::mesos::recordio::{RecordError, RecordIo};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts: the agent is on this machine, and waits for nobody else when it comes back.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const READ_AHEAD: usize = 8 << 10;
/// A buffer that a burst has made longer is given back.
const KEEP_BUFFER: usize = 64 << 10;

/// Why there is no connection any longer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent,
    #[error("closed by the agent")]
    Closed,
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("an event cannot be read: {0}")]
    Event(#[from] serde_json::Error),
    #[error("{call} was refused: {status} {body}")]
    Refused { call: &'static str, status: u16, body: String },
}

/// What [`Link::next`] gives.
#[derive(Debug)]
pub enum News {
    Event(Box<Event>),
    Lost(LinkError),
    /// It is time to [`Link::open`] again.
    Retry,
}

type Opening = Pin<Box<dyn Future<Output = Result<Open, LinkError>>>>;

/// Every wait in it may be given up and taken up again.
pub struct Link {
    agent: SocketAddr,
    head: String,
    state: State,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Opening(Opening),
    Open(Box<Open>),
}

impl Link {
    /// Outside of a runtime, this panics.
    pub fn new(settings: &Settings) -> Self {
        let authorization = settings.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json\r\n{authorization}Content-Length: ",
            settings.path, settings.agent
        );
        Self { agent: settings.agent, head, state: State::Waiting(Box::pin(sleep(Duration::ZERO))) }
    }

    /// Begins to subscribe, with this call.
    pub fn open(&mut self, subscribe: &[u8]) {
        let mut request = BytesMut::new();
        self.render(subscribe, &mut request);
        self.state = State::Opening(Box::pin(open(self.agent, request)));
    }

    fn render(&self, body: &[u8], output: &mut BytesMut) {
        output.extend_from_slice(self.head.as_bytes());
        output.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
        output.extend_from_slice(body);
    }

    /// Adds a call; [`Self::flush`] or [`Self::next`] writes it. Without a connection, it is forgotten.
    pub fn push(&mut self, name: &'static str, body: &[u8]) {
        let State::Open(open) = &mut self.state else { return };
        let mut output = std::mem::take(&mut open.output);
        open.unanswered.push_back(name);
        self.render(body, &mut output);
        if let State::Open(open) = &mut self.state {
            open.output = output;
        }
    }

    /// Writes what the socket takes at once.
    pub fn flush(&mut self) {
        let State::Open(open) = &mut self.state else { return };
        // What fails here fails in `next` again, and is told there.
        if !open.output.is_empty()
            && let Ok(written) = open.calls.try_write(&open.output)
        {
            let _ = open.output.split_to(written);
        }
    }

    pub async fn next(&mut self) -> News {
        let news = match &mut self.state {
            State::Waiting(until) => {
                until.await;
                // Waiting on would be answered at once.
                self.state = State::Waiting(Box::pin(sleep(RETRY_INTERVAL)));
                return News::Retry;
            }
            State::Opening(opening) => match opening.await {
                Ok(open) => {
                    self.state = State::Open(Box::new(open));
                    return Box::pin(self.next()).await;
                }
                Err(error) => News::Lost(error),
            },
            State::Open(open) => match open.next().await {
                Ok(event) => News::Event(Box::new(event)),
                Err(error) => News::Lost(error),
            },
        };
        if matches!(news, News::Lost(_)) {
            self.state = State::Waiting(Box::pin(sleep(RETRY_INTERVAL)));
        }
        news
    }
}

/// Connects twice and subscribes.
async fn open(agent: SocketAddr, mut request: BytesMut) -> Result<Open, LinkError> {
    let connect = async {
        let (mut events, calls) = (TcpStream::connect(agent).await?, TcpStream::connect(agent).await?);
        events.set_nodelay(true)?;
        calls.set_nodelay(true)?;
        events.write_all_buf(&mut request).await?;
        let mut open = Open::new(events, calls);
        open.begin().await?;
        Ok(open)
    };
    timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| LinkError::Silent)?
}

struct Open {
    events: TcpStream,
    calls: TcpStream,
    input: BytesMut,
    chunks: Chunks,
    body: BytesMut,
    records: RecordIo,
    answers: BytesMut,
    output: BytesMut,
    unanswered: VecDeque<&'static str>,
}

impl Open {
    fn new(events: TcpStream, calls: TcpStream) -> Self {
        let [input, body, answers, output] = [const { BytesMut::new }; 4].map(|new| new());
        let (chunks, records, unanswered) = (Chunks::default(), RecordIo::default(), VecDeque::new());
        Self { events, calls, input, chunks, body, records, answers, output, unanswered }
    }

    /// Reads the start of the stream.
    async fn begin(&mut self) -> Result<(), LinkError> {
        let head = loop {
            if let Some(head) = http::head(&mut self.input)? {
                break head;
            }
            read(&mut self.events, &mut self.input).await?;
        };
        if head.status == 200 && head.is_chunked {
            return Ok(());
        }
        while self.input.len() < head.length.unwrap_or(0) {
            read(&mut self.events, &mut self.input).await?;
        }
        Err(refused("SUBSCRIBE", head.status, &self.input))
    }

    /// The next event. Meanwhile, calls are written and their answers read.
    async fn next(&mut self) -> Result<Event, LinkError> {
        loop {
            self.chunks.decode(&mut self.input, &mut self.body)?;
            if let Some(record) = self.records.decode(&mut self.body)? {
                return Ok(Event::read(&record)?);
            }
            if self.chunks.is_over {
                return Err(LinkError::Closed);
            }
            self.shrink();
            let (mut reader, mut writer) = self.calls.split();
            tokio::select! {
                some = read(&mut self.events, &mut self.input) => some?,
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => drop(written?),
                some = read(&mut reader, &mut self.answers) => {
                    some?;
                    self.check_answers()?;
                }
            }
        }
    }

    fn check_answers(&mut self) -> Result<(), LinkError> {
        while let Some((status, body)) = http::answer(&mut self.answers)? {
            let call = self.unanswered.pop_front().unwrap_or("a call");
            if (200..300).contains(&status) {
                continue;
            }
            let error = refused(call, status, &body);
            // An agent that recovers takes us back before it passes messages on. They are best effort, and to subscribe again for one
            // would leave us unconnected at the very moment when it counts its executors.
            if call != "MESSAGE" {
                return Err(error);
            }
            tracing::debug!(%error, "not passed on");
        }
        Ok(())
    }

    fn shrink(&mut self) {
        for buffer in [&mut self.input, &mut self.body, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > KEEP_BUFFER {
                *buffer = BytesMut::new();
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), into: &mut BytesMut) -> Result<(), LinkError> {
    // Many small reads would cost more than the launches that they bring.
    into.reserve(READ_AHEAD);
    if stream.read_buf(into).await? == 0 {
        return Err(LinkError::Closed);
    }
    Ok(())
}

fn refused(call: &'static str, status: u16, body: &[u8]) -> LinkError {
    LinkError::Refused { call, status, body: String::from_utf8_lossy(body).chars().take(500).collect() }
}
