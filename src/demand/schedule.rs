//! Windows of time, by the wall clock of some place.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::time::sleep;

use super::{DemandSource, Gauge};
use crate::api::demand::{Effect, Schedule};
use crate::engine::clock;

/// The wall clock may be set, and a machine may sleep: it is looked at again after this time at the latest.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Why a schedule cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("{0} is no time zone: use a name of the IANA database, such as Europe/London")]
    Zone(String),
    #[error("{expression} is no cron expression of five fields: {problem}")]
    Cron { field: &'static str, expression: String, problem: String },
    #[error("{expression} never comes")]
    Never { field: &'static str, expression: String },
}

impl ScheduleError {
    /// The field that is to blame.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Zone(_) => "timezone",
            Self::Cron { field, .. } | Self::Never { field, .. } => field,
        }
    }
}

/// The windows of a schedule.
pub struct Windows {
    zone: TimeZone,
    start: Cron,
    end: Cron,
    effect: Effect,
}

/// What a schedule says at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub open: bool,
    /// When that may change. `None`: never.
    pub until: Option<Timestamp>,
}

impl Windows {
    /// # Errors
    /// When there is no such time zone, or start or end is no cron expression or never comes.
    pub fn read(spec: &Schedule) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(&spec.timezone).map_err(|_| ScheduleError::Zone(spec.timezone.clone()))?;
        let (start, end) = (cron("start", &spec.start)?, cron("end", &spec.end)?);
        Ok(Self { zone, start, end, effect: spec.effect })
    }

    /// Whether a window is open. A start opens it, the next end closes it; if both come at once, it is closed.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Moment {
        let now = now.to_zoned(self.zone.clone());
        let last = |cron: &Cron| cron.find_previous_occurrence(&now, true).ok();
        let next = |cron: &Cron| cron.find_next_occurrence(&now, false).ok();
        // What has never been is less than what has.
        let open = last(&self.start) > last(&self.end);
        let until = [next(&self.start), next(&self.end)].iter().flatten().map(Zoned::timestamp).min();
        Moment { open, until }
    }

    fn say(&self, open: bool, gauge: &Gauge) {
        match self.effect {
            _ if !open => gauge.silence(),
            Effect::Replicas(replicas) => gauge.value(replicas.into()),
            Effect::Factor(factor) => gauge.value(factor),
        }
    }
}

impl DemandSource for Windows {
    async fn run(self, gauge: Gauge) {
        let mut said = None;
        loop {
            let now = clock::timestamp();
            let Moment { open, until } = self.at(now);
            if said.replace(open) != Some(open) {
                self.say(open, &gauge);
            }
            let left = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
            sleep(left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)).await;
        }
    }
}

