//! The one reader of raw specs: everything behind it sees only these types, in units of its own (milliseconds, fixed-point resources).
//!
//! | look for | in |
//! |---|---|
//! | namespace and name | `key` |
//! | a pool | `pool` |
//! | a metric: its target, forecast, and what stands in for it | `metric`, `target`, `foresight`, `ladder` |
//! | what several metrics come to | `formula` |
//! | how fast replicas may change | `damping`, `panic` |
//! | the container | `template`, `version`, `base` |
//! | amounts | `amount` |

use std::sync::Arc;

use super::app::{MicroscaledApp, Mode};
use super::demand::Source;
use super::marathon::MarathonTerms;
use super::protection::Protection;
use super::quantity::BadQuantity;
use super::template::{Placement, Requirement, Template};
use crate::policy::resources::Resources;

mod amount;
mod base;
mod damping;
mod foresight;
mod formula;
mod key;
mod ladder;
mod metric;
mod panic;
mod pool;
mod target;
mod template;
mod version;

use amount::unsigned;
pub use base::{Base, BaseKind};
pub use damping::{Damping, RateLimit};
pub use foresight::Foresight;
pub use formula::Formula;
pub use key::Key;
pub use ladder::{Rung, StandIn};
pub use metric::Metric;
pub use panic::Panic;
pub use pool::{MarathonPool, MesosPool, Pool, RoomOf};
pub use target::{TargetValue, Wait};
pub use version::{Version, short_hash};

/// An app, checked and in internal units.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub key: Key,
    pub generation: i64,
    pub pool: Key,
    /// 1 is served first.
    pub priority: i32,
    /// What part of the room it gets among its equals.
    pub weight: i64,
    /// Replicas when `demand` holds no metric.
    pub replicas: i64,
    pub min: i64,
    /// `i64::MAX` when the pool is the only limit.
    pub max: i64,
    /// The metrics, without `remainder`.
    pub demand: Vec<Metric>,
    /// Weight of the app's claim to spare room, if it makes one.
    pub remainder: Option<i64>,
    /// In place of the largest of what metrics ask for.
    pub formula: Option<Formula>,
    pub up: Damping,
    pub down: Damping,
    pub panic: Option<Panic>,
    pub suspended: bool,
    /// Decide and report, but do nothing.
    pub observed_only: bool,
    pub max_surge: i64,
    pub protection: Protection,
    pub replace_unreachable_after_ms: u64,
    /// What one replica uses, its ports counted.
    pub size: Resources,
    pub version: Version,
    pub template: Template,
    pub spread: Spread,
    pub requirements: Vec<Requirement>,
    /// What has to be on an agent before replicas start there quickly.
    pub base: Option<Base>,
    /// The app that it is on a Marathon, if it names one.
    pub marathon_id: Option<Arc<str>>,
    pub marathon: MarathonTerms,
    /// It is there on a Marathon already: size and template are Marathon's, and not known here.
    pub adopted: bool,
}

/// How replicas are laid out over agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    Pack,
    /// Evenly over the values of this attribute.
    Over(String),
}

/// A spec that passed the schema and yet cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{field}: {problem}")]
    Amount { field: String, problem: BadQuantity },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

/// Down after two seconds unless told otherwise.
const DEFAULT_DOWN_WINDOW_MS: u64 = 2000;

impl App {
    /// Reads a `MicroscaledApp`.
    ///
    /// # Errors
    /// When an amount cannot be read or is zero where it may not be.
    pub fn read(raw: &MicroscaledApp) -> Result<Self, Invalid> {
        let namespace = raw.metadata.namespace.as_deref().unwrap_or("default");
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let spec = &raw.spec;
        let behavior = spec.behavior.clone().unwrap_or_default();
        let remainder = spec.demand.iter().find_map(|d| match &d.source {
            Source::Remainder(remainder) => Some(i64::from(remainder.weight)),
            _ => None,
        });
        let placement = spec.placement.clone().unwrap_or_default();
        let template = spec.template.clone().unwrap_or_else(Template::of_marathon);
        let size = if spec.template.is_some() { template::size(&template)? } else { Resources::ZERO };
        template::probes(&template)?;
        Ok(Self {
            key: Key::new(namespace, name),
            generation: raw.metadata.generation.unwrap_or(0),
            pool: Key::new(namespace, &spec.pool),
            priority: spec.priority,
            weight: spec.weight.into(),
            replicas: spec.replicas.into(),
            min: spec.min_replicas.into(),
            max: spec.max_replicas.map_or(i64::MAX, i64::from),
            demand: (0..spec.demand.len()).filter_map(|i| metric::read(i, spec).transpose()).collect::<Result<_, _>>()?,
            remainder,
            formula: formula::read(spec)?,
            up: damping::read(behavior.scale_up.as_ref(), 0),
            down: damping::read(behavior.scale_down.as_ref(), DEFAULT_DOWN_WINDOW_MS),
            panic: behavior.panic.as_ref().map(panic::read),
            suspended: spec.suspend,
            observed_only: spec.mode == Mode::Observe,
            max_surge: spec.rollout.max_surge.into(),
            protection: spec.protection,
            replace_unreachable_after_ms: unsigned(spec.replace_unreachable_after_milliseconds),
            size,
            version: version::of(&template, size),
            spread: spread(&placement),
            requirements: placement.requirements,
            base: base::of(&Key::new(namespace, name), &template),
            marathon_id: spec.marathon_app.as_deref().map(Into::into),
            marathon: spec.marathon,
            adopted: spec.template.is_none(),
            template,
        })
    }
}

fn spread(placement: &Placement) -> Spread {
    match placement.spread.as_deref() {
        None | Some("pack") => Spread::Pack,
        Some(attribute) => Spread::Over(attribute.to_owned()),
    }
}

#[cfg(test)]
mod tests;
