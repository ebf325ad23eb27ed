//! Which sources run: one task for each metric of the specs in force.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::azure_queue::MessageCount;
use super::board::Board;
use super::context::{Context, Servers};
use super::foresight::Foreseer;
use super::http::Document;
use super::kafka::Lag;
#[cfg(feature = "keda")]
use super::keda::External;
use super::kubernetes::ServedMetric;
use super::mesos::{Seats, Usage, seats};
use super::nsq::Depth;
use super::past::Past;
use super::poll::{Polled, Query};
use super::prometheus::InstantQuery;
use super::push::PushDesk;
use super::rabbitmq::management::Described;
use super::redis::Stored;
use super::redis::channel::Channel;
use super::schedule::Windows;
#[cfg(feature = "sqs")]
use super::sqs::QueueAttributes;
#[cfg(feature = "open-telemetry")]
use super::telemetry::Awaited;
use super::{DemandSource, Gauge};
use crate::api::demand::{Mesos, Polling, RedisMeasure, Source};
use crate::api::validated::{App, Foresight, Key, Metric};
use crate::backend::mesos::usage::Agents;
use crate::policy::world::World;
use crate::store::secrets::Secrets;

/// The running sources of one pool. Dropping it ends them all.
pub struct Sources {
    board: Arc<Board>,
    desk: Arc<PushDesk>,
    secrets: Arc<Secrets>,
    servers: Arc<Servers>,
    /// Where histories are kept, if anywhere.
    histories: Option<PathBuf>,
    kubernetes: Option<kube::Client>,
    agents: Option<Arc<Agents>>,
    /// Where the tasks run of those apps whose usage is measured.
    seats: HashMap<Key, watch::Sender<Seats>>,
    apps: HashMap<Key, AppFeeds>,
}

/// The sources of one app, with the spec that they were last synced to.
struct AppFeeds {
    spec: Arc<App>,
    metrics: HashMap<Arc<str>, Feed>,
}

/// One source: what it was started from, and the tasks that it needs, if any.
struct Feed {
    source: Source,
    forecast: Option<Foresight>,
    _tasks: Vec<Task>,
}

impl Feed {
    /// Whether it goes on for this metric.
    fn fits(&self, metric: &Metric) -> bool {
        self.source == metric.source && self.forecast == metric.forecast
    }
}

/// A task that ends when dropped; nothing comes from it afterwards.
struct Task {
    handle: JoinHandle<()>,
    gauge: Gauge,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.gauge.close();
        self.handle.abort();
    }
}

impl Sources {
    /// Readings go to `board`; pushed metrics are made known at `desk`, which is shared by all pools.
    #[must_use]
    pub fn new(board: Arc<Board>, desk: Arc<PushDesk>, secrets: Arc<Secrets>) -> Self {
        Self {
            board,
            desk,
            secrets,
            servers: Arc::default(),
            histories: None,
            kubernetes: None,
            agents: None,
            seats: HashMap::new(),
            apps: HashMap::new(),
        }
    }

    /// Keeps the histories of metrics that are foreseen in this directory.
    #[must_use]
    pub fn with_histories(mut self, directory: Option<PathBuf>) -> Self {
        self.histories = directory;
        self
    }

    /// Where there is a Kubernetes: its API server, which metrics may be read from.
    #[must_use]
    pub fn on_kubernetes(mut self, client: Option<kube::Client>) -> Self {
        self.kubernetes = client;
        self
    }

    /// Where the pool is on Mesos: its agents, which tell what tasks use.
    #[must_use]
    pub fn on_mesos(mut self, agents: Option<Agents>) -> Self {
        self.agents = agents.map(Arc::new);
        self
    }

    /// Tells the sources that measure tasks which of them run where.
    pub fn place(&self, world: &World) {
        for (app, told) in &self.seats {
            let now = world.apps.get(app).map_or_else(Seats::default, |view| seats(world, view));
            told.send_if_modified(|seats| (*seats != now).then(|| *seats = now).is_some());
        }
    }

