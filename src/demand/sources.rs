//! Which sources run: one task for each metric of the specs in force.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::board::Board;
use super::context::{Context, Servers};
use super::http::Document;
use super::poll::{Polled, Query};
use super::push::PushDesk;
use super::rabbitmq::management::Described;
use super::redis::Stored;
use super::redis::channel::Channel;
use super::{DemandSource, Gauge};
use crate::api::demand::{Polling, RedisMeasure, Source};
use crate::api::validated::{App, Key, Metric};
use crate::store::secrets::Secrets;

/// The running sources of one pool. Dropping it ends them all.
pub struct Sources {
    board: Arc<Board>,
    desk: Arc<PushDesk>,
    secrets: Arc<Secrets>,
    servers: Arc<Servers>,
    apps: HashMap<Key, AppFeeds>,
}

/// The sources of one app, with the spec that they were last synced to.
struct AppFeeds {
    spec: Arc<App>,
    metrics: HashMap<Arc<str>, Feed>,
}

/// One source: what it was started from, and its task if it needs one.
struct Feed {
    source: Source,
    _task: Option<Task>,
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
        Self { board, desk, secrets, servers: Arc::default(), apps: HashMap::new() }
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
            let kept = old.remove(&metric.name).filter(|running| running.source == metric.source);
            let running = kept.unwrap_or_else(|| Feed { source: metric.source.clone(), _task: self.start(&app.key, metric) });
            metrics.insert(metric.name.clone(), running);
        }
        for (name, running) in old {
            drop(running);
            self.board.forget(&app.key, &name);
        }
        self.apps.insert(app.key.clone(), AppFeeds { spec: app.clone(), metrics });
    }

    /// Starts what brings the metric's values. What has no task has nothing to be asked: the desk brings pushed values to the board.
    fn start(&self, app: &Key, metric: &Metric) -> Option<Task> {
        let posts = self.desk.tally().of(metric.source.kind());
        let gauge = Gauge::new(self.board.clone(), app.clone(), metric.name.clone(), posts);
        let (secrets, servers) = (self.secrets.clone(), self.servers.clone());
        let context = || Context { secrets, namespace: app.namespace().into(), servers };
        match &metric.source {
            Source::Simulated(spec) => Some(spawn(spec.clone(), gauge)),
            Source::Http(spec) => polled(&spec.polling, Document::new(context(), spec), gauge),
            #[cfg(feature = "nats")]
            Source::Nats(spec) => polled(&spec.polling, Ok(super::nats::Consumer::new(context(), spec)), gauge),
            #[cfg(not(feature = "nats"))]
            Source::Nats(_) => built_without("nats", &gauge),
            Source::RabbitMq(spec) if spec.host.starts_with("http") => {
                polled(&spec.polling, Described::new(context(), spec), gauge)
            }
            #[cfg(feature = "rabbitmq")]
            Source::RabbitMq(spec) => polled(&spec.polling, super::rabbitmq::amqp::Declared::new(context(), spec), gauge),
            #[cfg(not(feature = "rabbitmq"))]
            Source::RabbitMq(_) => built_without("rabbitmq", &gauge),
            Source::Redis(spec) => match &spec.measure {
                RedisMeasure::Channel(name) => Some(spawn(Channel::new(context(), &spec.server, name, &spec.polling), gauge)),
                measure => polled(&spec.polling, Stored::new(context(), &spec.server, measure), gauge),
            },
            Source::Push(_) | Source::Remainder(_) => None,
        }
    }

    fn end(&mut self, app: &Key) {
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
    Task { handle: tokio::spawn(source.run(gauge.clone())), gauge }
}

/// All that there is to know of a source whose client was left out.
#[allow(dead_code, reason = "with all features, there is none")]
fn built_without(kind: &str, gauge: &Gauge) -> Option<Task> {
    gauge.failure(format!("this Microscaler was built without {kind}"));
    None
}

/// A query that could be made is asked from now on; of another, all that there is to know is why not.
fn polled(polling: &Polling, query: Result<impl Query, String>, gauge: Gauge) -> Option<Task> {
    match query {
        Ok(query) => Some(spawn(Polled { rhythm: polling.into(), query }, gauge)),
        Err(why) => {
            gauge.failure(why);
            None
        }
    }
}
