//! `/v2/apps`.

use super::{Answer, accepted, body, change, found, json, not_allowed, tasks};
use crate::core::definition::{Definition, check_id};
use crate::core::refusal::Refusal;
use crate::core::view::Embed;
use crate::core::{App, Change, Core, ids, time};
use crate::http::{Request, Response};
use crate::leader::Leader;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SAME_ID: &str = "Groups and Applications may not have the same identifier.";

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    let method = request.method.as_str();
    match rest {
        [] => match method {
            "GET" | "HEAD" => Ok(list(leader, request)),
            "POST" => create(leader, request),
            "PUT" => update_many(leader, request, true),
            "PATCH" => update_many(leader, request, false),
            _ => not_allowed(),
        },
        [base @ .., "*"] if method == "GET" => Ok(of_group(leader, &path(base))),
        [base @ .., "restart"] if method == "POST" => restart(leader, request, &path(base)),
        [base @ .., "versions"] if method == "GET" => versions(leader, &path(base)),
        [base @ .., "versions", version] if method == "GET" => one_version(leader, &path(base), version),
        [base @ .., "tasks"] if !base.is_empty() => tasks::of_app(leader, request, &path(base)),
        [base @ .., "tasks", task] if !base.is_empty() && method == "DELETE" => {
            tasks::delete_one(leader, request, &path(base), task)
        }
        base => match method {
            "GET" | "HEAD" => one(leader, &path(base)),
            "PUT" | "PATCH" => update(leader, request, &path(base)),
            "DELETE" => delete(leader, request, &path(base)),
            _ => not_allowed(),
        },
    }
}

pub fn path(segments: &[&str]) -> String {
    ids::canonical(&segments.join("/"))
}

