//! What is said of each app: one word, counts, and the reasons.

use std::collections::BTreeMap;

use super::claim::Claim;
use super::plan::{Plan, Reason, Verdict};
use super::resources::Resources;
use super::seat::{Seat, Short};
use super::sparing::Withheld;
use super::standing;
use super::world::{Agent, AppView, BasePhase, Fitted, Millis, TaskPhase, World};
use crate::api::status::Phase;
use crate::api::validated::{App, Key};

/// How many failed tries in a row make a crash loop.
const LOOP: u32 = 2;
/// How many reasons make up the text.
const MOST_REASONS: usize = 3;

/// The pool as a whole, as verdicts speak of it.
pub(super) struct Overview<'a> {
    pub now: Millis,
    pub limits: Resources,
    futile_until: Millis,
    /// Replicas that stay or start, by priority.
    held: BTreeMap<i32, i64>,
    /// Agents on which some executor did not start.
    failing: Vec<&'a Agent>,
}

impl<'a> Overview<'a> {
    pub fn of(seats: &[Seat], world: &'a World, now: Millis) -> Self {
        let mut held = BTreeMap::new();
        for seat in seats {
            *held.entry(seat.claim.app.priority).or_default() += seat.count();
        }
        held.retain(|_, count| *count > 0);
        let failed = |fitted: &Fitted| matches!(fitted.phase, BasePhase::Failed { .. });
        let failing = world.agents.iter().filter(|agent| agent.bases.iter().any(failed)).collect();
        Self { now, limits: world.limits, futile_until: world.futile_until, held, failing }
    }

    fn executors_fail(&self, app: &App) -> Option<Reason> {
        standing::failing(app, &self.failing, self.now)
    }

    /// Who holds the pool that this app finds full: the more important apps, or where there are none, its equals.
    fn pool_full(&self, app: &App, wanted: i64, granted: i64) -> Reason {
        let App { priority, requirements, .. } = app;
        let (priority, some_agents) = (*priority, !requirements.is_empty() || self.executors_fail(app).is_some());
        let mut above = self.held.range(..priority).map(|(priority, _)| *priority);
        let priorities = above.next().map_or((priority, priority), |first| (first, above.next_back().unwrap_or(first)));
        let held_above = self.held.range(priorities.0..=priorities.1).map(|(_, count)| count).sum();
        Reason::PoolFull { wanted, granted, some_agents, priorities, held_above, all: self.held.values().sum() }
    }
}

/// The verdict on an app with a spec. `giving_way` names, for each of its tasks that ends for another app, that app.
pub(super) fn verdict<'k>(seat: &Seat, pool: &Overview, giving_way: impl Iterator<Item = &'k Key>) -> Verdict {
    let Claim { tally, app, .. } = seat.claim;
    let spare = if app.remainder.is_some() { seat.count() } else { 0 };
    let wanted = seat.claim.want.max(spare.min(app.max));
    let mut gives: BTreeMap<&Key, i64> = BTreeMap::new();
    giving_way.for_each(|winner| *gives.entry(winner).or_default() += 1);
    let mut verdict = Verdict {
        wanted,
        granted: seat.count().min(wanted),
        running: tally.running,
        ready: tally.ready,
        starting: tally.starting,
        stopping: tally.stopping,
        pending: seat.starts + seat.waits,
        outdated: tally.old,
        phase: Phase::Converged,
        demand: seat.claim.asked.states.clone(),
        reasons: Vec::new(),
    };
    verdict.phase = phase(seat, &verdict, !gives.is_empty());
    verdict.reasons = reasons(seat, pool, &verdict, &gives);
    verdict
}

/// The verdict on an app whose spec is gone.
pub(super) fn deleted(view: &AppView) -> Verdict {
    let count =
        |phase: TaskPhase| i64::try_from(view.tasks.iter().filter(|task| task.phase == phase).count()).unwrap_or(i64::MAX);
    Verdict {
        wanted: 0,
        granted: 0,
        running: count(TaskPhase::Running),
        ready: 0,
        starting: count(TaskPhase::Starting),
        stopping: count(TaskPhase::Stopping),
        pending: 0,
        outdated: 0,
        phase: Phase::Shrinking,
        demand: Vec::new(),
        reasons: vec![Reason::Deleted],
    }
}

