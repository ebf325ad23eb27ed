//! What each object's status ought to be, by what the engines say. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::deletion;
use super::objects::Seen;
use super::sight::{EngineSight, Sight};
use super::statuses::Status;
use super::target::Target;
use crate::api::status::{AppStatus, Phase, PoolStatus};
use crate::api::validated::Key;
use crate::policy::world::Millis;

/// An engine that has just begun knows nothing of what runs: what it says before is not put in place of what was known. If it takes
/// longer than this, people have to know.
const PATIENCE: Millis = 10_000;

/// How the message of an engine begins that only stands by.
const STANDING_BY: &str = "standing by";

/// What every status ought to be. Remembers only since when conditions are as they are.
#[derive(Debug, Default)]
pub struct Judge {
    /// When this replica came to lead: the engine of a standby knows nothing of what runs, for however long it has stood by.
    leads_since: Millis,
    last: BTreeMap<Target, (String, Status)>,
}

/// The moment of a judgement.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Millis,
    pub timestamp: Timestamp,
}

impl Judge {
    /// For a replica that leads from now on.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { leads_since: now, last: BTreeMap::new() }
    }

    /// The status of each object of which there is something to say.
    pub fn statuses(&mut self, sight: &Sight, moment: Moment) -> Vec<(Target, Status)> {
        let last = std::mem::take(&mut self.last);
        let old = |target: &Target, uid: &str| last.get(target).filter(|(known, _)| known == uid).map(|(_, status)| status);
        let view = View { sight, leads_since: self.leads_since, now: moment.now };
        let mut found = Vec::with_capacity(last.len());
        for (key, seen) in &sight.objects.pools {
            let target = Target::pool(key);
            let shown = || seen.status.as_ref().map(|status| &*status.conditions);
            let old = old(&target, &seen.uid).map(Status::conditions).or_else(shown).unwrap_or_default();
            let scribe = Scribe { generation: seen.generation, old, timestamp: moment.timestamp };
            let status = pool_status(&view, key, seen, &scribe).map(Status::pool);
            found.extend(status.map(|status| (target, &seen.uid, status)));
        }
        for (key, seen) in &sight.objects.apps {
            let target = Target::app(key);
            let shown = || seen.status.as_ref().map(|status| &*status.conditions);
            let old = old(&target, &seen.uid).map(Status::conditions).or_else(shown).unwrap_or_default();
            let scribe = Scribe { generation: seen.generation, old, timestamp: moment.timestamp };
            let status = app_status(&view, key, seen, &scribe).map(Status::app);
            found.extend(status.map(|status| (target, &seen.uid, status)));
        }
        self.last = found.iter().map(|(target, uid, status)| (target.clone(), ((*uid).clone(), status.clone()))).collect();
        found.into_iter().map(|(target, _, status)| (target, status)).collect()
    }
}

/// What there is to judge by.
struct View<'a> {
    sight: &'a Sight,
    leads_since: Millis,
    now: Millis,
}

impl View<'_> {
    /// Whether the engine does not know yet what runs, and may soon.
    fn is_blind(&self, engine: &EngineSight) -> bool {
        let standing = &engine.report.standing;
        let may_soon = self.now < engine.since.max(self.leads_since) + PATIENCE;
        // It may not have heard yet that this replica leads.
        let knows = engine.has_been_ready && !standing.message.starts_with(STANDING_BY);
        !standing.ready && !standing.stalled && !knows && may_soon
    }
}

/// Writes conditions; each keeps the time of its last change for as long as its status stays.
struct Scribe<'a> {
    generation: i64,
    old: &'a [Condition],
    timestamp: Timestamp,
}

