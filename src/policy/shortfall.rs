//! What the pool lacks: room for what is wanted and found no place, however much less important work gave way. It is what a person, or
//! whatever adds hosts, would have to bring.

use std::collections::BTreeMap;

use super::allocate::Allocation;
use super::plan::Reason;
use super::resources::Resources;
use super::rooms::Rooms;
use super::seat::{Seat, Short};
use crate::api::validated::Key;

/// What is wanted and has no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// One for each app that is short, the most important first.
    pub lacks: Vec<Lack>,
    /// What most agents of the pool have altogether; `None` while there are none.
    pub agent: Option<Resources>,
}

/// What one app is short of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub app: Key,
    pub priority: i32,
    pub replicas: i64,
    /// Of each replica.
    pub size: Resources,
}

/// What apps up to the pool's priority for this lack. Spare room is no want, and where more hosts would be of no use, there is no lack.
pub(super) fn of(allocation: &Allocation) -> Shortfall {
    let Allocation { world, seats, rooms, .. } = allocation;
    // There may be room of which nothing is known yet.
    if world.unsurveyed {
        return Shortfall::default();
    }
    let important = seats.iter().filter(|seat| seat.claim.app.priority <= world.scale_out_priority);
    let mut lacks: Vec<Lack> = important.filter_map(lack_of).collect();
    lacks.sort_by_key(|lack| lack.priority);
    let agent = if lacks.is_empty() { None } else { most_common(rooms) };
    Shortfall { lacks, agent }
}

fn lack_of(seat: &Seat) -> Option<Lack> {
    let app = seat.claim.app;
    let replicas = seat.lacking();
    let hosts_help = match seat.short.as_ref()? {
        Short::Room | Short::Withheld(_) => true,
        Short::Hopeless(reason) => {
            matches!(reason, Reason::NoAgents | Reason::NoAgentMatches | Reason::NoAgentLargeEnough { .. })
        }
        Short::Limits | Short::Headroom => false,
    };
    let lacks = hosts_help && replicas > 0 && !seat.frozen;
    lacks.then(|| Lack { app: seat.claim.key.clone(), priority: app.priority, replicas, size: app.size })
}

/// Of sizes that are as common, the larger.
fn most_common(rooms: &Rooms) -> Option<Resources> {
    let mut sizes: BTreeMap<Resources, usize> = BTreeMap::new();
    rooms.open().for_each(|agent| *sizes.entry(rooms.size(agent)).or_default() += 1);
    sizes.into_iter().max_by_key(|(size, count)| (*count, *size)).map(|(size, _)| size)
}

impl Shortfall {
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lacks.is_empty()
    }

    #[must_use]
    pub fn replicas(&self) -> i64 {
        self.lacks.iter().map(|lack| lack.replicas).sum()
    }

    /// What these replicas use together.
    #[must_use]
    pub fn room(&self) -> Resources {
        self.lacks.iter().map(|lack| lack.size * lack.replicas).sum()
    }

    /// How many further agents of the common size would hold them all, packed as by first fit, the largest first; without the executors
    /// that may come along. `None` when some fit no such agent.
    #[must_use]
    pub fn agents(&self) -> Option<i64> {
        let whole = self.agent?;
        let mut by_size: BTreeMap<Resources, i64> = BTreeMap::new();
        self.lacks.iter().for_each(|lack| *by_size.entry(lack.size).or_default() += lack.replicas);
        let mut sizes: Vec<(Resources, i64)> = by_size.into_iter().collect();
        sizes.sort_by(|(one, _), (other, _)| other.dominant_share(whole).total_cmp(&one.dominant_share(whole)));
        // Agents that are filled alike, so that thousands of replicas cost no more than a few.
        let mut alike: Vec<(Resources, i64)> = Vec::new();
        for (size, mut left) in sizes {
            let mut split = Vec::new();
            for (room, agents) in &mut alike {
                fill((room, agents), size, &mut left, &mut split);
            }
            alike.append(&mut split);
            let each = whole.holds(size);
            if left > 0 && each == 0 {
                return None;
            }
            if left > 0 {
                alike.push((whole - size * each.min(left), (left / each).max(1)));
                let rest = if left > each { left % each } else { 0 };
                alike.extend((rest > 0).then(|| (whole - size * rest, 1)));
            }
        }
        Some(alike.iter().map(|(_, agents)| agents).sum())
    }
}

