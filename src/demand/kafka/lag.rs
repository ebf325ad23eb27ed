//! From offsets to lag.

use std::collections::BTreeMap;

use crate::api::demand::OffsetResetPolicy;

/// A partition, by topic and index.
pub type Place = (String, i32);
/// An offset in each of some partitions.
pub type Offsets = BTreeMap<Place, i64>;

/// What a partition without a committed offset counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncommitted {
    Nothing,
    /// So that consumers start, and commit where they begin.
    One,
    /// All that is there, for there they will begin.
    All,
}

impl Uncommitted {
    #[must_use]
    pub fn of(policy: OffsetResetPolicy, scale_to_zero: bool) -> Self {
        match policy {
            _ if scale_to_zero => Self::Nothing,
            OffsetResetPolicy::Latest => Self::One,
            OffsetResetPolicy::Earliest => Self::All,
        }
    }
}

/// The lag over these partitions, from what was committed and where they end. Where those without a committed offset count with all that
/// is there, `earliest` tells where they begin.
pub fn total<'a>(
    places: impl Iterator<Item = &'a Place>,
    committed: &Offsets,
    uncommitted: Uncommitted,
    earliest: &Offsets,
    latest: &Offsets,
) -> i64 {
    let at = |offsets: &Offsets, place| offsets.get(place).copied().unwrap_or_default();
    let lag = |place| match (committed.get(place), uncommitted) {
        (Some(committed), _) => at(latest, place) - committed,
        (None, Uncommitted::Nothing) => 0,
        (None, Uncommitted::One) => 1,
        (None, Uncommitted::All) => at(latest, place) - at(earliest, place),
    };
    // A topic that was made anew ends before what was committed in the old one.
    places.map(|place| lag(place).max(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_beyond_the_committed_offset() {
        let place = |index| ("orders".to_owned(), index);
        let places = [place(0), place(1), place(2), place(3)];
        let committed = Offsets::from([(place(0), 90), (place(1), 50), (place(3), 7)]);
        let latest = Offsets::from([(place(0), 100), (place(1), 50), (place(2), 70), (place(3), 2)]);
        let earliest = Offsets::from([(place(2), 30)]);
        let total = |policy, zero| total(places.iter(), &committed, Uncommitted::of(policy, zero), &earliest, &latest);
        assert_eq!(total(OffsetResetPolicy::Latest, false), 10 + 1);
        assert_eq!(total(OffsetResetPolicy::Earliest, false), 10 + 40);
        assert_eq!(total(OffsetResetPolicy::Latest, true), 10);
        assert_eq!(total(OffsetResetPolicy::Earliest, true), 10);
    }
}
