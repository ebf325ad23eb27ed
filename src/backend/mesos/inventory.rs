//! What only the master's own pages tell: the resources of tasks that another run launched, their agents' hosts and attributes, and
//! whether a framework of our name is there already. All of it is optional: it may not be permitted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use url::Url;

use super::http::{Http, HttpError};
use super::wire::Id;
use crate::policy::resources::Resources;

/// What the master's pages say.
#[derive(Debug, Default)]
pub struct Inventory {
    pub sizes: HashMap<Arc<str>, Resources>,
    pub agents: Vec<(Arc<str>, String, BTreeMap<String, String>)>,
}

#[derive(Deserialize)]
struct Tasks {
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    id: Arc<str>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    resources: Amounts,
}

/// Resources as the pages show them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Amounts {
    cpus: f64,
    mem: f64,
    disk: f64,
    gpus: f64,
    /// As `[31000-31999, 32005-32005]`.
    ports: String,
}

#[derive(Deserialize)]
struct Agents {
    #[serde(default)]
    slaves: Vec<Agent>,
}

#[derive(Deserialize)]
struct Agent {
    id: Arc<str>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    attributes: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
struct Frameworks {
    #[serde(default)]
    get_frameworks: FrameworkList,
}

#[derive(Default, Deserialize)]
struct FrameworkList {
    #[serde(default)]
    frameworks: Vec<Framework>,
}

#[derive(Deserialize)]
struct Framework {
    framework_info: FrameworkInfo,
}

#[derive(Deserialize)]
struct FrameworkInfo {
    id: Option<Id>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    roles: Vec<String>,
}

impl Amounts {
    #[allow(clippy::cast_possible_truncation)]
    pub fn vector(&self) -> Resources {
        let milli = |value: f64| (value * 1000.0).round() as i64;
        Resources {
            cpu: milli(self.cpus),
            memory: milli(self.mem),
            disk: milli(self.disk),
            gpu: self.gpus.round() as i64,
            ports: count_ports(&self.ports),
        }
    }
}

fn count_ports(text: &str) -> i64 {
    let length = |range: &str| {
        let (begin, end) = range.trim().split_once('-')?;
        Some(end.parse::<i64>().ok()? - begin.parse::<i64>().ok()? + 1)
    };
    text.trim_matches(['[', ']']).split(',').filter_map(length).sum()
}

/// Reads all that is known of our tasks and of the agents.
pub async fn fetch(http: &Http, leader: &Url, framework_id: &str) -> Result<Inventory, HttpError> {
    let query = format!("framework_id={framework_id}&limit=1000000");
    let tasks: Tasks = http.get(leader, "/master/tasks", &query).await?;
    let agents: Agents = http.get(leader, "/master/slaves", "").await?;
    let text = |value: Json| if let Json::String(text) = value { text } else { value.to_string() };
    let describe = |agent: Agent| {
        let attributes = agent.attributes.into_iter().map(|(name, value)| (name, text(value))).collect();
        (agent.id, agent.hostname, attributes)
    };
    Ok(Inventory {
        sizes: tasks.tasks.into_iter().map(|task| (task.id, task.resources.vector())).collect(),
        agents: agents.slaves.into_iter().map(describe).collect(),
    })
}

/// A framework of this name and role that has live tasks, and how many; `None` also when it is not permitted to look.
pub async fn tasks_of_namesake(
    http: &Http,
    master: &Url,
    name: &str,
    role: &str,
) -> Result<Option<(Arc<str>, usize)>, HttpError> {
    let asked = http.post(master.clone(), "/master/api/v1", &json!({"type": "GET_FRAMEWORKS"})).await;
    let (leader, response) = match asked {
        Ok(answer) => answer,
        Err(error) if may_not_look(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let frameworks: Frameworks = response.json().await.map_err(|source| HttpError::Failed { url: leader.clone(), source })?;
    let namesakes = frameworks.get_frameworks.frameworks.into_iter().map(|framework| framework.framework_info);
    for info in namesakes.filter(|info| info.name == name && info.roles.iter().any(|known| known == role)) {
        let Some(id) = info.id else { continue };
        let tasks = live_tasks(http, &leader, &id.value).await?;
        if tasks > 0 {
            return Ok(Some((id.value, tasks)));
        }
    }
    Ok(None)
}

async fn live_tasks(http: &Http, leader: &Url, framework_id: &str) -> Result<usize, HttpError> {
    const LIVE: [&str; 5] = ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE"];
    let query = format!("framework_id={framework_id}&limit=1000000");
    match http.get::<Tasks>(leader, "/master/tasks", &query).await {
        Ok(list) => Ok(list.tasks.iter().filter(|task| LIVE.contains(&task.state.as_str())).count()),
        Err(error) if may_not_look(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Not permitted or not provided; after any other failure it is tried again, as what is not seen may be there.
fn may_not_look(error: &HttpError) -> bool {
    matches!(error, HttpError::Refused { status, .. } if matches!(status.as_u16(), 401 | 403 | 501))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::routing::{get, post};
    use reqwest::StatusCode;

    use super::super::testing::pool;
    use super::*;

    #[test]
    fn ports_are_counted() {
        assert_eq!(count_ports("[31000-31001, 31005-31005]"), 3);
        assert_eq!((count_ports(""), count_ports("[]")), (0, 0));
    }

    #[test]
    fn amounts_are_read_as_mesos_shows_them() {
        let page = r#"{"cpus": 0.5, "mem": 64.0, "disk": 0, "gpus": 0, "ports": "[31000-31001, 31005-31005]"}"#;
        let amounts: Amounts = serde_json::from_str(page).unwrap();
        assert_eq!(amounts.vector(), Resources { ports: 3, ..Resources::new(500, 64) });
    }

    /// What comes of looking when the master gives these answers to GET_FRAMEWORKS and for the tasks.
    async fn look(frameworks: (u16, &'static str), tasks: (u16, &'static str)) -> Result<Option<usize>, HttpError> {
        let answer = |(status, body): (u16, &'static str)| move || async move { (StatusCode::from_u16(status).unwrap(), body) };
        let router =
            axum::Router::new().route("/master/api/v1", post(answer(frameworks))).route("/master/tasks", get(answer(tasks)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = Http::new(pool(), Arc::new(crate::store::secrets::Secrets::in_files())).unwrap();
        let found = tasks_of_namesake(&http, &url, "ms", "web").await;
        server.abort();
        found.map(|found| found.map(|(_, tasks)| tasks))
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_taken_for_nothing() {
        const FRAMEWORKS: &str =
            r#"{"get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "f"}, "name": "ms", "roles": ["web"]}}]}}"#;
        const TASKS: &str = r#"{"tasks": [{"id": "t", "state": "TASK_RUNNING"}]}"#;
        assert_eq!(look((200, FRAMEWORKS), (200, TASKS)).await.unwrap(), Some(1));
        for status in [401, 403, 501] {
            assert_eq!(look((status, ""), (200, TASKS)).await.unwrap(), None);
            assert_eq!(look((200, FRAMEWORKS), (status, "")).await.unwrap(), None);
        }
        for (status, body) in [(503, ""), (400, ""), (200, "no JSON")] {
            assert!(look((status, body), (200, TASKS)).await.is_err());
            assert!(look((200, FRAMEWORKS), (status, body)).await.is_err());
        }
    }
}
