//! When to ask for room. A REVIVE brings all that is free within about 2 ms, but costs the master an allocation run over its agents.

use crate::policy::world::Millis;

const BURST: u64 = 50;
const REFILL_MS: u64 = 50;
/// An allocation run that was asked for while the allocator was paused is lost.
const FIRST_RETRY_MS: u64 = 50;
const RETRY_MS: u64 = 1000;
const WATCH_MS: u64 = 2000;
const MAX_WATCH_MS: u64 = 300_000;

/// The state of our asking.
#[derive(Debug)]
pub struct Revive {
    /// In milliseconds of refill, so that no fraction is lost.
    tokens: u64,
    refilled: Millis,
    /// Room is wanted that has not come.
    stands: bool,
    due: Option<Millis>,
    retried: bool,
    watch_at: Millis,
    watch_ms: u64,
    pub suppressed: bool,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Revive,
    /// Nothing has been offered for long: whatever is held and unused goes back, in case our table is wrong, and then a REVIVE.
    StartOver,
}

impl Default for Revive {
    fn default() -> Self {
        Self {
            tokens: BURST * REFILL_MS,
            refilled: 0,
            stands: false,
            due: None,
            retried: false,
            watch_at: 0,
            watch_ms: WATCH_MS,
            suppressed: false,
        }
    }
}

impl Revive {
    /// Room is wanted, or not any longer. `news`: there is room to be had that has not been asked for.
    pub fn want(&mut self, wanted: bool, news: bool, now: Millis) {
        if !wanted {
            (self.stands, self.due) = (false, None);
            return;
        }
        if !self.stands {
            (self.watch_ms, self.watch_at) = (WATCH_MS, now + WATCH_MS);
        }
        if !self.stands || news || self.suppressed {
            (self.due, self.retried) = (Some(now), false);
        }
        self.stands = true;
    }

    /// More room has come free while some is wanted.
    pub fn news(&mut self, now: Millis) {
        if self.stands {
            (self.due, self.retried) = (Some(now), false);
        }
    }

    /// Offers have come: the retry is not needed.
    pub fn offered(&mut self, now: Millis) {
        (self.watch_ms, self.watch_at) = (WATCH_MS, now + WATCH_MS);
        if self.stands && self.due.is_some_and(|due| due > now) {
            self.due = Some(now + RETRY_MS);
        }
    }

    /// What has to be sent now; it counts as sent.
    pub fn ask(&mut self, now: Millis) -> Option<Ask> {
        if !self.stands {
            return None;
        }
        if now >= self.watch_at {
            self.watch_ms = (self.watch_ms * 2).min(MAX_WATCH_MS);
            self.watch_at = now + self.watch_ms;
            self.sent(now);
            return Some(Ask::StartOver);
        }
        self.due.filter(|due| *due <= now)?;
        if !self.take_token(now) {
            self.due = Some(now + REFILL_MS);
            return None;
        }
        self.sent(now);
        Some(Ask::Revive)
    }

    /// A REVIVE goes out, for whatever reason.
    pub fn sent(&mut self, now: Millis) {
        self.suppressed = false;
        if self.stands {
            self.due = Some(now + if self.retried { RETRY_MS } else { FIRST_RETRY_MS });
            self.retried = true;
        }
    }

    /// When [`Self::ask`] has something to say.
    pub fn next(&self) -> Option<Millis> {
        let due = self.due.unwrap_or(Millis::MAX);
        self.stands.then_some(due.min(self.watch_at))
    }

    fn take_token(&mut self, now: Millis) -> bool {
        self.tokens = (self.tokens + (now - self.refilled.min(now))).min(BURST * REFILL_MS);
        self.refilled = now;
        let enough = self.tokens >= REFILL_MS;
        if enough {
            self.tokens -= REFILL_MS;
        }
        enough
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Times at which something is sent between `from` and `to` when asked each millisecond.
    fn sends(revive: &mut Revive, from: Millis, to: Millis) -> Vec<(Millis, Ask)> {
        (from..to).filter_map(|now| revive.ask(now).map(|ask| (now, ask))).collect()
    }

    #[test]
    fn one_retry_soon_then_each_second() {
        let mut revive = Revive::default();
        assert_eq!(revive.next(), None);
        revive.want(true, true, 100);
        let sent: Vec<_> = sends(&mut revive, 100, 1500).into_iter().map(|(at, _)| at).collect();
        assert_eq!(sent, [100, 150, 1150]);
        revive.want(true, false, 1500);
        assert_eq!(revive.ask(1500), None, "the same want is no news");
        revive.want(true, true, 1510);
        assert_eq!(revive.ask(1510), Some(Ask::Revive));
        revive.want(false, true, 1520);
        assert_eq!(sends(&mut revive, 1520, 9000), []);
    }

    #[test]
    fn offers_make_the_retry_unnecessary() {
        let mut revive = Revive::default();
        revive.want(true, true, 100);
        assert_eq!(revive.ask(100), Some(Ask::Revive));
        revive.offered(103);
        assert_eq!(sends(&mut revive, 103, 1103), []);
        assert_eq!(revive.ask(1103), Some(Ask::Revive));
    }

    #[test]
    fn it_never_spins() {
        let mut revive = Revive::default();
        let sent = (0..1900).filter(|now| {
            revive.want(true, true, *now);
            revive.ask(*now).is_some()
        });
        assert_eq!(sent.count(), 50 + 1900 / 50 - 1);
    }

    #[test]
    fn silence_starts_over_less_and_less_often() {
        let mut revive = Revive::default();
        revive.want(true, true, 0);
        let over: Vec<_> = sends(&mut revive, 0, 15_000).into_iter().filter(|s| s.1 == Ask::StartOver).map(|s| s.0).collect();
        assert_eq!(over, [2000, 6000, 14_000]);
        revive.offered(15_000);
        let over: Vec<_> =
            sends(&mut revive, 15_000, 17_001).into_iter().filter(|s| s.1 == Ask::StartOver).map(|s| s.0).collect();
        assert_eq!(over, [17_000], "offers that come make it patient again");
    }
}
