//! The only place that reads a clock. Everything else is told the time.
#![allow(clippy::disallowed_methods)]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::policy::world::Millis;

/// This moment on the monotonic clock; jumps of the wall clock do not touch it.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Milliseconds since this process first asked, on the monotonic clock. Starts at 1 so that 0 can mean "never".
#[must_use]
pub fn now() -> Millis {
    to_millis(instant())
}

/// An [`Instant`] on the scale of [`now`].
#[must_use]
pub fn to_millis(instant: Instant) -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    1 + whole_ms(instant.saturating_duration_since(start))
}

/// The whole milliseconds of a span of time; what is too long to be counted is as long as can be.
#[must_use]
pub fn whole_ms(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}

/// The wall clock, for people and for conditions.
#[must_use]
pub fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Milliseconds since 1970 by the wall clock.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms)
}

/// How long ago this was by the wall clock; zero for the future.
#[must_use]
pub fn wall_age(moment: SystemTime) -> Duration {
    SystemTime::now().duration_since(moment).unwrap_or_default()
}

/// How long it is until then by the wall clock; zero for the past.
#[must_use]
pub fn wall_until(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::now()).unwrap_or_default()
}

/// A name that no other run of this program has: the time in base 36 and some random digits.
#[must_use]
pub fn incarnation() -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let mut number = since_epoch * 36_u128.pow(4) + u128::from(fastrand::u64(0..36_u64.pow(4)));
    let mut text = Vec::new();
    while number > 0 {
        text.push(DIGITS[usize::try_from(number % 36).unwrap_or(0)]);
        number /= 36;
    }
    text.iter().rev().map(|&digit| char::from(digit)).collect()
}
