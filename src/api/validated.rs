//! The one reader of raw specs: everything behind it sees only these types, in units of its own (milliseconds, fixed-point resources).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::app::{self, MicroscaledApp, Mode, PolicyKind, SelectPolicy};
use super::container::{Containerizer, Launch};
use super::demand::{Forecast, Role, Source};
use super::marathon::{Capacity, Fixed, Marathon, MarathonTerms};
use super::pool::{Amounts, Backend, Mesos, MicroscalingPool};
use super::protection::{PreemptionBudget, Protection};
use super::quantity::{BadQuantity, Quantity};
use super::scale_out::ScaleOut;
use super::template::{EnvVar, Placement, Requirement, ResourceList, Template};
use crate::demand::schedule::Windows;
use crate::policy::resources::Resources;

mod formula;
mod ladder;
mod target;

pub use formula::Formula;
pub use ladder::{Rung, StandIn};
pub use target::{TargetValue, Wait};

/// `namespace/name` of an app or a pool; cheap to clone, ordered as that text: `a-b/x` comes before `a/x`.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        // Maps that are walked in step mostly hold copies of one key.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Key {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which template a task was started from: a hash of everything in it that a running task cannot take on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// An app, checked and in internal units.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub key: Key,
    pub generation: i64,
    pub pool: Key,
    /// 1 is served first.
    pub priority: i32,
    /// What part of the room it gets among its equals.
    pub weight: i64,
    /// Replicas when `demand` holds no metric.
    pub replicas: i64,
    pub min: i64,
    /// `i64::MAX` when the pool is the only limit.
    pub max: i64,
    /// The metrics, without `remainder`.
    pub demand: Vec<Metric>,
    /// Weight of the app's claim to spare room, if it makes one.
    pub remainder: Option<i64>,
    /// In place of the largest of what metrics ask for.
    pub formula: Option<Formula>,
    pub up: Damping,
    pub down: Damping,
    pub panic: Option<Panic>,
    pub suspended: bool,
    /// Decide and report, but do nothing.
    pub observed_only: bool,
    pub max_surge: i64,
    pub protection: Protection,
    pub replace_unreachable_after_ms: u64,
    /// What one replica uses, its ports counted.
    pub size: Resources,
    pub version: Version,
    pub template: Template,
    pub spread: Spread,
    pub requirements: Vec<Requirement>,
    /// What has to be on an agent before replicas start there quickly.
    pub base: Option<Base>,
    /// The app that it is on a Marathon, if it names one.
    pub marathon_id: Option<Arc<str>>,
    pub marathon: MarathonTerms,
    /// It is there on a Marathon already: size and template are Marathon's, and not known here.
    pub adopted: bool,
}

/// What replicas build on: an executor that they share, or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The same for all that share it within a pool.
    pub key: Arc<str>,
    pub kind: BaseKind,
    /// It is put on agents before it is needed there.
    pub ahead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseKind {
    /// Replicas are processes of it: without it, none runs.
    Executor,
    /// Fetched with the first replica if need be: where it is already, replicas start sooner.
    Image,
}

/// A metric with its target in plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: Arc<str>,
    pub source: Source,
    pub target: TargetValue,
    pub role: Role,
    /// Age in milliseconds beyond which the value is not believed. `u64::MAX`: never stale.
    pub stale_after_ms: u64,
    /// What stands in when it is stale. Empty: what was wanted last.
    pub ladder: Vec<Rung>,
    /// How it is foreseen, if it is.
    pub forecast: Option<Foresight>,
}

/// How a metric is foreseen, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foresight {
    pub horizon_ms: u64,
    /// `None`: it is found out.
    pub season_ms: Option<u64>,
    pub step_ms: u64,
    /// So many steps are kept.
    pub steps: usize,
}

/// Damping in one direction, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Damping {
    pub window_ms: u64,
    pub limits: Vec<RateLimit>,
    pub select: SelectPolicy,
    /// `None`: 0.1 for value and utilization, and for rate and queue on the way down; 0 else.
    pub tolerance: Option<f64>,
}

