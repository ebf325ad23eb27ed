//! `/v2/tasks`, and the tasks of one app.

use super::{Answer, accepted, body, found, json, not_allowed};
use crate::core::instance::Instance;
use crate::core::refusal::Refusal;
use crate::core::view::task_view;
use crate::core::{Change, Core, ids};
use crate::http::Request;
use crate::leader::Leader;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", []) => Ok(found(&json!({ "tasks": leader.read(|core, _| core.all_tasks()) }))),
        ("POST", ["delete"]) => delete_many(leader, request),
        (_, [] | ["delete"]) => not_allowed(),
        _ => Err(Refusal::new(500, "URI not found")),
    }
}

pub fn of_app(leader: &Leader, request: &Request, app: &str) -> Answer {
    match request.method.as_str() {
        "GET" | "HEAD" => leader.read(|core, _| {
            core.app(app)?;
            Ok(found(&json!({ "tasks": core.tasks_of(app) })))
        }),
        "DELETE" => delete_of_app(leader, request, app),
        _ => not_allowed(),
    }
}

fn delete_of_app(leader: &Leader, request: &Request, app: &str) -> Answer {
    let host = request.parameters("host").into_iter().next();
    delete(leader, request, |core| {
        core.state.apps.get(app).ok_or_else(|| Refusal::missing("App", app, false))?;
        let is_wanted = |one: &&Instance| one.has_task() && host.as_ref().is_none_or(|host| one.host.as_ref() == Some(host));
        let instances: Vec<String> = core.instances_of(app).filter(is_wanted).map(|one| one.id.clone()).collect();
        if instances.is_empty() && request.flag("scale", false) {
            return Err(Refusal::missing("Path", app, false));
        }
        Ok(instances)
    })
}

/// One task; without `scale`, the answer is the task alone.
pub fn delete_one(leader: &Leader, request: &Request, app: &str, task: &str) -> Answer {
    let (instance, incarnation) = instance_of(task)?;
    let mut response = delete(leader, request, |core| {
        core.state.apps.get(app).ok_or_else(|| Refusal::missing("App", app, false))?;
        let is_it = |one: &&Instance| one.id == instance && one.incarnation == incarnation && one.has_task();
        let found: Vec<String> = core.instances_of(app).filter(is_it).map(|one| one.id.clone()).collect();
        if found.is_empty() && !request.flag("scale", false) {
            return Err(Refusal::missing("Task", task, false));
        }
        Ok(found)
    })?;
    let killed: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if let Some(task) = killed["tasks"].get(0) {
        response.body = json!({ "task": task }).to_string().into_bytes();
    }
    Ok(response)
}

fn instance_of(task: &str) -> Result<(&str, u32), Refusal> {
    ids::instance_of(task).ok_or_else(|| {
        let message = format!("Invalid task id '{task}'. [taskId {task} no valid identifier (of class java.lang.String)]");
        Refusal::new(400, &message)
    })
}

fn delete_many(leader: &Leader, request: &Request) -> Answer {
    let given = body(request)?;
    let tasks = given["ids"].as_array().ok_or_else(|| Refusal::field("/ids", "error.path.missing"))?;
    let tasks: Vec<(&str, u32)> =
        tasks.iter().map(|id| instance_of(id.as_str().unwrap_or_default())).collect::<Result<_, _>>()?;
    delete(leader, request, |core| {
        let is_there = |(id, incarnation): &&(&str, u32)| {
            core.state.instances.get(*id).is_some_and(|one| one.has_task() && one.incarnation == *incarnation)
        };
        Ok(tasks.iter().filter(is_there).map(|(id, _)| (*id).to_owned()).collect())
    })
}

/// With `scale`, a deployment that leaves that many instances less; otherwise the tasks, which are replaced.
fn delete(leader: &Leader, request: &Request, select: impl FnOnce(&Core) -> Result<Vec<String>, Refusal>) -> Answer {
    let (scale, wipe) = (request.flag("scale", false), request.flag("wipe", false));
    if scale && wipe {
        return Err(Refusal::new(400, "You cannot use scale and wipe at the same time."));
    }
    if scale {
        let taken = leader.update(|core, now| {
            let change = kill_and_scale(core, &select(core)?, request.flag("force", false));
            core.change(&change, now)
        })?;
        return Ok(accepted(&taken));
    }
    leader.with(|core, now| {
        let instances = select(core)?;
        let tasks: Value = instances.iter().filter_map(|id| core.state.instances.get(id)).map(task_view).collect();
        core.kill_tasks(&instances, wipe, now);
        Ok(json(200, &json!({ "tasks": tasks })))
    })
}

fn kill_and_scale(core: &Core, instances: &[String], is_forced: bool) -> Change {
    let mut victims: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for instance in instances.iter().filter_map(|id| core.state.instances.get(id)) {
        victims.entry(instance.app.clone()).or_default().insert(instance.id.clone());
    }
    let apps = victims.iter().filter_map(|(app, victims)| {
        let definition = &core.state.apps.get(app)?.definition;
        Some((app.clone(), Some(definition.with_instances(definition.instances().saturating_sub(victims.len())))))
    });
    Change { apps: apps.collect(), victims, is_forced, ..Change::default() }
}
