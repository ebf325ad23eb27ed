//! Puts finalizers on and takes them off as [`finalize`](super::finalize) says.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::call::Failure;
use super::finalize::{Change, ChangeKind, Keeper, carry_out};
use super::lease::Mandate;
use super::pace::{Bucket, Pause};
use super::sight::{Follower, Sight};
use crate::engine::clock;
use crate::policy::world::Millis;

/// Changes per second, and as many at once: statuses have a budget of their own.
const PER_SECOND: u32 = 50;
const IN_FLIGHT: usize = 4;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(250);

/// The loop's own things.
pub struct Finalizer {
    client: Client,
    follower: Follower,
    mandate: Mandate,
    keeper: Keeper,
    bucket: Bucket,
    pause: Pause,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    led: bool,
}

/// A change, when it was sent, and what came of it; `None`: it was not sent, as another one leads.
type Ended = (Change, Millis, Option<Result<(), Failure>>);

impl Finalizer {
    #[must_use]
    pub fn new(client: Client, follower: Follower, mandate: Mandate) -> Self {
        Self {
            client,
            follower,
            mandate,
            keeper: Keeper::default(),
            bucket: Bucket::per_second(PER_SECOND),
            pause: Pause::default(),
            under_way: FuturesUnordered::new(),
            led: false,
        }
    }

    /// Until told to end. What is left is for whoever leads next.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let work = async {
                self.turn();
                self.wait().await;
            };
            tokio::select! {
                _ = shutdown.wait_for(|end| *end) => return,
                () = work => {}
            }
        }
    }

    fn turn(&mut self) {
        let leads = self.mandate.holds();
        if leads && !self.led {
            self.keeper.forget();
            self.pause = Pause::default();
        }
        self.led = leads;
        let sight = self.follower.look();
        if leads && clock::now() >= self.pause.until() {
            self.begin(&sight);
        }
    }

    fn begin(&mut self, sight: &Sight) {
        let now = clock::now();
        let limit = if self.pause.is_on() { 1 } else { IN_FLIGHT };
        let mut room = limit.saturating_sub(self.under_way.len());
        let bucket = &mut self.bucket;
        let may = || {
            let may = room > 0 && bucket.take(now);
            room -= usize::from(may);
            may
        };
        for change in self.keeper.due(sight, now, may) {
            self.under_way.push(Box::pin(attempt(self.client.clone(), self.mandate.clone(), change)));
        }
    }

    /// Until something has ended or changed, or is due; not sooner than worth a look.
    async fn wait(&mut self) {
        let Self { follower, under_way, keeper, .. } = self;
        let due = keeper.next().map_or(TICK, |at| Duration::from_millis(at.saturating_sub(clock::now())).min(TICK));
        let changed = async {
            sleep(LOOK).await;
            follower.changed().await;
        };
        let ended = tokio::select! {
            () = changed => None,
            Some(ended) = under_way.next() => Some(ended),
            () = sleep(due.max(LOOK)) => None,
        };
        if let Some(ended) = ended {
            self.take(ended);
        }
    }

    fn take(&mut self, (change, sent, outcome): Ended) {
        let now = clock::now();
        let Some(outcome) = outcome else { return self.keeper.cancelled(&change) };
        match &outcome {
            Ok(()) => {
                self.pause.succeeded();
                if let ChangeKind::Remove(_) = change.kind {
                    info!(object = %change.target, "let go: nothing of it is left");
                }
            }
            Err(failure) => {
                debug!(object = %change.target, "its finalizer was not changed: {failure}");
                if let Some(wait) = failure.kind.pause() {
                    self.pause.failed(sent, now, wait);
                }
            }
        }
        let message = outcome.as_ref().err().map(ToString::to_string);
        if self.keeper.done(&change, outcome.map_err(|failure| failure.kind), now) {
            warn!(object = %change.target, "its finalizer cannot be changed: {}", message.unwrap_or_default());
        }
    }
}

async fn attempt(client: Client, mandate: Mandate, change: Change) -> Ended {
    let sent = clock::now();
    if !mandate.holds() {
        return (change, sent, None);
    }
    let outcome = carry_out(&client, &change).await;
    (change, sent, Some(outcome))
}
