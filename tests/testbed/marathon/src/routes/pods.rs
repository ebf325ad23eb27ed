//! `/v2/pods`.

use super::{Answer, accepted, body, found, json, not_allowed};
use crate::core::definition::{Definition, check_id};
use crate::core::refusal::Refusal;
use crate::core::{Accepted, App, Change, ids};
use crate::http::Request;
use crate::leader::Leader;
use crate::routes::apps::path;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    let id = path(rest);
    // `/v2/pods/a/b::status`, and of all: `/v2/pods/::status`.
    let (id, view) = match id.split_once("::") {
        Some((id, view)) => (ids::canonical(id), Some(view)),
        None => (id.clone(), None),
    };
    match (request.method.as_str(), id.as_str(), view) {
        ("GET" | "HEAD", "/", None) => Ok(found(
            &leader.read(|core, _| core.state.apps.values().filter(|app| app.is_pod).map(App::pod_view).collect::<Value>()),
        )),
        ("GET", "/", Some("status")) => Ok(found(&leader.read(|core, now| {
            let pods = core.state.apps.iter().filter(|(_, app)| app.is_pod);
            pods.map(|(id, pod)| core.pod_status(id, pod, now)).collect::<Value>()
        }))),
        ("GET", id, Some("status")) => leader.read(|core, now| Ok(found(&core.pod_status(id, core.pod(id)?, now)))),
        ("GET" | "HEAD", id, None) => leader.read(|core, _| Ok(found(&core.pod(id)?.pod_view()))),
        ("POST", "/", None) => create(leader, request),
        ("PUT", id, None) => update(leader, request, id),
        ("DELETE", id, None) => delete(leader, request, id),
        _ => not_allowed(),
    }
}

fn create(leader: &Leader, request: &Request) -> Answer {
    let given = body(request)?;
    check_id(&given)?;
    let id = ids::canonical(given["id"].as_str().ok_or_else(|| Refusal::field("/id", "error.path.missing"))?);
    if leader.read(|core, _| core.state.apps.contains_key(&id)) {
        return Err(Refusal::new(409, &format!("A pod with id [{id}] already exists.")));
    }
    let taken = set(leader, &id, Some(Definition::of_pod(&id, &given)?), request.flag("force", false))?;
    let mut response = with_pod(leader, &id, &taken, 201)?;
    response.headers.insert(0, ("Location".to_owned(), format!("http://{}/v2/pods{id}", leader.settings.address())));
    Ok(response)
}

/// The whole pod, as clients send it to scale it.
fn update(leader: &Leader, request: &Request, id: &str) -> Answer {
    let definition = Definition::of_pod(id, &body(request)?)?;
    leader.read(|core, _| core.pod(id).map(drop))?;
    let taken = set(leader, id, Some(definition), request.flag("force", false))?;
    with_pod(leader, id, &taken, 200)
}

fn delete(leader: &Leader, request: &Request, id: &str) -> Answer {
    leader.read(|core, _| core.pod(id).map(drop))?;
    let taken = set(leader, id, None, request.flag("force", false))?;
    let mut response = accepted(&taken);
    response.status = 202;
    response.body.clear();
    Ok(response)
}

fn set(leader: &Leader, id: &str, definition: Option<Definition>, is_forced: bool) -> Result<Accepted, Refusal> {
    let change = Change { apps: BTreeMap::from([(id.to_owned(), definition)]), is_forced, is_pod: true, ..Change::default() };
    leader.update(|core, now| core.change(&change, now))
}

fn with_pod(leader: &Leader, id: &str, taken: &Accepted, status: u16) -> Answer {
    let mut response = json(status, &leader.read(|core, _| core.pod(id).map(App::pod_view))?);
    response.headers.insert(0, ("Marathon-Deployment-Id".to_owned(), taken.deployment.clone()));
    Ok(response)
}
