//! What an object that somebody has deleted still waits for. Pure.

use super::objects::{Objects, Seen};
use super::sight::{EngineSight, Sight};
use super::target::{Kind, Target};
use super::{APP_FINALIZER, POOL_FINALIZER};
use crate::api::validated::Key;

/// More names than this are not listed.
const NAMES: usize = 5;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    Nothing,
    /// So many tasks have not ended.
    Tasks(usize),
    /// So many executors have not ended.
    Executors(usize),
    /// The engine has not taken notice yet.
    Notice,
    /// Only the engine of this pool could tell which tasks there are, and it cannot now, for this reason.
    Engine {
        pool: Key,
        why: String,
    },
    /// Apps that name the pool.
    Apps(Vec<String>),
}

/// What an app's object waits for: the end of its tasks, wherever they run.
#[must_use]
pub fn of_app<S>(sight: &Sight, key: &Key, seen: &Seen<S>) -> Wait {
    let leaving: usize = sight.engines.values().map(|engine| engine.leaving(key)).sum();
    if leaving > 0 {
        return Wait::Tasks(leaving);
    }
    if sight.engines.values().any(|engine| engine.app(key).is_some()) {
        return Wait::Notice;
    }
    // Of an app whose spec cannot be read that far, any pool of its namespace may run tasks.
    let concerned = |pool: &&Key| match &seen.pool {
        Some(named) => *pool == named,
        None => pool.namespace() == key.namespace(),
    };
    let blind = sight.objects.pools.keys().filter(concerned).find_map(|pool| cannot_tell(sight, pool));
    blind.unwrap_or(Wait::Nothing)
}

/// What a pool's object waits for: apps that name it, tasks, and executors.
#[must_use]
pub fn of_pool(sight: &Sight, key: &Key) -> Wait {
    let apps = members(&sight.objects, key);
    if !apps.is_empty() {
        return Wait::Apps(apps);
    }
    let engine = sight.engines.get(key);
    match engine.map_or(0, |engine| engine.report.leaving.values().sum()) {
        0 if engine.is_some_and(|engine| !engine.report.apps.is_empty()) => Wait::Notice,
        0 => cannot_tell(sight, key).unwrap_or_else(|| of_executors(engine)),
        tasks => Wait::Tasks(tasks),
    }
}

fn of_executors(engine: Option<&EngineSight>) -> Wait {
    match engine.filter(|engine| engine.report.standing.ready).map(|engine| engine.report.executors) {
        None | Some(Some(0)) => Wait::Nothing,
        Some(None) => Wait::Notice,
        Some(Some(executors)) => Wait::Executors(executors),
    }
}

/// The names of the apps of a pool, of those being deleted, too.
fn members(objects: &Objects, pool: &Key) -> Vec<String> {
    let members = objects.apps.iter().filter(|(_, seen)| seen.pool.as_ref() == Some(pool));
    members.map(|(key, _)| key.name().to_owned()).collect()
}

fn cannot_tell(sight: &Sight, pool: &Key) -> Option<Wait> {
    let standing = sight.engines.get(pool).map(|engine| &engine.report.standing);
    if standing.is_some_and(|standing| standing.ready) {
        return None;
    }
    // Without an id there was never a framework, so that nothing was ever launched.
    let id_is_stored = sight.objects.pools.get(pool).and_then(|seen| seen.status.as_ref()).map(|status| &status.framework_id);
    let id_is_known = standing.is_some_and(|standing| standing.framework_id.is_some());
    if id_is_stored == Some(&None) && !id_is_known {
        return None;
    }
    let why = match standing {
        Some(standing) if !standing.message.is_empty() => standing.message.clone(),
        Some(_) => "it is not connected yet".to_owned(),
        None => "it is not driven yet".to_owned(),
    };
    Some(Wait::Engine { pool: pool.clone(), why })
}

/// The same for people.
#[must_use]
pub fn words<S>(target: &Target, seen: &Seen<S>, wait: &Wait) -> String {
    let what = match wait {
        Wait::Nothing => return "being deleted".to_owned(),
        Wait::Tasks(1) => "1 task still ends".to_owned(),
        Wait::Tasks(n) => format!("{n} tasks still end"),
        Wait::Executors(1) => "1 executor still ends".to_owned(),
        Wait::Executors(n) => format!("{n} executors still end"),
        Wait::Notice => "its tasks are about to be ended".to_owned(),
        Wait::Apps(names) => format!("waits for {}", list(names)),
        Wait::Engine { pool, why } => format!(
            "waits for pool {pool}, which alone can tell whether tasks run: {why}. To let go without knowing: {}",
            remedy(target, seen)
        ),
    };
    format!("being deleted: {what}")
}

