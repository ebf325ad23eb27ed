//! The agents of a cluster as its master's pages show them, for those who are no framework on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use url::Url;

use super::http::{Http, HttpError, SetupError};
use super::inventory::Amounts;
use crate::api::pool::Mesos;
use crate::api::validated::{Key, MesosPool};
use crate::policy::resources::Resources;
use crate::store::secrets::Secrets;

/// An agent with all that it has, and all that is used on it by anybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    pub id: Arc<str>,
    pub hostname: Arc<str>,
    pub attributes: BTreeMap<String, String>,
    pub total: Resources,
    pub used: Resources,
    /// Tasks can be started there.
    pub active: bool,
    /// The tasks of the framework that was asked for: their ids, and what each uses.
    pub tasks: Vec<(Arc<str>, Resources)>,
}

#[derive(Deserialize)]
struct Agents {
    slaves: Vec<Page>,
}

/// Of `/master/slaves`.
#[derive(Deserialize)]
struct Page {
    id: Arc<str>,
    #[serde(default)]
    hostname: Arc<str>,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    deactivated: bool,
    #[serde(default)]
    attributes: BTreeMap<String, Json>,
    resources: Amounts,
    #[serde(default)]
    used_resources: Amounts,
    #[serde(default)]
    reserved_resources: BTreeMap<String, Amounts>,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

/// Of `/master/tasks`.
#[derive(Deserialize)]
struct Task {
    id: Arc<str>,
    slave_id: Arc<str>,
    state: String,
    #[serde(default)]
    resources: Amounts,
}

/// The masters of a cluster, asked by nobody in particular.
#[derive(Clone)]
pub struct Masters {
    http: Http,
    count: usize,
}

impl Masters {
    /// # Errors
    /// When an address is none, or TLS cannot be set up.
    pub fn new(key: Key, masters: &[String], secrets: Arc<Secrets>) -> Result<Self, SetupError> {
        let count = masters.len();
        let mesos: Mesos = serde_json::from_value(json!({"masters": masters})).map_err(|_| SetupError::NotMesos)?;
        let pool = MesosPool { key, mesos, executor: Resources::ZERO };
        Ok(Self { http: Http::new(Arc::new(pool), secrets)?, count })
    }

    /// All agents, from the first master that tells.
    ///
    /// # Errors
    /// When none does: what the last one said.
    pub async fn agents(&self, framework: Option<&str>, role: &str) -> Result<Vec<Agent>, HttpError> {
        let mut n = 0;
        loop {
            match self.ask(&self.http.master(n), framework, role).await {
                Err(_) if n + 1 < self.count => n += 1,
                answer => return answer,
            }
        }
    }

    async fn ask(&self, master: &Url, framework: Option<&str>, role: &str) -> Result<Vec<Agent>, HttpError> {
        let query = framework.map(|id| format!("&framework_id={id}")).unwrap_or_default();
        let agents = self.http.get::<Agents>(master, "/master/slaves", "");
        let tasks_query = format!("limit=1000000{query}");
        let tasks = self.http.get::<Tasks>(master, "/master/tasks", &tasks_query);
        // At once, so that both speak of the same moment as nearly as can be.
        let (agents, tasks) = futures::future::try_join(agents, tasks).await?;
        let mut by_agent: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
        for task in tasks.tasks.into_iter().filter(is_there) {
            by_agent.entry(task.slave_id).or_default().push((task.id, task.resources.vector()));
        }
        let agents = agents.slaves.into_iter().map(|page| {
            let tasks = by_agent.remove(&page.id).unwrap_or_default();
            agent(page, role, tasks)
        });
        Ok(agents.collect())
    }
}

/// It uses its resources.
fn is_there(task: &Task) -> bool {
    ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE"].contains(&task.state.as_str())
}

fn agent(page: Page, role: &str, tasks: Vec<(Arc<str>, Resources)>) -> Agent {
    let text = |value: Json| if let Json::String(text) = value { text } else { value.to_string() };
    // What is reserved for others is not there for us.
    let others: Resources =
        page.reserved_resources.iter().filter(|(of, _)| *of != role).map(|(_, amounts)| amounts.vector()).sum();
    Agent {
        id: page.id,
        hostname: page.hostname,
        attributes: page.attributes.into_iter().map(|(name, value)| (name, text(value))).collect(),
        total: page.resources.vector().minus_floor(others),
        used: page.used_resources.vector(),
        active: page.active && !page.deactivated,
        tasks,
    }
}
