//! What the unit tests of this backend share.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::ledger::{Instance, Known, Managed, State};
use super::wire::AppDoc;
use crate::api::validated::{App, Key, MarathonPool, Pool};
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::policy::world::AgentIx;

/// An app of pool `main` in namespace `default`, its spec in YAML.
pub fn app(name: &str, spec: &str) -> App {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscaledApp, metadata: {{name: {name}, generation: 1}}, spec: {spec}}}"
    );
    App::read(&serde_saphyr::from_str::<MicroscaledApp>(&text).unwrap()).unwrap()
}

/// A pool with this room, in YAML.
pub fn pool(capacity: &str) -> Arc<MarathonPool> {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscalingPool, metadata: {{name: main}}, spec: {{marathon: \
         {{urls: ['http://127.0.0.1:1'], capacity: {capacity}}}}}}}"
    );
    let pool = Pool::read(&serde_saphyr::from_str::<MicroscalingPool>(&text).unwrap()).unwrap();
    Arc::new(pool.on_marathon().unwrap())
}

/// The definition of an app of one core and 64 MiB, as Marathon shows it.
pub fn doc(id: &str, instances: i64) -> Json {
    json!({"id": id, "instances": instances, "cpus": 1.0, "mem": 64.0, "networks": [{"mode": "host"}], "portDefinitions": [],
        "versionInfo": {"lastConfigChangeAt": "2026-11-22T20:30:39.969Z"}})
}

/// A task of it, as Marathon shows it.
pub fn task(app: &str, n: u32, agent: &str, state: &str) -> Json {
    let name = app.trim_start_matches('/').replace('/', "_");
    json!({"id": format!("{name}.instance-{n}._app.1"), "appId": app, "slaveId": agent, "host": "h", "state": state,
        "startedAt": format!("2026-11-22T20:31:{n:02}.000Z"), "version": "2026-11-22T20:30:39.969Z"})
}

pub fn managed(name: &str, instances: i64) -> Managed {
    let mut managed = Managed::new(Key::new("default", name), format!("/{name}").into(), false);
    let doc: AppDoc = serde_json::from_value(doc(&managed.id, instances)).unwrap();
    managed.known = Some(Known::of(&doc));
    managed
}

/// Lets so many instances run, `i1` the oldest.
pub fn placed(app: &mut Managed, count: u32) {
    let instance = |n: u32| Instance {
        task: format!("i{n}._app.1").into(),
        incarnation: 1,
        agent: AgentIx(0),
        state: State::Running,
        healthy: None,
        version: None,
        active_since: Some(format!("2026-11-22T20:31:{n:02}.000Z").into()),
        since: 1,
        born: 1,
        chosen: false,
        doomed: None,
        unhealthy: false,
    };
    app.instances = (1..=count).map(|n| (format!("i{n}").into(), instance(n))).collect();
}
