//! What there is to tell of objects that no engine tells of. Pure.

use std::collections::BTreeMap;

use super::deletion::{self, Wait};
use super::events::{Regarding, Told};
use super::objects::Seen;
use super::sight::Sight;
use super::status::no_pool;
use super::target::Target;
use crate::engine::report::EventKind;
use crate::policy::world::Millis;

/// Of objects that are gone something may still be told for this long.
const MEMORY: Millis = 60_000;

/// What was told already.
#[derive(Debug, Default)]
pub struct Notices {
    known: BTreeMap<Target, Known>,
}

#[derive(Debug)]
struct Known {
    uid: String,
    /// The generation whose fault was told.
    bad_spec: Option<i64>,
    no_pool: Option<i64>,
    /// What its deletion waited for when that was told.
    deleting: Option<std::mem::Discriminant<Wait>>,
    gone_at: Option<Millis>,
}

impl Known {
    fn new(uid: &str) -> Self {
        Self { uid: uid.to_owned(), bad_spec: None, no_pool: None, deleting: None, gone_at: None }
    }
}

impl Notices {
    /// Which object an event of this name is about; also one that has just gone.
    #[must_use]
    pub fn regarding(&self, target: &Target) -> Option<Regarding> {
        self.known.get(target).map(|known| Regarding { target: target.clone(), uid: known.uid.clone() })
    }

    /// What is new.
    pub fn look(&mut self, sight: &Sight, now: Millis) -> Vec<Told> {
        let mut told = Vec::new();
        for (key, seen) in &sight.objects.pools {
            self.notice(&Target::pool(key), seen, || deletion::of_pool(sight, key), &mut told);
        }
        for (key, seen) in &sight.objects.apps {
            let target = Target::app(key);
            let known = self.notice(&target, seen, || deletion::of_app(sight, key, seen), &mut told);
            if let Some(pool) = seen.pool.as_ref().filter(|_| sight.is_homeless(key, now) && !seen.deleting)
                && known.no_pool.replace(seen.generation) != Some(seen.generation)
            {
                told.push(tell(&target, seen, EventKind::Warning, "PoolNotFound", no_pool(pool)));
            }
        }
        self.notice_gone(sight, now, &mut told);
        told
    }

    fn notice<S>(&mut self, target: &Target, seen: &Seen<S>, wait: impl FnOnce() -> Wait, told: &mut Vec<Told>) -> &mut Known {
        let known = self.known.entry(target.clone()).or_insert_with(|| Known::new(&seen.uid));
        if known.uid != seen.uid || known.gone_at.is_some() {
            *known = Known::new(&seen.uid);
        }
        if let Some(fault) = seen.fault.as_ref().filter(|_| known.bad_spec != Some(seen.generation)) {
            known.bad_spec = Some(seen.generation);
            told.push(tell(target, seen, EventKind::Warning, "BadSpec", fault.clone()));
        }
        if seen.deleting {
            let wait = wait();
            let which = std::mem::discriminant(&wait);
            if known.deleting.replace(which) != Some(which) && wait != Wait::Nothing {
                let words = deletion::words(target, seen, &wait);
                told.push(tell(target, seen, EventKind::Normal, "Deleting", words));
            }
        }
        known
    }

    fn notice_gone(&mut self, sight: &Sight, now: Millis, told: &mut Vec<Told>) {
        let objects = &sight.objects;
        for (target, known) in &mut self.known {
            let exists = match target.kind {
                super::target::Kind::App => objects.apps.contains_key(&target.key),
                super::target::Kind::Pool => objects.pools.contains_key(&target.key),
            };
            if exists || known.gone_at.is_some() {
                continue;
            }
            known.gone_at = Some(now);
            // Of an app, its engine tells that.
            if known.deleting.is_some() && target.kind == super::target::Kind::Pool {
                let regarding = Regarding { target: target.clone(), uid: known.uid.clone() };
                let note = "no app names it any more, and it is gone".to_owned();
                told.push(Told { regarding, kind: EventKind::Normal, reason: "Deleted".to_owned(), note });
            }
        }
        self.known.retain(|_, known| known.gone_at.is_none_or(|gone| now < gone + MEMORY));
    }
}

fn tell<S>(target: &Target, seen: &Seen<S>, kind: EventKind, reason: &str, note: String) -> Told {
    let regarding = Regarding { target: target.clone(), uid: seen.uid.clone() };
    Told { regarding, kind, reason: reason.to_owned(), note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Scene, app_key};

    fn look(notices: &mut Notices, scene: &Scene, now: Millis) -> Vec<String> {
        notices.look(&scene.sight(), now).into_iter().map(|told| format!("{}: {}", told.reason, told.note)).collect()
    }

    #[test]
    fn a_fault_is_told_once_per_generation() {
        let mut scene = Scene::new();
        scene.pool("main").app("a", "main").change_app("a", |seen| seen.fault = Some("bad".to_owned()));
        let mut notices = Notices::default();
        assert_eq!(look(&mut notices, &scene, 1), ["BadSpec: bad"]);
        assert!(look(&mut notices, &scene, 2).is_empty());
        scene.change_app("a", |seen| seen.generation = 2);
        assert_eq!(look(&mut notices, &scene, 3), ["BadSpec: bad"]);
        scene.change_app("a", |seen| seen.uid = "new".to_owned());
        assert_eq!(look(&mut notices, &scene, 4), ["BadSpec: bad"]);
    }

    #[test]
    fn a_missing_pool_is_told_once_it_is_not_just_late() {
        let mut scene = Scene::new();
        scene.app("a", "main");
        let mut notices = Notices::default();
        assert!(look(&mut notices, &scene, 5).is_empty());
        assert_eq!(look(&mut notices, &scene, 2000).len(), 1);
        assert!(look(&mut notices, &scene, 3000).is_empty());
    }

    #[test]
    fn a_deletion_is_told_from_its_beginning_to_its_end() {
        let mut scene = Scene::new();
        scene.pool("main").framework("main").engine("main").app("a", "main").app("b", "main");
        scene.change_pool("main", |seen| seen.deleting = true);
        let mut notices = Notices::default();
        assert_eq!(look(&mut notices, &scene, 1), ["Deleting: being deleted: waits for 2 apps: a, b"]);
        scene.gone("a");
        assert!(look(&mut notices, &scene, 2).is_empty());
        scene.gone("b").leaving("main", "b", 1);
        assert_eq!(look(&mut notices, &scene, 3), ["Deleting: being deleted: 1 task still ends"]);
        scene.pools.clear();
        assert_eq!(look(&mut notices, &scene, 4), ["Deleted: no app names it any more, and it is gone"]);
        assert!(look(&mut notices, &scene, 5).is_empty());
        let app = Target::app(&app_key("a"));
        assert!(notices.regarding(&app).is_some(), "its engine may be about to tell of its end");
        look(&mut notices, &scene, 90_000);
        assert!(notices.regarding(&app).is_none());
    }
}
