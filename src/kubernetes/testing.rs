//! Objects and reports made by hand, for the tests of this room.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::objects::{Objects, Seen};
use super::sight::{EngineSight, Sight};
use super::{APP_FINALIZER, POOL_FINALIZER};
use crate::api::status::{AppStatus, PoolStatus};
use crate::api::validated::Key;
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::backend::Standing;
use crate::engine::report::{AppReport, Report};

pub fn app_key(name: &str) -> Key {
    Key::new("shop", name)
}

pub fn pool_key(name: &str) -> Key {
    Key::new("shop", name)
}

/// All in the namespace shop.
#[derive(Clone, Default)]
pub struct Scene {
    pub apps: BTreeMap<Key, Seen<AppStatus>>,
    pub pools: BTreeMap<Key, Seen<PoolStatus>>,
    pub engines: BTreeMap<Key, Report>,
}

fn seen<S>(uid: &str, finalizer: &str, pool: &str, status: S) -> Seen<S> {
    Seen {
        uid: uid.to_owned(),
        resource_version: "1".to_owned(),
        generation: 1,
        deleting: false,
        finalizers: vec![finalizer.to_owned()],
        status: Some(status),
        pool: Some(pool_key(pool)),
        fault: None,
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn sight(&self) -> Sight {
        let apps = self.apps.iter().map(|(key, seen)| (key.clone(), Arc::new(seen.clone())));
        let pools = self.pools.iter().map(|(key, seen)| (key.clone(), Arc::new(seen.clone())));
        let objects = Arc::new(Objects { apps: apps.collect(), pools: pools.collect() });
        let engine =
            |report: &Report| EngineSight { report: Arc::new(report.clone()), since: 1, has_been_ready: report.standing.ready };
        let lost = self.apps.iter().filter(|(_, seen)| !seen.pool.as_ref().is_some_and(|pool| self.pools.contains_key(pool)));
        let homeless = lost.map(|(key, _)| (key.clone(), 1)).collect();
        Sight { objects, homeless, engines: self.engines.iter().map(|(key, report)| (key.clone(), engine(report))).collect() }
    }

    pub fn app(&mut self, name: &str, pool: &str) -> &mut Self {
        let status = AppStatus { observed_generation: -1, ..AppStatus::default() };
        self.apps.insert(app_key(name), seen(&format!("uid-{name}"), APP_FINALIZER, pool, status));
        self
    }

    pub fn pool(&mut self, name: &str) -> &mut Self {
        let status = PoolStatus { observed_generation: -1, ..PoolStatus::default() };
        self.pools.insert(pool_key(name), seen(&format!("uid-{name}"), POOL_FINALIZER, name, status));
        self
    }

    pub fn seen_app(&self, name: &str) -> &Seen<AppStatus> {
        &self.apps[&app_key(name)]
    }

    pub fn change_app(&mut self, name: &str, change: impl FnOnce(&mut Seen<AppStatus>)) -> &mut Self {
        change(self.apps.get_mut(&app_key(name)).unwrap());
        self
    }

    pub fn change_pool(&mut self, name: &str, change: impl FnOnce(&mut Seen<PoolStatus>)) -> &mut Self {
        change(self.pools.get_mut(&pool_key(name)).unwrap());
        self
    }

    pub fn gone(&mut self, name: &str) -> &mut Self {
        self.apps.remove(&app_key(name));
        self
    }

    pub fn framework(&mut self, pool: &str) -> &mut Self {
        self.change_pool(pool, |seen| seen.status.as_mut().unwrap().framework_id = Some("f-1".to_owned()))
    }

    /// One that is ready and knows of no app.
    pub fn engine(&mut self, pool: &str) -> &mut Self {
        let object: MicroscalingPool = serde_json::from_value(json!({
            "apiVersion": "microscaling.dev/v1alpha1",
            "kind": "MicroscalingPool",
            "metadata": {"name": pool, "namespace": "shop"},
            "spec": {"mesos": {"masters": ["http://127.0.0.1:5050"]}},
        }))
        .unwrap();
        let status = json!({"observedGeneration": 1, "agents": 3, "conditions": [condition("Ready", "True")]});
        let report = Report {
            pool: Arc::new(object),
            status: serde_json::from_value(status).unwrap(),
            standing: Standing { ready: true, connected: true, ..Standing::default() },
            apps: Vec::new(),
            leaving: BTreeMap::new(),
            executors: Some(0),
            problems: Vec::new(),
        };
        self.engines.insert(pool_key(pool), report);
        self
    }

    pub fn report(&mut self, pool: &str) -> &mut Report {
        self.engines.get_mut(&pool_key(pool)).unwrap()
    }

    /// Of the pool's first app.
    pub fn status(&mut self, pool: &str) -> &mut AppStatus {
        Arc::make_mut(&mut self.report(pool).apps[0].status)
    }

    pub fn unready(&mut self, pool: &str, message: &str) -> &mut Self {
        self.report(pool).standing = Standing { message: message.to_owned(), ..Standing::default() };
        self
    }

    pub fn reports(&mut self, pool: &str, apps: &[&str]) -> &mut Self {
        self.report(pool).apps = apps.iter().map(|app| app_report(app, pool)).collect();
        self
    }

    pub fn leaving(&mut self, pool: &str, app: &str, tasks: usize) -> &mut Self {
        self.report(pool).leaving = if tasks > 0 { BTreeMap::from([(app_key(app), tasks)]) } else { BTreeMap::new() };
        self
    }
}

pub fn condition(kind: &str, status: &str) -> serde_json::Value {
    json!({"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

pub fn app_report(name: &str, pool: &str) -> AppReport {
    let spec: MicroscaledApp = serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"pool": pool, "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]}},
    }))
    .unwrap();
    AppReport { key: Key::new("shop", name), spec: Arc::new(spec), status: Arc::new(app_status()), bases: None, at: 0 }
}

pub fn app_status() -> AppStatus {
    serde_json::from_value(json!({
        "observedGeneration": 1, "phase": "Growing", "wanted": 5, "granted": 4, "running": 3, "reason": "because",
        "demand": [{"name": "waiting", "value": 42.0, "ageMilliseconds": 1500, "state": "Fresh"}],
        "demandSummary": "waiting 42",
        "conditions": [condition("Ready", "False"), condition("Reconciling", "True")],
    }))
    .unwrap()
}
