//! Plan → status: what users and their tools read, in the conventions of Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::changes::Changed;
use super::preparations::{LIMITS_ENFORCED, Preparations, Shown, Told};
use super::progress::Progress;
use super::report::{AppReport, Report, TaskReport};
use super::scale_out::ScaleOut;
use super::snapshot;
use crate::api::MicroscalingPool;
use crate::api::status::{AppStatus, DemandState, DemandStatus, ForecastStatus, Phase, PoolStatus};
use crate::api::validated::{App, Key, Metric};
use crate::backend::Standing;
use crate::policy::plan::{Plan, Reason, Verdict};
use crate::policy::resources::Resources;
use crate::policy::standing;
use crate::policy::world::{AppView, Foreseen, Millis, Reading, TaskPhase, Trouble, World};
use crate::store::{AppSpec, SpecProblem, Specs};

/// Everything that a report is made of.
pub struct Sight<'a> {
    pub pool: &'a Arc<MicroscalingPool>,
    pub specs: &'a Specs,
    pub world: &'a World,
    pub plan: &'a Plan,
    pub standing: Standing,
    /// Every task is being ended and none is started.
    pub drained: bool,
    /// All agents with executors of ours have been heard of.
    pub surveyed: bool,
    pub progress: &'a Progress,
    pub scale_out: &'a ScaleOut,
    /// Since the previous report.
    pub changed: &'a Changed,
    pub now: Millis,
    pub timestamp: Timestamp,
}

/// The report of the pool as it is now. From the previous one come what has not changed since, and the times at which conditions did.
#[must_use]
pub fn report(sight: &Sight, previous: &Report) -> Report {
    let pool_key = pool_key(sight.pool);
    let apps = sight.specs.apps.iter().filter(|(_, spec)| spec.app.pool == pool_key);
    // Both lists are in order of their keys, so that one walk finds each app's previous status.
    let mut before = previous.apps.iter().peekable();
    let mut bases = Preparations::new(sight.world);
    let apps = apps.map(|(key, spec)| {
        while before.next_if(|report| report.key < *key).is_some() {}
        let old = before.next_if(|report| report.key == *key);
        app_report(sight, (key, spec), bases.of(&spec.app, old), old)
    });
    let apps = apps.collect();
    Report {
        pool: sight.pool.clone(),
        status: pool_status(sight, &previous.status.conditions),
        standing: sight.standing.clone(),
        apps,
        leaving: leaving(sight, &pool_key),
        executors: sight.surveyed.then(|| snapshot::executors(sight.world)),
        problems: sight.specs.problems.iter().map(|problem| problem.message.clone()).collect(),
    }
}

fn app_report(sight: &Sight, (key, spec): (&Key, &AppSpec), bases: Option<&Arc<Shown>>, old: Option<&AppReport>) -> AppReport {
    let same = old.filter(|old| !sight.changed.has(key) && is_same(bases, old.bases.as_ref()));
    // Under test it is made again, to see that it is the same.
    if let Some(same) = same.filter(|_| !cfg!(debug_assertions)) {
        return AppReport { spec: spec.raw.clone(), ..same.clone() };
    }
    // A Microscaler that has just started, or come to lead, goes on where the last one stopped.
    let old_status = old.map(|old| &*old.status).or(spec.raw.status.as_ref());
    let status = app_status(sight, (key, spec), bases.map(|bases| &**bases), old_status);
    debug_assert!(same.is_none_or(|same| without_ages(&same.status) == without_ages(&status)), "{key} has changed unnoticed");
    AppReport { key: key.clone(), spec: spec.raw.clone(), status: Arc::new(status), bases: bases.cloned(), at: sight.now }
}

fn is_same(one: Option<&Arc<Shown>>, other: Option<&Arc<Shown>>) -> bool {
    one.zip(other).map_or(one.is_none() && other.is_none(), |(one, other)| Arc::ptr_eq(one, other) || one == other)
}

fn without_ages(status: &AppStatus) -> AppStatus {
    let mut status = status.clone();
    status.demand.iter_mut().for_each(|metric| metric.age_milliseconds = None);
    status
}

/// Also an app that stays for the time being, as it names a pool which does not exist.
fn leaving(sight: &Sight, pool: &Key) -> BTreeMap<Key, usize> {
    let mut ours = sight.specs.apps.iter().filter(|(_, spec)| spec.app.pool == *pool).map(|(key, _)| key).peekable();
    let mut is_ours = |key: &Key| {
        while ours.next_if(|own| *own < key).is_some() {}
        ours.next_if_eq(&key).is_some()
    };
    let gone = sight.world.apps.iter().filter(|(key, view)| !is_ours(key) && !view.tasks.is_empty());
    gone.map(|(key, view)| (key.clone(), view.tasks.len())).collect()
}