fn cron(field: &'static str, expression: &str) -> Result<Cron, ScheduleError> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(expression).map_err(|error| ScheduleError::Cron {
        field,
        expression: expression.to_owned(),
        problem: error.to_string(),
    })?;
    let ever = cron.find_next_occurrence(&Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC), true);
    ever.map_err(|_| ScheduleError::Never { field, expression: expression.to_owned() })?;
    Ok(cron)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn schedule(zone: &str, start: &str, end: &str) -> Schedule {
        Schedule { timezone: zone.to_owned(), start: start.to_owned(), end: end.to_owned(), effect: Effect::Replicas(5) }
    }

    fn windows(zone: &str, start: &str, end: &str) -> Windows {
        Windows::read(&schedule(zone, start, end)).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What happens from `from` on: the next `count` moments at which the window opens (true) or closes.
    fn changes(windows: &Windows, from: &str, count: usize) -> Vec<(String, bool)> {
        let mut now = time(from);
        let mut open = windows.at(now).open;
        let mut seen = Vec::new();
        while seen.len() < count {
            now = windows.at(now).until.unwrap();
            let is_open = windows.at(now).open;
            if std::mem::replace(&mut open, is_open) != is_open {
                seen.push((now.to_string(), is_open));
            }
        }
        seen
    }

    fn expect(changes: &[(String, bool)], expected: &[(&str, bool)]) {
        let changes: Vec<_> = changes.iter().map(|(at, open)| (at.as_str(), *open)).collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_window_opens_and_closes_to_the_millisecond() {
        let office = windows("Europe/Berlin", "0 8 * * mon-fri", "30 17 * * *");
        // A Thursday in winter.
        for (at, open) in [
            ("2026-11-26T06:59:59.999Z", false),
            ("2026-11-26T07:00:00Z", true),
            ("2026-11-26T07:00:00.001Z", true),
            ("2026-11-26T16:29:59.999Z", true),
            ("2026-11-26T16:30:00Z", false),
            ("2026-11-28T12:00:00Z", false),
        ] {
            assert_eq!(office.at(time(at)).open, open, "{at}");
        }
        assert_eq!(office.at(time("2026-11-26T06:59:59.999Z")).until, Some(time("2026-11-26T07:00:00Z")));
        assert_eq!(office.at(time("2026-11-26T07:00:00Z")).until, Some(time("2026-11-26T16:30:00Z")));
    }

    #[test]
    fn a_window_may_span_midnight_and_months() {
        let night = windows("UTC", "0 22 * * *", "0 6 * * *");
        let expected = [("2026-02-28T22:00:00Z", true), ("2026-03-01T06:00:00Z", false)];
        expect(&changes(&night, "2026-02-28T12:00:00Z", 2), &expected);
        let season = windows("UTC", "0 0 15 11 *", "0 0 6 1 *");
        assert!(season.at(time("2026-12-31T23:59:59Z")).open);
        assert!(!season.at(time("2026-06-01T00:00:00Z")).open);
    }

    #[test]
    fn a_second_start_changes_nothing_and_an_end_at_the_same_time_wins() {
        let hourly = windows("UTC", "0 * * * *", "0 18 * * *");
        assert!(hourly.at(time("2026-11-26T09:30:00Z")).open, "opened at midnight, and not closed since");
        assert!(!hourly.at(time("2026-11-26T18:30:00Z")).open);
        assert!(hourly.at(time("2026-11-26T19:00:00Z")).open);
    }

    /// On 2026-03-29, clocks in Berlin go from 01:59:59 (00:59:59Z) to 03:00.
    #[test]
    fn what_would_start_in_a_skipped_hour_starts_after_it() {
        let early = windows("Europe/Berlin", "30 2 * * *", "0 5 * * *");
        let expected = [
            ("2026-03-28T01:30:00Z", true),
            ("2026-03-28T04:00:00Z", false),
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T03:00:00Z", false),
            ("2026-03-30T00:30:00Z", true),
        ];
        expect(&changes(&early, "2026-03-28T00:00:00Z", 5), &expected);
        // A window inside the hour that is not there has no time to be open.
        let within = windows("Europe/Berlin", "15 2 * * *", "45 2 * * *");
        let expected = [("2026-03-30T00:15:00Z", true), ("2026-03-30T00:45:00Z", false)];
        expect(&changes(&within, "2026-03-29T00:00:00Z", 2), &expected);
    }

    /// On 2026-10-25, clocks in Berlin go from 02:59:59 (00:59:59Z) back to 02:00.
    #[test]
    fn a_repeated_hour_counts_once() {
        let within = windows("Europe/Berlin", "15 2 * * *", "45 2 * * *");
        let expected = [("2026-10-25T00:15:00Z", true), ("2026-10-25T00:45:00Z", false), ("2026-10-26T01:15:00Z", true)];
        expect(&changes(&within, "2026-10-24T23:00:00Z", 3), &expected);
        let across = windows("Europe/Berlin", "30 1 * * *", "30 3 * * *");
        let expected = [("2026-10-24T23:30:00Z", true), ("2026-10-25T02:30:00Z", false)];
        expect(&changes(&across, "2026-10-24T22:00:00Z", 2), &expected);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_in_words() {
        let refused = |zone, start, end| {
            let error = Windows::read(&schedule(zone, start, end)).err().unwrap();
            format!("{}: {error}", error.field())
        };
        let zone = "timezone: Europe/Lodnon is no time zone: use a name of the IANA database, such as Europe/London";
        assert_eq!(refused("Europe/Lodnon", "0 8 * * *", "0 9 * * *"), zone);
        assert_eq!(refused("UTC", "0 8 * * *", "0 0 30 2 *"), "end: 0 0 30 2 * never comes");
        for bad in ["0 25 * * *", "8", "0 0 8 * * *", "soon"] {
            let said = refused("UTC", bad, "0 9 * * *");
            assert!(said.starts_with(&format!("start: {bad} is no cron expression of five fields: ")), "{said}");
        }
    }
}
