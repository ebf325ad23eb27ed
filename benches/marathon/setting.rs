//! Where it is measured: flags of Marathon, and the Mesos below.

use std::path::Path;
use std::time::Duration;

use microscaler_testbed::{Agent, Cluster};
use microscaler_testbed_marathon::Marathon;
use serde_json::{Value, json};

use crate::support::marathon::Bed;

pub const AGENTS: usize = 4;
/// Instances of half a core on each agent.
pub const SLOTS: usize = 16;

pub struct Setting {
    pub name: &'static str,
    /// What is not named has its stock value.
    pub flags: &'static [(&'static str, &'static str)],
    /// Before each round, in milliseconds: at least so long, and at most.
    pause: (u64, u64),
    /// Of so many rounds, one is made: those that wait take their time.
    pub shares: usize,
}

pub static SETTINGS: [Setting; 3] = [
    Setting { name: "stock", flags: &[], pause: (0, 6000), shares: 3 },
    Setting { name: "revive", flags: &[("min_revive_offers_interval", "100")], pause: (150, 1150), shares: 1 },
    Setting {
        name: "awake",
        flags: &[("min_revive_offers_interval", "100"), ("disable_suppress_offers", "true")],
        pause: (150, 1150),
        shares: 1,
    },
];

impl Setting {
    /// Files of agents are in memory where that can be: each launch makes some, and a disk takes its time as it likes.
    pub fn bed(&self) -> Bed {
        let in_memory = Path::new("/dev/shm");
        let builder = Cluster::builder();
        let builder = if in_memory.is_dir() { builder.run_directory(in_memory) } else { builder };
        let agent = || Agent::default().resources("cpus:8;mem:4096;disk:4096;ports:[31000-31999]");
        let cluster = (0..AGENTS).fold(builder, |builder, _| builder.agent(agent())).start().unwrap();
        let marathon = self.flags.iter().fold(Marathon::builder(&cluster), |builder, (flag, value)| builder.flag(flag, *value));
        Bed { scaler: None, front: None, marathon: marathon.start().unwrap(), cluster }
    }

    /// So that turns come at random moments.
    pub fn pause(&self) {
        let (least, most) = self.pause;
        std::thread::sleep(Duration::from_millis(fastrand::u64(least..=most)));
    }
}

/// Of an app whose instances may be ended at any moment.
pub fn killed_at_once() -> Value {
    json!({"taskKillGracePeriodSeconds": 0})
}