fn pool_key(pool: &MicroscalingPool) -> Key {
    Key::new(pool.metadata.namespace.as_deref().unwrap_or("default"), pool.metadata.name.as_deref().unwrap_or_default())
}

fn app_status(sight: &Sight, (key, spec): (&Key, &AppSpec), bases: Option<&Shown>, old: Option<&AppStatus>) -> AppStatus {
    let (Some(view), Some(verdict)) = (sight.world.apps.get(key), sight.plan.verdicts.get(key)) else {
        return AppStatus { reason: "not judged yet".to_owned(), conditions: unjudged(sight, spec), ..AppStatus::default() };
    };
    let problem = sight.specs.problems.iter().find(|problem| problem.app.as_ref() == Some(key));
    let trouble = view.trouble.as_ref();
    let reason = reason(sight, verdict, problem, trouble);
    let demand = demand(&spec.app, view, verdict, sight.now);
    let mut conditions = app_conditions(sight, spec, verdict, (problem, trouble), &reason, old);
    if let Some(limits) = bases.and_then(|bases| bases.limits.as_ref()) {
        let old = old.map_or(&[][..], |old| &old.conditions);
        conditions.push(condition_of(sight, LIMITS_ENFORCED, limits, generation(spec, problem), old));
    }
    AppStatus {
        observed_generation: generation(spec, problem),
        phase: Some(if trouble.is_some_and(|trouble| trouble.stalled) { Phase::Failed } else { verdict.phase }),
        wanted: verdict.wanted,
        granted: verdict.granted,
        running: verdict.running,
        ready: verdict.ready,
        starting: verdict.starting,
        stopping: verdict.stopping,
        replicas: verdict.running + verdict.starting,
        selector: format!("microscaling.dev/app={}", key.name()),
        demand_summary: demand_summary(&demand),
        demand,
        prepared: bases.map(|bases| bases.prepared.clone()),
        last_convergence_milliseconds: sight
            .progress
            .last(key)
            .map(|took| to_tenths(took.as_secs_f64() * 1000.0))
            .or_else(|| old.and_then(|old| old.last_convergence_milliseconds)),
        conditions,
        reason,
    }
}

/// Which generation is spoken of: one that could not be taken over was seen, too.
fn generation(spec: &AppSpec, problem: Option<&SpecProblem>) -> i64 {
    problem.and_then(|problem| problem.generation).unwrap_or(spec.app.generation)
}

/// Where a metric is that is silent on purpose.
const OUTSIDE: &str = "outside its window";

