//! Puts the id of a pool's framework back where it is lost.
//!
//! It is stored when the framework comes to be, and read when an engine begins. If somebody clears the status meanwhile, or the object is
//! made anew or restored from a backup, the next start would find no id, or a wrong one, and stop for a person, though all is well
//! and the engine knows it.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::framework::PoolObject;
use super::lease::Mandate;
use super::pace::doubled;
use super::sight::{Follower, Sight};
use crate::api::validated::Key;
use crate::engine::clock;
use crate::policy::world::Millis;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// What has just been stored may not have been seen yet, and what an engine has just heard it may not have told.
const GRACE: Millis = 1000;
/// From one try of a pool to the next one; after failures it is doubled.
const GAP: Millis = 2000;
const LONGEST: Millis = 60_000;

/// An id to be stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub pool: Key,
    /// Of the object.
    pub version: String,
    pub id: String,
}

/// The pools whose objects do not show the id that they should. Pure: the time is an argument.
#[derive(Debug, Default)]
pub struct Losses {
    known: BTreeMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    id: String,
    /// When to try next.
    due: Millis,
    failures: u32,
}

impl Losses {
    /// Those that are to be put right now; each has to be answered by [`done`](Self::done).
    pub fn due(&mut self, sight: &Sight, now: Millis) -> Vec<Loss> {
        let lost = lost(sight);
        self.known.retain(|pool, known| lost.iter().any(|loss| loss.pool == *pool && loss.id == known.id));
        let is_due = |loss: &Loss| {
            let new = || Known { id: loss.id.clone(), due: now + GRACE, failures: 0 };
            self.known.entry(loss.pool.clone()).or_insert_with(new).due <= now
        };
        lost.into_iter().filter(is_due).collect()
    }

    /// One has been tried. True: it failed for the first time, which people should know of.
    pub fn done(&mut self, loss: &Loss, stored: bool, now: Millis) -> bool {
        let Some(known) = self.known.get_mut(&loss.pool) else { return false };
        known.failures = if stored { 0 } else { known.failures + 1 };
        known.due = now + doubled(GAP, known.failures, LONGEST);
        known.failures == 1
    }
}

fn lost(sight: &Sight) -> Vec<Loss> {
    let lost = sight.objects.pools.iter().filter(|(_, seen)| !seen.deleting).filter_map(|(pool, seen)| {
        let report = &sight.engines.get(pool)?.report;
        // Of an object that was made anew, the engine may still speak of the old one.
        let is_this = report.pool.metadata.uid.as_ref().is_none_or(|uid| *uid == seen.uid);
        // Only one that is subscribed and knows what runs is sure of its id.
        let id = report.standing.framework_id.as_ref().filter(|_| report.standing.ready && is_this)?;
        let shown = seen.status.as_ref().and_then(|status| status.framework_id.as_ref());
        let loss = || Loss { pool: pool.clone(), version: seen.resource_version.clone(), id: id.clone() };
        (shown != Some(id)).then(loss)
    });
    lost.collect()
}

/// Does so until told to end.
pub async fn run(client: Client, mut follower: Follower, mandate: Mandate, mut shutdown: watch::Receiver<bool>) {
    let mut losses = Losses::default();
    loop {
        let work = async {
            sleep(LOOK).await;
            if mandate.holds() {
                put_right(&client, &follower.look(), &mandate, &mut losses).await;
            } else {
                losses = Losses::default();
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|end| *end) => return,
            () = work => {}
        }
    }
}

async fn put_right(client: &Client, sight: &Sight, mandate: &Mandate, losses: &mut Losses) {
    for loss in losses.due(sight, clock::now()) {
        if !mandate.holds() {
            return;
        }
        let Loss { pool, version, id } = &loss;
        let outcome = PoolObject::new(client.clone(), pool).restore_framework_id(id, version).await;
        let is_news = losses.done(&loss, outcome.is_ok(), clock::now());
        match outcome {
            Ok(()) => info!(%pool, "status.frameworkId was not {id} any more, and is again"),
            Err(error) if is_news => warn!(%pool, "{error}; it is tried again"),
            // One at a time where the API server fails.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Scene, pool_key};

    fn scene() -> Scene {
        let mut scene = Scene::new();
        scene.pool("main").engine("main");
        scene.report("main").standing.framework_id = Some("f-1".to_owned());
        scene
    }

    fn count(scene: &Scene) -> usize {
        lost(&scene.sight()).len()
    }

    #[test]
    fn only_an_engine_that_is_sure_counts() {
        let mut scene = scene();
        assert_eq!(lost(&scene.sight()), [Loss { pool: pool_key("main"), version: "1".to_owned(), id: "f-1".to_owned() }]);
        scene.framework("main");
        assert_eq!(count(&scene), 0, "it is there");
        scene.report("main").standing.framework_id = Some("f-2".to_owned());
        assert_eq!(count(&scene), 1, "that is another one");
        let mut other = scene.clone();
        other.report("main").standing.ready = false;
        assert_eq!(count(&other), 0);
        let mut other = scene.clone();
        other.change_pool("main", |seen| seen.deleting = true);
        assert_eq!(count(&other), 0);
        let mut other = scene.clone();
        other.change_pool("main", |seen| seen.status = None);
        assert_eq!(count(&other), 1);
        std::sync::Arc::make_mut(&mut scene.report("main").pool).metadata.uid = Some("namesake".to_owned());
        assert_eq!(count(&scene), 0);
    }

    #[test]
    fn tries_are_paced() {
        let (scene, mut losses, mut tries) = (scene(), Losses::default(), Vec::new());
        for now in (0..20_000).step_by(500) {
            for loss in losses.due(&scene.sight(), now) {
                assert_eq!(losses.done(&loss, false, now), tries.is_empty());
                tries.push(now);
            }
        }
        assert_eq!(tries, [1000, 3000, 7000, 15_000]);
        let mut put_right = scene.clone();
        put_right.framework("main");
        assert!(losses.due(&put_right.sight(), 20_000).is_empty());
        assert!(losses.due(&scene.sight(), 60_000).is_empty(), "that is a new one");
        let loss = losses.due(&scene.sight(), 61_000).pop().unwrap();
        assert!(!losses.done(&loss, true, 61_000));
        assert!(losses.due(&scene.sight(), 62_500).is_empty(), "what was written may not have been seen yet");
    }
}
