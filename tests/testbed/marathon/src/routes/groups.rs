//! `/v2/groups`.

use super::Answer;
use crate::core::refusal::Refusal;
use crate::http::Request;
use crate::leader::Leader;

pub fn answer(_leader: &Leader, _request: &Request, _rest: &[&str]) -> Answer {
    Err(Refusal::new(500, "URI not found"))
}
