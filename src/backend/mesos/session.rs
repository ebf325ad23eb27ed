//! The session with the master: finds the leader, subscribes, reads events, and starts over when anything breaks.
//!
//! It acknowledges every status update at once, before anybody looks at it: until then the agent holds back the next state of the task,
//! and so the room of one that has ended. It judges nothing else; what it reads goes to the [`Machine`](super::machine::Machine).

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use reqwest::{Response, StatusCode};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::codec::Decoder;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::calls::{self, Batch, Target};
use super::framework::{self, Framework, Store, StoreError};
use super::http::{Http, HttpError};
use super::inventory;
use super::recordio::{RecordError, RecordIo};
use super::stats::Stats;
use super::wire::{Acknowledge, Call, Event as WireEvent, Incoming, Subscribed};
use super::{Event, Input};
use crate::api::validated::MesosPool;
use crate::engine::clock;
use crate::engine::leadership::{Leadership, Role};
use crate::store::secrets::Secrets;

pub const PATH: &str = "/master/api/v1/scheduler";
const FIRST_DELAY_MS: u64 = 500;
const MAX_DELAY_MS: u64 = 15_000;
const SLOW_DELAY: Duration = Duration::from_secs(30);
/// A connection that lived this long was good: the next is made without delay.
const GOOD_AFTER: Duration = Duration::from_mins(1);
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_secs(15);
const MISSED_HEARTBEATS: f64 = 2.5;
/// How long an API server is given to say who leads.
const CERTAINTY: Duration = Duration::from_secs(1);

/// A live connection, as the state machine sees it.
#[derive(Clone)]
pub struct Link {
    pub framework_id: Arc<str>,
    pub leader: Url,
    /// The framework has just come into being: there is nothing to reconcile.
    pub new: bool,
    pub calls: calls::Sender,
    pub http: Http,
}

