//! What is spared when room is taken: work that has only just begun, and apps of which enough is down already.
//!
//! As in Borg and Aurora, a minimum is worth more than what it costs others, so that nothing is spared for it; nor for the pool's limits.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::preempt::Candidate;
use super::rooms::Rank;
use super::seat::{Band, Seat};
use super::world::{Millis, Task};
use crate::api::protection::Protection;
use crate::api::validated::App;

/// For whom room is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Winner {
    pub rank: Rank,
    pub strength: Strength,
}

/// What a claim on the room of others is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// A minimum, or the pool's limits: nothing is spared.
    Firm,
    /// What more important apps want.
    Want,
    /// Room that is only kept for later.
    Reserve,
}

/// Why room is not taken now that could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// Of late such room went elsewhere.
    Futile,
    /// Who holds it is protected, some until then.
    Protected(Millis),
}

impl Winner {
    pub fn of(seat: &Seat, band: Band) -> Self {
        Self { rank: seat.rank(band), strength: if band == Band::Floor { Strength::Firm } else { Strength::Want } }
    }

    pub fn wanting(rank: Rank) -> Self {
        Self { rank, strength: Strength::Want }
    }

    /// Whether this victim is spared, beside others that are chosen already.
    pub fn spares(self, victim: &Candidate, seat: &Seat, chosen: &[Candidate]) -> bool {
        let Protection { even_for_more_important, .. } = seat.claim.app.protection;
        let budget = match self.strength {
            Strength::Firm => return false,
            Strength::Want => even_for_more_important,
            Strength::Reserve => true,
        };
        let ready = || chosen.iter().filter(|other| other.app == victim.app && other.is_ready()).count();
        victim.is_protected() || (budget && victim.is_ready() && !seat.may_disrupt(ready() + 1))
    }
}

/// Until when this replica gives way to nobody.
pub(super) fn protected_until(task: &Task, app: &App) -> Millis {
    task.born.saturating_add(u64::try_from(app.protection.protect_for_milliseconds).unwrap_or(0))
}

/// When the first protection ends, by the importance of what is protected.
#[derive(Clone, Debug, Default)]
pub(super) struct Protected(BTreeMap<Rank, Millis>);

impl Protected {
    pub fn note(&mut self, rank: Rank, until: Millis) {
        self.0.entry(rank).and_modify(|first| *first = until.min(*first)).or_insert(until);
    }

    /// Of what is less important than this.
    pub fn below(&self, rank: Rank) -> Option<Millis> {
        self.0.range((Excluded(rank), Unbounded)).map(|(_, until)| *until).min()
    }
}
