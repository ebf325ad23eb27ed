//! Executors and images get to agents before they are needed there.
//!
//! Everything that is wanted is served first, with their room set aside from what is less important; then each gets its room in the
//! best way there is, before headroom and spare replicas.

use super::allocate::Allocation;
use super::bases::Missing;
use super::plan::{Prepare, StopReason};
use super::preempt::Victims;
use super::rooms::{LEVELS, Level, Rank};
use super::seat::Band;
use super::sparing::Winner;
use super::world::AgentIx;
use crate::api::validated::{App, BaseKind};

impl Allocation<'_> {
    /// Finds the room of all bases that are still to be put on agents.
    pub fn put_bases(&mut self) {
        self.rooms.set_all_aside();
        let bases = &self.rooms.bases;
        let left = |missing: &&Missing| missing.after_another || bases.is_missing(missing.group, missing.agent);
        let missing: Vec<Missing> = bases.missing.iter().filter(left).copied().collect();
        if missing.is_empty() {
            return;
        }
        // Of several that do not all fit, the first ones still do.
        missing.iter().for_each(|missing| self.rooms.use_aside(missing));
        let ended = self.plan.stops.len();
        let without: Vec<Missing> =
            missing.into_iter().filter(|missing| !self.put(missing) && !self.make_room(missing)).collect();
        without.iter().for_each(|missing| self.rooms.set_aside(missing));
        self.rooms.bases.short = !without.is_empty();
        if self.plan.stops.len() > ended {
            // Those that gave way may find room elsewhere.
            self.serve(Band::Floor);
        }
    }

    /// Takes the room of this base if there is some, as soon as can be.
    fn put(&mut self, missing: &Missing) -> bool {
        let Missing { rank, agent, group, after_another, .. } = *missing;
        let size = self.rooms.bases.size(group);
        let levels = if after_another { &[Level::Soon][..] } else { &LEVELS };
        let found = levels.iter().find(|level| self.rooms.fits(agent, size, **level, rank));
        if let Some(level) = found {
            self.hold(missing, *level);
        }
        found.is_some()
    }

    fn hold(&mut self, missing: &Missing, level: Level) {
        let Missing { agent, group, .. } = *missing;
        self.rooms.take(agent, self.rooms.bases.size(group), level);
        self.rooms.bases.placed(group, agent, level);
        if level == Level::Now
            && let Some(app) = self.best_of(missing)
        {
            self.plan.prepare.push(Prepare { app: app.key.clone(), agent });
        }
    }

    /// The most important app that wants it there.
    fn best_of(&self, missing: &Missing) -> Option<&App> {
        self.rooms.bases.group(missing.group).best(&self.world.agents[missing.agent.0 as usize])
    }

    /// Takes its room from replicas that are less important than the most important app that wants it there. None ends for one that
    /// failed there, as it may go on to fail for ever, nor for an image, which may be there already without being known.
    fn make_room(&mut self, missing: &Missing) -> bool {
        let Missing { rank, agent, group, after_another, again, .. } = *missing;
        if again || self.rooms.bases.group(group).kind == BaseKind::Image {
            return false;
        }
        if after_another || self.world.unsurveyed || self.rooms.stuck.contains(&agent) {
            return false;
        }
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        if victims.lowest() <= rank {
            return false;
        }
        let size = self.rooms.bases.size(group);
        if self.rooms.bases.over_limits && !size.fits(self.rooms.limits.open(rank)) {
            return false;
        }
        let winner = Winner::wanting(rank);
        let Some(chosen) = victims.plan(&self.seats, &self.rooms, agent, winner, size) else {
            self.withheld(winner);
            return false;
        };
        let Some(chosen) = self.within_limits(agent, winner, size, chosen) else {
            self.rooms.bases.over_limits = true;
            return false;
        };
        if !self.afford(winner, chosen.len()) {
            self.out_of_budget();
            return false;
        }
        if self.is_futile() {
            self.try_again_later();
            return false;
        }
        let Some(winner) = self.best_of(missing).map(|app| app.key.clone()) else { return false };
        for victim in chosen {
            self.end(victim.app as usize, victim.task as usize, StopReason::GivesWayTo(winner.clone()));
        }
        self.hold(missing, Level::Soon);
        true
    }

    /// A replica is about to be placed: what it builds on comes along, or goes ahead of it.
    pub fn bring_base(&mut self, app: usize, agent: AgentIx, level: Level) {
        let Some(group) = self.rooms.bases.of_app(self.seats[app].claim.app) else { return };
        let starts = level == Level::Now;
        if starts && self.rooms.bases.is_placed(group, agent) {
            self.rooms.bases.comes_along(group, agent);
        }
        let is_executor = self.rooms.bases.group(group).kind == BaseKind::Executor;
        // A replica that waits has no use of an image before it starts.
        let (ahead, later) = (self.rooms.bases.is_missing(group, agent), self.rooms.bases.is_later(group, agent));
        if !(ahead || later) || !(is_executor || starts) {
            return;
        }
        let Some(best) = self.rooms.bases.group(group).best(&self.world.agents[agent.0 as usize]) else { return };
        let rank = Rank::of(best.priority);
        let missing = Missing { rank, agent, group, after_another: false, again: false, awaited: true };
        if ahead && self.rooms.bases.aside {
            self.rooms.use_aside(&missing);
        }
        if !starts {
            if !self.put(&missing) {
                self.hold(&missing, Level::Soon);
            }
            return;
        }
        if is_executor {
            self.rooms.take(agent, self.rooms.bases.size(group), Level::Now);
        }
        self.rooms.bases.comes_along(group, agent);
    }

    /// What starts with a replica need not be put there before.
    pub fn leave_out_what_comes_along(&mut self) {
        let (world, bases) = (self.world, &self.rooms.bases);
        self.plan.prepare.retain(|prepare| {
            let group = world.apps[&prepare.app].spec.as_ref().and_then(|app| bases.of_app(app));
            group.is_some_and(|group| bases.is_placed(group, prepare.agent))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::plan::{Plan, Reason, Wait};
    use super::super::resources::Resources;
    use super::super::testing::{agent, app, running};
    use super::super::world::{AgentIx, AppView, BasePhase, Fitted, Task, TaskPhase, World};
    use super::super::{Memory, decide};
    use super::*;
    use crate::api::status::Phase;
    use crate::api::validated::Key;

    /// Agents of four cores; apps by name and spec, and the agents on which their replicas run.
    fn world(agents: i64, apps: &[(&str, Value, &[u32])]) -> World {
        let agents = (0..agents).map(|_| agent(4, &[])).collect();
        let executor_size = Resources::new(99, 32);
        let limits = Resources::UNLIMITED;
        let mut world = World { limits, agents, executor_size, executor_idle_ms: 1000, end_orphans: true, ..World::default() };
        for (name, spec, on) in apps {
            let app = app(name, spec.clone());
            let tasks: Vec<_> = on.iter().zip(1..).map(|(agent, born)| running(&app, *agent, born)).collect();
            tasks.iter().for_each(|task| world.agents[task.agent.0 as usize].held -= task.resources);
            world.apps.insert(app.key.clone(), AppView { spec: Some(Arc::new(app)), tasks, ..AppView::default() });
        }
        world
    }

    fn spec(priority: i32, replicas: i64, launch: &str, cpu: &str) -> Value {
        let template = json!({"resources": {"cpu": cpu, "memory": "64Mi"}, "shell": "x", "launch": launch});
        json!({"priority": priority, "replicas": replicas, "template": template})
    }

    fn pooled(priority: i32, replicas: i64) -> Value {
        spec(priority, replicas, "pooled", "1")
    }

    fn isolated(priority: i32, replicas: i64, cpu: &str) -> Value {
        spec(priority, replicas, "isolated", cpu)
    }

    fn plan(world: &World) -> Plan {
        decide(world, Memory::default(), 100).0
    }

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    fn fit(world: &mut World, agent: u32, phase: BasePhase) {
        let base = world.apps[&key("top")].spec.as_ref().and_then(|app: &Arc<App>| app.base.clone());
        let executor = Some("x".into());
        let fitted = Fitted { key: base.map(|base| base.key), executor, phase, since: 50, limits: None };
        world.agents[agent as usize].bases.push(fitted);
    }

    fn prepared(plan: &Plan) -> Vec<u32> {
        plan.prepare.iter().map(|it| it.agent.0).collect()
    }

    fn failed(until: u64) -> BasePhase {
        BasePhase::Failed { until, tries: 2, why: "it cannot be run".into() }
    }

    #[test]
    fn executors_start_where_none_is_and_not_where_a_replica_brings_one() {
        let mut world = world(4, &[("top", pooled(1, 1), &[])]);
        fit(&mut world, 1, BasePhase::Leaving);
        fit(&mut world, 2, failed(500));
        let plan = plan(&world);
        let starts: Vec<u32> = plan.starts.iter().map(|start| start.agent.0).collect();
        assert_eq!((starts, prepared(&plan), plan.wake_at), (vec![0], vec![3], Some(500)));
        assert!(!plan.quiet, "one is still to be put in the place of the one that leaves");
        fit(&mut world, 0, BasePhase::Coming);
        fit(&mut world, 3, BasePhase::Ready);
        let plan = super::tests::plan(&world);
        assert_eq!((plan.starts[0].agent.0, plan.prepare.len()), (3, 0), "where it is ready rather than where it comes");
    }

    #[test]
    fn nothing_slips_into_the_room_of_an_executor() {
        let spare = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let world = world(1, &[("top", pooled(1, 0), &[]), ("spare", spare, &[])]);
        let plan = plan(&world);
        assert_eq!((plan.starts.len(), prepared(&plan)), (3, vec![0]));
    }

    #[test]
    fn what_is_more_important_than_an_executor_takes_its_room() {
        let world = world(1, &[("top", pooled(5, 0), &[]), ("boss", isolated(1, 4, "1"), &[])]);
        let plan = plan(&world);
        assert_eq!((plan.starts.len(), plan.prepare.len(), plan.recall, plan.quiet), (4, 0, false, false));
    }

    #[test]
    fn the_least_that_suffices_gives_way_to_executors_once() {
        let apps =
            [("top", pooled(1, 0), &[][..]), ("low", isolated(9, 2, "2"), &[0; 2]), ("mini", isolated(8, 4, "1"), &[1; 4])];
        let mut world = world(2, &apps);
        let (plan, memory) = decide(&world, Memory::default(), 100);
        let ended: Vec<&str> = plan.stops.iter().map(|stop| &*stop.task).collect();
        assert_eq!((ended, plan.prepare.len(), plan.quiet), (vec!["low-0-2", "mini-1-4"], 0, false));
        assert_eq!(plan.stops[0].why, StopReason::GivesWayTo(key("top")));
        for (name, at) in [("low", 1), ("mini", 3)] {
            let task = &mut world.apps.get_mut(&key(name)).expect("it is there").tasks[at];
            (task.phase, task.since) = (super::super::world::TaskPhase::Stopping, 100);
        }
        let (plan, _) = decide(&world, memory, 200);
        assert_eq!((plan.stops.len(), plan.prepare.len(), plan.quiet), (0, 0, false), "it is on its way");
    }

    #[test]
    fn floors_and_frozen_apps_give_no_way_to_executors_and_none_is_asked_for() {
        let mut low = isolated(9, 2, "2");
        low["minReplicas"] = json!(2);
        let mut still = isolated(9, 2, "2");
        still["suspend"] = json!(true);
        let mut world = world(2, &[("top", pooled(1, 0), &[][..]), ("low", low, &[0; 2]), ("still", still, &[1; 2])]);
        let seen = plan(&world);
        assert_eq!((seen.stops.len(), seen.prepare.len(), seen.recall, seen.quiet), (0, 0, false, false));
        world.apps.remove(&key("still"));
        world.unsurveyed = true;
        assert_eq!(plan(&world).stops, []);
    }

    #[test]
    fn nothing_gives_way_to_an_executor_that_failed_but_its_room_is_kept() {
        let mut world = world(1, &[("top", pooled(1, 1), &[][..]), ("low", isolated(9, 4, "1"), &[0; 4])]);
        fit(&mut world, 0, failed(100));
        let seen = plan(&world);
        assert_eq!((seen.stops.len(), seen.prepare.len(), seen.quiet), (0, 0, false), "nor to its replica");
        world.apps.get_mut(&key("low")).expect("it is there").tasks.pop();
        world.agents[0].held = Resources::new(1000, 64);
        world.agents[0].bases[0].phase = failed(500);
        assert_eq!(plan(&world).starts, []);
        world.agents[0].bases[0].phase = failed(100);
        assert_eq!(prepared(&plan(&world)), [0]);
    }

    #[test]
    fn nothing_gives_way_to_an_image_and_one_that_comes_with_a_replica_is_not_fetched() {
        let template = json!({"resources": {"cpu": "1", "memory": "64Mi"}, "shell": "x", "image": "x", "prefetch": true});
        let top = json!({"priority": 1, "replicas": 0, "template": template});
        let mut world = world(1, &[("top", top, &[][..]), ("low", isolated(9, 4, "1"), &[0; 4])]);
        assert_eq!(plan(&world).stops, []);
        world.agents[0].held = Resources::new(1000, 64);
        assert_eq!(prepared(&plan(&world)), [0]);
        let view = world.apps.get_mut(&key("top")).expect("it is there");
        let spec = view.spec.clone().expect("it has one");
        view.tasks.push(Task { phase: TaskPhase::Starting, ..running(&spec, 0, 50) });
        assert!(prepared(&plan(&world)).is_empty());
    }

    #[test]
    fn minimums_come_before_the_room_of_executors() {
        let mut low = isolated(9, 4, "1");
        low["minReplicas"] = json!(4);
        let world = world(1, &[("top", pooled(1, 0), &[]), ("low", low, &[])]);
        let plan = plan(&world);
        assert_eq!((plan.starts.len(), plan.stops.len(), plan.prepare.len()), (4, 0, 0));
    }

    #[test]
    fn nothing_gives_way_to_executors_in_vain() {
        let apps = [("top", pooled(1, 0), &[][..]), ("low", isolated(9, 2, "2"), &[0; 2])];
        let world = World { futile_until: 5100, ..world(1, &apps) };
        let plan = plan(&world);
        assert_eq!((plan.stops.len(), plan.wake_at, plan.quiet), (0, Some(5100), false));
    }

    #[test]
    fn room_that_is_not_in_hand_is_asked_for() {
        let mut world = world(1, &[("top", pooled(1, 0), &[])]);
        world.agents[0].expected = std::mem::take(&mut world.agents[0].held);
        let plan = plan(&world);
        assert_eq!((plan.prepare.len(), plan.recall, plan.quiet), (0, true, false));
        assert_eq!(plan.sought, [AgentIx(0)]);
    }

    #[test]
    fn a_replica_waits_with_room_for_its_executor() {
        let spare = json!({"priority": 9, "demand": [{"name": "rest", "remainder": {}}]});
        let world = world(1, &[("top", pooled(1, 2), &[]), ("spare", spare, &[0; 4])]);
        let plan = plan(&world);
        assert_eq!(plan.stops.len(), 3, "two for the replicas, one for the executor");
        assert_eq!(plan.waits, vec![Wait { app: key("top"), agent: AgentIx(0), free: false }; 2]);
    }

    #[test]
    fn people_are_told_when_executors_start_nowhere() {
        let mut world = world(2, &[("top", pooled(1, 1), &[])]);
        fit(&mut world, 0, failed(4100));
        fit(&mut world, 1, failed(9100));
        let (plan, _) = decide(&world, Memory::default(), 100);
        let verdict = &plan.verdicts[&key("top")];
        assert_eq!((plan.starts.len(), verdict.phase, plan.wake_at), (0, Phase::Failed, Some(4100)));
        let reason = verdict.reason();
        assert!(reason.starts_with("executors do not start on 2 agents (it cannot be run), next try in 4 s"), "{reason}");
        let (plan, _) = decide(&world, Memory::default(), 4100);
        assert_eq!((plan.starts.len(), plan.starts[0].agent), (1, AgentIx(0)));
        world.agents[0].bases[0].phase = BasePhase::Leaving;
        world.agents[1].bases[0].phase = BasePhase::Leaving;
        assert_eq!(super::tests::plan(&world).verdicts[&key("top")].reasons[0], Reason::ExecutorsLeave);
    }

    #[test]
    fn an_agent_must_be_large_enough_for_replica_and_executor() {
        let reasons = |cpu: &str, ready: bool| {
            let mut world = world(1, &[("top", spec(1, 1, "pooled", cpu), &[])]);
            if ready {
                fit(&mut world, 0, BasePhase::Ready);
                world.agents[0].held -= world.executor_size;
            }
            plan(&world).verdicts[&key("top")].reasons[0].clone()
        };
        for ready in [true, false] {
            assert!(matches!(reasons("3950m", ready), Reason::NoAgentLargeEnough { .. }));
            assert!(!matches!(reasons("3900m", ready), Reason::NoAgentLargeEnough { .. }));
        }
    }

    #[test]
    fn executors_count_for_the_limits() {
        let mut world = World { limits: Resources::new(1500, 65_536), ..world(2, &[("top", pooled(1, 2), &[])]) };
        fit(&mut world, 0, BasePhase::Ready);
        fit(&mut world, 1, BasePhase::Ready);
        world.agents.iter_mut().for_each(|agent| agent.held -= Resources::new(99, 32));
        assert_eq!(plan(&world).starts.len(), 1);
        world.limits.cpu = 1197;
        let plan = plan(&world);
        assert_eq!(plan.starts.len(), 0);
        assert!(matches!(plan.verdicts[&key("top")].reasons[0], Reason::AtLimits { .. }));
    }

    #[test]
    fn an_observed_app_wants_nothing_put_anywhere() {
        let mut spec = pooled(1, 1);
        spec["mode"] = json!("Observe");
        let plan = plan(&world(1, &[("top", spec, &[])]));
        assert_eq!((plan.prepare.len(), plan.starts.len(), plan.quiet), (0, 0, true));
        assert_eq!(plan.verdicts[&key("top")].granted, 1, "if it were carried out");
    }
}
