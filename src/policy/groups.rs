//! Which apps build on the same, and on which agents that is wanted.

use std::collections::BTreeMap;

use super::claim::Claim;
use super::place::meets;
use super::world::Agent;
use crate::api::validated::{App, BaseKind};

/// A base that some declared apps want on agents before it is needed there.
pub(super) struct Group<'a> {
    pub key: &'a str,
    pub kind: BaseKind,
    /// The most important of its apps that may run on any agent without graphics processors.
    everywhere: Option<&'a App>,
    /// The most important of the others, one for each way of choosing agents.
    choosy: Vec<&'a App>,
    /// Suspended apps, one for each way of choosing agents: nothing is put on agents for them, but what is there stays.
    suspended: Vec<&'a App>,
}

/// The bases that are wanted ahead, in order of their keys.
pub(super) fn groups<'a>(claims: &'a [Claim<'a>], declared: impl Fn(&Claim) -> bool) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.app.base.as_ref().is_some_and(|base| base.ahead) && declared(claim)) {
        let Some(base) = &claim.app.base else { continue };
        let new = || Group { key: &base.key, kind: base.kind, everywhere: None, choosy: Vec::new(), suspended: Vec::new() };
        groups.entry(&base.key).or_insert_with(new).add(claim.app);
    }
    groups.into_values().collect()
}

impl<'a> Group<'a> {
    fn add(&mut self, app: &'a App) {
        if app.suspended {
            keep_best(&mut self.suspended, app);
        } else if !app.requirements.is_empty() || app.size.gpu > 0 {
            keep_best(&mut self.choosy, app);
        } else if self.everywhere.is_none_or(|best| app.priority < best.priority) {
            self.everywhere = Some(app);
        }
    }

    /// The most important of its apps that may run there, if one may.
    pub fn best(&self, agent: &Agent) -> Option<&'a App> {
        let everywhere = self.everywhere.filter(|_| agent.is_open() && !agent.gpus);
        let chosen = self.choosy.iter().copied().filter(|app| chooses(app, agent));
        everywhere.into_iter().chain(chosen).min_by_key(|app| app.priority)
    }

    /// Whether what is there stays.
    pub fn keeps(&self, agent: &Agent) -> bool {
        self.best(agent).is_some() || self.suspended.iter().any(|app| chooses(app, agent))
    }
}

fn keep_best<'a>(apps: &mut Vec<&'a App>, app: &'a App) {
    let same = |other: &&mut &App| other.requirements == app.requirements && (other.size.gpu > 0) == (app.size.gpu > 0);
    match apps.iter_mut().find(same) {
        Some(best) if app.priority < best.priority => *best = app,
        Some(_) => {}
        None => apps.push(app),
    }
}

fn chooses(app: &App, agent: &Agent) -> bool {
    agent.gpus == (app.size.gpu > 0) && suits(app, agent)
}

/// Whether the app's placement allows the agent.
#[inline]
pub(super) fn suits(app: &App, agent: &Agent) -> bool {
    let kept_for_gpus = agent.gpus && app.size.gpu == 0;
    agent.is_open() && !kept_for_gpus && app.requirements.iter().all(|requirement| meets(agent, requirement))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::plan::{Prepare, StopReason};
    use super::super::testing::{agent, app, world};
    use super::super::world::AgentIx;
    use super::super::{Memory, decide};
    use crate::api::validated::{App, Base, BaseKind};

    fn pooled(name: &str, priority: i32, rack: Option<&str>) -> App {
        let base = Some(Base { key: "g".into(), kind: BaseKind::Executor, ahead: true });
        let rules: Vec<_> = rack.iter().map(|rack| json!({"attribute": "rack", "operator": "In", "values": [rack]})).collect();
        App { base, ..app(name, json!({"priority": priority, "replicas": 0, "placement": {"where": rules}})) }
    }

    #[test]
    fn a_group_ranks_on_each_agent_like_the_best_app_that_may_run_there() {
        let work = app("work", json!({"priority": 5, "replicas": 8}));
        let agents = vec![agent(4, &[("rack", "x")]), agent(4, &[("rack", "y")])];
        let apps = vec![
            (pooled("boss", 1, Some("x")), vec![]),
            (pooled("clerk", 9, None), vec![]),
            (work, vec![0, 0, 0, 0, 1, 1, 1, 1]),
        ];
        let mut world = world(agents, apps);
        let plan = decide(&world, Memory::default(), 100).0;
        let ended: Vec<_> = plan.stops.iter().map(|stop| (&*stop.task, &stop.why)).collect();
        let boss = pooled("boss", 1, None).key;
        assert_eq!(ended, [("work-0-4", &StopReason::GivesWayTo(boss.clone()))], "none for the clerk");
        world.apps.retain(|key, _| key.name() != "work");
        world.agents.iter_mut().for_each(|it| it.held = agent(4, &[]).held);
        let plan = decide(&world, Memory::default(), 100).0;
        let clerk = Prepare { app: pooled("clerk", 9, None).key, agent: AgentIx(1) };
        assert_eq!(plan.prepare, [Prepare { app: boss, agent: AgentIx(0) }, clerk]);
    }

    #[test]
    fn nothing_is_put_on_agents_for_suspended_apps_and_nothing_ends_for_them() {
        let still = App { suspended: true, ..pooled("still", 1, None) };
        let work = app("work", json!({"priority": 5, "replicas": 4}));
        let plan = decide(&world(vec![agent(4, &[]); 2], vec![(still, vec![]), (work, vec![0; 4])]), Memory::default(), 100).0;
        assert_eq!((plan.stops.len(), plan.prepare.len(), plan.quiet), (0, 0, true));
    }
}
