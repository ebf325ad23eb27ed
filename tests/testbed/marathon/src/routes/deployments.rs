//! `/v2/deployments`.

use super::{Answer, accepted, found, not_allowed};
use crate::core::refusal::Refusal;
use crate::http::{Request, Response};
use crate::leader::Leader;

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", []) => Ok(found(&leader.read(|core, _| core.deployments()))),
        ("DELETE", [id]) => delete(leader, request, id),
        (_, [] | [_]) => not_allowed(),
        _ => Err(Refusal::new(500, "URI not found")),
    }
}

/// A rollback; with `force`, only the end: what was set stays.
fn delete(leader: &Leader, request: &Request, id: &str) -> Answer {
    let is_forced = request.flag("force", false);
    let rolled_back = leader.update(|core, now| {
        let deployment = core.state.deployments.iter().find(|deployment| deployment.id == id).cloned();
        let deployment = deployment.ok_or_else(|| {
            let mut refusal = Refusal::new(404, &format!("DeploymentPlan {id} does not exist"));
            refusal.body["details"] = serde_json::json!([]);
            refusal
        })?;
        if is_forced {
            core.cancel(&[id.to_owned()], now);
            return Ok(None);
        }
        core.roll_back(&deployment, now).map(Some)
    })?;
    Ok(rolled_back.map_or_else(|| Response::new(202), |taken| accepted(&taken)))
}