/// Puts as many as there are into agents that have begun to be filled; the last of these may then be filled otherwise than the others.
fn fill((room, agents): (&mut Resources, &mut i64), size: Resources, left: &mut i64, split: &mut Vec<(Resources, i64)>) {
    let each = room.holds(size);
    if *left == 0 || each == 0 {
        return;
    }
    let full = (*left / each).min(*agents);
    let rest = if full < *agents { *left % each } else { 0 };
    *left -= full * each + rest;
    let (before, untouched) = (*room, *agents - full - i64::from(rest > 0));
    split.extend((rest > 0).then(|| (before - size * rest, 1)));
    split.extend((untouched > 0 && full > 0).then_some((before, untouched)));
    (*room, *agents) = if full > 0 { (before - size * each, full) } else { (before, untouched) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::{agent, app, world};
    use super::super::{Memory, decide};
    use super::*;

    fn short(agents: i64, lacks: &[(i64, i64)]) -> Option<i64> {
        let lack = |(cpu, replicas): &(i64, i64)| Lack {
            app: Key::new("default", "a"),
            priority: 1,
            replicas: *replicas,
            size: Resources::new(*cpu, 1),
        };
        Shortfall { lacks: lacks.iter().map(lack).collect(), agent: Some(Resources::new(agents, 10_000)) }.agents()
    }

    #[test]
    fn agents_are_those_that_would_hold_it_all() {
        assert_eq!(short(4000, &[(1000, 1)]), Some(1));
        assert_eq!(short(4000, &[(1000, 9)]), Some(3));
        assert_eq!(short(4000, &[(3000, 5), (1000, 5)]), Some(5), "the small ones go beside the large ones");
        assert_eq!(short(4000, &[(3000, 2), (1000, 7)]), Some(4));
        assert_eq!(short(4000, &[(3000, 2), (500, 3), (1000, 1)]), Some(3));
        assert_eq!(short(4000, &[(5000, 1), (1000, 7)]), None);
    }

    proptest! {
        /// The same as putting one after the other where it fits first.
        #[test]
        fn counting_agents_alike_is_packing_one_by_one(lacks in prop::collection::vec((1..9_i64, 1..40_i64), 0..6)) {
            let mut sizes: Vec<i64> = lacks.iter().flat_map(|(size, count)| vec![*size; usize::try_from(*count).unwrap_or(0)]).collect();
            sizes.sort_unstable_by(|one, other| other.cmp(one));
            let mut rooms: Vec<i64> = Vec::new();
            for size in &sizes {
                match rooms.iter_mut().find(|room| **room >= *size) {
                    Some(room) => *room -= size,
                    None => rooms.push(10 - size),
                }
            }
            let counted = short(10, &lacks).unwrap_or(-1);
            let least = (sizes.iter().sum::<i64>() + 9) / 10;
            let one_by_one = i64::try_from(rooms.len()).unwrap_or(0);
            // Groups may be filled in another order, which is as good.
            prop_assert!(counted >= least && (counted - one_by_one).abs() <= 1, "{counted}, {one_by_one} of {sizes:?}");
        }
    }

    #[test]
    fn only_what_more_hosts_would_serve_is_lacked() {
        let spec = |priority: i32, replicas: i64| json!({"priority": priority, "replicas": replicas});
        let rest = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let apps = vec![(app("a", spec(5, 3)), vec![]), (app("b", spec(7, 9)), vec![0, 0]), (app("rest", rest), vec![0])];
        let world = world(vec![agent(4, &[])], apps);
        let lacks = |world: &super::super::world::World| {
            let plan = decide(world, Memory::default(), 100).0;
            let lacks: Vec<_> = plan.shortfall.lacks.iter().map(|lack| (lack.app.name().to_owned(), lack.replicas)).collect();
            (lacks, plan.shortfall.agents())
        };
        let with = |priority: i32| super::super::world::World { scale_out_priority: priority, ..world.clone() };
        assert_eq!(lacks(&with(1_000_000)), (vec![("b".to_owned(), 8)], Some(2)));
        assert_eq!(lacks(&with(5)), (vec![], None), "of what is that important, nothing is lacked");
        let limited = super::super::world::World { limits: Resources::new(4000, 10_000), ..with(1_000_000) };
        assert_eq!(lacks(&limited), (vec![], None), "the pool's limits are no lack of hosts");
    }
}
