//! What becomes of held offers: which agents' room goes back, whether more has to be asked for, and when none is needed.

use super::plan::Plan;
use super::resources::Resources;
use super::rooms::{Level, Rooms, share};
use super::seat::{Seat, Short};
use super::world::AgentIx;

/// Fills in `release`, `recall` and `quiet` of a plan whose starts and waits are settled.
pub(super) fn settle(plan: &mut Plan, rooms: &Rooms, seats: &[Seat], headroom: Resources) {
    let mut used = vec![false; rooms.agents.len()];
    let agents = plan.starts.iter().map(|start| start.agent).chain(plan.waits.iter().map(|wait| wait.agent));
    let bases = &rooms.bases;
    let prepared = plan.prepare.iter().map(|prepare| prepare.agent).chain(bases.awaited.iter().map(|(agent, _)| *agent));
    agents.chain(prepared).for_each(|agent| used[agent.0 as usize] = true);
    let all = (0..).map(AgentIx).take(rooms.agents.len());
    let mut idle: Vec<AgentIx> = all.filter(|ix| !used[ix.0 as usize] && !rooms.offered(*ix).is_zero()).collect();
    // The largest first, so that few whole agents make up the headroom.
    idle.sort_by_key(|ix| (std::cmp::Reverse(share(rooms.offered(*ix), rooms.total)), *ix));
    let mut kept = Resources::ZERO;
    for agent in idle {
        let open = rooms.agents[agent.0 as usize].is_open();
        let helps = !headroom.minus_floor(kept).min(rooms.offered(agent)).is_zero();
        if open && helps {
            kept += rooms.offered(agent);
        } else {
            plan.release.push(agent);
        }
    }
    plan.release.sort_unstable();
    let covered = headroom.fits(kept);
    let wants_room = |seat: &Seat| seat.is_below_want() && matches!(seat.short, Some(Short::Room | Short::Withheld(_)));
    let no_agents = rooms.open().next().is_none() && seats.iter().any(Seat::is_below_want);
    plan.sought = bases.awaited.iter().filter(|(_, level)| *level == Level::Free).map(|(agent, _)| *agent).collect();
    let free = plan.waits.iter().any(|wait| wait.free) || !plan.sought.is_empty();
    plan.recall = !covered || no_agents || free || seats.iter().any(wants_room);
    let hungry = |seat: &Seat| seat.short.as_ref().is_some_and(|short| *short != Short::Limits);
    // Room for what is still to be put on agents comes by itself, but only while offers do.
    let unput = bases.short || !bases.awaited.is_empty();
    plan.quiet = covered && plan.waits.is_empty() && !unput && !seats.iter().any(hungry);
}
