//! What Marathon says, and what we want of it → the tasks of the world. Derived anew at every change, so that nothing is counted twice:
//! what runs is what Marathon says runs; what is wanted beyond that is starting; what runs beyond what is wanted is stopping.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ledger::{Instance, Managed, State};
use crate::policy::resources::Resources;
use crate::policy::world::{Millis, Task, TaskPhase};

/// The tasks of the app, in order of their ids.
pub fn project(app: &Managed, size: Resources, now: Millis) -> Vec<Task> {
    let version = app.fitted.as_ref().map(|spec| spec.version);
    let checked = app.known.as_ref().is_some_and(|known| known.is_checked);
    let surplus: BTreeSet<Arc<str>> = app.surplus().into_iter().collect();
    let placed = app.instances.iter().map(|(id, instance)| {
        let ends = instance.chosen || instance.doomed.is_some() || surplus.contains(id);
        Task {
            id: instance.task.clone(),
            agent: instance.agent,
            version,
            phase: phase(instance, ends),
            ready: !checked || instance.healthy == Some(true),
            since: if ends { instance.doomed.unwrap_or(now) } else { instance.since },
            born: instance.born,
            resources: size,
            executor: None,
        }
    });
    let waiting = app.waiting.iter().map(|waiting| Task {
        id: waiting.id.clone(),
        agent: waiting.agent,
        version,
        phase: TaskPhase::Starting,
        ready: false,
        since: waiting.since,
        born: waiting.since,
        resources: size,
        executor: None,
    });
    let mut tasks: Vec<Task> = placed.chain(waiting).collect();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    tasks
}

fn phase(instance: &Instance, ends: bool) -> TaskPhase {
    match instance.state {
        State::Unreachable => TaskPhase::Unreachable,
        _ if ends => TaskPhase::Stopping,
        State::Starting => TaskPhase::Starting,
        State::Running => TaskPhase::Running,
    }
}
