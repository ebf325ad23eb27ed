//! What statuses, FAILURE and MESSAGE tell of executors and images.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::executor::{key_with, parse_executor_id};
use super::super::ledger::{Out, find};
use super::super::offers::Offers;
use super::super::states::{is_executors_end, message};
use super::super::wire::{Call, Failure, Message, State, TaskStatus};
use super::{ASK, ASK_AGAIN_MS, Bases, Ended, Place, Side, Word};
use crate::api::validated::BaseKind;
use crate::backend::parse_task_id;
use crate::executor::words::Hello;
use crate::policy::world::{AgentIx, BasePhase, Fitted, Millis, TaskPhase, World};

impl Bases {
    /// The executor that a status is about, told by itself or known of the task. To be asked before the task's end is booked.
    pub fn subject(&self, status: &TaskStatus, world: &mut World, offers: &mut Offers) -> Option<Place> {
        let id = &status.task_id.value;
        let told = status.executor_id.as_ref().map(|id| &id.value).filter(|id| parse_executor_id(id).is_some());
        if let (Some(executor), Some(agent)) = (told, &status.agent_id) {
            return Some((offers.agent(world, &agent.value), executor.clone()));
        }
        if let Some(preparation) = self.preparations.get(id) {
            return Some((preparation.agent, preparation.executor.clone()?));
        }
        let task = find(world, &parse_task_id(id)?.0, id)?;
        Some((task.agent, task.executor.clone()?))
    }

    /// Takes what the status says of its executor. To be called when the task itself has been dealt with.
    pub fn heard(
        &mut self,
        subject: Option<Place>,
        status: &TaskStatus,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        if status.state == State::TaskGoneByOperator {
            let gone = status.agent_id.as_ref().and_then(|agent| offers.known(&agent.value));
            return gone.into_iter().for_each(|agent| self.agent_gone(agent, world));
        }
        let Some((agent, id)) = subject else { return image_of(status, world, offers, now, out) };
        if is_executors_end(status) {
            return self.over(agent, &id, Word::Agent, &message(status), world, offers, now, out);
        }
        // The words of a task that has ended may be older than the end of its executor.
        if !self.lives(status, world) && self.ended.iter().any(|ended| ended.place.0 == agent && ended.place.1 == id) {
            return;
        }
        let speaks = status.source.as_deref() == Some("SOURCE_EXECUTOR");
        match status.state {
            State::TaskRunning | State::TaskStarting | State::TaskKilling => self.seen(agent, &id, true, world, now, out),
            State::TaskStaging => self.seen(agent, &id, false, world, now, out),
            State::TaskUnreachable | State::TaskLost | State::Other => {}
            // The last words of one that is not known may be older than its end.
            _ if speaks => {
                if find_fitted(agent, &id, world).is_some() {
                    self.seen(agent, &id, true, world, now, out);
                }
            }
            _ => self.maybe_never_started(agent, &id, status, world, offers, now, out),
        }
    }

    /// Whether the task has not ended as far as is known.
    fn lives(&self, status: &TaskStatus, world: &mut World) -> bool {
        let id = &status.task_id.value;
        let task = parse_task_id(id).is_some_and(|(app, _)| find(world, &app, id).is_some());
        task || self.preparations.contains_key(id)
    }

    /// There is such an executor on the agent; `up`: it has registered.
    pub(super) fn seen(&mut self, agent: AgentIx, id: &Arc<str>, up: bool, world: &mut World, now: Millis, out: &mut Out) {
        match find_fitted(agent, id, world) {
            Some(fitted) if up && fitted.phase == BasePhase::Coming => {
                (fitted.phase, fitted.since) = (BasePhase::Ready, now);
                out.applied.decide = true;
            }
            Some(_) => return,
            None => {
                let is_late = |ended: &Ended| !ended.for_good && ended.place.0 == agent && ended.place.1 == *id;
                let Some(key) = parse_executor_id(id).filter(|_| !self.ended.iter().any(is_late)) else { return };
                let phase = if up { BasePhase::Ready } else { BasePhase::Coming };
                let bases = &mut world.agents[agent.0 as usize].bases;
                // One of other settings takes no new tasks; and where there is one of this base already, a second is of no use.
                let in_use = |fitted: &Fitted| {
                    fitted.key.as_ref() == Some(&key) && matches!(fitted.phase, BasePhase::Coming | BasePhase::Ready)
                };
                let key = key_with(&self.settings, id).filter(|_| !bases.iter().any(in_use));
                let failed = |fitted: &Fitted| matches!(fitted.phase, BasePhase::Failed { .. }) && fitted.key == key;
                bases.retain(|fitted| key.is_none() || !failed(fitted));
                bases.push(Fitted { key, executor: Some(id.clone()), phase, since: now, limits: None });
                tracing::info!(executor = %id, "executor adopted");
                out.applied.decide = true;
            }
        }
        if up {
            // By itself it says hello once, and that may be lost.
            self.ask_at.get_or_insert(now + ASK_AGAIN_MS);
            let side: &mut Side = self.executors.entry((agent, id.clone())).or_default();
            if !std::mem::replace(&mut side.asked, true) && side.info.is_none() {
                out.calls.push(Call::message(id, &world.agents[agent.0 as usize].id, ASK));
            }
        }
    }

