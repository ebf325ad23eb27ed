//! Tells somebody what has lasted long enough, and again until it was understood.

use std::process::Stdio;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::document::{Document, Kind};
use super::{Outcome, Situation};
use crate::api::scale_out::{ScaleOut as Spec, Webhook};
use crate::api::validated::Key;
use crate::demand::Context;
use crate::demand::web::{Web, address};
use crate::engine::clock;

/// Who takes longer than this has not understood.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure it is tried again after the first of these, and then after ever longer pauses up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// So much of what a command complains of is shown.
const SHOWN: usize = 200;

/// As far as somebody is concerned who adds hosts: how many more it takes, or where that is not known, for how many replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lack {
    #[default]
    Nothing,
    Agents(i64),
    Replicas(i64),
}

/// Who tells.
pub struct Herald {
    pool: Key,
    context: Context,
    told: Lack,
    /// When it is told next what has not been told, if nothing changes.
    due: Option<Instant>,
    /// When it was told last.
    told_at: Option<Instant>,
    failures: u32,
}

impl Herald {
    /// `was_short`: whoever told before may have told of a shortage, whose end is to be told, too.
    pub fn new(pool: Key, context: Context, was_short: bool) -> Self {
        let told = if was_short { Lack::Replicas(-1) } else { Lack::Nothing };
        Self { pool, context, told, due: None, told_at: None, failures: 0 }
    }

    /// Until the engine ends.
    pub async fn run(mut self, mut situations: watch::Receiver<Situation>, outcome: watch::Sender<Outcome>) {
        loop {
            let situation = situations.borrow_and_update().clone();
            let due = self.due(&situation);
            tokio::select! {
                changed = situations.changed() => if changed.is_err() { return },
                () = sleep_until(due.unwrap_or_else(now)), if due.is_some() => {
                    let result = self.tell(&situation).await;
                    outcome.send_replace(Some(result));
                }
            }
        }
    }

    /// When somebody is to be told of this.
    fn due(&mut self, situation: &Situation) -> Option<Instant> {
        let spec = situation.spec.as_ref().filter(|spec| spec.webhook.is_some() || spec.command.is_some())?;
        let lack = lack(situation);
        if lack != self.told {
            let after = Duration::from_millis(u64::try_from(spec.after_milliseconds).unwrap_or(0));
            return Some(*self.due.get_or_insert_with(|| now() + after));
        }
        (self.due, self.failures) = (None, 0);
        let repeat = Duration::from_secs(spec.repeat_seconds.and_then(|seconds| u64::try_from(seconds).ok())?);
        (lack != Lack::Nothing).then(|| self.told_at.map_or_else(now, |at| at + repeat))
    }

    async fn tell(&mut self, situation: &Situation) -> Result<(), String> {
        let Some(spec) = &situation.spec else { return Ok(()) };
        let lack = lack(situation);
        let kind = match (self.told, lack) {
            (before, now) if before == now => Kind::Lasts,
            (Lack::Nothing, _) => Kind::Begins,
            (_, Lack::Nothing) => Kind::Ends,
            _ => Kind::Changes,
        };
        let document = serde_json::to_vec(&Document::new(kind, &self.pool, situation, clock::timestamp()));
        let document = document.map_err(|error| error.to_string())?;
        let result = timeout(PATIENCE, self.deliver(spec, document)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        match &result {
            Ok(()) => {
                info!(pool = %self.pool, ?kind, replicas = situation.shortfall.replicas(), "told of the room beyond the pool");
                (self.told, self.told_at, self.due, self.failures) = (lack, Some(now()), None, 0);
            }
            Err(why) => {
                warn!(pool = %self.pool, "cannot tell of the room beyond the pool: {why}");
                let pause = RETRY.0.saturating_mul(2_u32.saturating_pow(self.failures)).min(RETRY.1);
                self.failures += 1;
                self.due = Some(now() + pause);
                // What is told again and again has its own rhythm.
                self.told_at = self.told_at.map(|_| now());
            }
        }
        result
    }

    async fn deliver(&self, spec: &Spec, document: Vec<u8>) -> Result<(), String> {
        match (&spec.webhook, &spec.command) {
            (Some(webhook), _) => self.post(webhook, document).await,
            (None, Some(_)) if self.context.secrets.are_discreet() => {
                Err("command: programs are not run on Kubernetes, as they would have Microscaler's own rights: use webhook"
                    .to_owned())
            }
            (None, Some(command)) => run(command, document).await,
            (None, None) => Ok(()),
        }
    }

    async fn post(&self, webhook: &Webhook, document: Vec<u8>) -> Result<(), String> {
        let url = address(&webhook.url).map_err(|error| error.to_string())?;
        let web = Web::of(self.context.clone(), &url, webhook.auth.clone(), webhook.tls.clone());
        let post =
            |client: &reqwest::Client| client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(document.clone());
        web.fetch(post).await.map(drop)
    }
}

fn lack(situation: &Situation) -> Lack {
    let shortfall = &situation.shortfall;
    if shortfall.is_none() {
        return Lack::Nothing;
    }
    shortfall.agents().map_or_else(|| Lack::Replicas(shortfall.replicas()), Lack::Agents)
}

/// By the runtime's clock.
fn now() -> Instant {
    sleep(Duration::ZERO).deadline()
}

/// Runs the program with the document on its standard input. It is killed when it is given up.
async fn run(command: &[String], document: Vec<u8>) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not want to know all of it may end before it has read it.
        let _ = input.write_all(&document).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let complaint: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(SHOWN).collect();
    Err(format!("{program}: {}{}{complaint}", output.status, if complaint.is_empty() { "" } else { ": " }))
}
