//! What several metrics come to, each in its role.

use std::sync::Arc;

use super::plan::Reason;
use crate::api::demand::Role;

/// The word of one metric.
pub(super) struct Word {
    pub name: Arc<str>,
    pub role: Role,
    /// `None`: not known, or it is only looked at.
    pub replicas: Option<i64>,
    /// Nothing may be given up on the strength of this.
    pub holds: bool,
    /// Its value is above 0.
    pub some: bool,
}

/// What the count starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Basis {
    /// The largest of what metrics of the role Demand ask for.
    Demand,
    /// What a formula has come to, if it could be computed; unsure where one of its values has failed since.
    Formula { replicas: Option<i64>, unsure: bool },
}

/// What they come to.
pub(super) struct Combined {
    pub replicas: i64,
    /// The metric whose word it is, if it is that of one.
    pub winner: Option<usize>,
    /// Why it is not what the demand asks for.
    pub reasons: Vec<Reason>,
}

/// First what the demand or the formula asks for; not below a floor; not above a cap; and while there is a veto, or something is not known,
/// no fewer than there are.
pub(super) fn combine(words: &[Word], basis: Basis, current: i64) -> Combined {
    let of = |role| words.iter().filter(move |word: &&Word| word.role == role);
    let demand = || of(Role::Demand).filter_map(|word| word.replicas).max();
    let (most, unsure) = match basis {
        Basis::Formula { replicas, unsure } => (replicas, unsure || replicas.is_none()),
        Basis::Demand if of(Role::Demand).next().is_some() => (demand(), false),
        Basis::Demand => (Some(0), false),
    };
    let holds = unsure || words.iter().any(|word| word.holds && !matches!(word.role, Role::Cap | Role::Input));
    let asks_most = |word: &Word| word.role == Role::Demand && word.replicas.is_some() && word.replicas == most;
    let winner = words.iter().position(asks_most).filter(|_| basis == Basis::Demand);
    let mut all = Combined { replicas: most.unwrap_or(0), winner, reasons: Vec::new() };
    for floor in of(Role::Floor) {
        all.bound(floor, floor.replicas.filter(|least| *least > all.replicas), false);
    }
    if holds {
        all.replicas = all.replicas.max(current);
    }
    for cap in of(Role::Cap) {
        let most = cap.replicas.unwrap_or(current.max(0));
        all.bound(cap, Some(most).filter(|most| *most < all.replicas), true);
    }
    if let Some(veto) = of(Role::Veto).find(|word| word.some && all.replicas < current) {
        all.reasons.push(Reason::Vetoed { name: veto.name.clone(), asked: all.replicas });
        all.replicas = current;
    }
    all
}

impl Combined {
    fn bound(&mut self, by: &Word, to: Option<i64>, from_above: bool) {
        let Some(to) = to else { return };
        let (name, asked) = (by.name.clone(), self.replicas);
        self.reasons.push(Reason::Bounded { name, asked, replicas: to, from_above });
        self.replicas = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(role: Role, replicas: Option<i64>) -> Word {
        Word { name: "x".into(), role, replicas, holds: replicas.is_none() && role != Role::Veto, some: false }
    }

    fn of(words: &[(Role, Option<i64>)], current: i64) -> i64 {
        let words: Vec<Word> = words.iter().map(|(role, replicas)| word(*role, *replicas)).collect();
        combine(&words, Basis::Demand, current).replicas
    }

    #[test]
    fn each_role_has_its_say() {
        use Role::{Cap, Demand, Floor, Input};
        assert_eq!(of(&[(Demand, Some(3)), (Demand, Some(7))], 5), 7);
        assert_eq!(of(&[(Demand, Some(3)), (Floor, Some(4)), (Input, Some(9))], 5), 4);
        assert_eq!(of(&[(Demand, Some(9)), (Cap, Some(6)), (Cap, Some(8))], 5), 6);
        assert_eq!(of(&[(Demand, Some(9)), (Floor, Some(7)), (Cap, Some(6))], 5), 6, "a cap is stronger than a floor");
        assert_eq!(of(&[(Floor, Some(4))], 5), 4, "without demand, the floor is all");
    }

    #[test]
    fn what_is_not_known_gives_nothing_up_and_adds_nothing_above_a_cap() {
        use Role::{Cap, Demand, Floor, Input};
        assert_eq!(of(&[(Demand, None)], 5), 5);
        assert_eq!(of(&[(Demand, Some(3)), (Floor, None)], 5), 5);
        assert_eq!(of(&[(Demand, Some(9)), (Cap, None)], 5), 5);
        assert_eq!(of(&[(Demand, Some(3)), (Cap, None), (Input, None)], 5), 3);
    }

    #[test]
    fn a_veto_stops_shrinking_only() {
        let play = |some: bool, asked: i64, cap: i64| {
            let veto = Word { some, ..word(Role::Veto, None) };
            let combined = combine(&[word(Role::Demand, Some(asked)), veto, word(Role::Cap, Some(cap))], Basis::Demand, 5);
            combined.replicas
        };
        assert_eq!((play(true, 3, 99), play(true, 8, 99), play(false, 3, 99)), (5, 8, 3));
        assert_eq!(play(true, 8, 2), 5, "work that may not end is not ended for a cap");
    }

    #[test]
    fn a_formula_stands_in_place_of_the_maximum() {
        let words = [word(Role::Demand, Some(9)), word(Role::Floor, Some(4))];
        let by = |replicas, unsure| combine(&words, Basis::Formula { replicas, unsure }, 5).replicas;
        assert_eq!((by(Some(2), false), by(Some(6), false)), (4, 6));
        assert_eq!((by(Some(2), true), by(None, false)), (5, 5), "one that cannot be computed, or is not sure, holds");
    }
}