    /// Makes the sources fit the specs: starts what is new, ends what is gone, and starts anew what is defined differently; all
    /// others go on undisturbed. Has to be called inside a Tokio runtime.
    pub fn sync(&mut self, apps: &[Arc<App>]) {
        let wanted: HashMap<&Key, &Arc<App>> = apps.iter().map(|app| (&app.key, app)).collect();
        let gone: Vec<Key> = self.apps.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in gone {
            self.end(&key);
        }
        for app in apps {
            self.sync_app(app);
        }
    }

    fn sync_app(&mut self, app: &Arc<App>) {
        let mut old = match self.apps.remove(&app.key) {
            Some(running) if Arc::ptr_eq(&running.spec, app) => {
                self.apps.insert(app.key.clone(), running);
                return;
            }
            Some(running) => running.metrics,
            None => HashMap::new(),
        };
        self.desk.register(app, &self.board);
        let mut metrics = HashMap::with_capacity(app.demand.len());
        for metric in &app.demand {
            // An old source that does not fit is dropped, and so ended, before its successor starts.
            let kept = old.remove(&metric.name).filter(|running| running.fits(metric));
            let running = kept.unwrap_or_else(|| self.feed(&app.key, metric));
            metrics.insert(metric.name.clone(), running);
        }
        for (name, running) in old {
            drop(running);
            self.board.forget(&app.key, &name);
        }
        self.apps.insert(app.key.clone(), AppFeeds { spec: app.clone(), metrics });
    }

    fn feed(&mut self, app: &Key, metric: &Metric) -> Feed {
        let posts = self.desk.tally().of(metric.source.kind());
        let gauge = Gauge::new(self.board.clone(), app.clone(), metric.name.clone(), posts);
        let foreseer = metric.forecast.map(|terms| task(self.foreseer(app, metric, terms, gauge.clone()).run(), gauge.clone()));
        let tasks = self.start(app, metric, gauge).into_iter().chain(foreseer).collect();
        Feed { source: metric.source.clone(), forecast: metric.forecast, _tasks: tasks }
    }

    fn context(&self, app: &Key) -> Context {
        Context {
            secrets: self.secrets.clone(),
            namespace: app.namespace().into(),
            servers: self.servers.clone(),
            kubernetes: self.kubernetes.clone(),
        }
    }

    fn foreseer(&self, app: &Key, metric: &Metric, terms: Foresight, gauge: Gauge) -> Foreseer {
        let name = format!("{}_{}_{}.csv", app.namespace(), app.name(), metric.name);
        Foreseer {
            gauge,
            terms,
            stale_after_ms: metric.stale_after_ms,
            file: self.histories.as_ref().map(|directory| directory.join(name)),
            past: Past::of(self.context(app), &metric.source),
        }
    }

