//! What the tests of the policy share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::resources::Resources;
use super::world::{Agent, AgentIx, AppView, Millis, Reading, Task, TaskPhase, World};
use crate::api::MicroscaledApp;
use crate::api::validated::App;

/// An app with one replica of a core and 64 MiB, and with these fields of its spec.
pub fn app(name: &str, spec: Value) -> App {
    let mut all = json!({"template": {"resources": {"cpu": "1", "memory": "64Mi"}, "shell": "true"}});
    if let (Value::Object(all), Value::Object(spec)) = (&mut all, spec) {
        all.extend(spec);
    }
    App::read(&MicroscaledApp::new(name, serde_json::from_value(all).unwrap())).unwrap()
}

/// Demand of one pushed metric called `load`.
pub fn demand(target: &Value) -> Value {
    json!({"name": "load", "push": {}, "target": target})
}

pub fn reading(value: f64, at: Millis) -> Reading {
    Reading { value: Some((value, at)), ..Reading::default() }
}

pub fn agent(cores: i64, attributes: &[(&str, &str)]) -> Agent {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Agent { held: Resources::new(cores * 1000, 65_536), attributes, hostname: "host".into(), present: true, ..Agent::default() }
}

/// A replica of the app that runs and is ready.
pub fn running(app: &App, agent: u32, born: Millis) -> Task {
    Task {
        id: format!("{}-{agent}-{born}", app.key.name()).into(),
        agent: AgentIx(agent),
        version: Some(app.version),
        phase: TaskPhase::Running,
        ready: true,
        since: born,
        born,
        resources: app.size,
        executor: None,
    }
}

/// These agents, and apps with the agents on which their replicas run; an executor uses a tenth of a core less what its first task does.
pub fn world(agents: Vec<Agent>, apps: Vec<(App, Vec<u32>)>) -> World {
    let (limits, executor_size) = (Resources::UNLIMITED, Resources::new(99, 32));
    let mut world = World { limits, agents, executor_size, executor_idle_ms: 1000, end_orphans: true, ..World::default() };
    for (app, on) in apps {
        let tasks: Vec<_> = on.iter().zip(1..).map(|(agent, born)| running(&app, *agent, born)).collect();
        tasks.iter().for_each(|task| world.agents[task.agent.0 as usize].held -= task.resources);
        world.apps.insert(app.key.clone(), AppView { spec: Some(Arc::new(app)), tasks, ..AppView::default() });
    }
    world
}
