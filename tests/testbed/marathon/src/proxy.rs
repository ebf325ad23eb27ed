//! A process that does not lead passes requests on to the one that does, and answers with what it says.

use crate::http::{Request, Response};
use crate::store::Store;
use microscaler_testbed::wire::{self, Connection};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const VIA: &str = "x-marathon-via";
/// While nobody leads, so often and so long is waited for somebody.
const ATTEMPTS: usize = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);

/// Waits for a leader, for a moment. None if this process has become it meanwhile, and is to answer itself.
pub fn answer(store: &Store, own: &str, request: &Request, leads: impl Fn() -> bool) -> Option<Response> {
    let via = format!("1.1 {own}");
    if request.header(VIA).is_some_and(|vias| vias.contains(&via)) {
        return Some(Response::page(502, "Detected proxying loop.", request));
    }
    for _ in 0..ATTEMPTS {
        if leads() {
            return None;
        }
        match store.leader() {
            Some(leader) if leader != own => return Some(pass_on(&leader, &via, request)),
            _ => std::thread::sleep(BETWEEN_ATTEMPTS),
        }
    }
    Some(Response::page(502, "Could not determine the current leader", request))
}

/// Events are not passed on.
#[must_use]
pub fn redirect(leader: &str, request: &Request) -> Response {
    Response::new(302).header("Location", format!("http://{leader}{}", request.target))
}

fn pass_on(leader: &str, via: &str, request: &Request) -> Response {
    if request.path() == "/v2/events" {
        return redirect(leader, request);
    }
    match ask(leader, via, request) {
        Ok(answer) => answered(leader, via, answer),
        Err(_) => failure(request),
    }
}

fn ask(leader: &str, via: &str, request: &Request) -> std::io::Result<wire::Response> {
    let address: SocketAddr = leader.parse().map_err(|_| std::io::ErrorKind::AddrNotAvailable)?;
    let mut connection = Connection::open(address, CONNECT_TIMEOUT)?;
    connection.set_read_timeout(Some(READ_TIMEOUT))?;
    let is_passed = |name: &str| !matches!(name, "host" | "connection" | "content-length" | "transfer-encoding" | "expect");
    let headers = request.headers.iter().filter(|(name, _)| is_passed(name)).map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers = headers.collect::<String>() + &format!("X-Marathon-Via: {via}\r\n");
    // The answer to HEAD has a length without a body; what GET says is the same.
    let method = if request.method == "HEAD" { "GET" } else { &request.method };
    connection.call(wire::Request { method, path: &request.target, headers: &headers, body: &request.body })
}

/// Names of headers pass in lower case, and `Content-Type` comes last.
fn answered(leader: &str, via: &str, answer: wire::Response) -> Response {
    let mut response = Response::new(answer.status).header("X-Marathon-Leader", format!("http://{leader}"));
    let is_kept =
        |name: &str| !matches!(name, "date" | "connection" | "content-length" | "x-marathon-leader" | "content-type" | "expires");
    for (name, value) in answer.headers.iter().filter(|(name, _)| is_kept(name)) {
        // Of several of one name, the last is left.
        response.headers.retain(|(other, _)| other != name);
        response.headers.push((name.clone(), value.clone()));
    }
    response = response.header("Expires", "Wed, 01 Jan 1800 00:00:00 GMT").header("X-Marathon-Via", via);
    let mime = answer.header("content-type").unwrap_or("none/none");
    response = response.header("Content-Type", mime);
    Response { body: answer.body, ..response }
}

/// A leader that has died without a word: one or the other, without order.
fn failure(request: &Request) -> Response {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    match COUNT.fetch_add(1, Ordering::Relaxed) % 4 {
        0 | 1 => Response::page(502, "Connection to leader refused.", request),
        _ => Response::page(500, "Server Error", request),
    }
}
