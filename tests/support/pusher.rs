//! Pushes of demand whose time counts.

use microscaler_testbed::wire::{Connection, Request};

use super::{PATIENCE, Scaler};

/// Pushes over one connection that stays open, as a program would.
pub struct Pusher {
    connection: Connection,
    path: String,
}

impl Pusher {
    pub fn open(scaler: &Scaler, app: &str) -> Self {
        let address = scaler.url().trim_start_matches("http://").parse().unwrap();
        Self { connection: Connection::open(address, PATIENCE).unwrap(), path: format!("/v1/demand/default/{app}/load") }
    }

    pub fn push(&mut self, value: usize) {
        let body = value.to_string();
        let request =
            Request { method: "POST", path: &self.path, headers: "Content-Type: text/plain\r\n", body: body.as_bytes() };
        let response = self.connection.call(request).unwrap();
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    }
}
