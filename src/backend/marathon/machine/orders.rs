//! Orders of the engine → how many instances are wanted, and which ones end.

use super::{Machine, Out};
use crate::backend::marathon::ledger::Waiting;
use crate::backend::{End, Ending, Kill, Launch, Orders};
use crate::policy::world::{Millis, World};

/// A replica that has not found a place for so long, while Mesos shows no room for it anywhere, waits for room that others have taken.
const ROOM_GONE_MS: u64 = 15_000;
/// Nothing more is ended for it for this time.
const FUTILE_MS: u64 = 5000;

impl Machine {
    /// Books the orders in the world, and asks Marathon for what they come to.
    pub fn dispatch(&mut self, orders: &Orders, world: &mut World, now: Millis) {
        if !self.standing.ready {
            return;
        }
        self.caused_at = orders.caused_at;
        orders.kills.iter().for_each(|kill| self.kill(kill));
        orders.launches.iter().chain(&orders.upcoming).for_each(|launch| self.launch(launch, now));
        self.ask(now);
        self.show(world, now, &mut Out::default());
    }

    fn kill(&mut self, kill: &Kill) {
        // Of an app that others have made, nothing is ours once its spec is gone. Those of our own are drained without one, too.
        let Some(app) = self.apps.get_mut(&kill.app).filter(|app| app.given.is_some() || app.owned) else { return };
        let chooses = app.chooses_itself();
        if let Some(at) = app.waiting.iter().position(|waiting| waiting.id == kill.id) {
            app.waiting.remove(at);
            app.target -= 1;
        } else if let Some((_, instance)) = app.instances.iter_mut().find(|(_, instance)| instance.task == kill.id) {
            if instance.doomed.is_some() || instance.chosen {
                return;
            }
            app.target -= 1;
            instance.chosen = chooses;
        }
        app.cures.nudges = 0;
        self.touch(&kill.app);
    }

    fn launch(&mut self, launch: &Launch, now: Millis) {
        let Some(app) = self.apps.get_mut(&launch.app.key) else { return };
        app.target += 1;
        app.waiting.push(Waiting { id: launch.id.clone(), agent: launch.agent, since: now });
        (app.cures.delays_reset, app.cures.nudges) = (0, 0);
        self.touch(&launch.app.key);
    }

    /// Room that was freed for replicas of ours and that others have taken does not come back by waiting: these are taken off the books,
    /// so that the policy may look for room anew. Marathon goes on looking for a place for them, and one that it finds is welcome or ended.
    pub(super) fn give_back(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        if !self.standing.ready || !self.room.is_of_agents() {
            return;
        }
        let Self { apps, room, dirty, .. } = self;
        for (key, app) in apps {
            let (Some(spec), Some(_)) = (&app.fitted, &app.known) else { continue };
            let late = |waiting: &Waiting| waiting.since + ROOM_GONE_MS <= now;
            if !app.waiting.iter().any(late) || room.may_have(spec.size, world) {
                continue;
            }
            let (version, message) = (Some(spec.version), "the room that was freed for it was taken by others");
            for waiting in app.waiting.extract_if(.., |waiting| late(waiting)) {
                app.target -= 1;
                out.end(Ending {
                    app: key.clone(),
                    task: waiting.id,
                    agent: waiting.agent,
                    version,
                    how: End::Dropped,
                    message: message.into(),
                    born: waiting.since,
                    ran_ms: 0,
                });
            }
            world.futile_until = now + FUTILE_MS;
            dirty.insert(key.clone());
        }
    }
}
