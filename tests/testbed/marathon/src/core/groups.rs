//! Groups: the tree that the paths of apps make.

use super::definition::{Definition, check_id};
use super::refusal::Refusal;
use super::time::text;
use super::{App, Change, Core, ids};
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Core {
    #[must_use]
    pub fn has_group(&self, id: &str) -> bool {
        id == "/" || self.state.groups.contains_key(id) || self.below(id).next().is_some()
    }

    /// The apps of a group and of all groups in it.
    fn below(&self, group: &str) -> impl Iterator<Item = (&String, &App)> {
        let base = if group == "/" { "/".to_owned() } else { format!("{group}/") };
        self.state.apps.iter().filter(move |(id, _)| id.starts_with(&base))
    }

    fn subgroups(&self, group: &str) -> BTreeSet<String> {
        let apps = self.below(group).map(|(id, _)| id);
        let parents =
            apps.chain(self.state.groups.keys()).flat_map(|id| ids::parents(id).chain([id.as_str()])).map(ToOwned::to_owned);
        let is_child = |id: &String| id != group && parent(id) == group && !self.state.apps.contains_key(id);
        parents.filter(is_child).collect()
    }

    #[must_use]
    pub fn group_view(&self, id: &str, with_counts: bool) -> Value {
        let (pods, apps): (Vec<_>, Vec<_>) = self.below(id).filter(|(app, _)| parent(app) == id).partition(|(_, app)| app.is_pod);
        let app_view = |(id, app): &(&String, &App)| {
            let mut view = app.view();
            if let Some(view) = view.as_object_mut().filter(|_| with_counts) {
                view.extend(self.counts(id));
            }
            view
        };
        let group = self.state.groups.get(id);
        let newest = self.below(id).map(|(_, app)| app.version).chain(group.map(|group| group.version)).max();
        let version = if id == "/" { self.state.version } else { newest.unwrap_or(self.state.version) };
        let groups: Vec<Value> = self.subgroups(id).iter().map(|group| self.group_view(group, with_counts)).collect();
        let mut view = json!({
            "id": id, "apps": apps.iter().map(app_view).collect::<Vec<_>>(),
            "pods": pods.iter().map(|(_, app)| app.pod_view()).collect::<Vec<_>>(), "groups": groups,
            "dependencies": group.map(|group| group.dependencies.clone()).unwrap_or_default(), "version": text(version),
        });
        if id != "/" {
            view["enforceRole"] = json!(false);
        }
        view
    }

    /// What a request makes of a group: `scaleBy` alone, or apps, groups and dependencies in place of those before.
    ///
    /// # Errors
    /// If the request, or an app in it, is not valid.
    pub fn group_change(&self, id: &str, given: &Value) -> Result<Change, Refusal> {
        let mut change = Change::default();
        if let Some(factor) = given["scaleBy"].as_f64() {
            if factor < 0.0 {
                return Err(Refusal::field("/scaleBy", "error.min"));
            }
            for (app_id, app) in self.below(id) {
                let count = scaled(app.definition.instances(), factor);
                change.apps.insert(app_id.clone(), Some(app.definition.with_instances(count)));
            }
            // Of a group that is not there, one is made.
            if !self.has_group(id) {
                change.groups.insert(id.to_owned(), Some(BTreeSet::new()));
            }
            return Ok(change);
        }
        self.collect(id, given, &mut change)?;
        Ok(change)
    }

    fn collect(&self, id: &str, given: &Value, change: &mut Change) -> Result<(), Refusal> {
        let list = |name: &str| given[name].as_array();
        let names = |name: &str| {
            list(name).into_iter().flatten().filter_map(Value::as_str).map(|other| ids::canonical_in(parent(id), other))
        };
        let before = self.state.groups.get(id).map(|group| group.dependencies.clone()).unwrap_or_default();
        let dependencies = if given["dependencies"].is_array() { names("dependencies").collect() } else { before };
        change.groups.insert(id.to_owned(), Some(dependencies));
        if let Some(apps) = list("apps") {
            let others = self.below(id).filter(|(app, _)| parent(app) == id).map(|(app, _)| (app.clone(), None));
            change.apps.extend(others);
            for app in apps {
                check_id(app)?;
                let app_id = ids::canonical_in(id, app["id"].as_str().unwrap_or_default());
                // A whole definition, not a part of one.
                let mut definition = Definition::update(&app_id, None, app)?;
                definition.keep_service_ports(self.state.apps.get(&app_id).map(|app| &app.definition));
                change.apps.insert(app_id, Some(definition));
            }
        }
        if let Some(groups) = list("groups") {
            let gone: Vec<String> = self.subgroups(id).into_iter().collect();
            gone.iter().for_each(|group| self.collect_end(group, change));
            for group in groups {
                check_id(group)?;
                self.collect(&ids::canonical_in(id, group["id"].as_str().unwrap_or_default()), group, change)?;
            }
        }
        Ok(())
    }

    /// The end of a group with all that is in it.
    pub fn collect_end(&self, id: &str, change: &mut Change) {
        change.apps.extend(self.below(id).map(|(app, _)| (app.clone(), None)));
        let groups =
            self.state.groups.keys().filter(|group| *group == id || group.starts_with(&format!("{}/", id.trim_end_matches('/'))));
        change.groups.extend(groups.map(|group| (group.clone(), None)));
    }

    /// The steps that a change would take.
    #[must_use]
    pub fn dry_run(&self, change: &Change) -> Value {
        let steps = self.plan(change);
        let steps = steps
            .iter()
            .map(|step| json!({ "actions": step.iter().map(super::deployment::Action::plan_view).collect::<Vec<_>>() }));
        json!({ "steps": steps.collect::<Vec<_>>() })
    }
}

fn parent(id: &str) -> &str {
    match id.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small counts")]
fn scaled(count: usize, factor: f64) -> usize {
    (count as f64 * factor).ceil() as usize
}