/// How bursts are told from what is usual, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Panic {
    /// Over which demand has to be high.
    pub window_ms: u64,
    /// Over which it is known what is usual.
    pub stable_ms: u64,
    /// How many times as much demand has to be.
    pub threshold: f64,
    /// How often it is looked at.
    pub step_ms: u64,
}

impl Panic {
    /// In which the most of a burst fades by half.
    #[must_use]
    pub fn half_life_ms(&self) -> u64 {
        self.stable_ms / 2
    }
}

/// At most so much change per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub kind: PolicyKind,
    pub value: i64,
    pub period_ms: u64,
}

/// How replicas are laid out over agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    Pack,
    /// Evenly over the values of this attribute.
    Over(String),
}

/// A pool, checked and in internal units.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub key: Key,
    pub generation: i64,
    pub backend: Backend,
    /// [`Resources::UNLIMITED`] in each dimension without a limit.
    pub limits: Resources,
    pub headroom: Resources,
    pub preemption_budget: Option<PreemptionBudget>,
    pub scale_out: Option<ScaleOut>,
    /// What an executor of pooled apps uses by itself.
    pub executor: Resources,
    pub executor_idle_ms: u64,
}

/// A pool on Mesos, as far as that matters to a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct MesosPool {
    pub key: Key,
    pub mesos: Mesos,
    /// What an executor of pooled apps uses by itself.
    pub executor: Resources,
}

/// A pool on a Marathon, as far as that matters to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct MarathonPool {
    pub key: Key,
    pub marathon: Marathon,
    pub room: RoomOf,
}

/// How much room a pool on a Marathon has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomOf {
    /// That of the agents that these masters know.
    Agents(Vec<String>),
    /// So much. Zero: not counted.
    Fixed(Resources),
    /// So many replicas.
    Instances(i64),
}

/// A spec that passed the schema and yet cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{field}: {problem}")]
    Amount { field: String, problem: BadQuantity },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

/// Down after two seconds unless told otherwise.
const DEFAULT_DOWN_WINDOW_MS: u64 = 2000;
/// Four weeks, as with Scryer.
const LONGEST_HISTORY_MS: u64 = 28 * 86_400_000;
const MOST_STEPS: usize = 20_000;
const PUSH_STALE_AFTER_MS: u64 = 60_000;
const POLLED_STALE_AFTER_MS: u64 = 5000;
/// Two and a half times the minute after which OpenTelemetry's SDKs send.
const TELEMETRY_STALE_AFTER_MS: u64 = 150_000;

impl App {
    /// Reads a `MicroscaledApp`.
    ///
    /// # Errors
    /// When an amount cannot be read or is zero where it may not be.
    pub fn read(raw: &MicroscaledApp) -> Result<Self, Invalid> {
        let namespace = raw.metadata.namespace.as_deref().unwrap_or("default");
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let spec = &raw.spec;
        let behavior = spec.behavior.clone().unwrap_or_default();
        let remainder = spec.demand.iter().find_map(|d| match &d.source {
            Source::Remainder(remainder) => Some(i64::from(remainder.weight)),
            _ => None,
        });
        let placement = spec.placement.clone().unwrap_or_default();
        let template = spec.template.clone().unwrap_or_else(Template::of_marathon);
        let size = if spec.template.is_some() { size(&template)? } else { Resources::ZERO };
        probes(&template)?;
        Ok(Self {
            key: Key::new(namespace, name),
            generation: raw.metadata.generation.unwrap_or(0),
            pool: Key::new(namespace, &spec.pool),
            priority: spec.priority,
            weight: spec.weight.into(),
            replicas: spec.replicas.into(),
            min: spec.min_replicas.into(),
            max: spec.max_replicas.map_or(i64::MAX, i64::from),
            demand: (0..spec.demand.len()).filter_map(|i| metric(i, spec).transpose()).collect::<Result<_, _>>()?,
            remainder,
            formula: formula(spec)?,
            up: damping(behavior.scale_up.as_ref(), 0),
            down: damping(behavior.scale_down.as_ref(), DEFAULT_DOWN_WINDOW_MS),
            panic: behavior.panic.as_ref().map(panic),
            suspended: spec.suspend,
            observed_only: spec.mode == Mode::Observe,
            max_surge: spec.rollout.max_surge.into(),
            protection: spec.protection,
            replace_unreachable_after_ms: unsigned(spec.replace_unreachable_after_milliseconds),
            size,
            version: version(&template, size),
            spread: spread(&placement),
            requirements: placement.requirements,
            base: base(&Key::new(namespace, name), &template),
            marathon_id: spec.marathon_app.as_deref().map(Into::into),
            marathon: spec.marathon,
            adopted: spec.template.is_none(),
            template,
        })
    }
}

