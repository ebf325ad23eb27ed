//! Times as Marathon writes them. The core is given the time by whoever calls it, and never looks at a clock.

use jiff::Timestamp;

/// Milliseconds since 1970.
pub type Millis = i64;

/// Such as `2026-11-22T20:28:19.293Z`.
#[must_use]
pub fn text(time: Millis) -> String {
    let timestamp = Timestamp::from_millisecond(time).unwrap_or_default();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The reverse; none if it is no such time.
#[must_use]
pub fn parse(text: &str) -> Option<Millis> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_three_digits_behind_the_point() {
        assert_eq!(super::text(1_700_000_000_020), "2023-11-14T22:13:20.020Z");
        assert_eq!(super::parse("2023-11-14T22:13:20.020Z"), Some(1_700_000_000_020));
        assert_eq!(super::parse("yesterday"), None);
    }
}