impl Scribe<'_> {
    fn condition(&self, kind: &str, status: bool, reason: &str, message: &str) -> Condition {
        let status = if status { "True" } else { "False" };
        let same = self.old.iter().find(|old| old.type_ == kind && old.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(self.generation),
            last_transition_time: same.map_or(Time(self.timestamp), |same| same.last_transition_time.clone()),
        }
    }

    /// Conditions of an engine, which knows only its own: what has not changed for those who read the object, has not changed.
    fn dated(&self, mut conditions: Vec<Condition>) -> Vec<Condition> {
        for condition in &mut conditions {
            if let Some(same) = self.old.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status) {
                condition.last_transition_time = same.last_transition_time.clone();
            }
        }
        conditions
    }

    /// The usual three with one reason.
    fn three(&self, ready: bool, reconciling: bool, stalled: bool, reason: &str, message: &str) -> Vec<Condition> {
        let list = [("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled)];
        list.into_iter().map(|(kind, status)| self.condition(kind, status, reason, message)).collect()
    }
}

fn app_status(view: &View, key: &Key, seen: &Seen<AppStatus>, scribe: &Scribe) -> Option<AppStatus> {
    let (sight, now) = (view.sight, view.now);
    if seen.deleting {
        return Some(deleted_app(sight, key, seen, scribe));
    }
    let engine = engine_of(sight, key, seen);
    if let (Some(fault), None) = (&seen.fault, engine) {
        let reason = format!("{fault} (nothing is done for the app until this is put right)");
        return Some(failed_app(sight, key, scribe, "BadSpec", reason));
    }
    if let Some(pool) = seen.pool.as_ref().filter(|_| sight.is_homeless(key, now)) {
        return Some(failed_app(sight, key, scribe, "PoolNotFound", no_pool(pool)));
    }
    let engine = engine?;
    let report = engine.app(key)?;
    // Of an object that was deleted and created anew, the engine may still speak of the old one.
    let is_this = report.spec.metadata.uid.as_ref().is_none_or(|uid| *uid == seen.uid);
    let judged = report.status.phase.is_some() && is_this;
    let was_known = seen.status.as_ref().is_some_and(|status| status.phase.is_some());
    (judged && !(was_known && view.is_blind(engine))).then(|| {
        let status = AppStatus::clone(&report.status);
        AppStatus { conditions: scribe.dated(status.conditions), ..status }
    })
}

/// The engine that speaks of an app.
fn engine_of<'a>(sight: &'a Sight, key: &Key, seen: &Seen<AppStatus>) -> Option<&'a EngineSight> {
    match &seen.pool {
        Some(pool) => sight.engines.get(pool).filter(|engine| engine.app(key).is_some()),
        None => sight.engines.values().find(|engine| engine.app(key).is_some()),
    }
}

/// What is wrong, and what to do.
#[must_use]
pub fn no_pool(pool: &Key) -> String {
    let (name, namespace) = (pool.name(), pool.namespace());
    format!("spec.pool: there is no MicroscalingPool {name} in namespace {namespace}: create it, or name another one")
}

fn remaining(sight: &Sight, key: &Key) -> i64 {
    let tasks: usize = sight.engines.values().map(|engine| engine.leaving(key)).sum();
    i64::try_from(tasks).unwrap_or(i64::MAX)
}

fn selector(key: &Key) -> String {
    format!("microscaling.dev/app={}", key.name())
}

fn failed_app(sight: &Sight, key: &Key, scribe: &Scribe, word: &str, reason: String) -> AppStatus {
    // Tasks that were found running are left alone.
    let running = remaining(sight, key);
    AppStatus {
        observed_generation: scribe.generation,
        phase: Some(Phase::Failed),
        running,
        replicas: running,
        selector: selector(key),
        conditions: scribe.three(false, false, true, word, &reason),
        reason,
        ..AppStatus::default()
    }
}

fn deleted_app(sight: &Sight, key: &Key, seen: &Seen<AppStatus>, scribe: &Scribe) -> AppStatus {
    let reason = deletion::words(&Target::app(key), seen, &deletion::of_app(sight, key, seen));
    AppStatus {
        observed_generation: scribe.generation,
        phase: seen.status.as_ref().and_then(|status| status.phase),
        stopping: remaining(sight, key),
        selector: selector(key),
        conditions: scribe.three(false, true, false, "Deleting", &reason),
        reason,
        ..AppStatus::default()
    }
}

fn pool_status(view: &View, key: &Key, seen: &Seen<PoolStatus>, scribe: &Scribe) -> Option<PoolStatus> {
    let sight = view.sight;
    // Before its first look an engine has no conditions.
    let engine = sight.engines.get(key).filter(|engine| !engine.report.status.conditions.is_empty());
    let known = seen.status.as_ref().filter(|status| !status.conditions.is_empty());
    let stays = known.filter(|_| engine.is_some_and(|engine| view.is_blind(engine)));
    let told = engine.map(|engine| {
        let status = stays.unwrap_or(&engine.report.status).clone();
        PoolStatus { conditions: scribe.dated(status.conditions), ..status }
    });
    if seen.deleting {
        let message = deletion::words(&Target::pool(key), seen, &deletion::of_pool(sight, key));
        let base = told.or_else(|| seen.status.clone()).unwrap_or_default();
        return Some(overridden(base, scribe, "Deleting", false, message));
    }
    match (&seen.fault, told) {
        (None, told) => told.filter(|_| stays.is_none()),
        (Some(fault), Some(told)) => {
            Some(overridden(told, scribe, "BadSpec", true, format!("{fault} (the last good spec stays in force)")))
        }
        (Some(fault), None) => Some(overridden(PoolStatus::default(), scribe, "BadSpec", true, fault.clone())),
    }
}