impl Pool {
    /// Reads a `MicroscalingPool`.
    ///
    /// # Errors
    /// When an amount cannot be read.
    pub fn read(raw: &MicroscalingPool) -> Result<Self, Invalid> {
        let namespace = raw.metadata.namespace.as_deref().unwrap_or("default");
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let mut pool = Self {
            key: Key::new(namespace, name),
            generation: raw.metadata.generation.unwrap_or(0),
            backend: raw.spec.backend.clone(),
            limits: amounts("spec.limits", raw.spec.limits.as_ref(), Resources::UNLIMITED)?,
            headroom: Resources::ZERO,
            preemption_budget: raw.spec.preemption_budget,
            scale_out: raw.spec.scale_out.clone(),
            executor: Resources::ZERO,
            executor_idle_ms: 0,
        };
        match &raw.spec.backend {
            Backend::Mesos(mesos) => {
                pool.headroom = amounts("spec.mesos.headroom", mesos.headroom.as_ref(), Resources::ZERO)?;
                pool.executor = executor(mesos)?;
                pool.executor_idle_ms = unsigned(mesos.executor_idle_seconds).saturating_mul(1000);
            }
            Backend::Marathon(marathon) => drop(room(marathon)?),
        }
        Ok(pool)
    }

    /// What the framework has to know of it; `None` if it is not on Mesos.
    #[must_use]
    pub fn on_mesos(&self) -> Option<MesosPool> {
        let Backend::Mesos(mesos) = &self.backend else { return None };
        Some(MesosPool { key: self.key.clone(), mesos: mesos.clone(), executor: self.executor })
    }

    /// What the client has to know of it; `None` if it is not on a Marathon.
    #[must_use]
    pub fn on_marathon(&self) -> Option<MarathonPool> {
        let Backend::Marathon(marathon) = &self.backend else { return None };
        Some(MarathonPool { key: self.key.clone(), marathon: marathon.clone(), room: room(marathon).ok()? })
    }
}

fn room(marathon: &Marathon) -> Result<RoomOf, Invalid> {
    let field = |name: &str| format!("spec.marathon.capacity.fixed.{name}");
    Ok(match &marathon.capacity {
        Capacity::Mesos(masters) => RoomOf::Agents(masters.clone()),
        Capacity::Instances(count) => RoomOf::Instances((*count).into()),
        Capacity::Fixed(Fixed { cpu, memory, disk, gpu }) => RoomOf::Fixed(Resources {
            cpu: cores(&field("cpu"), cpu)?,
            memory: mebibytes(&field("memory"), memory)?,
            disk: disk.as_ref().map_or(Ok(0), |disk| mebibytes(&field("disk"), disk))?,
            gpu: gpu.unwrap_or(0),
            ports: 0,
        }),
    })
}

fn formula(spec: &app::MicroscaledAppSpec) -> Result<Option<Formula>, Invalid> {
    let Some(source) = &spec.formula else { return Ok(None) };
    let metrics = || spec.demand.iter().enumerate().filter(|(_, demand)| demand.has_values());
    if let Some((index, _)) = metrics().find(|(_, demand)| demand.role == Role::Demand) {
        let problem =
            "with a formula, a metric asks for nothing by itself: give it the role Input, Floor, Cap or Veto".to_owned();
        return Err(Invalid::Field { field: format!("spec.demand[{index}].role"), problem });
    }
    let invalid = |problem| Invalid::Field { field: "spec.formula".to_owned(), problem };
    if metrics().next().is_none() {
        return Err(invalid("there are no metrics for it in demand".to_owned()));
    }
    Formula::compile(source, metrics().map(|(_, demand)| demand.name.as_str())).map(Some).map_err(invalid)
}

