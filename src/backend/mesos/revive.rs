//! When to ask for room. A REVIVE brings all that is free within about 2 ms, but costs the master an allocation run over its agents.

use crate::policy::world::Millis;

const BURST: u64 = 50;
const REFILL_MS: u64 = 10;
/// An allocation run that was asked for while the allocator was paused is lost.
const FIRST_RETRY_MS: u64 = 50;
/// Between two REVIVEs that lead to nothing: doubles up to the maximum.
const RETRY_MS: u64 = 1000;
const MAX_RETRY_MS: u64 = 60_000;
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
    /// What is due is the retry in case that the allocator was paused.
    soon: bool,
    retry_ms: u64,
    /// When it starts over if no offers have come since the last REVIVE; the maximum when some have.
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
            soon: false,
            retry_ms: RETRY_MS,
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
            self.at_once(now);
        }
        self.stands = true;
    }

    /// More room has come free while some is wanted.
    pub fn news(&mut self, now: Millis) {
        if self.stands {
            self.at_once(now);
        }
    }

    fn at_once(&mut self, now: Millis) {
        (self.due, self.retried, self.soon, self.retry_ms) = (Some(now), false, false, RETRY_MS);
    }

    /// Something has changed, so that the next REVIVE may bring more than the last.
    pub fn hopeful(&mut self, now: Millis) {
        self.retry_ms = RETRY_MS;
        self.due = self.due.map(|due| due.min(now + RETRY_MS));
    }

    /// Offers have come: the retry soon after is not needed, unless room that was asked for is missing.
    pub fn offered(&mut self, missing: bool, now: Millis) {
        (self.watch_ms, self.watch_at) = (WATCH_MS, Millis::MAX);
        if self.soon && !missing && self.due.is_some_and(|due| due > now) {
            self.later(now);
        }
    }

    /// What is due by time alone would only bring back what has just been declined.
    pub fn declined(&mut self, now: Millis) {
        if self.stands && self.due.is_some_and(|due| due <= now) {
            self.later(now);
        }
    }

    fn later(&mut self, now: Millis) {
        (self.due, self.soon) = (Some(now + self.retry_ms), false);
        self.retry_ms = (self.retry_ms * 2).min(MAX_RETRY_MS);
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
        if !self.stands {
            return;
        }
        self.watch_at = self.watch_at.min(now + self.watch_ms);
        if self.retried {
            self.later(now);
        } else {
            (self.due, self.retried, self.soon) = (Some(now + FIRST_RETRY_MS), true, true);
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
    fn one_retry_soon_then_ever_less_often() {
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
        revive.offered(false, 103);
        assert_eq!(sends(&mut revive, 103, 1103), []);
        assert_eq!(revive.ask(1103), Some(Ask::Revive));
        revive.want(true, true, 1200);
        assert_eq!(revive.ask(1200), Some(Ask::Revive));
        revive.offered(true, 1202);
        assert_eq!(revive.due, Some(1250), "some of what was asked for has not come");
    }

    #[test]
    fn what_leads_to_nothing_is_repeated_less_and_less() {
        let mut revive = Revive::default();
        revive.want(true, true, 0);
        let mut sent = Vec::new();
        for now in 0..200_000 {
            if let Some(ask) = revive.ask(now) {
                sent.push((now, ask));
                revive.offered(false, now);
                revive.declined(now);
                revive.want(true, false, now);
            }
        }
        let expected = [0, 1000, 3000, 7000, 15_000, 31_000, 63_000, 123_000, 183_000];
        assert_eq!(sent.iter().map(|s| s.0).filter(|at| sent.contains(&(*at, Ask::Revive))).collect::<Vec<_>>(), expected);
        revive.hopeful(200_000);
        assert!(revive.due.unwrap() <= 201_000);
    }

    #[test]
    fn what_has_just_been_declined_is_not_asked_for() {
        let mut revive = Revive::default();
        revive.want(true, true, 0);
        assert_eq!(revive.ask(0), Some(Ask::Revive));
        revive.declined(50);
        revive.want(true, false, 50);
        assert_eq!(revive.ask(50), None);
        revive.declined(60);
        revive.want(true, true, 60);
        assert_eq!(revive.ask(60), Some(Ask::Revive), "something else asks");
    }

    #[test]
    fn it_never_spins() {
        let mut revive = Revive::default();
        let sent = (0..1900).filter(|now| {
            revive.want(true, true, *now);
            revive.ask(*now).is_some()
        });
        assert_eq!(sent.count(), 50 + 1900 / 10 - 1);
    }

    #[test]
    fn silence_starts_over_less_and_less_often() {
        let mut revive = Revive::default();
        revive.want(true, true, 0);
        let over: Vec<_> = sends(&mut revive, 0, 15_000).into_iter().filter(|s| s.1 == Ask::StartOver).map(|s| s.0).collect();
        assert_eq!(over, [2000, 6000, 14_000]);
        revive.offered(false, 15_000);
        let over: Vec<_> =
            sends(&mut revive, 15_000, 32_001).into_iter().filter(|s| s.1 == Ask::StartOver).map(|s| s.0).collect();
        assert_eq!(over, [32_000], "offers that come make it patient again");
    }
}
