//! Metrics that are pushed in OpenTelemetry's protocol: a desk that knows which apps want which of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};

use super::{DemandSource, Gauge};
use crate::api::demand::OpenTelemetry;
use series::{Kind, Series, Useless};

pub mod points;
pub mod series;

/// Which metrics are wanted, of all pools, by the names of their instruments.
#[derive(Default)]
pub struct TelemetryDesk(RwLock<HashMap<String, Vec<Arc<Wanted>>>>);

impl std::fmt::Debug for TelemetryDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelemetryDesk").finish_non_exhaustive()
    }
}

/// A metric of an app, made of what matches.
struct Wanted {
    spec: OpenTelemetry,
    expiry: Duration,
    gauge: Gauge,
    series: Mutex<Series>,
}

/// What was of no use, and why the last of it was not.
#[derive(Default)]
struct Rejected {
    points: usize,
    why: String,
}

/// Where a resource's metrics come from.
struct Origin<'a> {
    resource: &'a [KeyValue],
    fingerprint: u64,
    scope: &'a str,
    at: Instant,
}

impl TelemetryDesk {
    /// Takes in what arrived at `at`; it is on the boards when this returns. What nobody wants is dropped without a word.
    #[must_use]
    pub fn take(&self, request: &ExportMetricsServiceRequest, at: Instant) -> ExportMetricsServiceResponse {
        let (mut rejected, mut changed) = (Rejected::default(), Vec::<Arc<Wanted>>::new());
        for of_resource in &request.resource_metrics {
            let resource = of_resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let fingerprint = points::fingerprint(resource);
            for of_scope in &of_resource.scope_metrics {
                let scope = of_scope.scope.as_ref().map_or("", |scope| &scope.name);
                let origin = Origin { resource, fingerprint, scope, at };
                for (metric, wanted) in of_scope.metrics.iter().flat_map(|metric| self.who_wants(metric)) {
                    if wanted.take(metric, &origin, &mut rejected) && !changed.iter().any(|known| Arc::ptr_eq(known, &wanted)) {
                        changed.push(wanted);
                    }
                }
            }
        }
        changed.iter().for_each(|wanted| wanted.post(at));
        rejected.into_answer()
    }

    fn who_wants<'a>(&self, metric: &'a Metric) -> impl Iterator<Item = (&'a Metric, Arc<Wanted>)> + use<'a> {
        let desk = self.0.read().unwrap_or_else(PoisonError::into_inner);
        desk.get(&metric.name).cloned().unwrap_or_default().into_iter().map(move |wanted| (metric, wanted))
    }

    fn register(&self, wanted: Arc<Wanted>) {
        let mut desk = self.0.write().unwrap_or_else(PoisonError::into_inner);
        desk.entry(wanted.spec.metric_name.clone()).or_default().push(wanted);
    }

    fn forget(&self, wanted: &Arc<Wanted>) {
        let mut desk = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = desk.get_mut(&wanted.spec.metric_name) {
            all.retain(|other| !Arc::ptr_eq(other, wanted));
            if all.is_empty() {
                desk.remove(&wanted.spec.metric_name);
            }
        }
    }
}

impl Wanted {
    /// Takes in the points that match, and tells whether there were any.
    fn take(&self, metric: &Metric, origin: &Origin, rejected: &mut Rejected) -> bool {
        let (kind, points) = match points::of(metric) {
            Ok(found) => found,
            Err((useless, count)) => {
                self.reject(rejected, useless, count);
                return false;
            }
        };
        let fits = |point: &&NumberDataPoint| points::fits(&self.spec.attributes, &point.attributes, origin.resource);
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = false;
        for point in points.iter().filter(fits) {
            match take(&mut series, kind, point, origin) {
                Ok(()) => taken = true,
                Err(useless) => self.reject(rejected, useless, 1),
            }
        }
        taken
    }

    fn reject(&self, rejected: &mut Rejected, useless: Useless, count: usize) {
        rejected.points += count;
        rejected.why = format!("{}: {useless}", self.spec.metric_name);
        self.gauge.failure(rejected.why.clone());
    }

    fn post(&self, now: Instant) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = series.value(self.spec.aggregate, now, self.expiry) {
            self.gauge.value(value);
        }
    }
}

fn take(series: &mut Series, kind: Kind, point: &NumberDataPoint, origin: &Origin) -> Result<(), Useless> {
    let id = points::series(origin.fingerprint, origin.scope, &point.attributes);
    if let Some(sample) = points::sample(point)? {
        return series.take(id, kind, sample, origin.at);
    }
    series.end(id);
    Ok(())
}

impl Rejected {
    fn into_answer(self) -> ExportMetricsServiceResponse {
        let partial_success = (self.points > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: i64::try_from(self.points).unwrap_or(i64::MAX),
            error_message: self.why,
        });
        ExportMetricsServiceResponse { partial_success }
    }
}

/// A metric that waits at the desk for what is pushed.
pub struct Awaited {
    pub desk: Arc<TelemetryDesk>,
    pub spec: OpenTelemetry,
}

/// A place at the desk, for as long as it is held.
struct Place(Arc<TelemetryDesk>, Arc<Wanted>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

impl DemandSource for Awaited {
    async fn run(self, gauge: Gauge) {
        let Self { desk, spec } = self;
        let expiry = Duration::from_millis(u64::try_from(spec.expire_milliseconds).unwrap_or(0));
        let series = Mutex::new(Series::new(spec.rate));
        let wanted = Arc::new(Wanted { spec, expiry, gauge, series });
        desk.register(wanted.clone());
        let _place = Place(desk, wanted);
        std::future::pending::<()>().await;
    }
}