/// What the engine says, with what stands in the way of it all in front.
fn overridden(base: PoolStatus, scribe: &Scribe, word: &str, stalled: bool, message: String) -> PoolStatus {
    let mut conditions = vec![scribe.condition("Ready", false, word, &message)];
    conditions.extend(base.conditions.iter().find(|condition| condition.type_ == "Connected").cloned());
    conditions.push(scribe.condition("Stalled", stalled, word, &message));
    PoolStatus { observed_generation: scribe.generation, message, conditions, ..base }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Scene, app_key};

    fn at(now: Millis) -> Moment {
        Moment { now, timestamp: Timestamp::from_second(i64::try_from(now / 1000).unwrap()).unwrap() }
    }

    fn app(judge: &mut Judge, scene: &Scene, now: Millis) -> Option<AppStatus> {
        let all = judge.statuses(&scene.sight(), at(now));
        all.into_iter().find_map(|(_, status)| if let Status::App(app) = status { Some(*app) } else { None })
    }

    fn pool(scene: &Scene) -> Option<PoolStatus> {
        let all = Judge::default().statuses(&scene.sight(), at(1000));
        all.into_iter().find_map(|(_, status)| if let Status::Pool(pool) = status { Some(*pool) } else { None })
    }

    fn conditions(list: &[Condition]) -> Vec<String> {
        list.iter().map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason)).collect()
    }

    #[test]
    fn what_the_engine_says_counts_without_what_always_moves() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main");
        assert_eq!(app(&mut Judge::default(), &scene, 5), None, "not judged yet");
        scene.reports("main", &["a"]);
        let status = app(&mut Judge::default(), &scene, 5).unwrap();
        assert_eq!((status.wanted, status.demand[0].age_milliseconds), (5, None));
        scene.status("main").phase = None;
        assert_eq!(app(&mut Judge::default(), &scene, 5), None, "not judged yet");
        scene.reports("main", &["a"]).change_app("a", |seen| seen.uid = "another".to_owned());
        assert_eq!(app(&mut Judge::default(), &scene, 5), None, "that was a namesake");
    }

    #[test]
    fn an_engine_that_knows_nothing_yet_does_not_count_at_once() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main").reports("main", &["a"]).unready("main", "connecting");
        assert!(app(&mut Judge::default(), &scene, 5).is_some(), "nothing was known of the app");
        scene.change_app("a", |seen| seen.status.as_mut().unwrap().phase = Some(Phase::Converged));
        assert_eq!(app(&mut Judge::default(), &scene, 5), None);
        assert!(app(&mut Judge::default(), &scene, 20_000).is_some(), "people have to know");
        scene.report("main").standing.stalled = true;
        assert!(app(&mut Judge::default(), &scene, 5).is_some(), "people have to act");
    }

    #[test]
    fn what_a_standby_knew_does_not_count_when_it_comes_to_lead() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main").reports("main", &["a"]).unready("main", "standing by: r-2 leads");
        scene.change_app("a", |seen| seen.status.as_mut().unwrap().phase = Some(Phase::Converged));
        let shown = scene.report("main").status.conditions.clone();
        scene.change_pool("main", |seen| seen.status.as_mut().unwrap().conditions = shown);
        // Hours after its engine began.
        let (began, mut judge) = (9_000_000, Judge::new(9_000_000));
        assert!(judge.statuses(&scene.sight(), at(began)).is_empty());
        assert!(judge.statuses(&scene.sight(), at(began + 9999)).is_empty());
        assert_eq!(judge.statuses(&scene.sight(), at(began + 10_000)).len(), 2, "people have to know");
        let mut sight = scene.sight();
        sight.engines.values_mut().for_each(|engine| engine.has_been_ready = true);
        assert!(judge.statuses(&sight, at(began + 5)).is_empty(), "it has not heard yet that it leads");
        scene.report("main").standing.ready = true;
        assert_eq!(judge.statuses(&scene.sight(), at(began + 6)).len(), 2);
    }

    #[test]
    fn what_has_not_changed_for_readers_keeps_its_time() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main").reports("main", &["a"]);
        let time = |second| Time(Timestamp::from_second(second).unwrap());
        let times = |judge: &mut Judge, scene: &Scene| {
            let all = judge.statuses(&scene.sight(), at(1000));
            let times = |status: &Status| status.conditions().iter().map(|c| c.last_transition_time.clone()).collect::<Vec<_>>();
            all.iter().map(|(_, status)| times(status)).collect::<Vec<_>>()
        };
        let mut conditions = scene.report("main").apps[0].status.conditions.clone();
        conditions.iter_mut().for_each(|condition| condition.last_transition_time = time(7));
        scene.change_app("a", |seen| seen.status.as_mut().unwrap().conditions.clone_from(&conditions));
        scene.change_pool("main", |seen| {
            let ready = Condition { status: "True".to_owned(), ..conditions[0].clone() };
            seen.status.as_mut().unwrap().conditions = vec![ready];
        });
        let mut judge = Judge::default();
        assert_eq!(times(&mut judge, &scene), [vec![time(7)], vec![time(7), time(7)]]);
        // A change is one, and its time stays from then on.
        let ready = &mut scene.status("main").conditions[0];
        (ready.status, ready.last_transition_time) = ("True".to_owned(), time(8));
        assert_eq!(times(&mut judge, &scene)[1], [time(8), time(7)]);
        scene.status("main").conditions[0].last_transition_time = time(9);
        assert_eq!(times(&mut judge, &scene)[1], [time(8), time(7)]);
    }

    #[test]
    fn a_spec_that_never_was_in_force_has_failed() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main");
        scene.change_app("a", |seen| {
            seen.fault = Some("spec.x: unknown field".to_owned());
            seen.generation = 7;
        });
        let mut judge = Judge::default();
        let status = app(&mut judge, &scene, 5000).unwrap();
        assert_eq!((status.phase, status.observed_generation), (Some(Phase::Failed), 7));
        assert!(status.reason.starts_with("spec.x: unknown field"));
        assert_eq!(conditions(&status.conditions), ["Ready=False BadSpec", "Reconciling=False BadSpec", "Stalled=True BadSpec"]);
        let later = app(&mut judge, &scene, 9000).unwrap();
        assert_eq!(later, status, "also the times of its conditions");
        scene.reports("main", &["a"]);
        assert_eq!(
            app(&mut judge, &scene, 9000).unwrap().wanted,
            5,
            "the engine has an earlier one in force, and says so itself"
        );
    }

    #[test]
    fn a_missing_pool_is_named() {
        let mut scene = Scene::new();
        scene.app("a", "main");
        assert_eq!(app(&mut Judge::default(), &scene, 5), None, "it may be about to come");
        let status = app(&mut Judge::default(), &scene, 2000).unwrap();
        assert_eq!(
            status.reason,
            "spec.pool: there is no MicroscalingPool main in namespace shop: create it, or name another one"
        );
        assert_eq!(conditions(&status.conditions)[2], "Stalled=True PoolNotFound");
    }

    #[test]
    fn a_deleted_app_tells_what_it_waits_for() {
        let mut scene = Scene::new();
        scene.pool("main").engine("main").app("a", "main").leaving("main", "a", 3);
        scene.change_app("a", |seen| {
            seen.deleting = true;
            seen.status.as_mut().unwrap().phase = Some(Phase::Converged);
        });
        let status = app(&mut Judge::default(), &scene, 5).unwrap();
        assert_eq!(
            (status.phase, status.stopping, &*status.reason),
            (Some(Phase::Converged), 3, "being deleted: 3 tasks still end")
        );
        assert_eq!(conditions(&status.conditions)[1], "Reconciling=True Deleting");
        assert_eq!(scene.sight().objects.apps[&app_key("a")].finalizers.len(), 1);
    }

    #[test]
    fn a_pool_speaks_for_itself_unless_something_is_in_the_way() {
        let mut scene = Scene::new();
        scene.pool("main").app("a", "main");
        assert_eq!(pool(&scene), None);
        scene.change_pool("main", |seen| seen.fault = Some("spec.mesos: bad".to_owned()));
        assert_eq!(conditions(&pool(&scene).unwrap().conditions), ["Ready=False BadSpec", "Stalled=True BadSpec"]);
        scene.engine("main");
        let status = pool(&scene).unwrap();
        assert_eq!((status.agents, &*status.message), (3, "spec.mesos: bad (the last good spec stays in force)"));
        scene.change_pool("main", |seen| {
            seen.fault = None;
            seen.deleting = true;
        });
        let status = pool(&scene).unwrap();
        assert_eq!((status.agents, &*status.message), (3, "being deleted: waits for 1 app: a"));
        assert_eq!(conditions(&status.conditions), ["Ready=False Deleting", "Stalled=False Deleting"]);
    }
}
