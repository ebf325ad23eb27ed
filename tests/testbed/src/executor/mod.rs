//! What the executors of the testbed have in common.

mod settings;

pub use settings::{Settings, parse_duration};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A random (version 4) UUID, in base64 as JSON carries bytes. The agent refuses other versions.
#[must_use]
pub fn uuid4() -> String {
    let mut bytes = [0; 16];
    // Sixteen bytes never come short, and the call cannot fail once the system is up.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    STANDARD.encode(bytes)
}

/// The time of a status, in seconds.
#[must_use]
pub fn timestamp() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A `KillPolicy`'s grace period.
#[must_use]
pub fn grace_period(policy: &Value) -> Option<Duration> {
    let nanoseconds = policy["grace_period"]["nanoseconds"].as_i64()?;
    Some(Duration::from_nanos(nanoseconds.try_into().unwrap_or(0)))
}
