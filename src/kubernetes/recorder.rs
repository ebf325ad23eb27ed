//! Writes what happens as events of Kubernetes, which `kubectl describe` shows with their object.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::request::Request as Requests;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::REPORTER;
use super::call::{self, Failure};
use super::events::{Ledger, Record, Recorded, Subject, Told};
use super::lease::Mandate;
use super::notices::Notices;
use super::sight::Follower;
use super::statuses::cut_bytes;
use super::target::Target;
use crate::api::validated::Key;
use crate::engine::clock;
use crate::engine::report::Event;
use crate::server::Metrics;
use crate::server::listener::{Heard, Listener};

/// Between two looks at the objects.
const LOOK: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(250);
/// Names of objects are at most 253 characters long, and the time is added.
const NAME: usize = 220;
/// Bytes that the API server takes of the reporting instance.
const INSTANCE: usize = 128;
/// Events of objects that have just come wait for the next look; so many at most.
const EARLY: usize = 256;

/// The loop's own things.
pub struct Recorder {
    client: Client,
    follower: Follower,
    listener: Listener,
    mandate: Mandate,
    metrics: Arc<Metrics>,
    /// Which of the replicas this is.
    identity: Arc<str>,
    notices: Notices,
    /// Events of objects that were not known yet at the last look.
    early: Vec<Event>,
    ledger: Ledger,
    under_way: FuturesUnordered<BoxFuture<'static, (Record, Option<Recorded>)>>,
    led: bool,
    /// Objects or reports have changed since the last look.
    dirty: bool,
    look_at: u64,
}

impl Recorder {
    #[must_use]
    pub fn new(
        client: Client,
        follower: Follower,
        listener: Listener,
        mandate: Mandate,
        metrics: Arc<Metrics>,
        identity: &str,
    ) -> Self {
        Self {
            client,
            follower,
            listener,
            mandate,
            metrics,
            identity: cut_bytes(identity, INSTANCE).into(),
            notices: Notices::default(),
            early: Vec::new(),
            ledger: Ledger::default(),
            under_way: FuturesUnordered::new(),
            led: false,
            dirty: true,
            look_at: 0,
        }
    }

    /// Until told to end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.turn();
            tokio::select! {
                _ = shutdown.wait_for(|end| *end) => return,
                () = self.wait() => {}
            }
        }
    }

    fn turn(&mut self) {
        let leads = self.mandate.holds();
        if leads && !self.led {
            (self.notices, self.dirty, self.look_at) = (Notices::default(), true, 0);
        }
        if !leads && self.led {
            self.ledger.clear();
            self.early.clear();
        }
        self.led = leads;
        let now = clock::now();
        if leads && now >= self.look_at && (self.dirty || now >= self.look_at + 1000) {
            self.look();
        }
        if leads {
            for record in self.ledger.due(now) {
                let (client, mandate, identity) = (self.client.clone(), self.mandate.clone(), self.identity.clone());
                self.under_way.push(Box::pin(attempt(client, mandate, identity, record)));
            }
        }
        self.metrics.kubernetes_events("dropped", self.ledger.take_dropped());
    }

    fn look(&mut self) {
        let now = clock::now();
        let sight = self.follower.look();
        for told in self.notices.look(&sight, now) {
            self.ledger.tell(told, now);
        }
        for event in std::mem::take(&mut self.early) {
            if let Some(told) = self.told(&event) {
                self.ledger.tell(told, now);
            } else {
                debug!(app = event.app, pool = event.pool, "an event of an object that is not known is dropped");
            }
        }
        (self.dirty, self.look_at) = (false, now + clock::whole_ms(LOOK));
    }

    /// Waits until something happens or is due. Cancel-safe.
    async fn wait(&mut self) {
        let due = self.ledger.next().filter(|_| self.led).into_iter().chain(self.dirty.then_some(self.look_at)).min();
        let wait = due.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(clock::now())).min(TICK));
        let Self { follower, listener, under_way, dirty, .. } = self;
        tokio::select! {
            heard = listener.next() => self.hear(heard),
            () = follower.changed(), if !*dirty => *dirty = true,
            Some((record, outcome)) = under_way.next() => self.take(record, outcome),
            () = sleep(wait) => {}
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Missed(count) => self.metrics.kubernetes_events("dropped", count),
            // Of what happens while another one leads, that one tells.
            Heard::Event(_) if !self.mandate.holds() => {}
            Heard::Event(event) => match self.told(&event) {
                Some(told) => self.ledger.tell(told, clock::now()),
                // A look costs as much as there are objects, so it is not brought forward.
                None if self.early.len() < EARLY => {
                    self.early.push(event);
                    self.dirty = true;
                }
                None => self.metrics.kubernetes_events("dropped", 1),
            },
        }
    }

    fn told(&self, event: &Event) -> Option<Told> {
        let key = |name: &str| name.split_once('/').map(|(namespace, name)| Key::new(namespace, name));
        let target = match &event.app {
            Some(app) => Target::app(&key(app)?),
            None => Target::pool(&key(&event.pool)?),
        };
        let regarding = self.notices.regarding(&target)?;
        Some(Told { regarding, kind: event.kind, reason: event.reason.clone(), note: event.message.clone() })
    }

    fn take(&mut self, record: Record, outcome: Option<Recorded>) {
        let Some(outcome) = outcome else { return self.ledger.cancelled(&record) };
        self.metrics.kubernetes_events(if outcome.is_ok() { "written" } else { "failed" }, 1);
        let target = record.subject.regarding.target.clone();
        if self.ledger.done(record, &outcome, clock::now())
            && let Err(failure) = outcome
        {
            warn!(object = %target, "an event was refused: {failure}");
        }
    }
}

