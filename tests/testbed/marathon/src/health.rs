//! Does the health checks that Marathon does itself.

use crate::core::Core;
use crate::core::health::Check;
use crate::leader::Leader;
use microscaler_testbed::wire::{Connection, Request};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks for checks that are due, for as long as the process leads.
pub fn start(leader: &Arc<Leader>) {
    let leader = Arc::clone(leader);
    thread::spawn(move || {
        loop {
            for check in leader.with(Core::due_checks) {
                let leader = Arc::clone(&leader);
                thread::spawn(move || {
                    let failure = failure(&check);
                    leader.with(|core, now| core.on_checked(&check, failure.as_deref(), now));
                });
            }
            thread::sleep(LOOK_EVERY);
        }
    });
}

/// Why the task is not healthy; none if it is.
fn failure(check: &Check) -> Option<String> {
    let timeout = Duration::from_millis(u64::try_from(check.timeout).unwrap_or(0));
    let refused =
        |error: std::io::Error| format!("Tcp command [Connect({}:{})] failed because of {error}", check.host, check.port);
    let connect = || {
        let mut addresses = (check.host.as_str(), check.port).to_socket_addrs()?;
        let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
        let connection = Connection::open(address, timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        Ok(connection)
    };
    let mut connection = match connect() {
        Ok(connection) => connection,
        Err(error) => return Some(refused(error)),
    };
    if !check.is_http {
        return None;
    }
    match connection.call(Request { method: "GET", path: &check.path, headers: "", body: b"" }) {
        Ok(response) if (200..400).contains(&response.status) => None,
        Ok(response) => Some(format!("{} is answered {}", check.path, response.status)),
        Err(error) => Some(format!("{}: {error}", check.path)),
    }
}
