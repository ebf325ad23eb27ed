//! `/v2/queue`.

use super::{Answer, found, not_allowed};
use crate::core::refusal::Refusal;
use crate::http::{Request, Response};
use crate::leader::Leader;
use crate::routes::apps::path;

pub fn answer(leader: &Leader, request: &Request, rest: &[&str]) -> Answer {
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", []) => {
            let with_offers = request.parameters("embed").iter().any(|value| value == "lastUnusedOffers");
            Ok(found(&leader.read(|core, now| core.queue_view(with_offers, now))))
        }
        ("DELETE", [app @ .., "delay"]) if !app.is_empty() => {
            let app = path(app);
            leader.with(|core, _| core.reset_delay(&app));
            Ok(Response::new(204))
        }
        (_, []) => not_allowed(),
        _ => Err(Refusal::new(500, "URI not found")),
    }
}
