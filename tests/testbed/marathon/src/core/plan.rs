//! From what apps were and are to be, the steps of a deployment.

use super::deployment::{Action, Kind};
use super::ids;
use super::{Change, Core, definition::Definition};
use std::collections::{BTreeMap, BTreeSet};

/// What an app is to be; none if it is to go.
pub type Changes = BTreeMap<String, Option<Definition>>;

impl Core {
    /// First what goes, then what is new, then the changes, each app after those that it depends on.
    pub(super) fn plan(&self, change: &Change) -> Vec<Vec<Action>> {
        let (changes, victims) = (&change.apps, &change.victims);
        let before = |app: &str| self.state.apps.get(app).map(|app| &app.definition);
        let stops: Vec<Action> = changes
            .iter()
            .filter(|(app, after)| after.is_none() && before(app).is_some())
            .map(|(app, _)| Action::new(Kind::StopApplication, app, 0))
            .collect();
        let mut starts = Vec::new();
        let mut layers: BTreeMap<usize, Vec<Action>> = BTreeMap::new();
        for (app, after) in changes {
            let Some(after) = after else { continue };
            let kind = match before(app) {
                None => {
                    starts.push(Action::new(Kind::StartApplication, app, 0));
                    Kind::ScaleApplication
                }
                Some(before) if after.is_upgrade_of(before) => Kind::RestartApplication,
                Some(before) if after.instances() != before.instances() || victims.contains_key(app) => Kind::ScaleApplication,
                Some(_) => continue,
            };
            let mut action = Action::new(kind, app, after.instances());
            action.victims = victims.get(app).cloned().unwrap_or_default();
            layers.entry(self.depth(app, changes, 0)).or_default().push(action);
        }
        let mut steps: Vec<Vec<Action>> = [stops, starts].into_iter().chain(layers.into_values()).collect();
        steps.retain(|step| !step.is_empty());
        for action in steps.iter_mut().flatten() {
            action.is_pod = change.is_pod || self.is_pod(&action.app);
        }
        steps
    }

    /// The length of the longest way to an app that depends on none.
    fn depth(&self, app: &str, changes: &Changes, so_far: usize) -> usize {
        // Apps that depend on each other in a circle are none of Marathon's, and must not hang us.
        if so_far > self.state.apps.len() + changes.len() {
            return so_far;
        }
        let deeper = self.dependencies(app, changes).into_iter().map(|other| self.depth(&other, changes, so_far + 1) + 1);
        deeper.max().unwrap_or(0)
    }

    /// The apps that one depends on, by itself or by a group above it.
    fn dependencies(&self, app: &str, changes: &Changes) -> BTreeSet<String> {
        let known = self.state.apps.get(app).map(|app| &app.definition);
        let definition = changes.get(app).map_or(known, Option::as_ref);
        let base = app.rsplit_once('/').map_or("/", |(base, _)| base);
        let own =
            definition.into_iter().flat_map(|definition| definition.list("dependencies")).filter_map(|other| other.as_str());
        let own = own.map(|other| ids::canonical_in(base, other));
        let groups =
            ids::parents(app).filter_map(|group| self.state.groups.get(group)).flat_map(|group| group.dependencies.clone());
        let named: BTreeSet<String> = own.chain(groups).collect();
        let all = self.state.apps.keys().chain(changes.keys());
        let is_named = |id: &&String| **id != app && named.iter().any(|name| *id == name || id.starts_with(&format!("{name}/")));
        all.filter(is_named).cloned().collect()
    }

    pub(super) fn is_pod(&self, app: &str) -> bool {
        self.state.apps.get(app).is_some_and(|app| app.is_pod)
    }
}