/// The one word. What a person has to look at comes first: a frozen app, one that cannot run, one that is blind; then who loses
/// room, then who lacks it; then what is on its way.
fn phase(seat: &Seat, verdict: &Verdict, gives_way: bool) -> Phase {
    let claim = seat.claim;
    let looping = claim.crash.as_ref().is_some_and(|crash| crash.failures >= LOOP);
    let short = verdict.granted < verdict.wanted;
    let without_executor = matches!(seat.short, Some(Short::Hopeless(Reason::ExecutorsFail { .. })));
    if claim.app.suspended {
        Phase::Suspended
    } else if (without_executor && short) || (looping && (verdict.running < verdict.wanted || verdict.outdated > 0)) {
        Phase::Failed
    } else if verdict.demand.iter().any(|state| state.is_missing()) {
        Phase::Stale
    } else if gives_way {
        Phase::GivingWay
    } else if short {
        Phase::CapacityLimited
    } else if verdict.pending > 0 || verdict.starting > 0 {
        Phase::Growing
    } else if verdict.stopping > 0 || seat.kept < claim.tally.live() {
        Phase::Shrinking
    } else {
        Phase::Converged
    }
}

/// The reasons, most important first.
fn reasons(seat: &Seat, pool: &Overview, verdict: &Verdict, gives: &BTreeMap<&Key, i64>) -> Vec<Reason> {
    let Claim { app, tally, crash, asked, .. } = seat.claim;
    let mut reasons = Vec::with_capacity(4);
    if app.suspended {
        reasons.push(Reason::Suspended { at: tally.live() });
    }
    if app.observed_only {
        reasons.push(Reason::ObserveOnly);
    }
    if let Some(crash) = crash {
        let retry_in_ms = crash.retry_at().saturating_sub(pool.now);
        let (failures, last) = (crash.failures, crash.message.clone());
        reasons.push(Reason::Crashing { failures, version: app.version, last, retry_in_ms });
    }
    let is_blind = |reason: &&Reason| {
        matches!(reason, Reason::NoData { .. } | Reason::NoFormula { .. } | Reason::Fallback { .. } | Reason::StandsIn { .. })
    };
    reasons.extend(asked.reasons.iter().filter(is_blind).cloned());
    if verdict.granted < verdict.wanted {
        shortage(seat, pool, verdict, &mut reasons);
    }
    reasons.extend(gives.iter().map(|(to, replicas)| Reason::GivesWay { to: (*to).clone(), replicas: *replicas }));
    if seat.waits > 0 {
        reasons.push(Reason::WaitsForRoom { replicas: seat.waits });
    }
    if tally.old > 0 {
        reasons.push(Reason::RollingOut { old: tally.old, new: tally.live() - tally.old });
        reasons.extend(seat.over_budget.then_some(Reason::BudgetHolds));
    }
    if tally.displaced > 0 {
        reasons.push(Reason::Moving { replicas: tally.displaced, stuck: seat.short.is_some() && seat.lacking() > 0 });
    }
    if tally.unreachable > 0 {
        reasons.push(Reason::Unreachable { replicas: tally.unreachable });
    }
    reasons.extend(asked.reasons.iter().filter(|reason| !is_blind(reason)).cloned());
    if app.remainder.is_some() {
        reasons.push(Reason::Remainder { spare: (seat.count() - seat.claim.want).max(0) });
    }
    reasons
}

fn shortage(seat: &Seat, pool: &Overview, verdict: &Verdict, reasons: &mut Vec<Reason>) {
    let app = seat.claim.app;
    let Verdict { wanted, granted, .. } = *verdict;
    match &seat.short {
        None | Some(Short::Headroom) => {}
        Some(Short::Hopeless(reason)) => reasons.push(reason.clone()),
        Some(Short::Limits) => reasons.push(Reason::AtLimits { limits: pool.limits }),
        Some(Short::Withheld(why @ (Withheld::Protected(until) | Withheld::Budget(until)))) => {
            let for_ms = until.saturating_sub(pool.now);
            let is_protected = matches!(why, Withheld::Protected(_));
            let why = if is_protected { Reason::OthersProtected { for_ms } } else { Reason::BudgetSpent { for_ms } };
            reasons.extend([pool.pool_full(app, wanted, granted), why]);
        }
        Some(Short::Withheld(Withheld::Unavailable)) => {
            reasons.extend([pool.pool_full(app, wanted, granted), Reason::OthersUnavailable]);
        }
        Some(Short::Withheld(Withheld::Futile)) => {
            let retry_in_ms = pool.futile_until.saturating_sub(pool.now);
            reasons.extend([Reason::FreedInVain { retry_in_ms }, pool.pool_full(app, wanted, granted)]);
        }
        Some(Short::Room) => {
            reasons.push(pool.pool_full(app, wanted, granted));
            reasons.extend(pool.executors_fail(app));
            if granted < seat.claim.floor() {
                reasons.push(Reason::MinimumWaits { min: app.min, granted });
            }
        }
    }
}

impl Verdict {
    /// The most important reasons in words.
    #[must_use]
    pub fn reason(&self) -> String {
        let words: Vec<String> = self.reasons.iter().take(MOST_REASONS).map(ToString::to_string).collect();
        words.join("; ")
    }
}

impl Plan {
    /// Whether anything is to be done about tasks.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.starts.is_empty() && self.stops.is_empty()
    }
}
