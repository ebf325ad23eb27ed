//! Rolling out a changed template: a new replica is up before an old one goes, and where there is no room for that, it takes the old
//! one's place.

use super::claim::{is_live, is_ready};
use super::seat::Seat;
use super::world::{Task, TaskPhase};
use crate::api::validated::App;

/// Started from another template than the app's current one. What is not known counts as current.
pub(super) fn is_old(task: &Task, app: &App) -> bool {
    task.version.is_some_and(|version| version != app.version)
}

/// How many replicas beyond its ceiling an app may have for now.
pub(super) fn surge(seat: &Seat) -> i64 {
    if seat.old > 0 { seat.claim.app.max_surge } else { 0 }
}

/// Old replicas that can go as new ones serve in their stead: first those that do not serve, then as many as serve beyond need. While
/// the new template has failed of late, none that serves goes: new ones that begin to run may end in the next moment.
pub(super) fn done_with(seat: &Seat) -> Vec<usize> {
    let claim = seat.claim;
    let mut beyond = (seat.kept - claim.ceiling()).clamp(0, seat.old);
    let mut serving = claim.tasks.iter().zip(0..).filter(|(task, at)| is_ready(task) && !seat.ends(*at)).count();
    let needed = usize::try_from(claim.ceiling()).unwrap_or(usize::MAX);
    let mut done = Vec::new();
    for at in seat.in_order_of_leaving() {
        let task = &claim.tasks[at];
        if beyond == 0 || !is_old(task, claim.app) {
            break;
        }
        if is_ready(task) {
            if serving <= needed || claim.crash.is_some() {
                continue;
            }
            serving -= 1;
        }
        beyond -= 1;
        done.push(at);
    }
    done
}

/// Whether an old replica may end although nothing stands in for it yet: only while every new one serves and none has failed, so that
/// a template that does not work costs at most `maxSurge` replicas.
pub(super) fn may_go_first(seat: &Seat) -> bool {
    let claim = seat.claim;
    let on_its_way = seat.placed() - seat.in_place;
    seat.old > 0
        && claim.crash.is_none()
        && claim.tally.unready_new == 0
        && on_its_way == 0
        && seat.in_place < claim.app.max_surge
        && !claim.tasks.iter().any(|task| !is_live(task) && is_stopping_old(task, claim.app))
}

fn is_stopping_old(task: &Task, app: &App) -> bool {
    task.phase == TaskPhase::Stopping && is_old(task, app)
}
