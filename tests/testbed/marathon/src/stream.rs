//! `/v2/events`: lines that end with CRLF, no ids, no chunks, and the end of the connection as the only end.

use crate::core::events::Event;
use crate::http::{Connection, Request, Response};
use crate::leader::Leader;
use crate::routes::with_usual_headers;
use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Serves events until the client is gone, or too far behind, or there is a refusal, which is returned.
pub fn serve(leader: &Leader, request: &Request, connection: &mut Connection) -> Option<Response> {
    let accept = request.header("accept").unwrap_or_default();
    if request.method != "GET" || !accept.contains("text/event-stream") {
        let reason = format!("HTTP method {} is not supported by this URL", request.method);
        return Some(with_usual_headers(leader, Response::page(405, &reason, request)));
    }
    let types = request.parameters("event_type");
    let is_wanted = |event: &Event| types.is_empty() || types.iter().any(|kind| kind == event.kind);
    let events = leader.attach(connection.stream().try_clone().ok()?);
    let head = Response::new(200).header("Content-Type", "text/event-stream;charset=utf-8");
    let head = with_usual_headers(leader, head).head(true, false);
    let stream = connection.stream();
    let mut written = stream.write_all(head.as_bytes());
    let heartbeat = Duration::from_millis(u64::try_from(leader.settings.testbed_heartbeat_interval).unwrap_or(10_000));
    while written.is_ok() {
        written = match events.recv_timeout(heartbeat) {
            Ok(event) if is_wanted(&event) => {
                stream.write_all(format!("event: {}\r\ndata: {}\r\n\r\n", event.kind, event.data).as_bytes())
            }
            Ok(_) => Ok(()),
            Err(RecvTimeoutError::Timeout) => stream.write_all(b"\r\n"),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
    }
    leader.tell_detached();
    None
}
