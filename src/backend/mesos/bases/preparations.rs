//! Tasks of our own that put a base on an agent. They belong to no app: nothing but the base tells of them.

use std::sync::Arc;

use super::super::executor::parse_executor_id;
use super::super::ledger::Out;
use super::super::offers::Offers;
use super::super::states::{is_answer, message};
use super::super::wire::{Call, ReconcileTask, State, TaskStatus, Value};
use super::{Bases, heard};
use crate::api::validated::{Base, BaseKind};
use crate::backend::{Launch, parse_preparation_id};
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, BasePhase, Fitted, Millis, World};

const PATIENCE_MS: u64 = 10_000;
const MAX_PATIENCE_MS: u64 = 120_000;

/// One that has not ended.
#[derive(Debug)]
pub(super) struct Preparation {
    pub agent: AgentIx,
    pub key: Arc<str>,
    /// `None` for an image.
    pub executor: Option<Arc<str>>,
    size: Resources,
    /// The master is asked about it then.
    pub ask_at: Millis,
    patience: Millis,
    /// It has been, so that an answer that it is unknown can be meant.
    asked: bool,
}

/// What one uses beside its base. Mesos wants at least something, and knows nothing smaller than a thousandth of a core.
pub fn size(kind: BaseKind) -> Resources {
    match kind {
        BaseKind::Executor => Resources { cpu: 1, ..Resources::ZERO },
        BaseKind::Image => Resources::new(10, 32),
    }
}

impl Bases {
    /// Books a preparation whose ACCEPT is on its way.
    pub fn preparing(&mut self, world: &mut World, launch: &Launch, base: &Base, executor: Option<Arc<str>>, now: Millis) {
        if executor.is_none() {
            self.set_coming(world, launch.agent, base, None, now);
        }
        let (agent, key) = (launch.agent, base.key.clone());
        self.preparations.insert(launch.id.clone(), Preparation::new(agent, key, executor, size(base.kind), now, false));
    }

    /// Whether the base is there or on its way, so that nothing has to be prepared.
    pub fn is_prepared(world: &World, agent: AgentIx, base: &Base) -> bool {
        let there = |fitted: &Fitted| matches!(fitted.phase, BasePhase::Coming | BasePhase::Ready);
        world.agents[agent.0 as usize].bases.iter().any(|fitted| fitted.key.as_ref() == Some(&base.key) && there(fitted))
    }

    /// Takes a status of a task that is none of an app's. False if it is no preparation.
    pub fn prepared(&mut self, status: &TaskStatus, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) -> bool {
        let id = &status.task_id.value;
        let Some(key) = parse_preparation_id(id) else { return false };
        let alive = matches!(status.state, State::TaskStaging | State::TaskStarting | State::TaskRunning | State::TaskKilling);
        if let Some(agent) = status.agent_id.as_ref().filter(|_| alive && !self.preparations.contains_key(id)) {
            let agent = offers.agent(world, &agent.value);
            self.adopt(id, key, agent, status, world, now);
        }
        let Some(preparation) = self.preparations.get_mut(id) else { return true };
        preparation.ask_at = now + preparation.patience;
        let unasked = is_answer(status) && !preparation.asked;
        match status.state {
            State::TaskUnknown | State::TaskGone if unasked => {}
            State::TaskRunning if preparation.executor.is_none() => {
                let (key, agent) = (preparation.key.clone(), preparation.agent);
                heard::set_ready(&key, agent, world, now, out);
            }
            _ if alive => {}
            State::TaskUnreachable | State::TaskLost | State::Other => {}
            _ => self.over_with(id, status, world, offers, now, out),
        }
        true
    }

    /// One of an earlier run of ours.
    fn adopt(&mut self, id: &Arc<str>, key: Arc<str>, agent: AgentIx, status: &TaskStatus, world: &mut World, now: Millis) {
        let told = status.executor_id.as_ref().map(|id| id.value.clone());
        let executor = told.filter(|id| parse_executor_id(id).is_some());
        let kind = if executor.is_some() { BaseKind::Executor } else { BaseKind::Image };
        let base = Base { key: key.clone(), kind, ahead: true };
        if executor.is_none() && !Self::is_prepared(world, agent, &base) {
            self.set_coming(world, agent, &base, None, now);
        }
        self.preparations.insert(id.clone(), Preparation::new(agent, key, executor, size(kind), now, true));
    }

    /// A preparation has ended. What that says of an executor is heard like from any of its tasks.
    fn over_with(&mut self, id: &Arc<str>, status: &TaskStatus, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let Some(preparation) = self.preparations.remove(id) else { return };
        let Preparation { agent, key, executor, size, .. } = preparation;
        offers.believe(agent, size, Some(now), world);
        if executor.is_some() {
            return;
        }
        let coming = |fitted: &Fitted| fitted.key.as_ref() == Some(&key) && fitted.phase == BasePhase::Coming;
        let unpacked = matches!(status.state, State::TaskFinished | State::TaskFailed | State::TaskKilled) && !is_not_there(status);
        if unpacked {
            return heard::set_ready(&key, agent, world, now, out);
        }
        if !world.agents[agent.0 as usize].bases.iter().any(coming) {
            return;
        }
        world.agents[agent.0 as usize].bases.retain(|fitted| !coming(fitted));
        out.applied.decide = true;
        if is_not_there(status) || status.state == State::TaskError {
            let (why, hostname) = (message(status), world.agents[agent.0 as usize].hostname.clone());
            out.warn("ImageNotFetched", format!("{key} on {hostname}: {why}"));
            self.failed(agent, &key, None, &format!("image not fetched: {why}"), world, now);
        }
    }

    /// Questions about those of which nothing has been heard for long.
    pub(super) fn questions(&mut self, world: &World, now: Millis) -> Option<Call> {
        let mut questions = Vec::new();
        for (id, preparation) in self.preparations.iter_mut().filter(|(_, preparation)| preparation.ask_at <= now) {
            preparation.asked = true;
            preparation.patience = (preparation.patience * 2).min(MAX_PATIENCE_MS);
            preparation.ask_at = now + preparation.patience;
            let agent = world.agents[preparation.agent.0 as usize].id.clone();
            questions.push(ReconcileTask { task_id: Value::from(id.clone()), agent_id: Some(Value::from(agent)) });
        }
        (!questions.is_empty()).then(|| Call::reconcile(questions))
    }
}

impl Preparation {
    fn new(agent: AgentIx, key: Arc<str>, executor: Option<Arc<str>>, size: Resources, now: Millis, asked: bool) -> Self {
        Self { agent, key, executor, size, ask_at: now + PATIENCE_MS, patience: PATIENCE_MS, asked }
    }
}

/// The container could not be made, most likely since the image cannot be had.
fn is_not_there(status: &TaskStatus) -> bool {
    let executor = status.source.as_deref() == Some("SOURCE_EXECUTOR");
    let reason = status.reason.as_deref().unwrap_or_default();
    !executor && (reason.starts_with("REASON_CONTAINER_") || reason.starts_with("REASON_EXECUTOR_"))
}
