//! Specs and readings → world.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::pool::Backend;
use crate::api::validated::{App, Key, Pool};
use crate::demand::board::Update;
use crate::policy::world::{BasePhase, Reading, TaskPhase, Trouble, World};
use crate::store::Specs;

/// The apps that run on this pool.
#[must_use]
pub fn apps(specs: &Specs, pool: &Key) -> Vec<Arc<App>> {
    specs.apps.values().filter(|spec| spec.app.pool == *pool).map(|spec| spec.app.clone()).collect()
}

/// Puts the newest specs into the world. Tasks stay; readings stay with the metric of the same name.
pub fn take_specs(world: &mut World, specs: &Specs, pool: &Pool) {
    world.limits = pool.limits;
    world.headroom = pool.headroom;
    world.preemption_budget = pool.preemption_budget;
    // Of a pool that is being deleted nobody will want one again.
    let leaves = specs.pools.get(&pool.key).is_some_and(|spec| spec.raw.metadata.deletion_timestamp.is_some());
    (world.executor_size, world.executor_idle_ms) = (pool.executor, if leaves { 0 } else { pool.executor_idle_ms });
    world.end_orphans = specs.complete;
    world.spared = spared(specs);
    for (key, view) in &mut world.apps {
        let declared = specs.apps.get(key);
        // An app that names a pool which does not exist stays where it is: more likely a slip of the pen than a farewell.
        let stays = declared.is_some_and(|spec| spec.app.pool == pool.key || !specs.pools.contains_key(&spec.app.pool));
        if !stays && !specs.spared.contains(key) && view.spec.take().is_some() {
            view.readings.clear();
            view.deleted = true;
        }
    }
    for app in apps(specs, &pool.key) {
        let view = world.apps.entry(app.key.clone()).or_default();
        let name_of = |spec: &Arc<App>, index: usize| spec.demand.get(index).map(|metric| metric.name.clone());
        let old: Vec<(Option<Arc<str>>, Reading)> = match &view.spec {
            Some(spec) => view.readings.drain(..).enumerate().map(|(i, reading)| (name_of(spec, i), reading)).collect(),
            None => Vec::new(),
        };
        let reading =
            |name: &Arc<str>| old.iter().find(|(old, _)| old.as_ref() == Some(name)).map(|(_, reading)| reading.clone());
        view.readings = app.demand.iter().map(|metric| reading(&metric.name).unwrap_or_default()).collect();
        if let Backend::Mesos(_) = &pool.backend {
            view.trouble = app.marathon_id.as_ref().map(|id| needs_marathon(id));
        }
        view.spec = Some(app);
        view.deleted = false;
    }
    world.apps.retain(|_, view| view.spec.is_some() || !view.tasks.is_empty());
}

/// Of an app that is one of a Marathon: a framework of our own knows nothing of those.
fn needs_marathon(id: &str) -> Trouble {
    let message = format!("marathonApp {id} needs a pool on a Marathon, and this one is on Mesos").into();
    Trouble { word: "NeedsMarathon", message, holds: true, stalled: true }
}

/// Apps whose tasks are left alone although they have no spec here: those that cannot be read, and those that name a pool which does not
/// exist. An engine that has just begun knows nothing else of them.
fn spared(specs: &Specs) -> Arc<BTreeSet<Key>> {
    let homeless: Vec<Key> = specs.homeless().map(|spec| spec.app.key.clone()).collect();
    if homeless.is_empty() {
        return specs.spared.clone();
    }
    Arc::new(specs.spared.iter().cloned().chain(homeless).collect())
}

/// Puts a reading into the world. False if nobody waits for it any more.
pub fn take_reading(world: &mut World, update: Update) -> bool {
    let Some(view) = world.apps.get_mut(&update.app) else { return false };
    let Some(spec) = &view.spec else { return false };
    let Some(index) = spec.demand.iter().position(|metric| metric.name == update.metric) else { return false };
    view.readings.resize_with(spec.demand.len(), Reading::default);
    view.readings[index] = update.reading;
    true
}

/// How many tasks live.
#[must_use]
pub fn tasks(world: &World) -> usize {
    world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase != TaskPhase::Unreachable).count()
}

/// How many executors there are, those on their way up or down, too. As with tasks, not those on agents that cannot be reached.
#[must_use]
pub fn executors(world: &World) -> usize {
    let bases = world.agents.iter().filter(|agent| agent.present).flat_map(|agent| &agent.bases);
    bases.filter(|fitted| fitted.executor.is_some() && !matches!(fitted.phase, BasePhase::Failed { .. })).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock;

    fn specs(text: &str) -> Specs {
        let checked = crate::api::check::Checker::new().check(std::path::Path::new("test.yaml"), text);
        assert_eq!(checked.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let mut specs = Specs { complete: true, ..Specs::default() };
        for (_, object) in checked.objects {
            if let crate::api::check::Object::App(raw, app) = object {
                specs.apps.insert(app.key.clone(), crate::store::AppSpec { raw, app });
            }
        }
        specs
    }

    fn pool() -> Pool {
        let text = r#"{"metadata": {"name": "default"}, "spec": {"mesos": {"masters": ["http://localhost:1"]}},
            "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool"}"#;
        Pool::read(&serde_json::from_str(text).expect("a pool")).expect("valid")
    }

    fn app(metrics: &[&str]) -> String {
        let demand: String =
            metrics.iter().map(|name| format!("  - {{name: {name}, push: {{}}, target: {{averageValue: 10}}}}\n")).collect();
        format!(
            "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscaledApp\nmetadata: {{name: search}}\nspec:\n  demand:\n{demand}  \
             template:\n    resources: {{cpu: 100m, memory: 32Mi}}\n    shell: sleep 1\n"
        )
    }

    #[test]
    fn readings_stay_with_their_metric() {
        let mut world = World::default();
        take_specs(&mut world, &specs(&app(&["a", "b"])), &pool());
        let key = Key::new("default", "search");
        let reading = Reading { value: Some((7.0, 1)), ..Reading::default() };
        let update = Update { app: key.clone(), metric: "b".into(), reading: reading.clone(), at: clock::instant() };
        assert!(take_reading(&mut world, update));
        take_specs(&mut world, &specs(&app(&["b", "c"])), &pool());
        assert_eq!(world.apps[&key].readings, [reading, Reading::default()]);
    }

    #[test]
    fn an_app_that_names_no_pool_is_left_alone() {
        let mut world = World::default();
        take_specs(&mut world, &specs(&app(&["a"]).replace("spec:\n", "spec:\n  pool: defualt\n")), &pool());
        assert!(world.spared.contains(&Key::new("default", "search")), "also by an engine that has just begun");
    }

    #[test]
    fn a_deleted_app_without_tasks_is_forgotten() {
        let mut world = World::default();
        take_specs(&mut world, &specs(&app(&["a"])), &pool());
        take_specs(&mut world, &Specs { complete: true, ..Specs::default() }, &pool());
        assert!(world.apps.is_empty());
        assert!(world.end_orphans);
    }
}
