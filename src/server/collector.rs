//! Gauges that are read off the newest reports when somebody asks for them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use kube::ResourceExt as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use super::pools::Pools;
use crate::api::pool::Amounts;
use crate::api::quantity::Quantity;
use crate::api::status::Phase;
use crate::demand::Tally;
use crate::engine::report::{AppReport, Report};

const PHASES: [Phase; 8] = [
    Phase::Converged,
    Phase::Growing,
    Phase::Shrinking,
    Phase::GivingWay,
    Phase::CapacityLimited,
    Phase::Suspended,
    Phase::Stale,
    Phase::Failed,
];

/// Label names and values.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The reports of all engines, and what came in from sources.
#[derive(Debug)]
pub(super) struct Reports {
    pub pools: Arc<Pools>,
    pub tally: Tally,
    /// 1 while this process leads. One that stands by knows less of apps and pools than the one that leads, and contradicts it.
    pub leader: Gauge<i64, AtomicI64>,
}

impl Collector for Reports {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if self.leader.get() == 1 {
            self.encode_reports(&mut encoder)?;
        }
        let posts = self.tally.counts().map(|(source, count)| (vec![("source", source)], count));
        counters(&mut encoder, "demand_posts", "Values of demand that came in", posts)
    }
}

impl Reports {
    fn encode_reports(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let reports: Vec<Arc<Report>> = self.pools.list().iter().map(|handle| handle.reports.borrow().clone()).collect();
        let apps: Vec<Named> = reports.iter().flat_map(|report| &report.apps).map(Named::new).collect();
        replicas(encoder, &apps)?;
        demand(encoder, &apps)?;
        ages(encoder, &apps)?;
        phases(encoder, &apps)?;
        let pools: Vec<NamedPool> = reports.iter().map(|report| NamedPool::new(report)).collect();
        let of_pools = |value: fn(&Report) -> i64| pools.iter().map(move |pool| (pool.labels(), value(pool.report)));
        let connected = of_pools(|report| i64::from(report.standing.connected));
        gauges(encoder, "pool_connected", "Whether a pool is connected to its Mesos master", connected)?;
        gauges(encoder, "pool_agents", "Agents known", of_pools(|report| report.status.agents))?;
        gauges(encoder, "pool_tasks", "Tasks that have not ended", of_pools(|report| report.status.tasks))?;
        let idle = of_pools(|report| report.status.idle_agents);
        gauges(encoder, "pool_idle_agents", "Agents that have run no replica for long", idle)?;
        shortfalls(encoder, &pools)
    }
}

/// An app with its names.
struct Named<'a> {
    namespace: String,
    name: String,
    report: &'a AppReport,
}

impl<'a> Named<'a> {
    fn new(report: &'a AppReport) -> Self {
        let namespace = report.spec.namespace().unwrap_or_else(|| "default".to_owned());
        Self { namespace, name: report.spec.name_any(), report }
    }

    fn labels<'b>(&'b self, more: Option<(&'static str, &'b str)>) -> Labels<'b> {
        [("namespace", self.namespace.as_str()), ("app", self.name.as_str())].into_iter().chain(more).collect()
    }
}

/// A pool with its names.
struct NamedPool<'a> {
    namespace: String,
    name: String,
    report: &'a Report,
}

impl<'a> NamedPool<'a> {
    fn new(report: &'a Report) -> Self {
        let namespace = report.pool.namespace().unwrap_or_else(|| "default".to_owned());
        Self { namespace, name: report.pool.name_any(), report }
    }

    fn labels(&self) -> Labels<'_> {
        vec![("namespace", &self.namespace), ("pool", &self.name)]
    }
}

/// What pools lack; nothing where they are large enough.
fn shortfalls(encoder: &mut DescriptorEncoder, pools: &[NamedPool]) -> fmt::Result {
    let lacks = |pool: &NamedPool| pool.report.status.shortfall.clone().unwrap_or_default();
    let replicas = pools.iter().map(|pool| (pool.labels(), lacks(pool).replicas));
    gauges(encoder, "pool_shortfall_replicas", "Replicas that are wanted and find no room", replicas)?;
    let agents = pools.iter().filter_map(|pool| match &pool.report.status.shortfall {
        Some(shortfall) => Some((pool.labels(), shortfall.agents?)),
        None => Some((pool.labels(), 0)),
    });
    gauges(encoder, "pool_shortfall_agents", "Agents of the common size that would hold them", agents)?;
    let number = |quantity: Option<Quantity>| quantity.and_then(|quantity| quantity.number().ok()).unwrap_or(0.0);
    let room = pools.iter().flat_map(|pool| {
        let Amounts { cpu, memory, disk, gpu } = lacks(pool).room;
        let gpu = f64::from(i32::try_from(gpu.unwrap_or(0)).unwrap_or(i32::MAX));
        let amounts = [("cpu", number(cpu)), ("memory", number(memory)), ("disk", number(disk)), ("gpu", gpu)];
        amounts.map(|(resource, amount)| ([pool.labels(), vec![("resource", resource)]].concat(), amount))
    });
    gauges(encoder, "pool_shortfall", "What they use together, in cores, bytes and graphics processors", room)
}

fn replicas(encoder: &mut DescriptorEncoder, apps: &[Named]) -> fmt::Result {
    let samples = apps.iter().flat_map(|app| {
        let status = &app.report.status;
        [
            ("wanted", status.wanted),
            ("granted", status.granted),
            ("running", status.running),
            ("ready", status.ready),
            ("starting", status.starting),
            ("stopping", status.stopping),
        ]
        .map(|(state, count)| (app.labels(Some(("state", state))), count))
    });
    gauges(encoder, "app_replicas", "Replicas of an app", samples)
}

fn demand(encoder: &mut DescriptorEncoder, apps: &[Named]) -> fmt::Result {
    let samples = apps.iter().flat_map(|app| {
        let metrics = app.report.status.demand.iter();
        metrics.filter_map(|metric| Some((app.labels(Some(("metric", &metric.name))), metric.value?)))
    });
    gauges(encoder, "app_demand", "Last value of a metric of demand", samples)
}

#[allow(clippy::cast_precision_loss)]
fn ages(encoder: &mut DescriptorEncoder, apps: &[Named]) -> fmt::Result {
    let samples = apps.iter().flat_map(|app| {
        let metrics = app.report.status.demand.iter();
        metrics.filter_map(|metric| {
            let age = app.report.age(metric)? as f64 / 1000.0;
            Some((app.labels(Some(("metric", &metric.name))), age))
        })
    });
    gauges(encoder, "app_demand_age_seconds", "Age of the last value of a metric of demand", samples)
}

fn phases(encoder: &mut DescriptorEncoder, apps: &[Named]) -> fmt::Result {
    let names = PHASES.map(|phase| (phase, phase.to_string()));
    let samples = apps.iter().flat_map(|app| {
        let is_in = |phase| i64::from(app.report.status.phase == Some(phase));
        names.iter().map(move |(phase, name)| (app.labels(Some(("phase", name))), is_in(*phase)))
    });
    gauges(encoder, "app_phase", "1 for the phase that an app is in", samples)
}

fn gauges<'a, N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (Labels<'a>, N)>,
) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(metric.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}

fn counters<'a, N: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (Labels<'a>, N)>,
) -> fmt::Result
where
    ConstCounter<N>: EncodeMetric,
{
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(value).encode(metric.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}
