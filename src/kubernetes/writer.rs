//! Writes the statuses that are due.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::MANAGER;
use super::call::{self, Failure};
use super::lease::Mandate;
use super::schedule::{Limits, News, Outcome, Schedule, Shown, Write};
use super::sight::{Follower, Sight};
use super::status::{Judge, Moment};
use super::statuses::Status;
use super::target::Target;
use crate::engine::clock;
use crate::policy::world::Millis;
use crate::server::Metrics;

/// Between two looks at what the engines say; a look at very many objects takes longer, and then the next one waits longer.
const LOOK: Duration = Duration::from_millis(20);
/// How often to see who leads, at least.
const TICK: Duration = Duration::from_millis(250);
/// Some of what is to be said depends on the time alone.
const LONGEST_LOOK: Millis = 1000;
/// What is left at the end gets this long.
const CLOSING: Duration = Duration::from_secs(1);

/// The loop's own things.
pub struct Writer {
    client: Client,
    follower: Follower,
    mandate: Mandate,
    metrics: Arc<Metrics>,
    judge: Judge,
    schedule: Schedule,
    under_way: FuturesUnordered<BoxFuture<'static, (Write, Option<Outcome>)>>,
    /// The mandate held at the last look.
    led: bool,
    /// Something has changed since the last look.
    dirty: bool,
    look_at: Millis,
}

impl Writer {
    #[must_use]
    pub fn new(client: Client, follower: Follower, mandate: Mandate, metrics: Arc<Metrics>, limits: Limits) -> Self {
        Self {
            client,
            follower,
            mandate,
            metrics,
            judge: Judge::default(),
            schedule: Schedule::new(limits),
            under_way: FuturesUnordered::new(),
            led: false,
            dirty: true,
            look_at: 0,
        }
    }

    /// Until told to end; what tools wait for is then still written, if that is quick.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.turn();
            let ended = async { drop(shutdown.wait_for(|end| *end).await) };
            tokio::select! {
                () = ended => break,
                () = self.wait() => {}
            }
        }
        self.schedule.close();
        self.dirty = true;
        self.look_at = 0;
        let rest = async {
            self.turn();
            while !self.schedule.is_idle() && self.mandate.holds() {
                self.wait().await;
                self.turn();
            }
        };
        if tokio::time::timeout(CLOSING, rest).await.is_err() {
            info!("some statuses were left as they are, as the API server did not take them in time");
        }
    }

    /// Waits until something happens or is due. Cancel-safe.
    async fn wait(&mut self) {
        let now = clock::now();
        let next = self.dirty.then_some(self.look_at).into_iter().chain(self.schedule.next().filter(|_| self.led)).min();
        let wait = next.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(now)).min(TICK));
        let Self { follower, under_way, dirty, .. } = self;
        tokio::select! {
            () = follower.changed(), if !*dirty => *dirty = true,
            Some((write, outcome)) = under_way.next() => self.take(&write, outcome),
            () = sleep(wait) => {}
        }
    }

    /// All that can be done now.
    fn turn(&mut self) {
        let leads = self.mandate.holds();
        if leads && !self.led {
            // Others may have written meanwhile, and what was to be written may be wrong.
            self.schedule.forget();
            self.judge = Judge::new(clock::now());
            self.dirty = true;
        }
        self.led = leads;
        if !leads {
            return;
        }
        let now = clock::now();
        if now >= self.look_at && (self.dirty || now >= self.look_at + LONGEST_LOOK) {
            self.look();
        }
        for write in self.schedule.due(clock::now()) {
            self.under_way.push(Box::pin(attempt(self.client.clone(), self.mandate.clone(), write)));
        }
    }

    fn look(&mut self) {
        let begun = clock::instant();
        let now = clock::to_millis(begun);
        let sight = self.follower.look();
        show(&mut self.schedule, &sight, now);
        for (target, status) in self.judge.statuses(&sight, Moment { now, timestamp: clock::timestamp() }) {
            self.schedule.wants(&target, status, now);
        }
        self.metrics.status_writes("coalesced", self.schedule.take_coalesced());
        self.dirty = false;
        let took = clock::instant() - begun;
        // With very many objects, at most a fifth of a core.
        self.look_at = now + clock::whole_ms((took * 5).max(LOOK));
    }

    fn take(&mut self, write: &Write, outcome: Option<Outcome>) {
        let now = clock::now();
        let Some(outcome) = outcome else { return self.schedule.cancelled(write, now) };
        match &outcome {
            Ok(_) => {
                self.metrics.status_writes("written", 1);
                self.metrics.status_write_lag(Duration::from_millis(now.saturating_sub(write.since)));
            }
            Err(error) => {
                debug!(object = %write.target, "the status was not written: {error}");
                // The object was changed at the same moment, such as by a finalizer; the next try is made with the newest version.
                let overlapped = error.kind == call::Kind::Conflict;
                self.metrics.status_writes(if overlapped { "conflict" } else { "failed" }, 1);
            }
        }
        if let Some(news) = self.schedule.done(write, outcome, now) {
            tell(&news);
        }
    }
}

