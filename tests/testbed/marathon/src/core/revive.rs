//! When Marathon asks for offers: the source of the seconds that a scale-up may take.
//!
//! While nothing is to be launched, offers are suppressed. When something is, that is taken back by `UPDATE_FRAMEWORK`, which does
//! not lift filters and does not make Mesos offer before its next cycle. Both go through one limiter. So a launch that comes when the
//! suppression has just been sent waits for the next slot. What was declined comes back only with a REVIVE, which is sent two slots
//! later, and in each slot from then on, as long as something waits.
//!
//! The limiter is a bucket for one token, and one comes every `min_revive_offers_interval`, at fixed times: after an idle time, the
//! first call goes out at once, and the second up to an interval later.

use super::Call;
use super::time::Millis;
use crate::settings::Settings;

/// After how many slots offers that were declined are asked for again.
const SLOTS_UNTIL_REVIVE: Millis = 2;

pub struct Reviver {
    interval: Millis,
    never_suppresses: bool,
    is_suppressed: bool,
    has_token: bool,
    /// When the last token came.
    token_at: Millis,
    /// When REVIVE is to be sent, while something waits.
    revive_at: Option<Millis>,
    was_wanted: bool,
}

impl Reviver {
    #[must_use]
    pub fn new(settings: &Settings, now: Millis) -> Self {
        Self {
            interval: settings.min_revive_offers_interval.max(1),
            never_suppresses: settings.disable_suppress_offers,
            is_suppressed: false,
            has_token: true,
            token_at: now,
            revive_at: None,
            was_wanted: false,
        }
    }

    /// What to send now, `is_wanted` being whether something waits for an offer.
    pub fn calls(&mut self, is_wanted: bool, now: Millis) -> Option<Call> {
        if is_wanted && !self.was_wanted {
            let slots = if self.never_suppresses { 0 } else { SLOTS_UNTIL_REVIVE };
            self.revive_at = Some(now + slots * self.interval);
        }
        if !is_wanted {
            self.revive_at = None;
        }
        self.was_wanted = is_wanted;
        let ticks = (now - self.token_at) / self.interval;
        self.token_at += ticks * self.interval;
        self.has_token |= ticks > 0;
        if !self.has_token {
            return None;
        }
        let call = if !self.never_suppresses && self.is_suppressed == is_wanted {
            self.is_suppressed = !is_wanted;
            Call::Suppress(self.is_suppressed)
        } else if self.revive_at.is_some_and(|time| now >= time) {
            self.revive_at = Some(now + self.interval);
            Call::Revive
        } else {
            return None;
        };
        self.has_token = false;
        Some(call)
    }

    /// A new subscription is not suppressed.
    pub fn on_subscribed(&mut self) {
        self.is_suppressed = false;
        self.was_wanted = false;
    }

    #[must_use]
    pub fn next_call(&self) -> Millis {
        let token = if self.has_token { self.token_at } else { self.token_at + self.interval };
        let is_switch_due = !self.never_suppresses && self.is_suppressed == self.was_wanted;
        if is_switch_due { token } else { token.max(self.revive_at.unwrap_or(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens come at 10 s, 15 s …
    fn reviver() -> Reviver {
        Reviver::new(&Settings::default(), 10_000)
    }

    #[test]
    fn a_launch_right_after_the_suppression_waits_for_the_next_slot() {
        let mut reviver = reviver();
        assert_eq!(reviver.calls(false, 23_000), Some(Call::Suppress(true)));
        assert_eq!(reviver.calls(true, 23_001), None);
        assert_eq!(reviver.calls(true, 24_999), None);
        assert_eq!(reviver.next_call(), 25_000);
        assert_eq!(reviver.calls(true, 25_000), Some(Call::Suppress(false)));
        assert_eq!(reviver.calls(false, 26_000), None);
        assert_eq!(reviver.calls(false, 30_000), Some(Call::Suppress(true)));
    }

    #[test]
    fn what_was_declined_is_asked_for_two_slots_later() {
        let mut reviver = reviver();
        reviver.calls(false, 10_000);
        assert_eq!(reviver.calls(true, 20_000), Some(Call::Suppress(false)));
        assert_eq!(reviver.calls(true, 25_000), None);
        assert_eq!(reviver.calls(true, 30_000), Some(Call::Revive));
        assert_eq!(reviver.calls(false, 31_000), None);
        assert_eq!(reviver.calls(false, 35_000), Some(Call::Suppress(true)));
    }

    #[test]
    fn who_never_suppresses_revives_at_once() {
        let settings = Settings { disable_suppress_offers: true, ..Settings::default() };
        let mut reviver = Reviver::new(&settings, 10_000);
        assert_eq!(reviver.calls(false, 10_000), None);
        assert_eq!(reviver.calls(true, 10_001), Some(Call::Revive));
        assert_eq!(reviver.calls(true, 10_002), None);
        assert_eq!(reviver.calls(true, 15_001), Some(Call::Revive));
    }
}
