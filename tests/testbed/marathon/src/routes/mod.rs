//! The API of the leader: which request is answered by what.

mod apps;
mod deployments;
mod groups;
mod info;
mod pods;
mod queue;
mod tasks;

use crate::core::refusal::Refusal;
use crate::core::{Accepted, Change, Core};
use crate::http::{Request, Response};
use crate::leader::Leader;
use serde_json::Value;

pub type Answer = Result<Response, Refusal>;

/// What comes with almost every answer of a leader.
#[must_use]
pub fn with_usual_headers(leader: &Leader, response: Response) -> Response {
    let own = Response::default()
        .header("X-Marathon-Leader", format!("http://{}", leader.settings.address()))
        .header("X-Frame-Options", "DENY")
        .header("X-XSS-Protection", "1; mode=block")
        .header("Cache-Control", "no-cache, no-store, must-revalidate")
        .header("Pragma", "no-cache")
        .header("Expires", "0");
    // A page of Jetty's has a Cache-Control of its own or none, and no Expires.
    let is_page = response.reason.is_some();
    let mut headers = own.headers;
    headers.retain(|(name, _)| !is_page || !matches!(name.as_str(), "Cache-Control" | "Expires"));
    headers.extend(response.headers);
    Response { headers, ..response }
}

/// Answers a request, other than those for events.
#[must_use]
pub fn answer(leader: &Leader, request: &Request) -> Response {
    if request.method == "OPTIONS" {
        return with_usual_headers(leader, Response::page(500, "Request failed.", request));
    }
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let answer = match check(request, &segments) {
        Some(refusal) => Err(refusal),
        None => dispatch(leader, request, &segments),
    };
    let mut response = with_usual_headers(leader, answer.unwrap_or_else(|refusal| json(refusal.status, &refusal.body)));
    if request.method == "HEAD" {
        // Nothing would be compressed.
        response.headers.retain(|(name, value)| name != "Vary" || !value.contains("Accept-Encoding"));
    }
    response
}

/// What is wrong with the request whatever it is about.
fn check(request: &Request, segments: &[&str]) -> Option<Refusal> {
    let is_api = segments.len() > 1 && segments[0] == "v2";
    if !is_api {
        return None;
    }
    if !request.accepts("application/json") {
        return Some(Refusal::new(406, "Not Acceptable"));
    }
    let is_json = |mime: &str| mime.split(';').next().unwrap_or_default().trim() == "application/json";
    let has_body = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let is_wrong = has_body && request.header("content-type").is_some_and(|mime| !is_json(mime));
    is_wrong.then(|| Refusal::new(415, "Unsupported Media Type"))
}

fn dispatch(leader: &Leader, request: &Request, segments: &[&str]) -> Answer {
    match segments {
        [] => Ok(Response::new(302).header("Location", format!("http://{}/ui/", leader.settings.address()))),
        ["help"] => Ok(Response::new(302).header("Location", "api-console/index.html")),
        ["ping"] => Ok(info::ping(request)),
        ["metrics"] => Ok(info::metrics(leader)),
        ["v2", "info"] => only_get(request, || info::info(leader)),
        ["v2", "leader"] => info::leader(leader, request),
        ["v2", "apps", rest @ ..] => apps::answer(leader, request, rest),
        ["v2", "tasks", rest @ ..] => tasks::answer(leader, request, rest),
        ["v2", "groups", rest @ ..] => groups::answer(leader, request, rest),
        ["v2", "pods", rest @ ..] => pods::answer(leader, request, rest),
        ["v2", "deployments", rest @ ..] => deployments::answer(leader, request, rest),
        ["v2", "queue", rest @ ..] => queue::answer(leader, request, rest),
        _ => Err(Refusal::new(500, "URI not found")),
    }
}

fn only_get(request: &Request, look: impl FnOnce() -> Response) -> Answer {
    if matches!(request.method.as_str(), "GET" | "HEAD") { Ok(look()) } else { not_allowed() }
}

fn not_allowed<T>() -> Result<T, Refusal> {
    Err(Refusal::new(405, "Method Not Allowed"))
}

#[must_use]
pub fn json(status: u16, body: &Value) -> Response {
    let mut response = Response::new(status).header("Content-Type", "application/json");
    response.body = body.to_string().into_bytes();
    response
}

/// The answer to a read.
fn found(body: &Value) -> Response {
    json(200, body).header("Vary", "Accept-Encoding, User-Agent")
}

/// The answer to a change that has been taken.
fn accepted(accepted: &Accepted) -> Response {
    let mut response = json(200, &accepted.view());
    response.headers.insert(0, ("Marathon-Deployment-Id".to_owned(), accepted.deployment.clone()));
    response
}

fn change(leader: &Leader, work: impl FnOnce(&Core) -> Result<Change, Refusal>) -> Answer {
    leader.update(|core, now| core.change(&work(core)?, now)).map(|taken| accepted(&taken))
}

/// The body as JSON.
fn body(request: &Request) -> Result<Value, Refusal> {
    if request.body.is_empty() {
        let mut refusal = Refusal::new(400, "Please specify data in JSON format");
        refusal.body["details"] = "No content to map due to end-of-input\n at [Source: (byte[])\"\"; line: 1, column: 0]".into();
        return Err(refusal);
    }
    serde_json::from_slice(&request.body).map_err(|error| {
        let mut refusal = Refusal::new(400, "Invalid JSON");
        refusal.body["details"] = Value::String(error.to_string());
        refusal
    })
}
