//! What the unit tests of this backend share.

use std::sync::Arc;

use serde_json::json;

use super::wire::{Offer, TaskStatus};
use crate::api::validated::{App, MesosPool, Pool};
use crate::api::{MicroscaledApp, MicroscalingPool};

/// An app of pool `main` in namespace `default`, its template in YAML.
pub fn app(name: &str, template: &str) -> App {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscaledApp, metadata: {{name: {name}}}, spec: {{pool: main, template: {template}}}}}"
    );
    App::read(&serde_saphyr::from_str::<MicroscaledApp>(&text).unwrap()).unwrap()
}

/// An app whose replicas use a core and 64 MiB.
pub fn one_core(name: &str) -> Arc<App> {
    Arc::new(app(name, "{shell: sleep 1, resources: {cpu: 1, memory: 64Mi}}"))
}

/// A pooled app whose replicas use a core and 64 MiB.
pub fn pooled(name: &str) -> Arc<App> {
    Arc::new(app(name, "{launch: pooled, shell: sleep 1, resources: {cpu: 1, memory: 64Mi}}"))
}

/// An offer of so many cores and 1024 MiB for each of them.
pub fn offer(id: &str, agent: &str, cores: u32) -> Offer {
    serde_json::from_value(json!({
        "id": {"value": id}, "agent_id": {"value": agent}, "hostname": format!("host-{agent}"),
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": cores}, "allocation_info": {"role": "web"}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": cores * 1024}, "allocation_info": {"role": "web"}},
        ],
        "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": "r1"}}],
    }))
    .unwrap()
}

/// A status update that has to be acknowledged.
pub fn status(task: &str, state: &str, agent: &str) -> TaskStatus {
    serde_json::from_value(json!({
        "task_id": {"value": task}, "state": state, "agent_id": {"value": agent}, "uuid": "dXVpZA=="
    }))
    .unwrap()
}

/// One of the agent's or the executor's about a task of this executor.
pub fn pooled_status(task: &str, state: &str, executor: &str, source: &str, reason: &str) -> TaskStatus {
    serde_json::from_value(json!({
        "task_id": {"value": task}, "state": state, "agent_id": {"value": "A"}, "uuid": "dXVpZA==", "executor_id": {"value": executor},
        "source": source, "reason": reason, "message": "so it is",
    }))
    .unwrap()
}

/// An answer of the master to RECONCILE: nothing to acknowledge.
pub fn answer(task: &str, state: &str, agent: Option<&str>) -> TaskStatus {
    let mut answer = status(task, state, agent.unwrap_or_default());
    answer.agent_id = answer.agent_id.filter(|_| agent.is_some());
    answer.uuid = None;
    answer.reason = Some("REASON_RECONCILIATION".to_owned());
    answer
}

/// A pool with one master.
pub fn pool() -> Arc<MesosPool> {
    pool_with("")
}

/// One with further settings, such as `, executor: {path: /opt/microscaler}`.
pub fn pool_with(more: &str) -> Arc<MesosPool> {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscalingPool, metadata: {{name: main}}, \
          spec: {{mesos: {{masters: ['http://127.0.0.1:5050'], role: web{more}}}}}}}"
    );
    let pool = Pool::read(&serde_saphyr::from_str::<MicroscalingPool>(&text).unwrap()).unwrap();
    Arc::new(pool.on_mesos().unwrap())
}
