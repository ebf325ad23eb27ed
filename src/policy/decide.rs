//! One decision, from the world to the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::allocate::{Allocation, allocate};
use super::budget::Tokens;
use super::claim::Claim;
use super::memory::{AppMemory, Memory};
use super::plan::{Plan, Verdict};
use super::retire::retire;
use super::seat::Seat;
use super::shortfall;
use super::verdict::{self, Overview};
use super::world::{Millis, World};
use crate::api::validated::Key;

/// Decides what is to be done in the pool. Pure: the same inputs give the same plan, byte for byte.
#[must_use]
pub fn decide(world: &World, mut memory: Memory, now: Millis) -> (Plan, Memory) {
    memory.follow(world);
    let claims = claims(world, &mut memory, now);
    let tokens = memory.taken.refill(world.preemption_budget, now);
    let allocation = allocate(world, &claims, tokens, is_hands_off, now);
    let (retire, idle_until) = retire(world, &allocation.rooms.bases, &mut memory, now);
    let shortfall = shortfall::of(&allocation);
    let (mut plan, seats) = allocation.finish();
    plan.shortfall = Arc::new(shortfall);
    plan.retire = retire;
    memory.note(&plan);
    plan.verdicts = verdicts(world, &seats, &mut memory, now);
    observe(&mut plan.verdicts, world, &claims, tokens, now);
    plan.wake_at = claims.iter().filter_map(|claim| claim.wake_at).chain(plan.wake_at).chain(idle_until).min();
    (plan, memory)
}

/// What each app wants.
fn claims<'a>(world: &'a World, memory: &mut Memory, now: Millis) -> Vec<Claim<'a>> {
    let all = world.apps.iter().zip(memory.apps());
    all.filter_map(|((key, view), memory)| Some(Claim::of(key, view.spec.as_deref()?, view, &world.agents, memory, now)))
        .collect()
}

/// The gate: of a suspended or merely observed app, or one that cannot be acted upon, nothing starts, ends or gives way.
fn is_hands_off(claim: &Claim) -> bool {
    claim.app.suspended || claim.app.observed_only || claim.held
}

fn verdicts(world: &World, seats: &[Seat], memory: &mut Memory, now: Millis) -> BTreeMap<Key, Arc<Verdict>> {
    let pool = Overview::of(seats, world, now);
    let mut seats = seats.iter();
    let verdicts = world.apps.iter().zip(memory.apps()).map(|((key, view), memory)| {
        let seat = view.spec.as_ref().and_then(|_| seats.next());
        let verdict = seat.map_or_else(|| Arc::new(verdict::deleted(view)), |seat| verdict_on(seat, memory, &pool));
        (key.clone(), verdict)
    });
    verdicts.collect()
}

/// The same as before, where nothing has changed and nothing moves.
fn verdict_on(seat: &Seat, memory: &mut AppMemory, pool: &Overview) -> Arc<Verdict> {
    let anew = || Arc::new(verdict::verdict(seat, pool, memory.giving_way.iter().map(|(_, winner)| winner)));
    if !seat.is_at_rest() || !memory.giving_way.is_empty() {
        return anew();
    }
    let before = memory.settled.as_ref().and_then(|settled| settled.verdict.clone());
    debug_assert!(before.as_ref().is_none_or(|before| *before == anew()), "{} is judged otherwise unnoticed", seat.claim.key);
    let verdict = before.unwrap_or_else(anew);
    if let Some(settled) = &mut memory.settled {
        settled.verdict = Some(verdict.clone());
    }
    verdict
}

/// For apps that are only observed: what they would get if the decision were carried out.
fn observe(verdicts: &mut BTreeMap<Key, Arc<Verdict>>, world: &World, claims: &[Claim], tokens: Option<Tokens>, now: Millis) {
    if !claims.iter().any(|claim| claim.app.observed_only) {
        return;
    }
    let Allocation { seats, .. } = allocate(world, claims, tokens, |claim| claim.app.suspended || claim.held, now);
    let pool = Overview::of(&seats, world, now);
    for seat in seats.iter().filter(|seat| seat.claim.app.observed_only) {
        verdicts.insert(seat.claim.key.clone(), Arc::new(verdict::verdict(seat, &pool, std::iter::empty())));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{agent, app, demand, reading, world};
    use super::super::world::{Foreseen, Reading};
    use super::*;
    use crate::forecast::Curve;

    /// Under test, a judgement that is taken over is compared with a new one every 8 ms: what is foreseen comes closer.
    #[test]
    fn what_is_foreseen_is_judged_anew() {
        let forecast = json!({"name": "load", "push": {}, "target": {"averageValue": 1}, "forecast": {"horizonSeconds": 5}});
        let mut world = world(vec![agent(8, &[])], vec![(app("a", json!({"demand": [forecast]})), vec![0; 4])]);
        let curve =
            Curve { begins: 0, step_ms: 1000, values: vec![2.0, 2.0, 4.0], trusted: true, error: None, seasons: Vec::new() };
        let foreseen = Some(Foreseen(Arc::new(curve)));
        world.apps.values_mut().for_each(|view| view.readings = vec![Reading { foreseen: foreseen.clone(), ..reading(2.0, 0) }]);
        let (memory, mut said) = (decide(&world, Memory::default(), 8).1, Vec::new());
        for now in [16, 24] {
            said.push(decide(&world, memory.clone(), now).0.verdicts[&Key::new("default", "a")].reason());
        }
        assert!(said[0].starts_with("load is expected to reach 4 in "), "{said:?}");
    }

    #[test]
    fn what_is_at_rest_is_judged_once() {
        let spec = || json!({"demand": [demand(&json!({"averageValue": 1}))]});
        let mut world = world(vec![agent(8, &[])], vec![(app("a", spec()), vec![0, 0]), (app("b", spec()), vec![0])]);
        let [a, b] = ["a", "b"].map(|name| Key::new("default", name));
        world.apps.get_mut(&a).expect("it is there").readings = vec![reading(2.0, 100)];
        world.apps.get_mut(&b).expect("it is there").readings = vec![reading(1.0, 100)];
        let (first, memory) = decide(&world, Memory::default(), 100);
        world.apps.get_mut(&b).expect("it is there").readings = vec![reading(3.0, 200)];
        let (second, memory) = decide(&world, memory, 200);
        let kept = |key: &Key, one: &Plan, other: &Plan| Arc::ptr_eq(&one.verdicts[key], &other.verdicts[key]);
        assert_eq!((kept(&a, &first, &second), kept(&b, &first, &second), second.starts.len()), (true, false, 2));
        let (third, _) = decide(&world, memory, 100_000);
        assert!(!kept(&a, &second, &third), "its value has become stale");
    }
}
