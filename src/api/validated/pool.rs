//! A pool, and what its backend has to know of it.

use super::amount::{amounts, cores, mebibytes, unsigned};
use super::{Invalid, Key};
use crate::api::marathon::{Capacity, Fixed, Marathon};
use crate::api::pool::{Backend, Mesos, MicroscalingPool};
use crate::api::protection::PreemptionBudget;
use crate::api::scale_out::ScaleOut;
use crate::policy::resources::Resources;

/// A pool, checked and in internal units.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub key: Key,
    pub generation: i64,
    pub backend: Backend,
    /// [`Resources::UNLIMITED`] in each dimension without a limit.
    pub limits: Resources,
    pub headroom: Resources,
    pub preemption_budget: Option<PreemptionBudget>,
    pub scale_out: Option<ScaleOut>,
    /// What an executor of pooled apps uses by itself.
    pub executor: Resources,
    pub executor_idle_ms: u64,
}

/// A pool on Mesos, as far as that matters to a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct MesosPool {
    pub key: Key,
    pub mesos: Mesos,
    /// What an executor of pooled apps uses by itself.
    pub executor: Resources,
}

/// A pool on a Marathon, as far as that matters to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct MarathonPool {
    pub key: Key,
    pub marathon: Marathon,
    pub room: RoomOf,
}

/// How much room a pool on a Marathon has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomOf {
    /// That of the agents that these masters know.
    Agents(Vec<String>),
    /// So much. Zero: not counted.
    Fixed(Resources),
    /// So many replicas.
    Instances(i64),
}

impl Pool {
    /// Reads a `MicroscalingPool`.
    ///
    /// # Errors
    /// When an amount cannot be read.
    pub fn read(raw: &MicroscalingPool) -> Result<Self, Invalid> {
        let namespace = raw.metadata.namespace.as_deref().unwrap_or("default");
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let mut pool = Self {
            key: Key::new(namespace, name),
            generation: raw.metadata.generation.unwrap_or(0),
            backend: raw.spec.backend.clone(),
            limits: amounts("spec.limits", raw.spec.limits.as_ref(), Resources::UNLIMITED)?,
            headroom: Resources::ZERO,
            preemption_budget: raw.spec.preemption_budget,
            scale_out: raw.spec.scale_out.clone(),
            executor: Resources::ZERO,
            executor_idle_ms: 0,
        };
        match &raw.spec.backend {
            Backend::Mesos(mesos) => {
                pool.headroom = amounts("spec.mesos.headroom", mesos.headroom.as_ref(), Resources::ZERO)?;
                pool.executor = executor(mesos)?;
                pool.executor_idle_ms = unsigned(mesos.executor_idle_seconds).saturating_mul(1000);
            }
            Backend::Marathon(marathon) => drop(room(marathon)?),
        }
        Ok(pool)
    }

    /// What the framework has to know of it; `None` if it is not on Mesos.
    #[must_use]
    pub fn on_mesos(&self) -> Option<MesosPool> {
        let Backend::Mesos(mesos) = &self.backend else { return None };
        Some(MesosPool { key: self.key.clone(), mesos: mesos.clone(), executor: self.executor })
    }

    /// What the client has to know of it; `None` if it is not on a Marathon.
    #[must_use]
    pub fn on_marathon(&self) -> Option<MarathonPool> {
        let Backend::Marathon(marathon) = &self.backend else { return None };
        Some(MarathonPool { key: self.key.clone(), marathon: marathon.clone(), room: room(marathon).ok()? })
    }
}

fn room(marathon: &Marathon) -> Result<RoomOf, Invalid> {
    let field = |name: &str| format!("spec.marathon.capacity.fixed.{name}");
    Ok(match &marathon.capacity {
        Capacity::Mesos(masters) => RoomOf::Agents(masters.clone()),
        Capacity::Instances(count) => RoomOf::Instances((*count).into()),
        Capacity::Fixed(Fixed { cpu, memory, disk, gpu }) => RoomOf::Fixed(Resources {
            cpu: cores(&field("cpu"), cpu)?,
            memory: mebibytes(&field("memory"), memory)?,
            disk: disk.as_ref().map_or(Ok(0), |disk| mebibytes(&field("disk"), disk))?,
            gpu: gpu.unwrap_or(0),
            ports: 0,
        }),
    })
}

/// An executor of ours takes 8 MiB; below 32 MiB Mesos does not limit memory anyhow.
fn executor(mesos: &Mesos) -> Result<Resources, Invalid> {
    let default = Resources::new(10, 32);
    let given = mesos.executor.as_ref().and_then(|executor| executor.resources.as_ref());
    amounts("spec.mesos.executor.resources", given, default)
}