/// Why a connection ended.
enum End {
    Retry(String),
    /// A person has to act, but it may also mend itself.
    Slow(String),
    /// Another one has subscribed as this framework.
    Replaced(String),
    /// Going on would do harm.
    Final(String),
    /// Nobody listens any more.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the event stream broke: {0}")]
    Broken(#[from] reqwest::Error),
    #[error("the event stream broke: {0}")]
    Record(#[from] RecordError),
    #[error("the event stream was closed")]
    Closed,
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    #[error("an event cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// All that a session needs.
pub struct Session {
    pub pool: Arc<MesosPool>,
    pub http: Http,
    pub store: Store,
    pub leadership: Leadership,
    pub secrets: Arc<Secrets>,
    /// What is stored, or was assigned in this run.
    pub framework: Option<Framework>,
    /// What is stored has been read.
    pub loaded: bool,
    /// The framework id is stored durably.
    pub stored: bool,
    /// A framework of our name that runs already is no reason to stop.
    pub fresh: bool,
    pub inputs: mpsc::Sender<Event>,
    pub stats: Arc<Stats>,
}

/// A stream that has been opened but on which nothing has been read.
struct Opened {
    leader: Url,
    response: Response,
    stream_id: String,
    authorization: Option<String>,
}

impl Session {
    /// Runs until nobody listens.
    pub async fn run(mut self) {
        let mut tries = 0;
        for n in 0.. {
            if !self.turn().await {
                return;
            }
            let started = clock::instant();
            let end = self.connection(self.http.master(n)).await;
            if clock::instant().saturating_duration_since(started) > GOOD_AFTER {
                tries = 0;
            }
            let replaced = matches!(end, End::Replaced(_));
            let (input, delay) = match end {
                End::Retry(why) | End::Replaced(why) => (Input::Disconnected { why, tries: tries + 1 }, jittered(tries)),
                End::Slow(why) => (Input::Blocked(why), SLOW_DELAY),
                End::Final(why) => (Input::Stalled(why), Duration::MAX),
                End::Stopped => return,
            };
            tries += 1;
            if !self.forward(input).await || !self.pause(delay, replaced).await {
                return;
            }
        }
    }

    /// Waits before the next try. False when nobody listens any more.
    async fn pause(&mut self, delay: Duration, replaced: bool) -> bool {
        let Self { leadership, secrets, inputs, pool, .. } = self;
        let wait = async {
            if replaced {
                leadership.confirmed().await;
            }
            sleep(delay).await;
        };
        let secret = pool.mesos.secret();
        // It may be the one that was wrong or missing.
        let secret = async {
            match &secret {
                Some(secret) => secrets.changed(pool.key.namespace(), secret).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => true,
            () = secret => true,
            () = inputs.closed() => false,
        }
    }

    /// Waits until this process is the one that acts. False when nobody listens any more.
    async fn turn(&mut self) -> bool {
        loop {
            if let Role::Standby { leader } = self.leadership.role() {
                if !self.forward(Input::StandingBy(leader.to_string())).await {
                    return false;
                }
                tokio::select! {
                    () = self.leadership.changed() => continue,
                    () = self.inputs.closed() => return false,
                }
            }
            // One that was asleep when it was replaced must not take the framework from its successor, only to learn of it afterwards.
            // With the API server away there is no certainty, and no successor.
            if !self.leadership.is_certain() {
                drop(timeout(CERTAINTY, self.leadership.confirmed()).await);
            }
            if self.leadership.term().is_some() {
                return true;
            }
        }
    }

    async fn forward(&self, input: Input) -> bool {
        self.inputs.send(Event(input)).await.is_ok()
    }

    async fn connection(&mut self, master: Url) -> End {
        if let Err(error) = self.load().await {
            return if error.is_passing() { End::Retry(error.to_string()) } else { End::Slow(error.to_string()) };
        }
        if self.framework.is_none() && !self.fresh {
            match self.look_for_lost(&master).await {
                Ok(None) => {}
                Ok(Some(why)) => return self.for_a_person(why),
                Err(error) => return after(&error),
            }
        }
        match self.open(master).await {
            Ok(opened) => self.subscribed(opened).await,
            Err(error) => after(&error),
        }
    }

    /// Only now, when this process leads: another one may have stored it a moment ago.
    async fn load(&mut self) -> Result<(), StoreError> {
        if !self.loaded {
            self.framework = self.store.load(&self.pool).await?;
            (self.loaded, self.stored) = (true, self.framework.is_some());
        }
        Ok(())
    }

    /// A framework of our name with tasks, of which we do not have the id.
    async fn look_for_lost(&self, master: &Url) -> Result<Option<String>, HttpError> {
        let name = framework::name(&self.pool);
        let lost = inventory::tasks_of_namesake(&self.http, master, &name, &self.pool.mesos.role).await?;
        Ok(lost.map(|(id, tasks)| {
            let remedy = self.store.remedy(&Framework::new(id.clone(), &self.pool));
            format!(
                "framework {id} of the same name ({name}) has {tasks} tasks on this cluster, but {remedy}; or start with --fresh, \
                 which leaves those tasks to themselves"
            )
        }))
    }

    async fn open(&self, master: Url) -> Result<Opened, HttpError> {
        let (leader, response) = self.http.post(master, PATH, &self.subscribe()).await?;
        let stream_id = response.headers().get("mesos-stream-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let authorization = self.http.authorization(&leader).await?;
        let Some(stream_id) = stream_id else {
            let body = "no Mesos-Stream-Id in the answer; is this a Mesos master?".to_owned();
            return Err(HttpError::Refused { url: leader, status: response.status(), body });
        };
        Ok(Opened { leader, response, stream_id, authorization })
    }

    fn subscribe(&self) -> Json {
        let mesos = &self.pool.mesos;
        let capabilities =
            ["MULTI_ROLE", "PARTITION_AWARE", "RESERVATION_REFINEMENT", "GPU_RESOURCES"].map(|name| json!({"type": name}));
        let mut info = json!({
            "user": mesos.user.clone().unwrap_or_else(own_user),
            "name": framework::name(&self.pool),
            "roles": [mesos.role],
            "failover_timeout": mesos.failover_timeout_seconds,
            "checkpoint": true,
            "capabilities": capabilities,
        });
        if let Some(principal) = &mesos.principal {
            info["principal"] = json!(principal);
        }
        let mut call = json!({"type": "SUBSCRIBE", "subscribe": {}});
        if let Some(Framework { id, .. }) = &self.framework {
            info["id"] = json!({"value": id});
            call["framework_id"] = json!({"value": id});
        }
        call["subscribe"]["framework_info"] = info;
        call
    }

    async fn subscribed(&mut self, opened: Opened) -> End {
        let mut stream = EventStream::new(opened.response, FIRST_EVENT_TIMEOUT);
        let subscribed = match stream.next(&self.stats).await {
            Ok(Some(WireEvent::Subscribed(subscribed))) => subscribed,
            Ok(Some(WireEvent::Error(message))) => return self.on_error(&message),
            Ok(other) => return End::Retry(format!("the first event was not SUBSCRIBED: {other:?}")),
            Err(error) => return End::Retry(error.to_string()),
        };
        let new = self.framework.is_none();
        if let Err(error) = self.remember(&subscribed).await {
            return End::Slow(error.to_string());
        }
        self.stats.subscribed();
        let (sender, batches) = mpsc::unbounded_channel();
        let framework_id = subscribed.framework_id.value.clone();
        let target = Target {
            leader: opened.leader.clone(),
            tls: self.http.tls.clone(),
            authorization: opened.authorization,
            stream_id: opened.stream_id,
            framework_id: framework_id.clone(),
        };
        let mut writer = AbortOnDropHandle::new(tokio::spawn(calls::run(target, batches, self.stats.clone())));
        let link = Link { framework_id, leader: opened.leader, new, calls: sender.clone(), http: self.http.clone() };
        if !self.forward(Input::Subscribed(link)).await {
            return End::Stopped;
        }
        stream.silence = Duration::from_secs_f64((subscribed.heartbeat_interval_seconds * MISSED_HEARTBEATS).clamp(1.0, 3600.0));
        tokio::select! {
            end = self.read(stream, &sender) => end,
            ended = &mut writer => match ended {
                Ok(Err(error)) => End::Retry(error.to_string()),
                Ok(Ok(())) => End::Stopped,
                Err(error) => End::Retry(error.to_string()),
            },
        }
    }

    /// Stores the id before anything else is sent: tasks of a framework whose id is lost are out of reach.
    async fn remember(&mut self, subscribed: &Subscribed) -> Result<(), StoreError> {
        let framework = Framework::new(subscribed.framework_id.value.clone(), &self.pool);
        if !self.stored || self.framework.as_ref() != Some(&framework) {
            self.framework = Some(framework.clone());
            self.stored = false;
            self.store.save(&framework).await?;
            self.stored = true;
        }
        Ok(())
    }

    async fn read(&mut self, mut stream: EventStream, calls: &calls::Sender) -> End {
        loop {
            let events = match stream.some(&self.stats).await {
                Ok(events) => events,
                Err(error) => return End::Retry(error.to_string()),
            };
            let acknowledgements: Vec<_> = events.iter().filter_map(acknowledgement).collect();
            if !acknowledgements.is_empty() {
                let _ = calls.send(Batch { calls: acknowledgements, ..Batch::default() });
            }
            for event in events {
                match event {
                    WireEvent::Heartbeat => {}
                    WireEvent::Error(message) => return self.on_error(&message),
                    event => {
                        if !self.forward(Input::Wire(event)).await {
                            return End::Stopped;
                        }
                    }
                }
            }
        }
    }

    /// A person has to put right what is stored. On Kubernetes that is seen, so it is tried again now and then.
    fn for_a_person(&mut self, why: String) -> End {
        match self.store {
            Store::File(_) => End::Final(why),
            Store::Object(_) => {
                self.loaded = false;
                End::Slow(why)
            }
        }
    }

    /// What follows from an ERROR event.
    fn on_error(&mut self, message: &str) -> End {
        let text = message.to_lowercase();
        if text.contains("failed over") {
            let why = format!("another instance has taken over ({message})");
            // Among rivals, the lease tells whose turn it is.
            return if self.leadership.has_rivals() {
                End::Replaced(why)
            } else {
                End::Final(format!("{why}; this one does nothing any more"))
            };
        }
        if text.contains("removed") || text.contains("completed") || text.contains("torn down") {
            if self.fresh {
                (self.framework, self.stored) = (None, false);
                return End::Retry(format!("Mesos has removed the old framework ({message}); registering as a new one"));
            }
            return self.for_a_person(format!(
                "Mesos has removed this framework, and ends or has ended its tasks ({message}). To begin anew, {}",
                self.store.begin_anew()
            ));
        }
        End::Slow(format!("the master refuses this framework: {message}"))
    }
}

/// The answer to an update that asks for one.
fn acknowledgement(event: &WireEvent) -> Option<Call> {
    let WireEvent::Update(status) = event else { return None };
    let (agent_id, uuid) = (status.agent_id.clone()?, status.uuid.clone()?);
    Some(Call::Acknowledge { acknowledge: Acknowledge { agent_id, task_id: status.task_id.clone(), uuid } })
}

/// What follows from a failed request.
fn after(error: &HttpError) -> End {
    match error {
        HttpError::Secret { .. } => End::Slow(error.to_string()),
        HttpError::Refused { status, .. }
            if status.is_client_error() && !matches!(*status, StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT) =>
        {
            End::Slow(error.to_string())
        }
        _ => End::Retry(error.to_string()),
    }
}

/// Full jitter: anything up to a bound that doubles.
fn jittered(tries: u32) -> Duration {
    let bound = FIRST_DELAY_MS.saturating_mul(1 << tries.min(16)).min(MAX_DELAY_MS);
    Duration::from_millis(fastrand::u64(0..=bound))
}

/// The user that this program runs as; `nobody` where that user has no name, as in a container.
fn own_user() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&uid.as_str()));
    named.map(|fields| fields[0].to_owned()).or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "nobody".to_owned())
}

/// Events off a response that does not end.
struct EventStream {
    response: Response,
    decoder: RecordIo,
    buffer: BytesMut,
    /// Longest time without a byte.
    silence: Duration,
}

impl EventStream {
    fn new(response: Response, silence: Duration) -> Self {
        Self { response, decoder: RecordIo::default(), buffer: BytesMut::new(), silence }
    }