/// Shows the schedule the objects as they are.
fn show(schedule: &mut Schedule, sight: &Sight, now: Millis) {
    let objects = &sight.objects;
    schedule.retain(|target| match target.kind {
        super::target::Kind::App => objects.apps.contains_key(&target.key),
        super::target::Kind::Pool => objects.pools.contains_key(&target.key),
    });
    let mut see = |target: Target, uid: &String, version: &String, generation: i64, status: &dyn Fn() -> Option<Status>| {
        if !schedule.knows(&target, uid, version) {
            let shown = Shown { uid: uid.clone(), version: version.clone(), generation, status: status() };
            schedule.sees(&target, shown, now);
        }
    };
    for (key, seen) in &objects.apps {
        let status = || seen.status.clone().map(|status| Status::App(Box::new(status)));
        see(Target::app(key), &seen.uid, &seen.resource_version, seen.generation, &status);
    }
    for (key, seen) in &objects.pools {
        let status = || {
            seen.status.clone().map(|mut status| {
                status.framework_id = None;
                Status::Pool(Box::new(status))
            })
        };
        see(Target::pool(key), &seen.uid, &seen.resource_version, seen.generation, &status);
    }
}

fn tell(news: &News) {
    match news {
        News::Away(why) => warn!("no status can be written for now: {why}; the newest ones are written once that is over"),
        News::Back => info!("statuses can be written again"),
        News::Refused(target, why) => warn!(object = %target, "its status cannot be written: {why}"),
        News::Shortened(target) => warn!(object = %target, "the object is so large that its status has to be shortened"),
    }
}

/// `None`: it was not sent, as another one leads.
async fn attempt(client: Client, mandate: Mandate, write: Write) -> (Write, Option<Outcome>) {
    if !mandate.holds() {
        return (write, None);
    }
    let outcome = apply(&client, &write).await;
    (write, Some(outcome))
}

async fn apply(client: &Client, write: &Write) -> Outcome {
    let mut answer = call::send(client, request(write)?).await?;
    let version = answer["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let mut status = answer["status"].take();
    if let Some(status) = status.as_object_mut() {
        status.remove("frameworkId");
    }
    // What cannot be read is taken for what was sent, for it would be sent again and again.
    Ok((version, Status::read(write.target.kind, status).or_else(|| Some(write.status.clone()))))
}

/// With the version, as the status of an object may be written to another one of the same name: the API server does not look at the
/// uid here (seen with 1.36).
fn request(write: &Write) -> Result<axum::http::Request<Vec<u8>>, Failure> {
    let mut metadata = json!({ "uid": write.uid });
    if let Some(version) = &write.version {
        metadata["resourceVersion"] = json!(version);
    }
    let mut patch: Value = write.target.patch(metadata);
    patch["status"] = write.status.json();
    let params = PatchParams::apply(MANAGER).force();
    let request = write.target.requests().patch_subresource("status", write.target.key.name(), &params, &Patch::Apply(patch));
    request.map_err(|error| Failure { kind: call::Kind::Refused, message: error.to_string() })
}
