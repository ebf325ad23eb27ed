//! What has to be asked of Marathon next, for one app to come to what is wanted of it.
//!
//! Only the number of instances is written, with `force`: a deployment that hangs for want of room would otherwise lock the app. Two
//! facts of the real one decide how (recordings of Marathon 1.11.26, and `ScalingProposition` and `TaskKiller` of its source):
//! - **A lower number ends running instances before those that wait for room.** Two run and three wait: asked for two, it ends both
//!   that run. There is no call that takes back an instance that waits; `tasks/delete?scale=true` lowers the number by those that run
//!   alone. So while some wait, the number is not lowered: what runs beyond what is wanted is named and ended, and an instance that is
//!   not wanted any more is ended as soon as it has found its place. The same goes for those that have a place and are not up yet.
//! - **The number that it has already** is no change, and starts nothing that is missing; see [`Cures`](super::ledger::Cures).

use std::sync::Arc;

use super::ledger::{Managed, State};

/// An absurd number of instances ends Marathon (a heap of 1 GB, by two thousand million); each is an object there, and so many are
/// well within what such a heap is known to hold.
pub const MOST_INSTANCES: i64 = 20_000;

/// One request about one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many instances; Marathon chooses which end.
    Scale(i64),
    /// These instances end, and the number is lowered by them.
    Shrink(Vec<Arc<str>>),
    /// The app is made, with so many instances.
    Create(i64),
}

/// What to ask next, if anything is to be.
pub fn next(app: &Managed) -> Option<Change> {
    if app.busy || app.uncertain || !app.sought || app.is_held() {
        return None;
    }
    let target = app.target.clamp(0, MOST_INSTANCES);
    let Some(known) = &app.known else {
        return (app.owned && target > 0).then_some(Change::Create(target));
    };
    if let Some(nudge) = app.cures.nudge {
        return Some(Change::Scale(nudge));
    }
    let chosen: Vec<_> = app.instances.iter().filter(|(_, instance)| instance.chosen).map(|(id, _)| id.clone()).collect();
    if !chosen.is_empty() && target > 0 {
        return Some(Change::Shrink(chosen));
    }
    if target > known.instances {
        return Some(Change::Scale(target));
    }
    if target == known.instances {
        return None;
    }
    let none_waits = app.unplaced() == 0;
    let all_run = none_waits && app.instances.values().all(|instance| instance.state != State::Starting);
    if target == 0 || app.placed() == 0 || (all_run && !app.chooses_itself()) {
        return Some(Change::Scale(target));
    }
    let surplus = app.surplus();
    if !surplus.is_empty() {
        return Some(Change::Shrink(surplus));
    }
    // What it counts beyond those that are placed is what waits: nothing but time takes that back.
    none_waits.then_some(Change::Scale(target))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::{managed, placed};
    use super::*;

    fn ids(ids: &[&str]) -> Vec<Arc<str>> {
        ids.iter().map(|id| (*id).into()).collect()
    }

    #[test]
    fn a_number_is_lowered_only_when_nothing_waits() {
        let mut app = managed("web", 5);
        (app.sought, app.target) = (true, 3);
        placed(&mut app, 5);
        assert_eq!(next(&app), Some(Change::Scale(3)));
        placed(&mut app, 4);
        assert_eq!(next(&app), Some(Change::Shrink(ids(&["i4"]))), "the youngest, by name: one waits");
        placed(&mut app, 3);
        assert_eq!(next(&app), None, "what waits cannot be taken back");
        placed(&mut app, 5);
        app.instances.get_mut("i2").unwrap().state = State::Starting;
        assert_eq!(next(&app), Some(Change::Shrink(ids(&["i2", "i5"]))), "one is not up yet");
        placed(&mut app, 3);
        app.target = 0;
        assert_eq!(next(&app), Some(Change::Scale(0)), "nothing is to remain");
        (app.target, app.known.as_mut().unwrap().instances) = (4, 5);
        placed(&mut app, 0);
        assert_eq!(next(&app), Some(Change::Scale(4)), "nothing runs that could be ended instead");
    }

    #[test]
    fn chosen_ones_end_by_name() {
        let mut app = managed("web", 3);
        placed(&mut app, 3);
        (app.sought, app.target) = (true, 2);
        app.instances.get_mut("i1").unwrap().chosen = true;
        assert_eq!(next(&app), Some(Change::Shrink(ids(&["i1"]))));
        app.target = 0;
        assert_eq!(next(&app), Some(Change::Scale(0)), "all of them need no names");
    }

    #[test]
    fn one_request_at_a_time_and_no_absurd_numbers() {
        let mut app = managed("web", 3);
        placed(&mut app, 3);
        (app.sought, app.target) = (true, i64::from(i32::MAX));
        assert_eq!(next(&app), Some(Change::Scale(MOST_INSTANCES)));
        app.busy = true;
        assert_eq!(next(&app), None);
        (app.busy, app.uncertain) = (false, true);
        assert_eq!(next(&app), None, "it has to be read first");
    }

    #[test]
    fn only_our_own_are_made() {
        let mut app = managed("web", 0);
        (app.sought, app.known, app.target) = (true, None, 2);
        assert_eq!(next(&app), None, "an adopted app is not there");
        app.owned = true;
        assert_eq!(next(&app), Some(Change::Create(2)));
    }
}
