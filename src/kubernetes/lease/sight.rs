//! When the lease may be taken, and whether it is still one's own. Told what was read and when; asks nobody.

use super::Peer;
use super::record::Record;
use crate::policy::world::Millis;

/// What a standby has seen of the lease.
pub(super) struct Sight {
    identity: String,
    duration: Millis,
    /// Anything at all was seen, be it that there is no lease.
    looked: bool,
    record: Option<Record>,
    /// Whoever holds it is believed to until then.
    free_at: Millis,
    /// Changes may have been missed.
    blind: bool,
    transitions: i32,
}

impl Sight {
    pub fn new(identity: &str, duration: Millis) -> Self {
        Self { identity: identity.to_owned(), duration, looked: false, record: None, free_at: 0, blind: false, transitions: -1 }
    }

    /// This is what there is now; `None`: no lease.
    pub fn observe(&mut self, found: Option<Record>, now: Millis) {
        let was_held = self.record.as_ref().is_some_and(|record| self.is_anothers(record));
        let is_news = |record: &Record| self.record.as_ref().is_none_or(|before| !record.says_the_same_as(before));
        match &found {
            Some(record) if !self.is_anothers(record) => self.free_at = 0,
            Some(record) if is_news(record) || self.blind => self.free_at = self.held_from(now),
            // Somebody has deleted it, and its holder may not know yet.
            None if was_held => self.free_at = self.held_from(now),
            Some(_) | None => {}
        }
        self.blind = false;
        self.transitions = self.transitions.max(found.as_ref().map_or(-1, Record::transitions));
        self.record = found;
        self.looked = true;
    }

    /// The API server could not be asked: the holder may not have been able to renew either, and is given its time again.
    pub fn lose(&mut self) {
        self.blind = true;
    }

    /// From when on it may be taken, as far as seen.
    pub fn free_at(&self) -> Millis {
        self.free_at
    }

    /// The number of transitions to write when taking it: one more than ever seen.
    pub fn next_transition(&self) -> i32 {
        self.transitions.saturating_add(1)
    }

    /// Who holds it, if that is another one.
    pub fn leader(&self) -> Option<Peer> {
        self.record.as_ref().filter(|record| self.is_anothers(record)).and_then(Record::peer)
    }

    pub fn words(&self) -> String {
        match (self.leader(), self.looked) {
            (Some(peer), _) => format!("{} leads", peer.identity),
            (None, true) => "nobody leads".to_owned(),
            (None, false) => "nobody is known to lead yet".to_owned(),
        }
    }

    fn is_anothers(&self, record: &Record) -> bool {
        record.holder().is_some_and(|holder| holder != self.identity)
    }

    /// Both moments are rounded down: without one more, the holder's own clock might allow it a last fraction of a millisecond.
    fn held_from(&self, now: Millis) -> Millis {
        now + self.duration + 1
    }
}

/// What has become of a lease that was one's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Somebody has written to it, but nobody else has held it since.
    Ours,
    /// There is no lease.
    Gone,
    Lost,
}

impl Claim {
    /// The number of transitions tells whether another one held it in between.
    pub fn of(held: &Record, found: Option<&Record>) -> Self {
        match found {
            None => Self::Gone,
            Some(found) if found.holder() == held.holder() && found.transitions() == held.transitions() => Self::Ours,
            Some(_) => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{held, released};
    use super::*;

    fn sight() -> Sight {
        Sight::new("me", 1500)
    }

    #[test]
    fn what_is_free_is_free_at_once() {
        for free in [None, Some(released(&held("a", 4, 100))), Some(held("me", 4, 100))] {
            let mut sight = sight();
            assert_eq!(sight.words(), "nobody is known to lead yet");
            sight.observe(free.clone(), 10_000);
            assert_eq!(sight.free_at(), 0, "{free:?}");
            assert_eq!(sight.next_transition(), if free.is_some() { 5 } else { 0 });
            assert_eq!((sight.leader(), sight.words().as_str()), (None, "nobody leads"));
        }
    }

    #[test]
    fn a_lease_found_old_is_given_its_whole_time() {
        let mut sight = sight();
        sight.observe(Some(held("a", 0, 100)), 10_000);
        assert_eq!(sight.free_at(), 11_501);
        assert_eq!(sight.words(), "a leads");
        sight.observe(Some(held("a", 0, 100)), 11_000);
        assert_eq!(sight.free_at(), 11_501, "seen once more, it is no younger");
    }

    #[test]
    fn each_renewal_gives_it_its_whole_time_whatever_its_holders_clock_says() {
        let mut sight = sight();
        sight.observe(Some(held("a", 0, 5_000_000)), 10_000);
        sight.observe(Some(held("a", 0, 1)), 10_300);
        assert_eq!(sight.free_at(), 11_801);
        sight.observe(Some(held("b", 1, 1)), 10_400);
        assert_eq!(sight.free_at(), 11_901);
    }

    #[test]
    fn a_release_is_seen_at_once() {
        let mut sight = sight();
        sight.observe(Some(held("a", 0, 100)), 10_000);
        sight.observe(Some(released(&held("a", 0, 100))), 10_001);
        assert_eq!(sight.free_at(), 0);
        // And another standby was quicker.
        sight.observe(Some(held("b", 1, 101)), 10_002);
        assert_eq!(sight.free_at(), 11_503);
    }

    #[test]
    fn time_in_which_nothing_could_be_seen_does_not_count() {
        let mut sight = sight();
        sight.observe(Some(held("a", 0, 100)), 10_000);
        sight.lose();
        sight.observe(Some(held("a", 0, 100)), 20_000);
        assert_eq!(sight.free_at(), 21_501);
        sight.observe(Some(held("a", 0, 100)), 21_000);
        assert_eq!(sight.free_at(), 21_501);
        sight.lose();
        sight.observe(Some(released(&held("a", 0, 100))), 30_000);
        assert_eq!(sight.free_at(), 0);
    }

    #[test]
    fn the_holder_of_a_deleted_lease_may_not_know() {
        let mut sight = sight();
        sight.observe(Some(held("a", 7, 100)), 10_000);
        sight.observe(None, 11_000);
        assert_eq!((sight.free_at(), sight.leader()), (12_501, None));
        sight.observe(None, 12_000);
        assert_eq!(sight.free_at(), 12_501);
        assert_eq!(sight.next_transition(), 8, "not one that was used before");
        sight.observe(Some(held("a", 7, 101)), 12_100);
        assert_eq!(sight.free_at(), 13_601);
    }

    #[test]
    fn a_claim_ends_when_another_one_has_held_the_lease() {
        let ours = held("me", 3, 100);
        for (found, claim) in [
            (None, Claim::Gone),
            (Some(held("me", 3, 200)), Claim::Ours),
            (Some(held("a", 4, 200)), Claim::Lost),
            (Some(held("a", 3, 200)), Claim::Lost),
            (Some(held("me", 5, 200)), Claim::Lost),
            (Some(released(&ours)), Claim::Lost),
        ] {
            assert_eq!(Claim::of(&ours, found.as_ref()), claim, "{found:?}");
        }
    }
}