fn metric(index: usize, spec: &app::MicroscaledAppSpec) -> Result<Option<Metric>, Invalid> {
    let (all, demand) = (&spec.demand, &spec.demand[index]);
    let field = |name: &str| format!("spec.demand[{index}].{name}");
    if let Source::Schedule(spec) = &demand.source {
        Windows::read(spec).map_err(|error| Invalid::Field {
            field: field(&format!("schedule.{}", error.field())),
            problem: error.to_string(),
        })?;
    }
    let target = match &demand.target {
        Some(target) => target::read(index, all, target)?,
        None => demand.has_values().then_some(TargetValue::None),
    };
    let Some(target) = target else { return Ok(None) };
    let default_stale = match (&demand.source, demand.source.polling()) {
        (_, Some(polling)) => POLLED_STALE_AFTER_MS.max(5 * unsigned(polling.slowest_ms())),
        (Source::Push(_) | Source::Redis(_), None) => PUSH_STALE_AFTER_MS,
        (Source::OpenTelemetry(_), None) => TELEMETRY_STALE_AFTER_MS,
        (_, None) => u64::MAX,
    };
    let stale_after_ms = demand.stale_after_milliseconds.map_or(default_stale, unsigned);
    let forecast = demand.forecast.as_ref().map(|forecast| foresight(&field("forecast"), forecast)).transpose()?;
    Ok(Some(Metric {
        name: demand.name.as_str().into(),
        source: demand.source.clone(),
        target,
        role: demand.role,
        stale_after_ms,
        ladder: ladder::read(index, spec)?,
        forecast,
    }))
}

fn foresight(field: &str, forecast: &Forecast) -> Result<Foresight, Invalid> {
    let in_seconds = |seconds: i32| unsigned(seconds.into()).saturating_mul(1000);
    let horizon_ms = forecast.horizon_milliseconds.map(|ms| unsigned(ms.into())).or(forecast.horizon_seconds.map(in_seconds));
    let horizon_ms = horizon_ms.unwrap_or(0).max(1);
    let step_ms = forecast.step_milliseconds.map_or_else(|| (horizon_ms / 4).max(1000), |ms| unsigned(ms.into()));
    let history_ms = forecast.history_seconds.map_or(LONGEST_HISTORY_MS, in_seconds);
    let steps = usize::try_from(history_ms / step_ms).unwrap_or(MOST_STEPS).clamp(1, MOST_STEPS);
    let season_ms = (forecast.season != "auto").then(|| duration(&forecast.season));
    let problem = match season_ms {
        Some(season_ms) if season_ms < 2 * step_ms => {
            "a season has to be two steps long at least: name a shorter stepMilliseconds"
        }
        Some(season_ms) if season_ms.saturating_mul(2) > step_ms.saturating_mul(steps as u64) => {
            "a season has to fit into the history twice (at most 20,000 steps): name a longer stepMilliseconds or historySeconds"
        }
        _ => return Ok(Foresight { horizon_ms, season_ms, step_ms, steps }),
    };
    Err(Invalid::Field { field: format!("{field}.season"), problem: problem.to_owned() })
}

/// Such as `1h30m`; the schema has looked at its form.
fn duration(text: &str) -> u64 {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (mut rest, mut sum) = (text, 0_u64);
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, tail) = rest.split_at(end);
        let unit = units.iter().find(|(name, _)| tail.starts_with(name) && !(*name == "m" && tail.starts_with("ms")));
        let Some((name, factor)) = unit else { break };
        sum = sum.saturating_add(number.parse::<u64>().unwrap_or(0).saturating_mul(*factor));
        rest = &tail[name.len()..];
    }
    sum
}

