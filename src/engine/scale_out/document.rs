//! What a webhook or a command is told: all that whoever adds hosts has to know, in one JSON document.

use serde::Serialize;

use super::Situation;
use crate::api::quantity::Quantity;
use crate::api::validated::Key;
use crate::policy::resources::Resources;

/// So many apps are named: those that matter most.
const MOST_APPS: usize = 100;

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// The pool has become too small.
    Begins,
    /// It lacks more, or less.
    Changes,
    /// It is still too small.
    Lasts,
    /// It is large enough again.
    Ends,
}

/// All amounts as in manifests, such as `500m` and `64Mi`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    pub kind: Kind,
    namespace: &'a str,
    pool: &'a str,
    at: jiff::Timestamp,
    /// Since when the pool has been too small.
    since: Option<jiff::Timestamp>,
    /// How many replicas are wanted and find no room.
    replicas: i64,
    /// What they use together.
    resources: Amounts,
    /// How many more agents of this size would hold them; null where the pool has no agents to go by, or some replica fits none of these.
    agents: Option<i64>,
    agent_size: Option<Amounts>,
    apps: Vec<App<'a>>,
    /// Agents that have run no replica for long.
    idle_agents: i64,
}

#[derive(Clone, Debug, Serialize)]
struct App<'a> {
    namespace: &'a str,
    name: &'a str,
    priority: i32,
    replicas: i64,
    /// Of each replica.
    resources: Amounts,
}

#[derive(Clone, Debug, Serialize)]
struct Amounts {
    cpu: Quantity,
    memory: Quantity,
    disk: Quantity,
    gpu: i64,
    ports: i64,
}

impl<'a> Document<'a> {
    pub fn new(kind: Kind, pool: &'a Key, situation: &'a Situation, at: jiff::Timestamp) -> Self {
        let Situation { shortfall, since, idle_agents, .. } = situation;
        let app = |lack: &'a crate::policy::shortfall::Lack| App {
            namespace: lack.app.namespace(),
            name: lack.app.name(),
            priority: lack.priority,
            replicas: lack.replicas,
            resources: lack.size.into(),
        };
        Self {
            kind,
            namespace: pool.namespace(),
            pool: pool.name(),
            at,
            since: *since,
            replicas: shortfall.replicas(),
            resources: shortfall.room().into(),
            agents: shortfall.agents().or(shortfall.is_none().then_some(0)),
            agent_size: shortfall.agent.map(Amounts::from),
            apps: shortfall.lacks.iter().take(MOST_APPS).map(app).collect(),
            idle_agents: *idle_agents,
        }
    }
}

impl From<Resources> for Amounts {
    fn from(room: Resources) -> Self {
        let Resources { cpu, memory, disk, gpu, ports } = room;
        Self { cpu: cores(cpu), memory: mebibytes(memory), disk: mebibytes(disk), gpu, ports }
    }
}

/// From thousandths of a core.
#[must_use]
pub fn cores(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// From thousandths of a MiB; what is no whole number of them in bytes, rounded up.
#[must_use]
pub fn mebibytes(milli: i64) -> Quantity {
    let bytes = || (i128::from(milli) << 20).div_euclid(1000) + i128::from((i128::from(milli) << 20) % 1000 != 0);
    Quantity(if milli == 0 {
        "0".to_owned()
    } else if milli % 1000 == 0 {
        format!("{}Mi", milli / 1000)
    } else {
        bytes().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_in_a_manifest() {
        let texts = [cores(2000), cores(2500), mebibytes(0), mebibytes(64_000), mebibytes(1)].map(|quantity| quantity.0);
        assert_eq!(texts, ["2", "2500m", "0", "64Mi", "1049"]);
        assert_eq!(mebibytes(1500).thousandths(), Ok(1_572_864_000));
    }
}
