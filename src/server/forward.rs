//! Requests that come to a replica which does not lead: those for /v1 are passed on to the one that does.
//!
//! Streams pass both ways as they come. They end when another replica comes to lead, so that clients ask again and reach it.
//!
//! Whoever may not push here may not push through here: a standby judges the caller before it passes anything on, and the leader judges
//! the request once more. So without a push token nothing can be pushed through a standby: the leader sees a request that was forwarded.
//! Tokens go along to the address in the lease, so nobody but the operator should have the right to write to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use reqwest::Client;
use tokio::sync::watch;

use super::error::ApiError;
use super::{Shared, access};
use crate::demand::web::root_cause;
use crate::engine::leadership::{Leadership, Role};
use crate::kubernetes::lease::Peer;

/// On requests that were passed on: the identity of the replica that did it.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-microscaler-forwarded");
/// All replicas are in one cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What concerns one connection only (RFC 9110, 7.6.1), and what the next connection settles anew.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::HOST,
];

/// The replicas of an operator, as this one's server sees them.
#[derive(Clone)]
pub struct Replicas {
    identity: HeaderValue,
    leadership: Leadership,
    leader: watch::Receiver<Option<Peer>>,
    /// Its engines end, so it has nothing to say of them, and the lease is about to be released.
    ending: Option<watch::Receiver<bool>>,
    client: Client,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq)]
enum Turn {
    /// This replica, in this term.
    Ours(u64),
    Theirs(Option<Peer>),
}

impl Replicas {
    /// `leader`: who leads in place of this one, which is known to others as `identity`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(identity: &str, leadership: Leadership, leader: watch::Receiver<Option<Peer>>) -> Result<Self, reqwest::Error> {
        // Fails if the program has chosen a provider already, which is just as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .http1_only()
            .build()?;
        let identity = HeaderValue::from_str(identity).unwrap_or_else(|_| HeaderValue::from_static("a replica"));
        Ok(Self { identity, leadership, leader, ending: None, client })
    }

    /// Once this is true, it answers no more, though it may hold the lease for a moment yet.
    #[must_use]
    pub fn ending_with(mut self, ending: watch::Receiver<bool>) -> Self {
        self.ending = Some(ending);
        self
    }

    fn turn(&self) -> Turn {
        match self.leadership.role() {
            Role::Leader { .. } if self.ending.as_ref().is_some_and(|ending| *ending.borrow()) => Turn::Theirs(None),
            Role::Leader { term } => Turn::Ours(term),
            Role::Standby { .. } => Turn::Theirs(self.leader.borrow().clone()),
        }
    }

    /// Until it is another one's turn.
    async fn over(mut self, turn: Turn) {
        let mut leader = self.leader.clone();
        let leader_changed = async |leader: &mut watch::Receiver<_>| {
            if leader.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        while self.turn() == turn {
            tokio::select! {
                () = self.leadership.changed() => {}
                () = leader_changed(&mut leader) => {}
            }
        }
    }
}

/// Answers here what is to be answered here, and has the leader answer everything else.
pub(super) async fn pass_on(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let Some(replicas) = shared.state.replicas.clone().filter(|_| request.uri().path().starts_with("/v1/")) else {
        return next.run(request).await;
    };
    let turn = replicas.turn();
    let over = replicas.clone().over(turn.clone());
    let answer = async {
        match turn {
            Turn::Ours(_) => next.run(request).await,
            Turn::Theirs(leader) => {
                let answer = forward(&shared, &replicas, leader, peer, request).await;
                answer.unwrap_or_else(ApiError::into_response)
            }
        }
    };
    let mut over = Box::pin(over);
    tokio::select! {
        response = answer => response.map(|body| until(body, over, &shared)),
        () = &mut over => unavailable("another replica has come to lead, so this may have had no effect; ask again").into_response(),
    }
}

/// The body, which ends early if it is a stream and its time is over.
fn until(body: Body, over: impl Future<Output = ()> + Send + 'static, shared: &Shared) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let closing = shared.closing.clone();
    let end = async move {
        tokio::select! {
            () = over => {}
            () = closing.cancelled_owned() => {}
        }
    };
    Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
}

async fn forward(
    shared: &Shared,
    replicas: &Replicas,
    leader: Option<Peer>,
    peer: SocketAddr,
    request: Request,
) -> Result<Response, ApiError> {
    if !request.method().is_safe() {
        access::check(shared.state.push_token.as_deref(), peer.ip(), request.headers())?;
    }
    if let Some(from) = request.headers().get(FORWARDED) {
        let from = String::from_utf8_lossy(from.as_bytes());
        return Err(unavailable(format!("{from} has passed this on to a replica that does not lead either; ask again")));
    }
    let Some(leader) = leader else {
        return Err(unavailable("no replica is known to lead; ask again"));
    };
    let Peer { identity, address: Some(address) } = leader else {
        return Err(unavailable(format!("{} leads, but has not said where it is reached; ask it itself", leader.identity)));
    };
    let (parts, body) = request.into_parts();
    let sent = replicas.request(&address, parts, body).send().await;
    let answer = sent.map_err(|error| {
        let cause = root_cause(&error);
        unavailable(format!("{identity} leads, but cannot be asked at {address}: {cause}; ask again"))
    })?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers()));
    let body = Body::from_stream(answer.bytes_stream());
    Ok((status, headers, body).into_response())
}

impl Replicas {
    fn request(&self, address: &str, parts: Parts, body: Body) -> reqwest::RequestBuilder {
        let mut headers = end_to_end(&parts.headers);
        headers.insert(FORWARDED, self.identity.clone());
        let request = self.client.request(parts.method, target(address, &parts.uri)).headers(headers);
        // An empty body would be sent as a stream of nothing.
        if body.is_end_stream() { request } else { request.body(reqwest::Body::wrap_stream(body.into_data_stream())) }
    }
}

fn target(address: &str, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}{path}", address.trim_end_matches('/'))
}

/// Without what concerns only the connection that they came over, be it by its nature or because the sender says so.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let passes = |name: &HeaderName| !OF_THE_CONNECTION.contains(name) && !named.iter().any(|other| other == name.as_str());
    headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn unavailable(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let headers: HeaderMap = [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("content-length", "3"),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        let passed = end_to_end(&headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-length", "x-forwarded-for"]);
    }

    #[test]
    fn the_leader_is_asked_for_the_same() {
        let uri = "http://other/v1/apps?namespace=shop".parse().unwrap();
        for address in ["http://10.0.0.1:8910", "http://10.0.0.1:8910/"] {
            assert_eq!(target(address, &uri), "http://10.0.0.1:8910/v1/apps?namespace=shop");
        }
    }
}
