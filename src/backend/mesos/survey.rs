//! A look at the cluster from outside, for rehearsals: reads the master's own pages and registers nothing.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::executor::{key_with, parse_executor_id, settings};
use super::http::{Http, SetupError};
use super::inventory::Amounts;
use crate::api::validated::{MesosPool, Pool};
use crate::backend::parse_task_id;
use crate::policy::resources::Resources;
use crate::policy::world::{Agent, AgentIx, BasePhase, Fitted, Millis, Task, TaskPhase, World};
use crate::store::secrets::Secrets;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no master answers: {}", failures.join("; "))]
    Unreachable { failures: Vec<String> },
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// The pages, as far as they matter (`/master/slaves`, `/master/frameworks`, `/master/tasks` of Mesos 1.x).
#[derive(Deserialize)]
struct Agents {
    slaves: Vec<AgentPage>,
}

#[derive(Deserialize)]
struct AgentPage {
    id: String,
    hostname: String,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    attributes: serde_json::Map<String, serde_json::Value>,
    resources: Amounts,
    #[serde(default)]
    used_resources: Amounts,
}

#[derive(Deserialize)]
struct Frameworks {
    frameworks: Vec<FrameworkPage>,
}

#[derive(Deserialize)]
struct FrameworkPage {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<TaskPage>,
}

#[derive(Deserialize)]
struct TaskPage {
    id: String,
    slave_id: String,
    state: String,
    resources: Amounts,
    /// Empty for those of Mesos itself.
    #[serde(default)]
    executor_id: String,
}

/// Puts the cluster's agents, with all that is free on them as held, and this pool's tasks into the world.
///
/// # Errors
/// When no master answers with its pages, or HTTP cannot be set up.
pub async fn look(pool: &Pool, world: &mut World, now: Millis) -> Result<(), Error> {
    let pool = &pool.on_mesos().ok_or(SetupError::NotMesos)?;
    let http = Http::new(Arc::new(pool.clone()), Arc::new(Secrets::in_files()))?;
    let agents: Agents = page(&http, pool, "/master/slaves", "").await?;
    world.agents = agents.slaves.iter().map(agent).collect();
    let frameworks: Frameworks = page(&http, pool, "/master/frameworks", "").await?;
    let (name, settings) = (super::framework::name(pool), settings(pool));
    for framework in frameworks.frameworks.iter().filter(|framework| framework.name == name) {
        let tasks: Tasks = page(&http, pool, "/master/tasks", &format!("limit=1000000&framework_id={}", framework.id)).await?;
        tasks.tasks.iter().for_each(|task| add_task(world, task, &settings, now));
    }
    for view in world.apps.values_mut() {
        view.tasks.sort_by(|a, b| a.id.cmp(&b.id));
    }
    Ok(())
}

fn agent(page: &AgentPage) -> Agent {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Agent {
        id: page.id.as_str().into(),
        hostname: page.hostname.as_str().into(),
        attributes: page.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        held: page.resources.vector().minus_floor(page.used_resources.vector()),
        expected: Resources::ZERO,
        gpus: page.resources.vector().gpu > 0,
        present: page.active,
        departs: false,
        bases: Vec::new(),
    }
}

fn add_task(world: &mut World, page: &TaskPage, settings: &str, now: Millis) {
    let phase = match page.state.as_str() {
        "TASK_STAGING" | "TASK_STARTING" => TaskPhase::Starting,
        "TASK_RUNNING" => TaskPhase::Running,
        "TASK_KILLING" => TaskPhase::Stopping,
        _ => return,
    };
    let Some((app, version)) = parse_task_id(&page.id) else { return };
    let Some(index) = world.agents.iter().position(|agent| *agent.id == *page.slave_id) else { return };
    let task = Task {
        id: Arc::from(page.id.as_str()),
        agent: AgentIx(u32::try_from(index).unwrap_or(u32::MAX)),
        version: Some(version),
        phase,
        ready: phase == TaskPhase::Running,
        since: now,
        born: now,
        resources: page.resources.vector(),
        executor: executor(world, page, index, settings, now),
    };
    world.apps.entry(app).or_default().tasks.push(task);
}

/// The executor that the task shares; where there is a task of it, it is ready.
fn executor(world: &mut World, page: &TaskPage, agent: usize, settings: &str, now: Millis) -> Option<Arc<str>> {
    parse_executor_id(&page.executor_id)?;
    let id: Arc<str> = page.executor_id.as_str().into();
    let bases = &mut world.agents[agent].bases;
    if bases.iter().all(|fitted| fitted.executor.as_ref() != Some(&id)) {
        let (key, executor) = (key_with(settings, &id), Some(id.clone()));
        bases.push(Fitted { key, executor, phase: BasePhase::Ready, since: now, limits: None });
    }
    Some(id)
}

/// The page from the first master that gives it; those that do not lead redirect to the one that does.
async fn page<T: DeserializeOwned>(http: &Http, pool: &MesosPool, path: &str, query: &str) -> Result<T, Error> {
    let mut failures = Vec::new();
    for n in 0..pool.mesos.masters.len() {
        match http.get(&http.master(n), path, query).await {
            Ok(page) => return Ok(page),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(Error::Unreachable { failures })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::validated::Key;

    #[test]
    fn executors_are_known_by_their_tasks() {
        let mut world = World { agents: vec![Agent { id: "A".into(), ..Agent::default() }], ..World::default() };
        let shared = "microscaler.0badcafe.0000beef0badf00d";
        for (id, executor) in [("a.b.0000beef.k-1", shared), ("a.b.0000beef.k-2", shared), ("a.b.0000beef.k-3", "")] {
            let page =
                serde_json::json!({"id": id, "slave_id": "A", "state": "TASK_RUNNING", "resources": {}, "executor_id": executor});
            add_task(&mut world, &serde_json::from_value(page).unwrap(), "0000beef", 0);
        }
        let bases = &world.agents[0].bases;
        assert_eq!((bases.len(), bases[0].key.as_deref(), &bases[0].phase), (1, Some("0badcafe"), &BasePhase::Ready));
        let executors: Vec<_> = world.apps[&Key::new("a", "b")].tasks.iter().map(|task| task.executor.as_deref()).collect();
        assert_eq!(executors, [Some(shared), Some(shared), None]);
    }
}
