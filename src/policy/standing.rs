//! How what apps build on stands on agents: what it uses there, and what people are told of it.

use std::sync::Arc;

use super::groups::suits;
use super::plan::Reason;
use super::resources::Resources;
use super::world::{Agent, BasePhase, Fitted, Millis, World};
use crate::api::validated::{App, BaseKind};

/// What fetching an image uses, for as long as it takes: 10m and 32Mi.
pub(super) const FETCHING: Resources = Resources { cpu: 10, memory: 32_000, ..Resources::ZERO };

/// On how many agents the executor or image of an app is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Agents that the app may use.
    pub agents: usize,
    /// Of these, the ones where it is ready.
    pub ready: usize,
    /// Of these, the ones whose executor cannot hold replicas to their memory and CPU.
    pub unlimited: usize,
    /// Of these, the ones whose executor has not told whether it can.
    pub untold: usize,
    /// Why the first of those that cannot does not.
    pub why: Option<Arc<str>>,
}

/// How the base of the app stands.
#[must_use]
pub fn prepared(world: &World, app: &App) -> Prepared {
    let mut prepared = Prepared::default();
    for agent in world.agents.iter().filter(|agent| suits(app, agent)) {
        prepared.agents += 1;
        let Some(fitted) = here(app, agent).find(|fitted| fitted.phase == BasePhase::Ready) else { continue };
        prepared.ready += 1;
        match &fitted.limits {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                prepared.unlimited += 1;
                prepared.why.get_or_insert_with(|| Arc::clone(why));
            }
            None => prepared.untold += 1,
        }
    }
    prepared
}

/// What this base uses by itself; the rest of the world knows only of tasks.
#[must_use]
pub fn used(fitted: &Fitted, world: &World) -> Resources {
    match (&fitted.executor, &fitted.phase) {
        (_, BasePhase::Failed { .. }) => Resources::ZERO,
        (Some(_), _) => world.executor_size,
        (None, BasePhase::Coming) => FETCHING,
        (None, _) => Resources::ZERO,
    }
}

/// On how many of these agents executors of the app do not start for now, and why.
pub(super) fn failing(app: &App, agents: &[&Agent], now: Millis) -> Option<Reason> {
    if app.base.as_ref().is_none_or(|base| base.kind == BaseKind::Image) {
        return None;
    }
    let mut failed: Vec<(Millis, Millis, &Arc<str>)> = Vec::new();
    for agent in agents.iter().filter(|agent| suits(app, agent)) {
        // One that is there, or on its way, counts for more.
        if here(app, agent).any(|fitted| matches!(fitted.phase, BasePhase::Ready | BasePhase::Coming)) {
            continue;
        }
        let waits = |fitted: &'_ Fitted| matches!(fitted.phase, BasePhase::Failed { until, .. } if until > now);
        if let Some(Fitted { phase: BasePhase::Failed { until, why, .. }, since, .. }) = here(app, agent).find(|it| waits(it)) {
            failed.push((*since, *until, why));
        }
    }
    let (_, _, last) = failed.iter().max_by_key(|(since, ..)| *since)?;
    let next = failed.iter().map(|(_, until, _)| *until).min()?;
    let agents = i64::try_from(failed.len()).unwrap_or(i64::MAX);
    Some(Reason::ExecutorsFail { agents, last: Arc::clone(last), retry_in_ms: next.saturating_sub(now) })
}

/// Whether an executor of the app is on its way down somewhere.
pub(super) fn is_leaving(app: &App, agents: &[Agent]) -> bool {
    let leaving = |agent: &Agent| suits(app, agent) && here(app, agent).any(|fitted| fitted.phase == BasePhase::Leaving);
    agents.iter().any(leaving)
}

fn here<'a>(app: &'a App, agent: &'a Agent) -> impl Iterator<Item = &'a Fitted> {
    let key = app.base.as_ref().map(|base| &base.key);
    agent.bases.iter().filter(move |fitted| key.is_some() && fitted.key.as_ref() == key)
}
