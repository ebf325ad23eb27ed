//! Keeps the objects of apps until their tasks have ended, and those of pools until no app names them.
//!
//! Nothing waits for a finalizer to be there: an object that is gone before it had one leaves tasks to be ended all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::call::{self, Failure};
use super::deletion::{self, Wait, finalizer};
use super::objects::Seen;
use super::pace::doubled;
use super::sight::Sight;
use super::target::{Kind, Target};
use crate::api::validated::Key;
use crate::engine::report::{AppReport, Report};
use crate::policy::world::Millis;

/// Of its own, so that nobody else's finalizers are touched.
const MANAGER: &str = "microscaler-finalizer";
/// After what was done the newest object should have come by watch within this time.
const SETTLE: Millis = 2000;
const RETRY: Millis = 500;
const LONGEST_RETRY: Millis = 30_000;
/// After so many failures in a row people should know.
const INSISTENCE: u32 = 3;

/// A finalizer to be put on or taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub target: Target,
    pub uid: String,
    pub kind: ChangeKind,
}

/// Which of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Add,
    /// The one at this place of the list.
    Remove(usize),
}

/// What has to be changed, and what was tried.
#[derive(Debug, Default)]
pub struct Keeper {
    tries: BTreeMap<Target, Try>,
    deletions: BTreeMap<Target, Deletion>,
    /// The uids of apps that some engine has spoken of.
    taken: BTreeMap<Key, String>,
}

#[derive(Debug)]
struct Try {
    uid: String,
    /// The object as it was then; another version ends the wait after a conflict.
    version: String,
    failures: u32,
    under_way: bool,
    not_before: Millis,
    until_newer: bool,
}

/// A deletion as first seen.
#[derive(Debug)]
struct Deletion {
    uid: String,
    /// What engines said until then: an engine may just have launched tasks that this does not tell of. Kept, so that no later report can
    /// have the same address.
    reports: Vec<Arc<Report>>,
}

impl Keeper {
    /// The changes that are due, as many as may be: of each it is asked first, and each has to be answered by [`done`](Self::done).
    pub fn due(&mut self, sight: &Sight, now: Millis, mut may: impl FnMut() -> bool) -> Vec<Change> {
        let objects = &sight.objects;
        let exists = |target: &Target| match target.kind {
            Kind::App => objects.apps.contains_key(&target.key),
            Kind::Pool => objects.pools.contains_key(&target.key),
        };
        self.tries.retain(|target, tried| exists(target) || tried.under_way);
        self.deletions.retain(|target, _| exists(target));
        self.note_taken(sight);
        let mut wanted = Vec::new();
        for (key, seen) in &objects.apps {
            wanted.extend(self.change(sight, Target::app(key), seen, || deletion::of_app(sight, key, seen)));
        }
        for (key, seen) in &objects.pools {
            wanted.extend(self.change(sight, Target::pool(key), seen, || deletion::of_pool(sight, key)));
        }
        // Somebody may wait for an object to be gone.
        wanted.sort_by_key(|(change, _)| change.kind == ChangeKind::Add);
        let due = wanted.into_iter().filter(|(change, version)| self.begin(change, version, now, &mut may));
        due.map(|(change, _)| change).collect()
    }

    /// What there is to change, and the version of the object that says so.
    fn change<S>(
        &mut self,
        sight: &Sight,
        target: Target,
        seen: &Seen<S>,
        wait: impl FnOnce() -> Wait,
    ) -> Option<(Change, String)> {
        let at = seen.finalizers.iter().position(|present| present == finalizer(target.kind));
        let kind = match (seen.deleting, at) {
            (false, None) => ChangeKind::Add,
            (true, Some(at)) if self.has_news(sight, &target, seen) && wait() == Wait::Nothing => ChangeKind::Remove(at),
            _ => return None,
        };
        Some((Change { target, uid: seen.uid.clone(), kind }, seen.resource_version.clone()))
    }

