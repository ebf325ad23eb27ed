//! The objects together with what the engines say, as both change.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{FutureExt as _, select_all};
use tokio::sync::watch;

use super::objects::{Objects, ObjectsFeed, Seen};
use crate::api::status::AppStatus;
use crate::api::validated::Key;
use crate::engine::clock;
use crate::engine::report::{AppReport, Handle, Report};
use crate::policy::world::Millis;
use crate::server::Pools;
use crate::server::pools::Serial;

/// All that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    pub objects: Arc<Objects>,
    pub engines: BTreeMap<Key, EngineSight>,
    /// Apps that name a pool which does not exist, and since when.
    pub homeless: BTreeMap<Key, Millis>,
}

/// A pool that is applied together with its apps may come after them.
const GRACE: Millis = 1000;

impl Sight {
    /// Whether an app's pool does not exist, and is not just about to.
    #[must_use]
    pub fn is_homeless(&self, app: &Key, now: Millis) -> bool {
        self.homeless.get(app).is_some_and(|since| now >= since + GRACE)
    }
}

/// What is known of one engine.
#[derive(Clone, Debug)]
pub struct EngineSight {
    pub report: Arc<Report>,
    /// Since when it is known.
    pub since: Millis,
    /// It has known at some time all that runs.
    pub has_been_ready: bool,
}

impl EngineSight {
    /// What the engine says of an app.
    #[must_use]
    pub fn app(&self, key: &Key) -> Option<&AppReport> {
        self.report.apps.binary_search_by(|app| app.key.cmp(key)).ok().and_then(|at| self.report.apps.get(at))
    }

    /// How many tasks of an app that is gone have not ended.
    #[must_use]
    pub fn leaving(&self, app: &Key) -> usize {
        self.report.leaving.get(app).copied().unwrap_or(0)
    }
}

/// Follows both; each has one of its own.
pub struct Follower {
    objects: ObjectsFeed,
    pools: Arc<Pools>,
    changes: watch::Receiver<Serial>,
    members: Vec<Member>,
    homeless: BTreeMap<Key, Millis>,
}

struct Member {
    serial: Serial,
    pool: Key,
    reports: watch::Receiver<Arc<Report>>,
    /// Its engine has ended.
    ended: bool,
    since: Millis,
    has_been_ready: bool,
}

impl Follower {
    #[must_use]
    pub fn new(objects: ObjectsFeed, pools: Arc<Pools>) -> Self {
        let mut follower = Self { objects, changes: pools.changes(), pools, members: Vec::new(), homeless: BTreeMap::new() };
        follower.join();
        follower
    }

    /// The newest of all; what changes from now on is a change for [`changed`](Self::changed).
    pub fn look(&mut self) -> Sight {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.join();
        }
        let engines = self.members.iter_mut().map(|member| {
            let report = member.reports.borrow_and_update().clone();
            member.has_been_ready |= report.standing.ready;
            let sight = EngineSight { report, since: member.since, has_been_ready: member.has_been_ready };
            (member.pool.clone(), sight)
        });
        let engines = engines.collect();
        let objects = self.objects.borrow_and_update().clone();
        self.find_homeless(&objects);
        Sight { objects, engines, homeless: self.homeless.clone() }
    }

    fn find_homeless(&mut self, objects: &Objects) {
        let (before, now) = (std::mem::take(&mut self.homeless), clock::now());
        let has_no_pool = |seen: &Seen<AppStatus>| seen.pool.as_ref().is_some_and(|pool| !objects.pools.contains_key(pool));
        let homeless = objects.apps.iter().filter(|(_, seen)| has_no_pool(seen));
        self.homeless = homeless.map(|(key, _)| (key.clone(), before.get(key).copied().unwrap_or(now))).collect();
    }

    fn join(&mut self) {
        let mut known: BTreeMap<Serial, Member> = self.members.drain(..).map(|member| (member.serial, member)).collect();
        let now = clock::now();
        let member = |(serial, handle): (Serial, Handle)| {
            let new = || Member {
                serial,
                pool: handle.pool.clone(),
                reports: handle.reports.clone(),
                ended: false,
                since: now,
                has_been_ready: false,
            };
            known.remove(&serial).unwrap_or_else(new)
        };
        self.members = self.pools.numbered().into_iter().map(member).collect();
    }

    /// Waits for a change of anything since the last look. Cancel-safe.
    pub async fn changed(&mut self) {
        let Self { objects, changes, members, .. } = self;
        let reports = members.iter_mut().filter(|member| !member.ended).map(|member| {
            let Member { reports, ended, .. } = member;
            // The last report of an engine that has ended stays until it is removed.
            async move { *ended = reports.changed().await.is_err() }.boxed()
        });
        let objects = async {
            if objects.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = objects => {}
            // Fails only without a sender, and that is in `pools`.
            _ = changes.changed() => changes.mark_changed(),
            _ = select_all(reports.chain([std::future::pending().boxed()])) => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testing::{Scene, app_report};
    use super::*;

    #[test]
    fn apps_are_found_in_namespaces_of_similar_names() {
        let mut scene = Scene::default();
        let keys: BTreeSet<Key> = ["shop", "shop-test", "shop.old"].map(|namespace| Key::new(namespace, "web")).into();
        scene.engine("main");
        scene.report("main").apps = keys.iter().map(|key| AppReport { key: key.clone(), ..app_report("web", "main") }).collect();
        let sight = scene.sight();
        let engine = sight.engines.values().next().unwrap();
        assert!(keys.iter().all(|key| engine.app(key).is_some_and(|app| app.key == *key)));
        assert!(engine.app(&Key::new("shop-other", "web")).is_none());
    }
}