fn embed(request: &Request) -> Embed {
    let wanted: Vec<String> = request
        .parameters("embed")
        .iter()
        .flat_map(|value| value.split(',').map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect();
    let has = |names: &[&str]| wanted.iter().any(|value| names.contains(&value.as_str()));
    Embed { tasks: has(&["apps.tasks", "apps.failures"]), last_failure: has(&["apps.lastTaskFailure", "apps.failures"]) }
}

fn list(leader: &Leader, request: &Request) -> Response {
    let first = |name: &str| request.parameters(name).into_iter().next();
    let (id, cmd, label) = (first("id"), first("cmd"), first("label"));
    let contains = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
    let is_wanted = |id_of_app: &str, app: &App| {
        !app.is_pod
            && contains(id_of_app, &id)
            && contains(app.definition.text("cmd"), &cmd)
            && label.as_ref().is_none_or(|selector| has_labels(&app.definition, selector))
    };
    let embed = embed(request);
    let apps: Vec<Value> = leader.read(|core, _| {
        let apps = core.state.apps.iter().filter(|(id, app)| is_wanted(id, app));
        apps.map(|(id, app)| core.app_view(id, app, embed)).collect()
    });
    found(&json!({ "apps": apps }))
}

/// `a`, `a==b`, `a!=b`, `a in (b,c)` and `a notin (b,c)`, several with commas between.
fn has_labels(definition: &Definition, selector: &str) -> bool {
    let label = |key: &str| definition.get("labels")[key.trim()].as_str().map(ToOwned::to_owned);
    let among = |key: &str, values: &str| {
        let values = values.trim().trim_matches(['(', ')']);
        label(key).is_some_and(|own| values.split(',').any(|value| value.trim() == own))
    };
    // Commas within parentheses separate nothing.
    let mut depth = 0;
    let parts = selector.split(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).all(|part| {
        if let Some((key, value)) = part.split_once("!=") {
            label(key).is_none_or(|own| own != value.trim())
        } else if let Some((key, value)) = part.split_once("==") {
            label(key).is_some_and(|own| own == value.trim())
        } else if let Some((key, values)) = part.split_once(" notin ") {
            !among(key, values)
        } else if let Some((key, values)) = part.split_once(" in ") {
            among(key, values)
        } else {
            label(part).is_some()
        }
    })
}

fn one(leader: &Leader, id: &str) -> Answer {
    let embed = Embed { tasks: true, last_failure: true };
    leader.read(|core, _| {
        let app = core.app(id)?;
        if app.is_pod {
            return Err(Refusal::missing("App", id, true));
        }
        Ok(found(&json!({ "app": core.app_view(id, app, embed) })))
    })
}

fn of_group(leader: &Leader, group: &str) -> Response {
    let base = if group == "/" { String::from("/") } else { format!("{group}/") };
    let embed = Embed { tasks: true, last_failure: false };
    let apps: Vec<Value> = leader.read(|core, _| {
        let apps = core.state.apps.iter().filter(|(id, app)| !app.is_pod && id.starts_with(&base));
        apps.map(|(id, app)| core.app_view(id, app, embed)).collect()
    });
    found(&json!({ "*": apps }))
}

/// The answer is the app as it was sent: its service ports are assigned later.
fn create(leader: &Leader, request: &Request) -> Answer {
    let given = body(request)?;
    check_id(&given)?;
    let id = ids::canonical(given["id"].as_str().ok_or_else(|| Refusal::field("/id", "error.path.missing"))?);
    let definition = Definition::update(&id, None, &given)?;
    let shown = definition.clone();
    let taken = leader.update(|core, now| {
        check_new(core, &id)?;
        let change = Change {
            apps: BTreeMap::from([(id.clone(), Some(definition))]),
            is_forced: request.flag("force", false),
            uri: Some(request.path().to_owned()),
            is_creation: true,
            ..Change::default()
        };
        core.change(&change, now)
    })?;
    let mut view = Value::Object(shown.view(&json!({ "version": time::text(taken.version) })));
    for count in ["tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"] {
        view[count] = json!(0);
    }
    view["deployments"] = json!([{ "id": taken.deployment }]);
    let headers = [
        ("Location".to_owned(), format!("http://{}{id}", leader.settings.address())),
        ("Marathon-Deployment-Id".to_owned(), taken.deployment.clone()),
    ];
    let mut response = json(201, &view);
    response.headers.splice(0..0, headers);
    Ok(response)
}

fn check_new(core: &Core, id: &str) -> Result<(), Refusal> {
    if core.state.apps.contains_key(id) {
        return Err(Refusal::new(409, &format!("An app with id [{id}] already exists.")));
    }
    if core.state.apps.keys().any(|other| other.starts_with(&format!("{id}/"))) {
        return Err(Refusal::object("/groups", SAME_ID));
    }
    if ids::parents(id).any(|parent| core.state.apps.contains_key(parent)) {
        return Err(Refusal::object("/", SAME_ID));
    }
    Ok(())
}

/// What a request makes of one app.
pub fn updated(core: &Core, id: &str, given: &Value, is_partial: bool) -> Result<Definition, Refusal> {
    let app = core.state.apps.get(id);
    if let Some(version) = given["version"].as_str() {
        if given.as_object().is_some_and(|fields| fields.keys().any(|name| name != "version" && name != "id")) {
            return Err(Refusal::object("/", "The 'version' field may only be combined with the 'id' field."));
        }
        let old = time::parse(version).and_then(|version| app?.history.get(&version).cloned());
        return old.ok_or_else(|| Refusal::missing("App", id, false));
    }
    if app.is_none() {
        check_new(core, id)?;
    }
    let before = app.map(|app| &app.definition);
    let mut definition = Definition::update(id, before.filter(|_| is_partial), given)?;
    definition.keep_service_ports(before);
    Ok(definition)
}

/// PATCH is the same as a partial PUT: both make the app if there is none and enough is given.
fn update(leader: &Leader, request: &Request, id: &str) -> Answer {
    let given = body(request)?;
    check_id(&given)?;
    let is_partial = request.method == "PATCH" || request.flag("partialUpdate", true);
    change(leader, |core| {
        let definition = updated(core, id, &given, is_partial)?;
        Ok(Change {
            apps: BTreeMap::from([(id.to_owned(), Some(definition))]),
            is_forced: request.flag("force", false),
            uri: Some(request.path().to_owned()),
            ..Change::default()
        })
    })
}

/// All or nothing, one deployment for all, and no `api_post_event`. Only PUT makes apps.
fn update_many(leader: &Leader, request: &Request, makes_apps: bool) -> Answer {
    let given = body(request)?;
    let updates = given.as_array().ok_or_else(|| {
        let details = json!([{ "path": "", "errors": ["error.expected.jsarray"] }]);
        Refusal { status: 422, body: json!({ "message": "Invalid JSON", "details": details }) }
    })?;
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    for update in updates {
        check_id(update)?;
        let id = update["id"].as_str().ok_or_else(|| Refusal::new(422, "requirement failed: App Update must have app id set"))?;
        // Of two updates of one app, the later one counts.
        wanted.insert(ids::canonical(id), update.clone());
    }
    let is_partial = !makes_apps || request.flag("partialUpdate", true);
    change(leader, |core| {
        if let Some(unknown) = wanted.keys().find(|id| !makes_apps && !core.state.apps.contains_key(*id)) {
            return Err(Refusal::missing("App", unknown, false));
        }
        let apps = wanted.iter().map(|(id, given)| Ok((id.clone(), Some(updated(core, id, given, is_partial)?))));
        Ok(Change { apps: apps.collect::<Result<_, Refusal>>()?, is_forced: request.flag("force", false), ..Change::default() })
    })
}

/// Forced, unless the request says otherwise.
fn delete(leader: &Leader, request: &Request, id: &str) -> Answer {
    change(leader, |core| {
        core.state.apps.get(id).ok_or_else(|| Refusal::missing("App", id, false))?;
        Ok(Change { apps: BTreeMap::from([(id.to_owned(), None)]), is_forced: request.flag("force", true), ..Change::default() })
    })
}

fn restart(leader: &Leader, request: &Request, id: &str) -> Answer {
    let taken = leader.update(|core, now| {
        let app = core.state.apps.get(id).ok_or_else(|| Refusal::missing("App", id, false))?;
        let change = Change {
            apps: BTreeMap::from([(id.to_owned(), Some(app.definition.clone()))]),
            is_forced: request.flag("force", false),
            is_restart: true,
            ..Change::default()
        };
        core.change(&change, now)
    })?;
    Ok(accepted(&taken))
}

fn versions(leader: &Leader, id: &str) -> Answer {
    leader.read(|core, _| {
        let versions: Vec<String> = core.app(id)?.history.keys().rev().map(|version| time::text(*version)).collect();
        Ok(found(&json!({ "versions": versions })))
    })
}

fn one_version(leader: &Leader, id: &str, version: &str) -> Answer {
    leader.read(|core, _| {
        let found_version = time::parse(version).and_then(|time| core.app(id).ok()?.history.get(&time));
        let definition = found_version.ok_or_else(|| Refusal::missing("App", id, true))?;
        Ok(found(&Value::Object(definition.view(&json!({ "version": version })))))
    })
}