/// `jobs 120, cpu 0.7 (stale)`.
fn demand_summary(demand: &[DemandStatus]) -> String {
    let one = |metric: &DemandStatus| {
        if metric.state == DemandState::Silent {
            return format!("{} ({OUTSIDE})", metric.name);
        }
        let value = metric.value.map_or_else(|| "?".to_owned(), |value| ((value * 1000.0).round() / 1000.0).to_string());
        let mark = match metric.state {
            DemandState::Fresh | DemandState::Silent => "",
            DemandState::Stale => " (stale)",
            DemandState::Failed => " (failed)",
        };
        format!("{} {value}{mark}", metric.name)
    };
    demand.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A tenth of a millisecond is as fine as anyone reads.
fn to_tenths(milliseconds: f64) -> f64 {
    (milliseconds * 10.0).round() / 10.0
}

/// The judgement in words; what stands in the way of all judgement comes first.
fn reason(sight: &Sight, verdict: &Verdict, problem: Option<&SpecProblem>, trouble: Option<&Trouble>) -> String {
    let judged = verdict.reason();
    let judged = trouble.map_or(judged.clone(), |trouble| format!("{}; {judged}", trouble.message));
    match (problem, sight.standing.ready) {
        _ if sight.drained => "the pool is drained: tasks are ended and none is started".to_owned(),
        (Some(problem), _) => format!("{} (the last good spec stays in force); {judged}", problem.message),
        (None, false) => format!("no orders can be given: {}; {judged}", sight.standing.message),
        (None, true) => judged,
    }
}

fn forecast(metric: &Metric, reading: &Reading, now: Millis) -> Option<ForecastStatus> {
    let (Foreseen(curve), terms) = (reading.foreseen.as_ref()?, metric.forecast?);
    let (value, _) = curve.most(now, now + terms.horizon_ms)?;
    Some(ForecastStatus {
        value: to_tenths(value),
        trusted: curve.trusted,
        error_percent: curve.error.map(|error| to_tenths(error * 100.0)),
        season_milliseconds: curve.seasons.iter().map(|ms| i64::try_from(*ms).unwrap_or(i64::MAX)).collect(),
    })
}

fn demand(app: &App, view: &AppView, verdict: &Verdict, now: Millis) -> Vec<DemandStatus> {
    let metrics = app.demand.iter().zip(&view.readings).zip(&verdict.demand);
    let status = metrics.map(|((metric, reading), state)| DemandStatus {
        name: metric.name.to_string(),
        value: reading.value.map(|(value, _)| value),
        age_milliseconds: reading.value.map(|(_, at)| i64::try_from(now.saturating_sub(at)).unwrap_or(i64::MAX)),
        state: *state,
        message: reading.failure.as_deref().or(reading.silent.then_some(OUTSIDE)).map(str::to_owned),
        forecast: forecast(metric, reading, now),
    });
    status.collect()
}

fn app_conditions(
    sight: &Sight,
    spec: &AppSpec,
    verdict: &Verdict,
    (problem, trouble): (Option<&SpecProblem>, Option<&Trouble>),
    reason: &str,
    old: Option<&AppStatus>,
) -> Vec<Condition> {
    let phase = verdict.phase;
    let still = phase == Phase::Suspended || spec.app.observed_only || sight.drained;
    // What this plan is about to do counts: the status that first speaks of a new template must not say that all is done.
    let on_the_way = verdict.pending + verdict.outdated + verdict.starting + verdict.stopping;
    let moving = on_the_way > 0 || verdict.running != verdict.granted;
    let short = verdict.granted < verdict.wanted;
    let stuck = trouble.filter(|trouble| trouble.stalled);
    let served =
        sight.standing.ready && trouble.is_none_or(|trouble| !trouble.holds) && !short && verdict.ready >= verdict.granted;
    let fresh = verdict.demand.iter().all(|state| !state.is_missing());
    let stalled = problem.is_some() || stuck.is_some() || phase == Phase::Failed || sight.standing.stalled;
    let why_stalled = if problem.is_some() {
        "BadSpec"
    } else if let Some(trouble) = stuck {
        trouble.word
    } else if sight.standing.stalled {
        "Disconnected"
    } else if verdict.reasons.iter().any(|reason| matches!(reason, Reason::ExecutorsFail { .. })) {
        "ExecutorsFail"
    } else {
        "TasksFail"
    };
    // Of what is stalled and also reconciling, tools would wait for the end.
    let reconciling = moving && !still && !stalled;
    let list = [
        ("Ready", served, if served { "AllRunning" } else { word(phase) }),
        ("Reconciling", reconciling, if reconciling { word(phase) } else { "NothingToDo" }),
        ("Stalled", stalled, if stalled { why_stalled } else { "Progressing" }),
        ("DemandAvailable", fresh, if fresh { "Fresh" } else { "StaleOrFailed" }),
        ("CapacityLimited", short, if short { "PoolFull" } else { "EnoughRoom" }),
        ("GivingWay", phase == Phase::GivingWay, if phase == Phase::GivingWay { "MoreImportantWork" } else { "NotNeeded" }),
    ];
    let old = old.map_or(&[][..], |old| &old.conditions);
    let condition =
        |(kind, status, word): (&str, bool, &str)| condition(sight, kind, status, word, reason, generation(spec, problem), old);
    list.into_iter().map(condition).collect()
}

/// Without conditions, or with the newest generation, tools would take the object for served.
fn unjudged(sight: &Sight, spec: &AppSpec) -> Vec<Condition> {
    let list = [("Ready", false), ("Reconciling", true)];
    let condition = |(kind, status)| condition(sight, kind, status, "NotJudgedYet", "not judged yet", spec.app.generation, &[]);
    list.into_iter().map(condition).collect()
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Converged => "Converged",
        Phase::Growing => "Growing",
        Phase::Shrinking => "Shrinking",
        Phase::GivingWay => "GivingWay",
        Phase::CapacityLimited => "CapacityLimited",
        Phase::Suspended => "Suspended",
        Phase::Stale => "Stale",
        Phase::Failed => "Failed",
    }
}

/// A condition keeps the time of its last change for as long as its status stays.
fn condition(
    sight: &Sight,
    kind: &str,
    status: bool,
    word: &str,
    message: &str,
    generation: i64,
    old: &[Condition],
) -> Condition {
    let told = Told { status: if status { "True" } else { "False" }, word, message: message.to_owned() };
    condition_of(sight, kind, &told, generation, old)
}