/// `None`: it was not sent, as another one leads.
async fn attempt(client: Client, mandate: Mandate, identity: Arc<str>, record: Record) -> (Record, Option<Recorded>) {
    if !mandate.holds() {
        return (record, None);
    }
    let outcome = write(&client, &identity, &record).await;
    (record, Some(outcome))
}

async fn write(client: &Client, identity: &str, record: &Record) -> Recorded {
    let now = clock::timestamp();
    let name = record.name.clone().unwrap_or_else(|| new_name(&record.subject, now));
    let is_new = record.name.is_none();
    let request = if is_new { creation(&name, identity, record, now) } else { repetition(&name, record, now) };
    let request = request.map_err(|error| Failure { kind: call::Kind::Refused, message: error })?;
    call::send(client, request).await.map(|_| name)
}

fn new_name(subject: &Subject, now: Timestamp) -> String {
    let object: String = subject.regarding.target.key.name().chars().take(NAME).collect();
    // An object may have several events within a microsecond, but not of one reason.
    let reason = subject.reason.bytes().fold(u16::from(subject.warning), |sum, byte| sum.wrapping_mul(31) ^ u16::from(byte));
    format!("{object}.{:x}{reason:04x}", now.as_microsecond())
}

fn creation(name: &str, identity: &str, record: &Record, now: Timestamp) -> Result<Request<Vec<u8>>, String> {
    let Subject { regarding, warning, reason } = &record.subject;
    let namespace = regarding.target.key.namespace();
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "eventTime": MicroTime(now),
        "type": if *warning { "Warning" } else { "Normal" },
        "reason": reason,
        "action": action(reason),
        "note": record.note,
        "reportingController": REPORTER,
        "reportingInstance": identity,
        "regarding": {
            "apiVersion": regarding.target.api_version(),
            "kind": regarding.target.kind_name(),
            "namespace": namespace,
            "name": regarding.target.key.name(),
            "uid": regarding.uid,
        },
    });
    if record.count > 1 {
        event["series"] = series(record, now);
    }
    let requests = Requests::new(format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
    requests.create(&PostParams::default(), event.to_string().into_bytes()).map_err(|error| error.to_string())
}

/// By way of the core group, where the words of an event may change: in `events.k8s.io` they are immutable (seen with 1.36).
fn repetition(name: &str, record: &Record, now: Timestamp) -> Result<Request<Vec<u8>>, String> {
    let patch = json!({ "message": record.note, "series": series(record, now) });
    let namespace = record.subject.regarding.target.key.namespace();
    let requests = Requests::new(format!("/api/v1/namespaces/{namespace}/events"));
    requests.patch(name, &PatchParams::default(), &Patch::Merge(patch)).map_err(|error| error.to_string())
}

fn series(record: &Record, now: Timestamp) -> Value {
    json!({ "count": record.count, "lastObservedTime": MicroTime(now) })
}

/// What was being done, for those who sort events by it.
fn action(reason: &str) -> &'static str {
    known_action(reason).unwrap_or("Watch")
}

fn known_action(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "ScaledUp" | "ScaledDown" | "GaveWay" | "CapacityLimited" | "Suspended" | "PutBack" | "Refused" => "Scale",
        "TaskRefused" | "TaskLost" | "TaskFinished" | "TaskFailed" | "TaskReturned" | "LaunchStuck" | "CrashLoop"
        | "ExecutorsFail" => "Run",
        "ExecutorEnded" | "ImageNotFetched" => "Prepare",
        "DemandStale" => "ReadDemand",
        "BadSpec" | "PoolNotFound" => "ReadSpec",
        "Deleting" | "Deleted" => "Delete",
        "ForeignTask" | "AgentGone" | "AgentDeparts" => "Watch",
        "Subscribed" | "Disconnected" | "Unauthorized" | "SlowFlags" => "Connect",
        "NoSuchApp" | "NotOurs" | "NotOnMarathon" | "SameApp" | "NotReadYet" | "Conflict" => "Adopt",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What stands in quotes right after one of these words (and perhaps a bracket) in a source.
    fn quoted_after<'a>(source: &'a str, word: &str) -> Vec<&'a str> {
        let after = source.split(word).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        after.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_reason_has_its_action() {
        let sources = [
            include_str!("../engine/events.rs"),
            include_str!("../backend/mesos/machine.rs"),
            include_str!("../backend/mesos/machine/events.rs"),
            include_str!("../backend/mesos/ledger.rs"),
            include_str!("../backend/mesos/ledger/adopt.rs"),
            include_str!("../backend/mesos/ledger/timers.rs"),
            include_str!("../backend/mesos/bases.rs"),
            include_str!("../backend/mesos/bases/preparations.rs"),
            include_str!("../backend/marathon/machine.rs"),
            include_str!("../backend/marathon/machine/answers.rs"),
            include_str!("../backend/marathon/machine/read.rs"),
            include_str!("../backend/marathon/machine/trouble.rs"),
            include_str!("notices.rs"),
        ];
        let words = ["warn(", "tell(", "note(true,", "note(false,", "held(", "EventKind::Normal,", "EventKind::Warning,", "=>"];
        let words = words.map(|word| sources.iter().flat_map(|source| quoted_after(source, word)).collect::<Vec<_>>());
        let is_reason = |word: &&&str| word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric);
        let reasons: std::collections::BTreeSet<_> = words.iter().flatten().filter(is_reason).collect();
        assert!(reasons.len() >= 21, "{reasons:?}");
        let unknown: Vec<_> = reasons.iter().filter(|reason| known_action(reason).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
