//! One decision, from the world to the plan.

use std::collections::BTreeMap;

use super::allocate::{Allocation, allocate};
use super::claim::Claim;
use super::memory::Memory;
use super::plan::{Plan, Verdict};
use super::retire::retire;
use super::seat::Seat;
use super::verdict::{self, Overview};
use super::world::{Millis, World};
use crate::api::validated::Key;

/// Decides what is to be done in the pool. Pure: the same inputs give the same plan, byte for byte.
#[must_use]
pub fn decide(world: &World, mut memory: Memory, now: Millis) -> (Plan, Memory) {
    memory.follow(world);
    let claims = claims(world, &mut memory, now);
    let allocation = allocate(world, &claims, is_hands_off, now);
    let (retire, idle_until) = retire(world, &allocation.rooms.bases, &mut memory, now);
    let (mut plan, seats) = allocation.finish();
    plan.retire = retire;
    memory.note(&plan);
    plan.verdicts = verdicts(world, &seats, &memory, now);
    observe(&mut plan.verdicts, world, &claims, now);
    plan.wake_at = claims.iter().filter_map(|claim| claim.wake_at).chain(plan.wake_at).chain(idle_until).min();
    (plan, memory)
}

/// What each app wants.
fn claims<'a>(world: &'a World, memory: &mut Memory, now: Millis) -> Vec<Claim<'a>> {
    let all = world.apps.iter().zip(memory.apps());
    all.filter_map(|((key, view), memory)| Some(Claim::of(key, view.spec.as_deref()?, view, memory, now))).collect()
}

/// The gate: of a suspended or merely observed app, or one that cannot be acted upon, nothing starts, ends or gives way.
fn is_hands_off(claim: &Claim) -> bool {
    claim.app.suspended || claim.app.observed_only || claim.held
}

fn verdicts(world: &World, seats: &[Seat], memory: &Memory, now: Millis) -> BTreeMap<Key, Verdict> {
    let pool = Overview::of(seats, world, now);
    let giving_way = memory.giving_way();
    let winners = |key: &Key| giving_way.get(key).copied().unwrap_or_default().iter().map(|(_, winner)| winner);
    let mut verdicts: BTreeMap<Key, Verdict> =
        (seats.iter()).map(|seat| (seat.claim.key.clone(), verdict::verdict(seat, &pool, winners(seat.claim.key)))).collect();
    let deleted = world.apps.iter().filter(|(_, view)| view.spec.is_none());
    verdicts.extend(deleted.map(|(key, view)| (key.clone(), verdict::deleted(view))));
    verdicts
}

/// For apps that are only observed: what they would get if the decision were carried out.
fn observe(verdicts: &mut BTreeMap<Key, Verdict>, world: &World, claims: &[Claim], now: Millis) {
    if !claims.iter().any(|claim| claim.app.observed_only) {
        return;
    }
    let Allocation { seats, .. } = allocate(world, claims, |claim| claim.app.suspended || claim.held, now);
    let pool = Overview::of(&seats, world, now);
    for seat in seats.iter().filter(|seat| seat.claim.app.observed_only) {
        verdicts.insert(seat.claim.key.clone(), verdict::verdict(seat, &pool, std::iter::empty()));
    }
}
