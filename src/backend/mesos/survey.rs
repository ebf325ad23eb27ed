//! A look at the cluster from outside, for rehearsals: reads the master's own pages and registers nothing.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::validated::Pool;
use crate::backend::parse_task_id;
use crate::policy::resources::Resources;
use crate::policy::world::{Agent, AgentIx, Millis, Task, TaskPhase, World};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no master answers: {}", failures.join("; "))]
    Unreachable { failures: Vec<String> },
    #[error("cannot read the secret in {path}: {source}")]
    Secret { path: String, source: std::io::Error },
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

#[derive(Deserialize, Default)]
#[serde(default)]
struct Amounts {
    cpus: f64,
    mem: f64,
    disk: f64,
    gpus: f64,
    /// As `[31000-31999, 32005-32005]`.
    ports: String,
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
}

impl Amounts {
    /// Numbers of the size of a cluster have no fraction beyond Mesos' own three decimals.
    #[allow(clippy::cast_possible_truncation)]
    fn resources(&self) -> Resources {
        let milli = |amount: f64| (amount * 1000.0).round() as i64;
        let ranges = self.ports.trim_matches(['[', ']']).split(',').filter_map(|range| range.trim().split_once('-'));
        let ports = ranges.filter_map(|(from, to)| Some(to.parse::<i64>().ok()? - from.parse::<i64>().ok()? + 1)).sum();
        Resources { cpu: milli(self.cpus), memory: milli(self.mem), disk: milli(self.disk), gpu: self.gpus as i64, ports }
    }
}

/// Puts the cluster's agents, with all that is free on them as held, and this pool's tasks into the world.
///
/// # Errors
/// When no master answers with its pages.
pub async fn look(pool: &Pool, world: &mut World, now: Millis) -> Result<(), Error> {
    let agents: Agents = page(pool, "/master/slaves").await?;
    world.agents = agents.slaves.iter().map(agent).collect();
    let frameworks: Frameworks = page(pool, "/master/frameworks").await?;
    let name = super::framework::name(pool);
    for framework in frameworks.frameworks.iter().filter(|framework| framework.name == name) {
        let tasks: Tasks = page(pool, &format!("/master/tasks?limit=1000000&framework_id={}", framework.id)).await?;
        tasks.tasks.iter().for_each(|task| add_task(world, task, now));
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
        held: page.resources.resources().minus_floor(page.used_resources.resources()),
        expected: Resources::ZERO,
        gpus: page.resources.gpus > 0.0,
        present: page.active,
    }
}

fn add_task(world: &mut World, page: &TaskPage, now: Millis) {
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
        resources: page.resources.resources(),
    };
    world.apps.entry(app).or_default().tasks.push(task);
}

/// The page from the first master that gives it; those that do not lead redirect to the one that does.
async fn page<T: DeserializeOwned>(pool: &Pool, path: &str) -> Result<T, Error> {
    let mut failures = Vec::new();
    for master in &pool.mesos.masters {
        let url = format!("{}{path}", master.trim_end_matches('/'));
        let mut request = reqwest::Client::new().get(&url);
        if let Some(principal) = &pool.mesos.principal {
            request = request.basic_auth(principal, secret(pool)?);
        }
        let answer = async { request.send().await?.error_for_status()?.json::<T>().await };
        match answer.await {
            Ok(page) => return Ok(page),
            Err(error) => failures.push(format!("{url}: {error}")),
        }
    }
    Err(Error::Unreachable { failures })
}

fn secret(pool: &Pool) -> Result<Option<String>, Error> {
    let read = |path: &String| std::fs::read_to_string(path).map_err(|source| Error::Secret { path: path.clone(), source });
    Ok(pool.mesos.secret_file.as_ref().map(read).transpose()?.map(|secret| secret.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_mesos_shows_them() {
        let page = r#"{"cpus": 0.5, "mem": 64.0, "disk": 0, "gpus": 0, "ports": "[31000-31001, 31005-31005]"}"#;
        let amounts: Amounts = serde_json::from_str(page).expect("JSON");
        assert_eq!(amounts.resources(), Resources { ports: 3, ..Resources::new(500, 64) });
    }
}
