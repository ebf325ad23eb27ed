//! `/v2/groups`.

use super::{Answer, accepted, body, found, json, not_allowed};
use crate::core::refusal::Refusal;
use crate::core::{Change, Core, ids};
use crate::http::Request;
use crate::leader::Leader;
use crate::routes::apps::path;
use serde_json::json;

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", [base @ .., "versions"]) => versions(leader, &path(base)),
        ("GET" | "HEAD", [base @ .., "apps"] | base) => view(leader, request, &path(base)),
        ("POST", base) => create(leader, request, &path(base)),
        ("PUT", base) => update(leader, request, &path(base)),
        ("DELETE", base) => delete(leader, request, &path(base)),
        _ => not_allowed(),
    }
}

fn check_known(core: &Core, id: &str, is_read: bool) -> Result<(), Refusal> {
    if core.has_group(id) { Ok(()) } else { Err(Refusal::missing("Group", id, is_read)) }
}

fn view(leader: &Leader, request: &Request, id: &str) -> Answer {
    let with_counts = request.parameters("embed").iter().any(|value| value.ends_with("apps.counts"));
    leader.read(|core, _| {
        check_known(core, id, true)?;
        Ok(found(&core.group_view(id, with_counts)))
    })
}

fn versions(leader: &Leader, id: &str) -> Answer {
    leader.read(|core, _| {
        check_known(core, id, true)?;
        Ok(found(&json!([core.group_view(id, false)["version"]])))
    })
}

/// The id is in the body, relative to the group of the URL.
fn create(leader: &Leader, request: &Request, base: &str) -> Answer {
    let given = body(request)?;
    let id = ids::canonical_in(base, given["id"].as_str().unwrap_or_default());
    let taken = leader.update(|core, now| {
        if core.has_group(&id) && id != "/" {
            return Err(Refusal::new(409, &format!("Group {id} is already created. Use PUT to change this group.")));
        }
        if core.state.apps.contains_key(&id) {
            return Err(Refusal::new(409, &format!("An app with id [{id}] already exists.")));
        }
        let change = core.group_change(&id, &given)?;
        core.change(&Change { is_forced: request.flag("force", false), ..change }, now)
    })?;
    let mut response = accepted(&taken);
    response.status = 201;
    response.headers.insert(0, ("Location".to_owned(), format!("http://{}{id}", leader.settings.address())));
    Ok(response)
}

fn update(leader: &Leader, request: &Request, id: &str) -> Answer {
    let given = body(request)?;
    if request.flag("dryRun", false) {
        return leader.read(|core, _| Ok(json(200, &core.dry_run(&core.group_change(id, &given)?))));
    }
    let is_forced = request.flag("force", false);
    super::change(leader, |core| Ok(Change { is_forced, ..core.group_change(id, &given)? }))
}

fn delete(leader: &Leader, request: &Request, id: &str) -> Answer {
    let is_forced = request.flag("force", false);
    super::change(leader, |core| {
        check_known(core, id, false)?;
        let mut change = Change { is_forced, ..Change::default() };
        core.collect_end(id, &mut change);
        Ok(change)
    })
}
