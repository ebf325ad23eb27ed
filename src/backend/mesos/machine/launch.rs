//! Orders: what they change in the world, and the calls that they become.

use std::collections::BTreeMap;

use super::super::bases::{self, Bases};
use super::super::carve::Stock;
use super::super::ledger::Out;
use super::super::offers::Taken;
use super::super::task;
use super::super::wire::{Accept, Call, Filters, LaunchTasks, Operation, TaskInfo, Value};
use super::{Machine, RELEASE_SECONDS};
use crate::api::validated::BaseKind;
use crate::backend::{End, Ending, Launch, Orders};
use crate::policy::world::{AgentIx, Millis, World};

/// What is started on one agent.
#[derive(Default)]
struct Batch<'a> {
    replicas: Vec<&'a Launch>,
    preparations: Vec<&'a Launch>,
}

impl Machine {
    /// Carries out the orders, all of them.
    #[cfg(test)]
    pub fn dispatch(&mut self, orders: &Orders, world: &mut World, now: Millis) {
        self.act(orders, world, now);
        self.manage_offers(orders, world, now);
    }

    /// The part of the orders that somebody waits for: what ends and what starts.
    pub fn act(&mut self, orders: &Orders, world: &mut World, now: Millis) {
        let mut out = Out::default();
        self.orders_by = 0;
        for kill in &orders.kills {
            out.calls.extend(self.ledger.kill(world, kill, now));
        }
        if !self.standing.ready {
            // Written to nobody: the kills are repeated once orders can be given, the launches are told to have failed.
            self.dropped.extend(orders.launches.iter().map(|launch| dropped(launch, "not connected", now)));
            return;
        }
        out.calls.extend(orders.retire.iter().filter_map(|order| self.bases.retire(world, order, now)));
        self.launch(orders, world, now, &mut out);
        self.outbox.append(&mut out.calls);
    }

    /// The rest of them: what becomes of offers.
    pub fn manage_offers(&mut self, orders: &Orders, world: &mut World, now: Millis) {
        if !self.standing.ready {
            return;
        }
        let mut out = Out::default();
        let declined: Vec<_> = orders.release.iter().flat_map(|ix| self.offers.give_back(*ix, world, now)).collect();
        if !declined.is_empty() {
            out.calls.push(Call::decline(declined, RELEASE_SECONDS));
            self.revive.declined(now);
        }
        if !(orders.launches.is_empty() && orders.prepare.is_empty()) {
            self.revive.hopeful(now);
        }
        let quiet = orders.quiet && !orders.recall;
        if quiet && !self.revive.suppressed {
            self.revive.suppressed = true;
            self.unsurveyed(world);
            out.calls.push(Call::suppress(&self.role));
        }
        self.revive.want(orders.recall, self.offers.unasked(&orders.awaited, now), now);
        if !quiet && !orders.recall && self.revive.suppressed {
            // Agents may have joined of which no offer has come, and one of them may fit what no other does.
            self.revive.sent(now);
            self.send_revive(world, now, &mut out);
        }
        self.ask(world, now, &mut out);
        self.outbox.append(&mut out.calls);
    }

    fn launch(&mut self, orders: &Orders, world: &mut World, now: Millis, out: &mut Out) {
        let mut by_agent: BTreeMap<AgentIx, Batch> = BTreeMap::new();
        for launch in &orders.launches {
            by_agent.entry(launch.agent).or_default().replicas.push(launch);
        }
        for launch in &orders.prepare {
            by_agent.entry(launch.agent).or_default().preparations.push(launch);
        }
        for (agent, batch) in by_agent {
            self.launch_on(agent, &batch, world, now, out);
        }
    }

    /// One ACCEPT of all offers of an agent, so that crumbs add up. What is left over comes back with the next REVIVE.
    fn launch_on(&mut self, agent: AgentIx, batch: &Batch, world: &mut World, now: Millis, out: &mut Out) {
        let Taken { offers, mut stock, mut next_port } = self.offers.take(agent, world);
        let mut task_infos: Vec<TaskInfo> = Vec::new();
        for launch in &batch.replicas {
            match self.replica(launch, &mut stock, &mut next_port, world, now) {
                Some(info) => task_infos.push(info),
                None => self.dropped.push(dropped(launch, "the offer is gone", now)),
            }
        }
        for launch in &batch.preparations {
            task_infos.extend(self.preparation(launch, &mut stock, world, now));
        }
        if offers.is_empty() {
            return;
        }
        self.offers.ports_used(agent, next_port);
        self.offers.believe(agent, stock.room(), None, world);
        let launch = (!task_infos.is_empty()).then(|| Operation::Launch { launch: LaunchTasks { task_infos } });
        let operations = launch.into_iter().collect();
        let offer_ids = offers.into_iter().map(Value::from).collect();
        let filters = Filters { refuse_seconds: 0.0 };
        out.calls.push(Call::Accept { accept: Accept { offer_ids, operations, filters } });
    }

    /// Cuts a replica's share, and books it; where its executor is missing, also that of one.
    fn replica(
        &mut self,
        launch: &Launch,
        stock: &mut Stock,
        next_port: &mut u64,
        world: &mut World,
        now: Millis,
    ) -> Option<TaskInfo> {
        let Launch { id, app, agent } = launch;
        let base = app.base.as_ref().filter(|base| base.kind == BaseKind::Executor);
        let executor = base.map(|base| self.bases.executor(world, *agent, app, base, app.size, stock, now));
        let executor = executor.map_or(Some(None), |found| found.map(Some))?;
        let cut = stock.cut(app.size, *next_port)?;
        *next_port = cut.ports.last().map_or(*next_port, |port| port + 1);
        self.ledger.launched(world, launch, executor.as_ref().map(|info| info.executor_id.value.clone()), now);
        Some(task::task_info(id, app, &world.agents[agent.0 as usize].id, cut, executor))
    }

    /// As [`Self::replica`], for a task that only puts the base there. Nothing is done where that is there or does not fit.
    fn preparation(&mut self, launch: &Launch, stock: &mut Stock, world: &mut World, now: Millis) -> Option<TaskInfo> {
        let Launch { id, app, agent } = launch;
        let base = app.base.as_ref().filter(|base| !Bases::is_prepared(world, *agent, base))?;
        let size = bases::size(base.kind);
        let executor = match base.kind {
            BaseKind::Executor => Some(self.bases.executor(world, *agent, app, base, size, stock, now)?),
            BaseKind::Image => None,
        };
        let cut = stock.cut(size, 0)?;
        self.bases.preparing(world, launch, base, executor.as_ref().map(|info| info.executor_id.value.clone()), now);
        Some(task::preparation_info(id, app, base, &world.agents[agent.0 as usize].id, cut, executor))
    }
}

fn dropped(launch: &Launch, why: &str, now: Millis) -> Ending {
    Ending {
        app: launch.app.key.clone(),
        task: launch.id.clone(),
        agent: launch.agent,
        version: Some(launch.app.version),
        how: End::Dropped,
        message: why.into(),
        born: now,
        ran_ms: 0,
    }
}
