//! Who may change something: push demand, drain a pool.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};

use super::error::ApiError;
use super::forward;

/// What proxies put on the requests that they forward, and replicas of our own.
const FORWARDERS: [HeaderName; 3] = [header::FORWARDED, HeaderName::from_static("x-forwarded-for"), forward::FORWARDED];

/// With a token configured, whoever bears it. Without one, programs on this machine, and nothing that merely passes through it: a
/// request forwarded by a proxy or by another replica, or sent by a browser on behalf of a page from elsewhere.
///
/// # Errors
/// 401 without the right token; 403 where none is configured and the request is not from here.
pub fn check(token: Option<&str>, peer: IpAddr, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(token) = token {
        return check_token(token, headers);
    }
    let forbidden = |why: String| {
        let hint = "with a push token configured, whoever bears it may do this";
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("{why}; {hint}")))
    };
    if !is_local(peer) {
        return forbidden(format!("only this machine may do this, and {peer} is not it"));
    }
    if FORWARDERS.iter().any(|name| headers.contains_key(name)) {
        return forbidden("only this machine may do this, and a proxy has forwarded the request".to_owned());
    }
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) if !is_local_origin(origin) => {
            forbidden(format!("only this machine may do this, and a page from {origin} has sent the request"))
        }
        _ => Ok(()),
    }
}

fn check_token(token: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let unauthorized = |why: &str| Err(ApiError::new(StatusCode::UNAUTHORIZED, why));
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return unauthorized("a token is needed: Authorization: Bearer TOKEN");
    };
    let given = given.as_bytes();
    match given.split_at_checked(7) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") && is_same(given.trim_ascii(), token.as_bytes()) => {
            Ok(())
        }
        _ => unauthorized("this is not the right token"),
    }
}

/// Takes as long for a wrong token as for the right one. An empty token is never right.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    if given.len() != token.len() || token.is_empty() {
        return false;
    }
    let difference = given.iter().zip(token).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    difference == 0
}

/// Also as an IPv4 address inside an IPv6 one.
fn is_local(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn is_local_origin(origin: &str) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    match origin.host() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(is_local),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(token: Option<&str>, peer: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        check(token, peer.parse().unwrap(), &headers).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_this_machine_may() {
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(None, local, &[]), 200, "{local}");
        }
        for remote in ["10.0.0.1", "192.168.1.1", "::2", "::ffff:10.0.0.1", "0.0.0.0"] {
            assert_eq!(status(None, remote, &[]), 403, "{remote}");
        }
        assert_eq!(status(None, "10.0.0.1", &[("authorization", "Bearer x")]), 403);
    }

    #[test]
    fn without_a_token_nothing_may_pass_through_this_machine() {
        for (origin, expected) in [
            ("http://localhost:8910", 200),
            ("http://127.0.0.1:8910", 200),
            ("http://[::1]:8910", 200),
            ("http://evil.example", 403),
            ("http://localhost.evil.example", 403),
            ("null", 403),
        ] {
            assert_eq!(status(None, "127.0.0.1", &[("origin", origin)]), expected, "{origin}");
        }
        for header in ["forwarded", "x-forwarded-for", "x-microscaler-forwarded"] {
            assert_eq!(status(None, "127.0.0.1", &[(header, "10.0.0.1")]), 403);
        }
    }

    #[test]
    fn with_a_token_only_its_bearer_may() {
        let bearing = |header| status(Some("secret"), "10.0.0.1", &[("authorization", header)]);
        assert_eq!(bearing("Bearer secret"), 200);
        assert_eq!(bearing("bearer  secret "), 200);
        for wrong in ["Bearer secreT", "Bearer secret1", "Bearer", "Bearer ", "Basic secret", "secret", "B"] {
            assert_eq!(bearing(wrong), 401, "{wrong}");
        }
        assert_eq!(status(Some("secret"), "127.0.0.1", &[]), 401);
        assert_eq!(status(Some(""), "127.0.0.1", &[("authorization", "Bearer ")]), 401);
    }
}