    /// Starts what brings the metric's values. What has no task has nothing to be asked: the desk brings pushed values to the board.
    fn start(&mut self, app: &Key, metric: &Metric, gauge: Gauge) -> Option<Task> {
        let context = || self.context(app);
        match &metric.source {
            Source::Simulated(spec) => Some(spawn(spec.clone(), gauge)),
            Source::Http(spec) => polled(&spec.polling, Document::new(context(), spec), gauge),
            Source::Nsq(spec) => polled(&spec.polling, Depth::new(context(), spec), gauge),
            Source::Kubernetes(spec) => polled(&spec.polling, ServedMetric::new(context(), spec), gauge),
            Source::Mesos(spec) => polled(&spec.polling, self.usage(app, spec), gauge),
            Source::Prometheus(spec) => polled(&spec.polling, InstantQuery::new(context(), spec), gauge),
            #[cfg(feature = "sqs")]
            Source::Sqs(spec) => polled(&spec.polling, QueueAttributes::new(context(), spec), gauge),
            #[cfg(not(feature = "sqs"))]
            Source::Sqs(_) => left_out(&metric.source, &gauge),
            Source::Kafka(spec) => polled(&spec.polling, Ok(Lag::new(context(), spec)), gauge),
            #[cfg(feature = "postgres")]
            Source::Postgres(spec) => polled(&spec.polling, Ok(super::postgres::Number::new(context(), spec)), gauge),
            #[cfg(not(feature = "postgres"))]
            Source::Postgres(_) => left_out(&metric.source, &gauge),
            #[cfg(feature = "keda")]
            Source::Keda(spec) => Some(spawn(External::new(context(), app, spec), gauge)),
            #[cfg(not(feature = "keda"))]
            Source::Keda(_) => left_out(&metric.source, &gauge),
            #[cfg(feature = "open-telemetry")]
            Source::OpenTelemetry(spec) => {
                Some(spawn(Awaited { desk: self.desk.telemetry().clone(), spec: spec.clone() }, gauge))
            }
            #[cfg(not(feature = "open-telemetry"))]
            Source::OpenTelemetry(_) => left_out(&metric.source, &gauge),
            Source::Schedule(spec) => kept(Windows::read(spec), gauge),
            Source::AzureQueue(spec) => polled(&spec.polling, Ok(MessageCount::new(context(), spec)), gauge),
            #[cfg(feature = "nats")]
            Source::Nats(spec) => polled(&spec.polling, Ok(super::nats::Consumer::new(context(), spec)), gauge),
            #[cfg(not(feature = "nats"))]
            Source::Nats(_) => left_out(&metric.source, &gauge),
            Source::RabbitMq(spec) if spec.host.starts_with("http") => {
                polled(&spec.polling, Described::new(context(), spec), gauge)
            }
            #[cfg(feature = "rabbitmq")]
            Source::RabbitMq(spec) => polled(&spec.polling, super::rabbitmq::amqp::Declared::new(context(), spec), gauge),
            #[cfg(not(feature = "rabbitmq"))]
            Source::RabbitMq(_) => left_out(&metric.source, &gauge),
            Source::Redis(spec) => match &spec.measure {
                RedisMeasure::Channel(name) => Some(spawn(Channel::new(context(), &spec.server, name, &spec.polling), gauge)),
                measure => polled(&spec.polling, Stored::new(context(), &spec.server, measure), gauge),
            },
            Source::Push(_) | Source::Remainder(_) => None,
        }
    }

    fn usage(&mut self, app: &Key, spec: &Mesos) -> Result<Usage, String> {
        let agents = self.agents.clone().ok_or("what tasks use is known only in a pool that is on Mesos")?;
        let seats = self.seats.entry(app.clone()).or_insert_with(|| watch::Sender::new(Seats::default())).subscribe();
        Ok(Usage::new(spec, agents, seats))
    }

    fn end(&mut self, app: &Key) {
        self.seats.remove(app);
        self.desk.remove(app, &self.board);
        for name in self.apps.remove(app).into_iter().flat_map(|running| running.metrics.into_keys()) {
            self.board.forget(app, &name);
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        let apps: Vec<Key> = self.apps.keys().cloned().collect();
        for app in apps {
            self.end(&app);
        }
    }
}

fn spawn(source: impl DemandSource, gauge: Gauge) -> Task {
    task(source.run(gauge.clone()), gauge)
}

fn task(run: impl Future<Output = ()> + Send + 'static, gauge: Gauge) -> Task {
    Task { handle: tokio::spawn(run), gauge }
}

/// A source that could be made; of another, all that there is to know is why not.
fn kept(source: Result<impl DemandSource, impl Display>, gauge: Gauge) -> Option<Task> {
    match source {
        Ok(source) => Some(spawn(source, gauge)),
        Err(why) => {
            gauge.failure(why.to_string());
            None
        }
    }
}

/// A query is asked from now on.
fn polled(polling: &Polling, query: Result<impl Query, String>, gauge: Gauge) -> Option<Task> {
    kept(query.map(|query| Polled { rhythm: polling.into(), query }), gauge)
}

/// What cannot be read, as its client was not built in.
#[allow(dead_code, reason = "with all features, nothing is left out")]
fn left_out(source: &Source, gauge: &Gauge) -> Option<Task> {
    gauge.failure(format!("this Microscaler was built without {}", source.kind()));
    None
}