    /// The next event; `None` when nothing more than what is not known here has come.
    async fn next(&mut self, stats: &Stats) -> Result<Option<WireEvent>, StreamError> {
        loop {
            if let Some(record) = self.decoder.decode(&mut self.buffer)? {
                return event(&record, stats);
            }
            self.fill().await?;
        }
    }

    /// All whole events that have come, at least one chunk's.
    async fn some(&mut self, stats: &Stats) -> Result<Vec<WireEvent>, StreamError> {
        let mut events = Vec::new();
        loop {
            while let Some(record) = self.decoder.decode(&mut self.buffer)? {
                events.extend(event(&record, stats)?);
            }
            if !events.is_empty() {
                return Ok(events);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), StreamError> {
        let chunk = timeout(self.silence, self.response.chunk()).await.map_err(|_| StreamError::Silent(self.silence))??;
        self.buffer.extend_from_slice(&chunk.ok_or(StreamError::Closed)?);
        Ok(())
    }
}

/// An event that cannot be read may have been an offer, which would then be held for ever: the stream is given up, and with it all offers.
fn event(record: &[u8], stats: &Stats) -> Result<Option<WireEvent>, StreamError> {
    match serde_json::from_slice::<Incoming>(record).map(Incoming::event) {
        Ok(WireEvent::Other(kind)) => {
            tracing::debug!(event = kind, "unknown event ignored");
            stats.unknown_event();
            Ok(None)
        }
        Ok(event) => Ok(Some(event)),
        Err(error) => {
            stats.unreadable_event();
            Err(error.into())
        }
    }
}
