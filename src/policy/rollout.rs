//! Replicas that others succeed: those of an old template, and those on agents that are about to go. A successor is up before such a
//! replica goes; where there is no room for that, one of a new template takes the place of an old one.

use super::claim::{is_live, is_ready};
use super::plan::StopReason;
use super::seat::Seat;
use super::world::{Task, TaskPhase};
use crate::api::validated::App;

/// Started from another template than the app's current one. What is not known counts as current.
pub(super) fn is_old(task: &Task, app: &App) -> bool {
    task.version.is_some_and(|version| version != app.version)
}

/// How many replicas beyond its ceiling an app may have for now. Those that leave an agent may do so all at once: their room is lost
/// anyway.
pub(super) fn surge(app: &App, outgoing: i64, displaced: i64) -> i64 {
    displaced.saturating_add(if outgoing > displaced { app.max_surge } else { 0 })
}

/// Replicas that can go as others serve in their stead: first those that do not serve, then as many as serve beyond need. While the
/// template has failed of late, none that serves goes: new ones that begin to run may end in the next moment. Spare room on an agent
/// that is about to go is spare no longer, so that what lives on it there goes at once.
pub(super) fn done_with(seat: &Seat) -> Vec<(usize, StopReason)> {
    let claim = seat.claim;
    let (mut kept, mut ready) = (seat.kept, 0);
    let mut serving = claim.tasks.iter().zip(0..).filter(|(task, at)| is_ready(task) && !seat.ends(*at)).count();
    let mut done = Vec::new();
    for at in seat.in_order_of_leaving() {
        let task = &claim.tasks[at];
        if !claim.is_outgoing(task) {
            break;
        }
        let displaced = claim.is_displaced(task);
        let enough = if displaced { claim.want } else { claim.ceiling() };
        if kept <= enough {
            continue;
        }
        if is_ready(task) {
            let needed = usize::try_from(enough).unwrap_or(usize::MAX);
            if serving <= needed || claim.crash.is_some() || (displaced && !seat.may_disrupt(ready + 1)) {
                continue;
            }
            serving -= 1;
            ready += 1;
        }
        kept -= 1;
        done.push((at, if displaced { StopReason::HostDeparts } else { StopReason::Replaced }));
    }
    done
}

/// Whether an old replica may end although nothing stands in for it yet: only while every new one serves and none has failed, so that
/// a template that does not work costs at most `maxSurge` replicas.
pub(super) fn may_go_first(seat: &Seat) -> bool {
    let claim = seat.claim;
    let on_its_way = seat.placed() - seat.in_place;
    seat.outgoing > 0
        && claim.crash.is_none()
        && claim.tally.unready_new == 0
        && on_its_way == 0
        && seat.in_place < claim.app.max_surge
        && !claim.tasks.iter().any(|task| !is_live(task) && is_stopping_old(task, claim.app))
}

fn is_stopping_old(task: &Task, app: &App) -> bool {
    task.phase == TaskPhase::Stopping && is_old(task, app)
}
