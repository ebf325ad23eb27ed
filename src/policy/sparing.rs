//! What is spared when room is taken: work that has only just begun, apps of which enough is down already, or that lost enough of late.
//!
//! A minimum is worth more than what it costs others, so that nothing is spared for it; nor for the pool's limits.

use super::allocate::Allocation;
use super::budget::Tokens;
use super::claim::{Claim, is_live};
use super::preempt::{Candidate, losable};
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
    /// Enough had to give way of late; one more may then.
    Budget(Millis),
    /// Who holds it has enough that is not ready.
    Unavailable,
}

impl Withheld {
    /// When that may change by itself.
    pub fn until(self) -> Option<Millis> {
        match self {
            Self::Protected(at) | Self::Budget(at) => Some(at),
            Self::Futile | Self::Unavailable => None,
        }
    }
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
        let holds_budget = match self.strength {
            Strength::Firm => return false,
            Strength::Want => even_for_more_important,
            Strength::Reserve => true,
        };
        let of_app = || chosen.iter().filter(|other| other.app == victim.app);
        let is_down = || !seat.may_disrupt(of_app().filter(|other| other.is_ready()).count() + 1);
        let is_spent = || {
            let count = of_app().count() + 1;
            let allows = |tokens| self.allows(tokens, count, seat.taken);
            !seat.claim.tokens.is_none_or(allows)
        };
        victim.is_protected() || (holds_budget && victim.is_ready() && is_down()) || is_spent()
    }

    fn allows(self, tokens: Tokens, count: usize, taken: usize) -> bool {
        match self.strength {
            Strength::Firm => true,
            Strength::Want => tokens.allow_at_once(count, taken),
            Strength::Reserve => tokens.allow(count, taken),
        }
    }
}

impl Allocation<'_> {
    /// Whether the pool's budget lets so many give way for this one.
    pub fn afford(&self, winner: Winner, count: usize) -> bool {
        count == 0 || self.tokens.is_none_or(|tokens| winner.allows(tokens, count, self.taken))
    }

    /// Why room that is not enough was not taken; when that changes by itself, more can be done.
    pub fn withheld(&mut self, winner: Winner) -> Option<Withheld> {
        let guarded = self.victims.as_ref().map_or(&[][..], |victims| &victims.guarded);
        let lower = guarded.iter().map(|guarded| (&self.seats[guarded.app], guarded));
        let lower = lower.filter(|(seat, _)| losable(seat).any(|rank| rank > winner.rank));
        let why = lower.flat_map(|(seat, guarded)| guarded.holds(seat)).min_by_key(|why| why.until().unwrap_or(Millis::MAX));
        let why = why.filter(|_| winner.strength != Strength::Firm);
        why.and_then(Withheld::until).into_iter().for_each(|at| self.wake(at));
        why
    }

    /// Not now, as enough in the pool has given way of late.
    pub fn out_of_budget(&mut self) -> Option<Withheld> {
        let at = self.tokens?.next_at.max(self.now + 1);
        self.wake(at);
        Some(Withheld::Budget(at))
    }
}

/// An app that may lose replicas, though not at any time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guarded {
    pub app: usize,
    now: Millis,
    /// When the first of its replicas ceases to be protected.
    protected: Option<Millis>,
}

impl Guarded {
    pub fn of(seat: &Seat, app: usize, now: Millis) -> Option<Self> {
        let Claim { tasks, app: spec, tokens, .. } = seat.claim;
        let Protection { protect_for_milliseconds, even_for_more_important, .. } = spec.protection;
        let guarded = protect_for_milliseconds > 0 || even_for_more_important || tokens.is_some();
        let ends = || tasks.iter().filter(|task| is_live(task)).map(|task| protected_until(task, spec)).filter(|at| *at > now);
        guarded.then(|| Self { app, now, protected: if protect_for_milliseconds > 0 { ends().min() } else { None } })
    }

    fn holds(self, seat: &Seat) -> impl Iterator<Item = Withheld> {
        let down = seat.claim.app.protection.even_for_more_important && !seat.may_disrupt(1);
        let spent = seat.claim.tokens.filter(|tokens| !tokens.allow(1, seat.taken));
        let spent = spent.map(|tokens| Withheld::Budget(tokens.next_at.max(self.now + 1)));
        self.protected.map(Withheld::Protected).into_iter().chain(spent).chain(down.then_some(Withheld::Unavailable))
    }
}

/// Until when this replica gives way to nobody.
pub(super) fn protected_until(task: &Task, app: &App) -> Millis {
    task.born.saturating_add(u64::try_from(app.protection.protect_for_milliseconds).unwrap_or(0))
}
