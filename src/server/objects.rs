//! The state of all pools as Kubernetes-style lists, and questions to single engines.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use futures::future::join_all;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::ApiError;
use super::pools::Pools;
use super::{Shared, access};
use crate::api::validated::Key;
use crate::api::{self, MicroscaledApp, MicroscalingPool};
use crate::demand::push::listed;
use crate::engine::report::{Ask, Handle, TaskReport};

/// An engine that takes longer to answer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// A list as the Kubernetes API would give it, with what could not be taken over beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub api_version: String,
    pub kind: String,
    pub items: Vec<T>,
    /// Specs that could not be taken over, pools that do not answer.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl<T> List<T> {
    pub(super) fn new(kind: &str, items: Vec<T>, problems: Vec<String>) -> Self {
        Self { api_version: format!("{}/{}", api::GROUP, api::VERSION), kind: kind.to_owned(), items, problems }
    }
}

/// Which objects are wanted. `app` and `pool` are `name` or `namespace/name`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    namespace: Option<String>,
    app: Option<String>,
    pool: Option<String>,
}

/// Which namespace is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InNamespace {
    namespace: Option<String>,
}

/// All apps of all pools, or those of one namespace, in order of namespace and name.
#[must_use]
pub fn app_list(pools: &Pools, namespace: Option<&str>) -> List<MicroscaledApp> {
    let mut items: Vec<MicroscaledApp> = Vec::new();
    for handle in pools.list() {
        let report = handle.reports.borrow();
        let wanted = report.apps.iter().filter(|app| is_wanted(namespace, app.spec.metadata.namespace.as_deref()));
        items.extend(wanted.map(crate::engine::report::AppReport::object));
    }
    items.sort_by_cached_key(|app| (app.namespace(), app.name_any()));
    List::new("MicroscaledAppList", items, problems(pools))
}

/// All pools, or those of one namespace.
#[must_use]
pub fn pool_list(pools: &Pools, namespace: Option<&str>) -> List<MicroscalingPool> {
    let handles = pools.list();
    let wanted = handles.iter().filter(|handle| is_wanted(namespace, Some(handle.pool.namespace())));
    let items = wanted.map(|handle| handle.reports.borrow().pool_object()).collect();
    List::new("MicroscalingPoolList", items, problems(pools))
}

/// A manifest's problem is known to each engine that looks at it, and told once.
fn problems(pools: &Pools) -> Vec<String> {
    let all: BTreeSet<String> = pools.list().iter().flat_map(|handle| handle.reports.borrow().problems.clone()).collect();
    all.into_iter().collect()
}

fn is_wanted(wanted: Option<&str>, namespace: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| wanted == namespace.unwrap_or("default"))
}

pub(super) async fn apps(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<InNamespace>, QueryRejection>,
) -> Result<Json<List<MicroscaledApp>>, ApiError> {
    let Query(filter) = query?;
    Ok(Json(app_list(&shared.state.pools, filter.namespace.as_deref())))
}

pub(super) async fn pools(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<InNamespace>, QueryRejection>,
) -> Result<Json<List<MicroscalingPool>>, ApiError> {
    let Query(filter) = query?;
    Ok(Json(pool_list(&shared.state.pools, filter.namespace.as_deref())))
}

pub(super) async fn app(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<MicroscaledApp>, ApiError> {
    let Path((namespace, name)) = path?;
    let mut names = BTreeSet::new();
    for handle in shared.state.pools.list() {
        for app in &handle.reports.borrow().apps {
            if app.key.namespace() == namespace && app.key.name() == name {
                return Ok(Json(app.object()));
            }
            names.insert(app.key.clone());
        }
    }
    let exist = listed("apps", names.iter());
    Err(ApiError::new(StatusCode::NOT_FOUND, format!("no app {namespace}/{name}; {exist}")))
}

pub(super) async fn tasks(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<List<TaskReport>>, ApiError> {
    let Query(filter) = query?;
    let handles = shared.state.pools.list();
    let asked = handles.iter().filter(|handle| is_named(filter.pool.as_deref(), handle.pool.namespace(), handle.pool.name()));
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for answer in join_all(asked.map(|handle| ask(handle, Ask::Tasks))).await {
        match answer {
            Ok(tasks) => items.extend(tasks),
            Err(silent) => problems.push(silent.message),
        }
    }
    items.retain(|task| is_wanted(filter.namespace.as_deref(), Some(&task.namespace)));
    items.retain(|task| is_named(filter.app.as_deref(), &task.namespace, &task.app));
    items.sort_by(|a, b| (&a.namespace, &a.app, &a.id).cmp(&(&b.namespace, &b.app, &b.id)));
    Ok(Json(List::new("TaskList", items, problems)))
}

/// Whether `name` or `namespace/name` is the one that is wanted.
fn is_named(wanted: Option<&str>, namespace: &str, name: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.split_once('/').map_or(wanted == name, |wanted| wanted == (namespace, name)))
}

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    access::check(shared.state.push_token.as_deref(), peer.ip(), &headers)?;
    let Path((namespace, name)) = path?;
    if shared.state.replicas.is_some() {
        // It would last until another replica leads, and the token is meant for demand.
        let instead = format!("delete the apps of pool {namespace}/{name}, or set their maxReplicas to 0, with kubectl");
        return Err(ApiError::new(StatusCode::FORBIDDEN, format!("with Kubernetes, pools are not drained here: {instead}")));
    }
    let pool = Key::new(&namespace, &name);
    let Some(handle) = shared.state.pools.get(&pool) else {
        let exist = listed("pools", shared.state.pools.list().iter().map(|handle| &handle.pool));
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("no pool {pool}; {exist}")));
    };
    let tasks = ask(&handle, Ask::Drain).await?;
    Ok(Json(json!({"tasks": tasks})))
}

async fn ask<T>(handle: &Handle, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, ApiError> {
    let (sender, answer) = oneshot::channel();
    let exchange = async {
        handle.asks.send(question(sender)).await.ok()?;
        answer.await.ok()
    };
    let answer = timeout(PATIENCE, exchange).await.ok().flatten();
    let silent = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("pool {} does not answer", handle.pool));
    answer.ok_or_else(silent)
}