    fn note_taken(&mut self, sight: &Sight) {
        let apps = &sight.objects.apps;
        self.taken.retain(|key, uid| apps.get(key).is_some_and(|seen| seen.uid == *uid));
        for (key, seen) in apps.iter().filter(|(_, seen)| !seen.deleting) {
            let engine = seen.pool.as_ref().and_then(|pool| sight.engines.get(pool));
            let is_this = |app: &AppReport| app.spec.metadata.uid.as_ref() == Some(&seen.uid);
            if !self.taken.contains_key(key) && engine.and_then(|engine| engine.app(key)).is_some_and(is_this) {
                self.taken.insert(key.clone(), seen.uid.clone());
            }
        }
    }

    /// Whether what the engines say now is from after the deletion: they have spoken since it was seen, or they had spoken of this very
    /// app and do not any more.
    fn has_news<S>(&mut self, sight: &Sight, target: &Target, seen: &Seen<S>) -> bool {
        if target.kind == Kind::App && self.taken.get(&target.key) == Some(&seen.uid) {
            return true;
        }
        let engines = || sight.engines.values().filter(|engine| engine.report.standing.ready);
        if self.deletions.get(target).is_none_or(|deletion| deletion.uid != seen.uid) {
            let reports = engines().map(|engine| engine.report.clone()).collect();
            self.deletions.insert(target.clone(), Deletion { uid: seen.uid.clone(), reports });
        }
        let Some(deletion) = self.deletions.get(target) else { return false };
        let concerned = |report: &Report| match (&seen.pool, &report.pool.metadata) {
            (Some(pool), metadata) => {
                metadata.name.as_deref() == Some(pool.name()) && metadata.namespace.as_deref() == Some(pool.namespace())
            }
            (None, _) => true,
        };
        let is_old = |report: &Arc<Report>| deletion.reports.iter().any(|old| Arc::ptr_eq(old, report));
        engines().map(|engine| &engine.report).filter(|report| concerned(report)).all(|report| !is_old(report))
    }

    /// Whether it may be tried now; if so, it is under way.
    fn begin(&mut self, change: &Change, version: &str, now: Millis, may: &mut impl FnMut() -> bool) -> bool {
        let tried = self.tries.get(&change.target).filter(|tried| tried.uid == change.uid);
        // Of an object that changes all the time, a newer version is no reason to insist.
        let is_newer = |tried: &Try| tried.until_newer && tried.failures < INSISTENCE && tried.version != version;
        if tried.is_some_and(|tried| tried.under_way || (now < tried.not_before && !is_newer(tried))) || !may() {
            return false;
        }
        let failures = tried.map_or(0, |tried| tried.failures);
        let (uid, version) = (change.uid.clone(), version.to_owned());
        let begun = Try { uid, version, failures, under_way: true, not_before: 0, until_newer: false };
        self.tries.insert(change.target.clone(), begun);
        true
    }

    /// A change has ended. True: it is a failure that people should know of.
    pub fn done(&mut self, change: &Change, outcome: Result<(), call::Kind>, now: Millis) -> bool {
        let Some(tried) = self.tries.get_mut(&change.target).filter(|tried| tried.uid == change.uid) else { return false };
        tried.under_way = false;
        match outcome {
            // What is gone needs no finalizer either.
            Ok(()) | Err(call::Kind::Missing) => (tried.failures, tried.not_before) = (0, now + SETTLE),
            Err(kind) => {
                tried.failures += 1;
                tried.not_before = now + doubled(RETRY, tried.failures, LONGEST_RETRY);
                // A list that is no longer as it was shows as a conflict, or as not valid.
                tried.until_newer = matches!(kind, call::Kind::Conflict | call::Kind::Refused);
                return kind == call::Kind::Refused && tried.failures == INSISTENCE;
            }
        }
        false
    }

    /// A change was not sent, as it may not be.
    pub fn cancelled(&mut self, change: &Change) {
        self.tries.remove(&change.target);
    }

    /// When [`due`](Self::due) has to be asked again, if nothing happens before.
    #[must_use]
    pub fn next(&self) -> Option<Millis> {
        let waiting = self.tries.values().filter(|tried| !tried.under_way && tried.failures > 0);
        waiting.map(|tried| tried.not_before).min()
    }

    /// Begins anew: meanwhile others may have acted.
    pub fn forget(&mut self) {
        self.tries.retain(|_, tried| tried.under_way);
        self.deletions.clear();
        self.taken.clear();
    }
}