    /// A task has ended without a word of its executor. If that was on its way, and nothing else is under way that starts it, it is not.
    #[allow(clippy::too_many_arguments)]
    fn maybe_never_started(
        &mut self,
        agent: AgentIx,
        id: &Arc<str>,
        status: &TaskStatus,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        if find_fitted(agent, id, world).is_none_or(|fitted| fitted.phase != BasePhase::Coming) {
            return;
        }
        if status.state == State::TaskError {
            return self.over(agent, id, Word::Agent, &message(status), world, offers, now, out);
        }
        let of_it = |at: AgentIx, executor: Option<&Arc<str>>| at == agent && executor == Some(id);
        let mut tasks = world.apps.values().flat_map(|view| &view.tasks);
        let under_way = tasks.any(|task| of_it(task.agent, task.executor.as_ref()) && task.phase != TaskPhase::Unreachable)
            || self.preparations.values().any(|preparation| of_it(preparation.agent, preparation.executor.as_ref()));
        if !under_way {
            self.over(agent, id, Word::Inferred, &message(status), world, offers, now, out);
        }
    }

    /// FAILURE of an executor.
    pub fn failure(&mut self, failure: &Failure, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let (Some(agent), Some(id)) = (&failure.agent_id, &failure.executor_id) else { return };
        let Some(agent) = offers.known(&agent.value).filter(|_| parse_executor_id(&id.value).is_some()) else { return };
        self.over(agent, &id.value, Word::Agent, &in_words(failure.status), world, offers, now, out);
        let same = |ended: &&mut Ended| ended.place.0 == agent && ended.place.1 == id.value;
        self.ended.iter_mut().filter(same).for_each(|ended| ended.for_good = true);
    }

    /// MESSAGE: an executor says hello, and so is there.
    pub fn message(&mut self, message: &Message, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let id = &message.executor_id.value;
        let Some(agent) = offers.known(&message.agent_id.value) else { return };
        let hello = STANDARD.decode(&message.data).ok().and_then(|data| serde_json::from_slice::<Hello>(&data).ok());
        let Some(hello) = hello else { return tracing::warn!(executor = %id, "says what is not understood") };
        let place = (agent, id.clone());
        // So that it is not asked.
        self.executors.entry(place.clone()).or_default().asked = true;
        self.seen(agent, id, true, world, now, out);
        if let Some(fitted) = find_fitted(agent, id, world) {
            let limits = Some(hello.unlimited.map_or(Ok(()), |why| Err(Arc::from(why))));
            out.applied.decide |= fitted.limits != limits;
            fitted.limits = limits;
        } else {
            // From one that has ended.
            self.executors.remove(&place);
        }
    }
}

/// Where a replica runs in an image, that image is there; where its container cannot be made, it may have been removed.
fn image_of(status: &TaskStatus, world: &mut World, offers: &Offers, now: Millis, out: &mut Out) {
    let there = status.state == State::TaskRunning;
    if !there && !is_not_made(status) {
        return;
    }
    let Some((key, version)) = parse_task_id(&status.task_id.value) else { return };
    let Some(app) = world.apps.get(&key).and_then(|view| view.spec.clone()).filter(|app| app.version == version) else { return };
    let Some(base) = app.base.as_ref().filter(|base| base.kind == BaseKind::Image) else { return };
    if there {
        let Some(agent) = find(world, &key, &status.task_id.value).map(|task| task.agent) else { return };
        return set_ready(&base.key, agent, world, now, out);
    }
    let Some(agent) = status.agent_id.as_ref().and_then(|agent| offers.known(&agent.value)) else { return };
    let is_it = |fitted: &Fitted| fitted.key.as_ref() == Some(&base.key) && fitted.phase == BasePhase::Ready;
    world.agents[agent.0 as usize].bases.retain(|fitted| !is_it(fitted));
}

/// Whether a task has failed since its container could not be made. What is said of one that ran is not about its image.
fn is_not_made(status: &TaskStatus) -> bool {
    let reason = status.reason.as_deref().unwrap_or_default();
    let later = ["REASON_CONTAINER_LIMITATION", "REASON_CONTAINER_PREEMPTED"];
    let made = later.iter().any(|later| reason.starts_with(later)) || status.source.as_deref() == Some("SOURCE_EXECUTOR");
    status.state == State::TaskFailed && reason.starts_with("REASON_CONTAINER_") && !made
}

/// The image is on the agent.
pub(super) fn set_ready(key: &Arc<str>, agent: AgentIx, world: &mut World, now: Millis, out: &mut Out) {
    let bases = &mut world.agents[agent.0 as usize].bases;
    if bases.iter().any(|fitted| fitted.key.as_ref() == Some(key) && fitted.phase == BasePhase::Ready) {
        return;
    }
    bases.retain(|fitted| fitted.key.as_ref() != Some(key));
    bases.push(Fitted { key: Some(key.clone()), executor: None, phase: BasePhase::Ready, since: now, limits: None });
    out.applied.decide = true;
}

/// Forgets what is known of images that no app has.
pub(super) fn forget_images(world: &mut World) {
    let specs = world.apps.values().filter_map(|view| view.spec.as_ref());
    let wanted: HashSet<&Arc<str>> = specs.filter_map(|app| app.base.as_ref()).map(|base| &base.key).collect();
    let stays = |fitted: &Fitted| {
        fitted.executor.is_some()
            || fitted.phase == BasePhase::Coming
            || fitted.key.as_ref().is_some_and(|key| wanted.contains(key))
    };
    world.agents.iter_mut().for_each(|agent| agent.bases.retain(stays));
}

/// The executor of this id on the agent.
fn find_fitted<'w>(agent: AgentIx, id: &Arc<str>, world: &'w mut World) -> Option<&'w mut Fitted> {
    world.agents[agent.0 as usize].bases.iter_mut().find(|fitted| fitted.executor.as_ref() == Some(id))
}

/// What `waitpid` says, for people.
fn in_words(status: Option<i32>) -> String {
    let status = status.filter(|status| *status >= 0).map(ExitStatus::from_raw);
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("exited with status {code}"),
        Some((None, Some(signal))) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}