fn positive(field: &str, quantity: &Quantity) -> Result<f64, Invalid> {
    match quantity.number() {
        Ok(n) if n > 0.0 => Ok(n),
        Ok(_) => Err(Invalid::Field { field: field.to_owned(), problem: "must be more than 0".to_owned() }),
        Err(problem) => Err(Invalid::Amount { field: field.to_owned(), problem }),
    }
}

fn damping(rules: Option<&app::ScalingRules>, default_window_ms: u64) -> Damping {
    let rules = rules.cloned().unwrap_or_default();
    let in_ms = |seconds: Option<i32>, milliseconds: Option<i32>| {
        milliseconds.map(i64::from).or(seconds.map(|s| i64::from(s) * 1000)).map(unsigned)
    };
    let limit = |policy: &app::ScalingPolicy| RateLimit {
        kind: policy.kind,
        value: policy.value.into(),
        period_ms: in_ms(policy.period_seconds, policy.period_milliseconds).unwrap_or(1000),
    };
    Damping {
        window_ms: in_ms(rules.stabilization_window_seconds, rules.stabilization_window_milliseconds)
            .unwrap_or(default_window_ms),
        limits: rules.policies.iter().map(limit).collect(),
        select: rules.select_policy,
        tolerance: rules.tolerance,
    }
}

fn panic(panic: &super::panic::Panic) -> Panic {
    let stable_ms = unsigned(panic.stable_window_milliseconds.into());
    let window_ms = panic.window_milliseconds.map_or(stable_ms / 10, |ms| unsigned(ms.into()));
    let threshold = f64::from(panic.threshold_percent) / 100.0;
    Panic { window_ms, stable_ms, threshold, step_ms: (window_ms / 8).max(1) }
}

fn spread(placement: &Placement) -> Spread {
    match placement.spread.as_deref() {
        None | Some("pack") => Spread::Pack,
        Some(attribute) => Spread::Over(attribute.to_owned()),
    }
}

fn size(template: &Template) -> Result<Resources, Invalid> {
    let field = |name: &str| format!("spec.template.resources.{name}");
    let ResourceList { cpu, memory, disk, gpu } = &template.resources;
    let size = Resources {
        cpu: cores(&field("cpu"), cpu)?,
        memory: mebibytes(&field("memory"), memory)?,
        disk: disk.as_ref().map_or(Ok(0), |disk| mebibytes(&field("disk"), disk))?,
        gpu: gpu.unwrap_or(0),
        ports: i64::try_from(template.ports.len()).unwrap_or(i64::MAX),
    };
    if size.cpu == 0 && size.memory == 0 {
        let problem = "cpu and memory are both 0, so Mesos would refuse the task".to_owned();
        return Err(Invalid::Field { field: "spec.template.resources".to_owned(), problem });
    }
    Ok(size)
}

fn amounts(field: &str, amounts: Option<&Amounts>, otherwise: Resources) -> Result<Resources, Invalid> {
    let Some(amounts) = amounts else { return Ok(otherwise) };
    let field = |name: &str| format!("{field}.{name}");
    Ok(Resources {
        cpu: amounts.cpu.as_ref().map_or(Ok(otherwise.cpu), |q| cores(&field("cpu"), q))?,
        memory: amounts.memory.as_ref().map_or(Ok(otherwise.memory), |q| mebibytes(&field("memory"), q))?,
        disk: amounts.disk.as_ref().map_or(Ok(otherwise.disk), |q| mebibytes(&field("disk"), q))?,
        gpu: amounts.gpu.unwrap_or(otherwise.gpu),
        ports: otherwise.ports,
    })
}

/// Each probe's port is one of the template's; and the executor that Mesos has for Docker makes one check of a task at most.
fn probes(template: &Template) -> Result<(), Invalid> {
    let docker = template.image.is_some() && template.containerizer == Containerizer::Docker;
    if docker && template.readiness.is_some() && template.liveness.is_some() {
        let problem = "containerizer docker allows readiness or liveness, not both".to_owned();
        return Err(Invalid::Field { field: "spec.template.readiness".to_owned(), problem });
    }
    let liveness = template.liveness.as_ref().map(|liveness| &liveness.probe);
    for (name, probe) in [("readiness", template.readiness.as_ref()), ("liveness", liveness)] {
        let Some(probe) = probe.filter(|probe| probe.exec.is_none()) else { continue };
        if probe.port_among(&template.ports).is_none() {
            let kind = if probe.http.is_some() { "http" } else { "tcp" };
            let problem = "none of the template's ports has this name".to_owned();
            return Err(Invalid::Field { field: format!("spec.template.{name}.{kind}.port"), problem });
        }
    }
    Ok(())
}