/// `3 apps: a, b, c`.
fn list(names: &[String]) -> String {
    let count = names.len();
    let apps = if count == 1 { "app" } else { "apps" };
    let shown = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if count > NAMES { " …" } else { "" };
    format!("{count} {apps}: {shown}{more}")
}

/// The command that takes off our finalizer, and no other.
fn remedy<S>(target: &Target, seen: &Seen<S>) -> String {
    let ours = finalizer(target.kind);
    let at = seen.finalizers.iter().position(|finalizer| finalizer == ours).unwrap_or(0);
    format!(
        "kubectl patch {} {} -n {} --type=json -p '[{{\"op\":\"remove\",\"path\":\"/metadata/finalizers/{at}\"}}]'",
        target.short_kind(),
        target.key.name(),
        target.key.namespace()
    )
}

/// What keeps objects of this kind.
#[must_use]
pub fn finalizer(kind: Kind) -> &'static str {
    match kind {
        Kind::App => APP_FINALIZER,
        Kind::Pool => POOL_FINALIZER,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Scene, app_key, pool_key};

    #[test]
    fn an_app_waits_for_its_tasks_in_any_pool() {
        let mut scene = Scene::new();
        scene.pool("main").pool("old").app("a", "main");
        let wait = |scene: &Scene| of_app(&scene.sight(), &app_key("a"), scene.seen_app("a"));
        assert!(matches!(wait(&scene), Wait::Nothing), "without an id of a framework there was never a task");
        scene.framework("main").framework("old");
        assert!(matches!(wait(&scene), Wait::Engine { why, .. } if why == "it is not driven yet"));
        scene.engine("main").engine("old").reports("main", &["a"]);
        assert_eq!(wait(&scene), Wait::Notice);
        scene.reports("main", &[]).leaving("old", "a", 2);
        assert_eq!(wait(&scene), Wait::Tasks(2), "it was moved");
        scene.leaving("old", "a", 0);
        assert_eq!(wait(&scene), Wait::Nothing);
        scene.unready("main", "connecting");
        let waits = wait(&scene);
        assert!(matches!(&waits, Wait::Engine { why, .. } if why == "connecting"));
        let words = words(&Target::app(&app_key("a")), scene.seen_app("a"), &waits);
        assert!(words.ends_with("/metadata/finalizers/0\"}]'"), "{words}");
    }

    #[test]
    fn an_app_without_a_pool_waits_for_nothing() {
        let mut scene = Scene::new();
        scene.app("a", "gone");
        assert_eq!(of_app(&scene.sight(), &app_key("a"), scene.seen_app("a")), Wait::Nothing);
    }

    #[test]
    fn a_pool_waits_for_apps_and_tasks() {
        let mut scene = Scene::new();
        scene.pool("main").framework("main").engine("main").app("a", "main").app("b", "other");
        let wait = |scene: &Scene| of_pool(&scene.sight(), &pool_key("main"));
        assert_eq!(wait(&scene), Wait::Apps(vec!["a".to_owned()]));
        scene.gone("a").reports("main", &["a"]);
        assert_eq!(wait(&scene), Wait::Notice);
        scene.reports("main", &[]).leaving("main", "a", 3);
        assert_eq!(wait(&scene), Wait::Tasks(3));
        scene.leaving("main", "a", 0);
        for (executors, waits) in [(None, Wait::Notice), (Some(2), Wait::Executors(2)), (Some(0), Wait::Nothing)] {
            scene.report("main").executors = executors;
            assert_eq!(wait(&scene), waits);
        }
        scene.unready("main", "no route");
        assert!(matches!(wait(&scene), Wait::Engine { .. }));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..7).map(|n| format!("a{n}")).collect();
        assert_eq!(list(&names), "7 apps: a0, a1, a2, a3, a4 …");
        assert_eq!(list(&names[..1]), "1 app: a0");
    }
}