/// Carries it out.
///
/// # Errors
/// When the API server does not do it.
pub async fn carry_out(client: &Client, change: &Change) -> Result<(), Failure> {
    let request = match change.kind {
        ChangeKind::Add => addition(change),
        ChangeKind::Remove(at) => removal(change, at),
    };
    let request = request.map_err(|error| Failure { kind: call::Kind::Refused, message: error })?;
    call::send(client, request).await.map(drop)
}

/// With the uid, so that an object that is gone is not created: that is a conflict.
fn addition(change: &Change) -> Result<Request<Vec<u8>>, String> {
    let patch = change.target.patch(json!({ "uid": change.uid, "finalizers": [finalizer(change.target.kind)] }));
    let params = PatchParams::apply(MANAGER).force();
    let request = change.target.requests().patch(change.target.key.name(), &params, &Patch::Apply(patch));
    request.map_err(|error| error.to_string())
}

/// Nothing happens unless the object is this one, and the finalizer is still at this place.
fn removal(change: &Change, at: usize) -> Result<Request<Vec<u8>>, String> {
    let path = format!("/metadata/finalizers/{at}");
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": change.uid },
        { "op": "test", "path": path, "value": finalizer(change.target.kind) },
        { "op": "remove", "path": path },
    ]);
    let url = format!("{}/{}?fieldManager={MANAGER}", change.target.requests().url_path, change.target.key.name());
    let request = Request::patch(url).header(CONTENT_TYPE, "application/json-patch+json");
    request.body(operations.to_string().into_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::kubernetes::testing::{Scene, app_key, pool_key};

    fn due(keeper: &mut Keeper, scene: &Scene, now: Millis) -> Vec<(String, ChangeKind)> {
        let changes = keeper.due(&scene.sight(), now, || true);
        changes.into_iter().map(|change| (change.target.key.name().to_owned(), change.kind)).collect()
    }

    fn deleted(name: &str) -> Scene {
        let mut scene = Scene::new();
        scene.pool("main").framework("main").engine("main").app(name, "main");
        scene.change_app(name, |seen| seen.deleting = true);
        scene
    }

    fn change(name: &str, kind: ChangeKind) -> Change {
        Change { target: Target::app(&app_key(name)), uid: format!("uid-{name}"), kind }
    }

    #[test]
    fn finalizers_are_put_on_what_is_not_being_deleted() {
        let mut scene = Scene::new();
        scene.pool("main").app("a", "main").app("b", "main");
        scene.change_app("a", |seen| seen.finalizers = vec!["other.dev/x".to_owned()]);
        scene.change_app("b", |seen| (seen.finalizers, seen.deleting) = (vec![], true));
        scene.change_pool("main", |seen| seen.finalizers.clear());
        let mut keeper = Keeper::default();
        assert_eq!(due(&mut keeper, &scene, 1), [("a".to_owned(), ChangeKind::Add), ("main".to_owned(), ChangeKind::Add)]);
        assert_eq!(due(&mut keeper, &scene, 9000), [], "under way");
        assert!(!keeper.done(&change("a", ChangeKind::Add), Ok(()), 10));
        assert_eq!(due(&mut keeper, &scene, 1000), [], "the watch will show it");
        assert_eq!(due(&mut keeper, &scene, 2010), [("a".to_owned(), ChangeKind::Add)], "somebody took it off");
    }

    #[test]
    fn an_app_is_let_go_when_its_tasks_have_ended() {
        let mut scene = deleted("a");
        scene.leaving("main", "a", 1);
        let mut keeper = Keeper::default();
        assert_eq!(due(&mut keeper, &scene, 1), []);
        scene.leaving("main", "a", 0);
        assert_eq!(due(&mut keeper, &scene, 2), [("a".to_owned(), ChangeKind::Remove(0))]);
        keeper.done(&change("a", ChangeKind::Remove(0)), Err(call::Kind::Refused), 3);
        assert_eq!(due(&mut keeper, &scene, 4), []);
        scene.change_app("a", |seen| {
            seen.resource_version = "2".to_owned();
            seen.finalizers.insert(0, "other.dev/x".to_owned());
        });
        assert_eq!(due(&mut keeper, &scene, 5), [("a".to_owned(), ChangeKind::Remove(1))], "at once with the newest");
    }

    #[test]
    fn a_report_from_before_the_deletion_does_not_count() {
        let scene = deleted("a");
        let (before, after) = (scene.sight(), scene.sight());
        let mut keeper = Keeper::default();
        assert!(keeper.due(&before, 1, || true).is_empty());
        assert!(keeper.due(&before, 500, || true).is_empty());
        assert_eq!(keeper.due(&after, 501, || true).len(), 1);
    }

    #[test]
    fn an_engine_that_no_longer_speaks_of_an_app_has_ended_it() {
        let mut scene = deleted("a");
        scene.change_app("a", |seen| seen.deleting = false).reports("main", &["a"]);
        let mut keeper = Keeper::default();
        assert_eq!(due(&mut keeper, &scene, 1), []);
        scene.change_app("a", |seen| seen.deleting = true);
        assert_eq!(due(&mut keeper, &scene, 2), []);
        scene.reports("main", &[]);
        let after = scene.sight();
        assert_eq!(keeper.due(&after, 3, || true).len(), 1, "this is seen with it for the first time");
    }

    #[test]
    fn an_app_and_its_pool_deleted_together_go_in_order() {
        let mut scene = deleted("a");
        scene.change_pool("main", |seen| seen.deleting = true).leaving("main", "a", 1);
        let mut keeper = Keeper::default();
        assert_eq!(due(&mut keeper, &scene, 1), []);
        scene.leaving("main", "a", 0);
        assert_eq!(due(&mut keeper, &scene, 2), [("a".to_owned(), ChangeKind::Remove(0))]);
        scene.gone("a");
        assert_eq!(due(&mut keeper, &scene, 3), [("main".to_owned(), ChangeKind::Remove(0))]);
    }

    #[test]
    fn an_app_without_a_pool_goes_at_once() {
        let mut scene = Scene::new();
        scene.app("a", "gone").change_app("a", |seen| seen.deleting = true);
        assert_eq!(due(&mut Keeper::default(), &scene, 1), [("a".to_owned(), ChangeKind::Remove(0))]);
    }

    #[test]
    fn an_object_created_anew_has_nothing_to_do_with_the_old_one() {
        let mut scene = deleted("a");
        let mut keeper = Keeper::default();
        due(&mut keeper, &scene, 1);
        assert_eq!(due(&mut keeper, &scene, 2).len(), 1);
        scene.change_app("a", |seen| (seen.uid, seen.deleting, seen.finalizers) = ("new".to_owned(), false, vec![]));
        assert_eq!(due(&mut keeper, &scene, 3), [("a".to_owned(), ChangeKind::Add)]);
        assert!(!keeper.done(&change("a", ChangeKind::Remove(0)), Ok(()), 4));
        assert_eq!(due(&mut keeper, &scene, 5), [], "the new one's is under way");
    }

    #[test]
    fn failures_are_tried_again_and_told_once() {
        let mut scene = Scene::new();
        scene.app("a", "main").change_app("a", |seen| seen.finalizers.clear());
        let mut keeper = Keeper::default();
        let (mut tries, mut told) = (0, 0);
        for now in 1..60_000 {
            for _ in due(&mut keeper, &scene, now) {
                tries += 1;
                told += u32::from(keeper.done(&change("a", ChangeKind::Add), Err(call::Kind::Refused), now));
            }
        }
        assert!((5..10).contains(&tries) && told == 1, "{tries} {told}");
        assert_eq!(keeper.tries[&Target::app(&app_key("a"))].failures, tries);
        assert!(pool_key("main").name() == "main" && keeper.next().is_some());
    }

    #[test]
    fn requests_name_the_object_and_nothing_else() {
        let request = removal(&change("a", ChangeKind::Remove(2)), 2).unwrap();
        assert!(request.uri().path().ends_with("/namespaces/shop/microscaledapps/a"));
        let body: Vec<Value> = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body[0]["value"], "uid-a");
        assert_eq!(body[1], json!({"op": "test", "path": "/metadata/finalizers/2", "value": "microscaling.dev/tasks"}));
        let request = addition(&change("a", ChangeKind::Add)).unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["metadata"]["finalizers"], json!(["microscaling.dev/tasks"]));
        assert_eq!(body.get("spec"), None);
    }
}
