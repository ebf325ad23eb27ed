//! What the containers of a pool run on: scenarios are the same on either kind.

use std::ops::Deref;
use std::path::Path;

use microscaler_testbed::{Agent, Cluster};
use microscaler_testbed_marathon::{Builder, Marathon};

/// What a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mesos,
    Marathon,
}

/// Where a pool can be.
pub trait Place {
    fn mesos(&self) -> &Cluster;

    /// What stands in the spec of a pool here: `mesos: {…}`, or `marathon: {…}`. `more` is further fields of it, behind a comma.
    fn backend(&self, more: &str) -> String;

    /// Whether `--mesos` alone makes the pool.
    fn is_default(&self) -> bool {
        true
    }
}

impl Place for Cluster {
    fn mesos(&self) -> &Cluster {
        self
    }

    fn backend(&self, more: &str) -> String {
        format!("mesos: {{masters: {:?}{more}}}", self.master_urls())
    }
}

/// A Mesos and, where the pool is one, a Marathon on it.
pub struct Ground {
    /// Dropped before its cluster.
    pub marathon: Option<Marathon>,
    mesos: Cluster,
}

impl Kind {
    /// As [`super::cluster`].
    pub fn cluster(self, agents: usize) -> Ground {
        self.on(super::cluster(agents))
    }

    /// Takes only a user `shop` with this secret, as principal of a framework or of a Marathon. What Mesos knows is in `file`.
    pub fn guarded(self, secret: &str, file: &Path) -> Ground {
        let known = format!(r#"{{"credentials": [{{"principal": "shop", "secret": "{secret}"}}]}}"#);
        std::fs::write(file, known).unwrap();
        let builder = Cluster::builder().agent(Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]"));
        let builder = match self {
            Self::Mesos => builder
                .master_flag("authenticate_http_frameworks", "true")
                .master_flag("http_framework_authenticators", "basic")
                .master_flag("credentials", format!("file://{}", file.display())),
            Self::Marathon => builder,
        };
        let mesos = builder.start().unwrap();
        let marathon = (self == Self::Marathon).then(|| quick(&mesos).auth("shop", secret).start().unwrap());
        Ground { marathon, mesos }
    }

    /// What a pool has to say to be let in there by a Secret, behind a comma.
    pub fn credentials(self, name: &str, key: &str) -> String {
        match self {
            Self::Mesos => format!(", principal: shop, secretRef: {{name: {name}, key: {key}}}"),
            Self::Marathon => {
                format!(", auth: {{basic: {{username: shop, password: {{secretRef: {{name: {name}, key: {key}}}}}}}}}")
            }
        }
    }

    /// On a Mesos that is there.
    pub fn on(self, mesos: Cluster) -> Ground {
        let marathon = (self == Self::Marathon).then(|| quick(&mesos).start().unwrap());
        Ground { marathon, mesos }
    }
}

/// A Marathon that follows at once: what its stock flags cost is not what scenarios are about.
fn quick(mesos: &Cluster) -> Builder<'_> {
    let builder = Marathon::builder(mesos).flag("min_revive_offers_interval", "100").flag("disable_suppress_offers", "true");
    builder.flag("zk_session_timeout", "2000")
}

impl Ground {
    /// kill -9 of whom the pool's sessions are with: the master, or Marathon.
    pub fn kill(&self) {
        match &self.marathon {
            Some(marathon) => marathon.kill(),
            None => self.mesos.master(0).kill(),
        }
    }

    /// Starts it again.
    pub fn come_back(&self) {
        match &self.marathon {
            Some(marathon) => marathon.start().unwrap(),
            None => self.mesos.master(0).start().unwrap(),
        }
    }
}

impl Deref for Ground {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.mesos
    }
}

impl Place for Ground {
    fn mesos(&self) -> &Cluster {
        &self.mesos
    }

    fn backend(&self, more: &str) -> String {
        let Some(marathon) = &self.marathon else { return self.mesos.backend(more) };
        format!("marathon: {{urls: {:?}, capacity: {{mesos: {:?}}}{more}}}", marathon.urls(), self.mesos.master_urls())
    }

    fn is_default(&self) -> bool {
        self.marathon.is_none()
    }
}

/// The manifest of a pool; `rest` is further lines of its spec, indented by two.
pub fn pool(name: &str, namespace: &str, place: &impl Place, rest: &str) -> String {
    pool_with(name, namespace, place, "", rest)
}

/// The same; `more` is as for [`Place::backend`].
pub fn pool_with(name: &str, namespace: &str, place: &impl Place, more: &str, rest: &str) -> String {
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  {}\n{rest}",
        place.backend(more)
    )
}

/// Makes a test of each scenario on each kind of pool, so that a failure names both. What cannot be on a Marathon is listed with the
/// reason.
macro_rules! scenarios {
    (on_both: [$($both:ident),* $(,)?], on_mesos_alone: {$($alone:ident: $why:literal),* $(,)?} $(,)?) => {
        mod on_mesos {
            $(
                #[test]
                fn $both() {
                    super::$both($crate::support::place::Kind::Mesos);
                }
            )*
            $(
                #[doc = $why]
                #[test]
                fn $alone() {
                    super::$alone();
                }
            )*
        }

        mod on_marathon {
            $(
                #[test]
                fn $both() {
                    super::$both($crate::support::place::Kind::Marathon);
                }
            )*
        }
    };
}