fn condition_of(sight: &Sight, kind: &str, told: &Told, generation: i64, old: &[Condition]) -> Condition {
    let Told { status, word, message } = told;
    let kept = old.iter().find(|old| old.type_ == kind && old.status == *status).map(|old| old.last_transition_time.clone());
    Condition {
        type_: kind.to_owned(),
        status: (*status).to_owned(),
        reason: (*word).to_owned(),
        message: message.clone(),
        observed_generation: Some(generation),
        last_transition_time: kept.unwrap_or(Time(sight.timestamp)),
    }
}

fn pool_status(sight: &Sight, old: &[Condition]) -> PoolStatus {
    let Sight { world, standing, .. } = sight;
    let generation = sight.pool.metadata.generation.unwrap_or(0);
    let open = || world.agents.iter().filter(|agent| agent.is_open());
    let living = || world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase != TaskPhase::Unreachable);
    let executors = world
        .agents
        .iter()
        .filter(|agent| agent.present)
        .flat_map(|agent| &agent.bases)
        .map(|fitted| standing::used(fitted, world));
    let used: Resources = living().map(|task| task.resources).chain(executors).sum();
    // Room that is spoken for before it has come free is less than none.
    let free: Resources = open().map(|agent| (agent.held + agent.expected).max(Resources::ZERO)).sum();
    let (median, p99) = sight.progress.reactions().unzip();
    let (median_launch, p99_launch) = sight.progress.launches().unzip();
    let milliseconds = |time: Option<std::time::Duration>| time.map(|time| (time.as_secs_f64() * 1e5).round() / 100.0);
    let condition = |kind, status, word| condition(sight, kind, status, word, &standing.message, generation, old);
    let mut conditions = vec![
        condition("Ready", standing.ready, if standing.ready { "InControl" } else { "NotYet" }),
        condition("Connected", standing.connected, if standing.connected { "Subscribed" } else { "Disconnected" }),
        condition("Stalled", standing.stalled, if standing.stalled { "NeedsAttention" } else { "Progressing" }),
    ];
    let shortfall = sight.scale_out.shortfall();
    let lack = shortfall.as_ref().map_or_else(String::new, |_| sight.scale_out.words());
    let (status, word) = if shortfall.is_some() { ("True", "TooSmall") } else { ("False", "EnoughRoom") };
    conditions.push(condition_of(sight, "CapacityLimited", &Told { status, word, message: lack }, generation, old));
    if let Some(outcome) = sight.scale_out.outcome() {
        let (status, word) = if outcome.is_ok() { ("True", "Delivered") } else { ("False", "Failed") };
        let message = outcome.err().unwrap_or_default();
        conditions.push(condition_of(sight, "ScaleOutTold", &Told { status, word, message }, generation, old));
    }
    if let Some(advice) = &standing.advice {
        let (status, word) = if advice.is_empty() { ("True", "FastFlags") } else { ("False", "SlowFlags") };
        conditions.push(condition_of(sight, "Tuned", &Told { status, word, message: advice.clone() }, generation, old));
    }
    PoolStatus {
        observed_generation: generation,
        framework_id: standing.framework_id.clone(),
        master: standing.master.clone(),
        agents: count(open().count()),
        tasks: count(living().count()),
        used: used.to_string(),
        free: free.to_string(),
        message: standing.message.clone(),
        shortfall,
        idle_agents: sight.scale_out.idle_agents(),
        median_reaction_milliseconds: milliseconds(median),
        p99_reaction_milliseconds: milliseconds(p99),
        median_launch_milliseconds: milliseconds(median_launch),
        p99_launch_milliseconds: milliseconds(p99_launch),
        conditions,
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// All tasks that have not ended, app by app.
#[must_use]
pub fn tasks(world: &World, pool: &Key, now: Millis) -> Vec<TaskReport> {
    let all = world.apps.iter().flat_map(|(app, view)| view.tasks.iter().map(move |task| (app, task)));
    let report = all.map(|(app, task)| {
        let agent = world.agents.get(task.agent.0 as usize);
        TaskReport {
            id: task.id.to_string(),
            namespace: app.namespace().to_owned(),
            app: app.name().to_owned(),
            pool: pool.name().to_owned(),
            version: task.version.map(|version| version.to_string()),
            agent: agent.map(|agent| agent.id.to_string()).unwrap_or_default(),
            host: agent.map(|agent| agent.hostname.to_string()).unwrap_or_default(),
            phase: task.phase,
            ready: task.ready,
            age_milliseconds: now.saturating_sub(task.born),
        }
    });
    report.collect()
}
