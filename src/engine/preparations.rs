//! Executors and images → status: on how many agents they are, and whether executors hold replicas to their limits.

use std::sync::Arc;

use super::report::AppReport;
use crate::api::validated::{App, Base, BaseKind};
use crate::policy::standing::{Prepared, prepared};
use crate::policy::world::World;

/// How the bases of apps stand, found out once for all apps that share one and may use the same agents.
pub struct Preparations<'a> {
    world: &'a World,
    known: Vec<(&'a App, Arc<Shown>)>,
}

/// How the bases of an app stand, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// `3/4`.
    pub prepared: String,
    /// Whether executors hold replicas to their limits; of pooled apps.
    pub limits: Option<Told<'static>>,
}

/// The condition of pooled apps that says it.
pub const LIMITS_ENFORCED: &str = "LimitsEnforced";

/// The status of a condition, its reason in one word, and in more.
#[derive(Debug, PartialEq, Eq)]
pub struct Told<'a> {
    pub status: &'static str,
    pub word: &'a str,
    pub message: String,
}

impl<'a> Preparations<'a> {
    pub fn new(world: &'a World) -> Self {
        Self { world, known: Vec::new() }
    }

    /// `None` for apps that nothing is prepared for. Where nothing has changed, it is what an old report holds.
    pub fn of(&mut self, app: &'a App, old: Option<&AppReport>) -> Option<&Arc<Shown>> {
        let base = app.base.as_ref().filter(|base| base.ahead)?;
        let same = |other: &App| {
            let gpus = |app: &App| app.size.gpu > 0;
            other.base.as_ref().is_some_and(|other| other.key == base.key)
                && other.requirements == app.requirements
                && gpus(other) == gpus(app)
        };
        let at = self.known.iter().position(|(other, _)| same(other)).unwrap_or_else(|| {
            let shown = Shown::of(app, &prepared(self.world, app));
            let old = old.and_then(|old| old.bases.clone()).filter(|old| **old == shown);
            self.known.push((app, old.unwrap_or_else(|| Arc::new(shown))));
            self.known.len() - 1
        });
        Some(&self.known[at].1)
    }
}

impl Shown {
    fn of(app: &App, prepared: &Prepared) -> Self {
        let is_pooled = matches!(&app.base, Some(Base { kind: BaseKind::Executor, .. }));
        let limits = is_pooled.then(|| limits_enforced(prepared));
        Self { prepared: format!("{}/{}", prepared.ready, prepared.agents), limits }
    }
}

/// Whether replicas are held to their memory and CPU.
fn limits_enforced(prepared: &Prepared) -> Told<'static> {
    let Prepared { ready, unlimited, untold, why, .. } = prepared;
    match why {
        Some(why) => {
            let message = format!("replicas are not held to their memory and CPU on {unlimited} of {ready} agents: {why}");
            Told { status: "False", word: "NotEnforced", message }
        }
        None if *ready == 0 => {
            let message = "no executor of the app is ready, so none has told".to_owned();
            Told { status: "Unknown", word: "NotToldYet", message }
        }
        None if *untold > 0 => {
            let message = format!("{untold} of {ready} executors have not told yet");
            Told { status: "Unknown", word: "NotToldYet", message }
        }
        None => {
            let message = format!("replicas are held to their memory and CPU on all {ready} agents");
            Told { status: "True", word: "Enforced", message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_enforced_when_all_executors_say_so() {
        let told = |ready, unlimited, untold| {
            let why = (unlimited > 0).then(|| "no cgroup is delegated to it".into());
            limits_enforced(&Prepared { agents: 4, ready, unlimited, untold, why })
        };
        let states = [told(0, 0, 0), told(3, 0, 1), told(3, 0, 0), told(4, 2, 1)].map(|told| told.status);
        assert_eq!(states, ["Unknown", "Unknown", "True", "False"]);
        let words = "replicas are not held to their memory and CPU on 2 of 4 agents: no cgroup is delegated to it";
        assert_eq!(told(4, 2, 1).message, words);
        assert_eq!(told(3, 0, 0).message, "replicas are held to their memory and CPU on all 3 agents");
    }
}