/// An executor of ours takes 8 MiB; below 32 MiB Mesos does not limit memory anyhow.
fn executor(mesos: &Mesos) -> Result<Resources, Invalid> {
    let default = Resources::new(10, 32);
    let given = mesos.executor.as_ref().and_then(|executor| executor.resources.as_ref());
    amounts("spec.mesos.executor.resources", given, default)
}

/// What has to be there first. The key tells apart what may not be shared.
fn base(key: &Key, template: &Template) -> Option<Base> {
    let Template { launch, image, containerizer, volumes, user, prefetch, .. } = template;
    match launch {
        Launch::Pooled => {
            let text = serde_json::json!([key.namespace(), user, image, volumes]).to_string();
            let key = short_hash(text.as_bytes()).into();
            Some(Base { key, kind: BaseKind::Executor, ahead: true })
        }
        Launch::Isolated => image.as_ref().map(|image| {
            let by = if *containerizer == Containerizer::Docker { "docker" } else { "mesos" };
            Base { key: format!("{by}:{image}").into(), kind: BaseKind::Image, ahead: *prefetch }
        }),
    }
}

fn cores(field: &str, quantity: &Quantity) -> Result<i64, Invalid> {
    let milli = quantity.thousandths().map_err(|problem| Invalid::Amount { field: field.to_owned(), problem })?;
    Ok(bounded(milli))
}

/// Thousandths of a MiB, rounded up.
fn mebibytes(field: &str, quantity: &Quantity) -> Result<i64, Invalid> {
    let milli_bytes = quantity.thousandths().map_err(|problem| Invalid::Amount { field: field.to_owned(), problem })?;
    Ok(bounded((milli_bytes + (1 << 20) - 1) >> 20))
}

/// More than any cluster has is as good as this much, and sums stay far from overflow.
fn bounded(amount: i128) -> i64 {
    const MOST: i64 = i64::MAX / 1024;
    i64::try_from(amount).map_or(MOST, |amount| amount.min(MOST))
}

/// Only what a running task cannot take on: not the grace period, which is sent along with the kill.
///
/// The same on every machine and in every build, for it is compared with the labels of tasks that an older Microscaler started; and
/// amounts count, not how they are written. A field that comes later must leave the text as it is for those who do not use it.
fn version(template: &Template, size: Resources) -> Version {
    let Template { resources: _, command, shell, env, ports, grace_period_milliseconds: _, prefetch: _, .. } = template;
    let Template { launch, image, containerizer, volumes, working_directory, user, readiness, liveness, .. } = template;
    let Resources { cpu, memory, disk, gpu, ports: _ } = size;
    let env: Vec<_> = env.iter().map(|EnvVar { name, value }| [name, value]).collect();
    let ports: Vec<_> = ports.iter().map(|port| &port.name).collect();
    let mut text = serde_json::json!([cpu, memory, disk, gpu, command, shell, env, ports]).to_string();
    let container = serde_json::json!([launch, image, containerizer, volumes, working_directory, user]);
    if container != serde_json::json!(["isolated", null, "mesos", [], null, null]) {
        text += &container.to_string();
    }
    if readiness.is_some() || liveness.is_some() {
        text += &serde_json::json!([readiness, liveness]).to_string();
    }
    Version(folded(text.as_bytes()))
}

/// Eight hexadecimal digits that stay the same for the same bytes.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    format!("{:08x}", folded(bytes))
}

#[allow(clippy::cast_possible_truncation)]
fn folded(bytes: &[u8]) -> u32 {
    let hash = fnv1a(bytes);
    (hash ^ (hash >> 32)) as u32
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests;
