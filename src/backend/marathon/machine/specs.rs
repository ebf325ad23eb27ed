//! Specs that come, change and go.

use std::sync::Arc;

use super::{Machine, Out};
use crate::api::validated::{App, Key};
use crate::backend::marathon::ledger::{Conflict, Managed};
use crate::backend::marathon::own;
use crate::policy::world::{Millis, World};

/// Replicas on agents that are out of reach are replaced by Marathon, as the app's `unreachableStrategy` says; not by us as well.
const LEFT_TO_MARATHON_MS: u64 = 86_400_000;

impl Machine {
    /// Takes over the specs of the world as they are now.
    pub(super) fn follow(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let news: Vec<(Key, Arc<App>)> = world
            .apps
            .iter()
            .filter_map(|(key, view)| {
                let spec = view.spec.as_ref()?;
                let same = self.apps.get(key).and_then(|app| app.fitted.as_ref()).is_some_and(|fitted| Arc::ptr_eq(fitted, spec));
                (!same).then(|| (key.clone(), spec.clone()))
            })
            .collect();
        for (key, spec) in news {
            self.take_spec(&key, spec, now, out);
        }
        self.leave(world, now);
        self.fit(world);
    }

    fn take_spec(&mut self, key: &Key, spec: Arc<App>, now: Millis, out: &mut Out) {
        let id = spec.marathon_id.clone().unwrap_or_else(|| format!("/{key}").into());
        let owned = !spec.adopted;
        let moved = self.apps.get(key).is_some_and(|app| app.id != id || app.owned != owned);
        if moved && let Some(old) = self.apps.remove(key) {
            self.by_id.remove(&old.id);
            // One that we had made under another name is of no use to anybody; one that is adopted now is left as it is.
            if old.owned && old.id != id && old.known.is_some() {
                self.delete(&old.id, Vec::new(), now);
            }
            out.applied.told.push(key.clone());
        }
        let app = self.apps.entry(key.clone()).or_insert_with(|| Managed::new(key.clone(), id.clone(), owned));
        if app.given.as_ref().is_none_or(|given| given.generation != spec.generation) {
            app.refused = None;
            if app.conflict.yielded.is_some_and(|generation| generation != spec.generation) {
                app.conflict = Conflict::default();
            }
        }
        app.wording =
            if owned { own::definition(&spec, &self.pool.key, &id).map(|_| own::version(&spec)) } else { Ok(String::new()) };
        (app.given, app.fitted) = (Some(spec), None);
        self.by_id.entry(id).or_insert_with(|| key.clone());
        if !app.sought {
            self.read_by(now);
        }
        self.touch(key);
    }

    /// What the policy is to see of an app: its size where Marathon keeps it, and nothing that Marathon does by itself.
    fn fit(&mut self, world: &mut World) {
        for app in self.apps.values_mut().filter(|app| app.fitted.is_none()) {
            let (Some(given), Some(view)) = (&app.given, world.apps.get_mut(&app.key)) else { continue };
            if view.spec.is_none() {
                continue;
            }
            let mut fitted = App::clone(given);
            if app.owned {
                fitted.size = self.room.counted(given.size);
            } else if let Some(known) = &app.known {
                fitted.size = self.room.counted(known.size);
                fitted.template.grace_period_milliseconds = known.grace_ms;
            }
            (fitted.base, fitted.replace_unreachable_after_ms) = (None, LEFT_TO_MARATHON_MS);
            let fitted = Arc::new(fitted);
            (view.spec, app.fitted) = (Some(fitted.clone()), Some(fitted));
            self.dirty.insert(app.key.clone());
        }
    }

    /// Apps whose spec is gone: those that we have made are deleted, once it is sure that nobody declares them; of the others nothing is
    /// ours any more.
    fn leave(&mut self, world: &mut World, now: Millis) {
        let gone = |key: &&Key| world.apps.get(*key).is_none_or(|view| view.spec.is_none());
        let gone: Vec<Key> = self.apps.keys().filter(gone).cloned().collect();
        for key in gone {
            let deleted = world.apps.get(&key).is_some_and(|view| view.deleted);
            let undeclared = deleted || (world.end_orphans && !world.spared.contains(&key));
            let Some(app) = self.apps.get_mut(&key) else { continue };
            (app.given, app.fitted) = (None, None);
            let over = app.known.is_none() && app.instances.is_empty() && app.sought && !app.busy && !app.uncertain;
            if !app.owned || over {
                let id = app.id.clone();
                self.apps.remove(&key);
                if self.by_id.get(&id) == Some(&key) {
                    self.by_id.remove(&id);
                }
                world.apps.remove(&key);
                self.room_changed = true;
            } else if undeclared
                && app.known.is_some()
                && !app.busy
                && !app.uncertain
                && self.standing.ready
                && self.hold_until <= now
            {
                (app.target, app.busy) = (0, true);
                app.waiting.clear();
                let id = app.id.clone();
                self.delete(&id, vec![key.clone()], now);
                self.touch(&key);
            }
        }
    }
}
