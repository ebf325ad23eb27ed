//! Which template a task was started from.

use std::fmt;

use crate::api::template::{EnvVar, Template};
use crate::policy::resources::Resources;

/// Which template a task was started from: a hash of everything in it that a running task cannot take on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Only what a running task cannot take on: not the grace period, which is sent along with the kill.
///
/// The same on every machine and in every build, for it is compared with the labels of tasks that an older Microscaler started; and
/// amounts count, not how they are written. A field that comes later must leave the text as it is for those who do not use it.
pub(super) fn of(template: &Template, size: Resources) -> Version {
    let Template { resources: _, command, shell, env, ports, grace_period_milliseconds: _, prefetch: _, .. } = template;
    let Template { launch, image, containerizer, volumes, working_directory, user, readiness, liveness, .. } = template;
    let Resources { cpu, memory, disk, gpu, ports: _ } = size;
    let env: Vec<_> = env.iter().map(|EnvVar { name, value }| [name, value]).collect();
    let ports: Vec<_> = ports.iter().map(|port| &port.name).collect();
    let mut text = serde_json::json!([cpu, memory, disk, gpu, command, shell, env, ports]).to_string();
    let container = serde_json::json!([launch, image, containerizer, volumes, working_directory, user]);
    if container != serde_json::json!(["isolated", null, "mesos", [], null, null]) {
        text += &container.to_string();
    }
    if readiness.is_some() || liveness.is_some() {
        text += &serde_json::json!([readiness, liveness]).to_string();
    }
    Version(folded(text.as_bytes()))
}

/// Eight hexadecimal digits that stay the same for the same bytes.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    format!("{:08x}", folded(bytes))
}

#[allow(clippy::cast_possible_truncation)]
fn folded(bytes: &[u8]) -> u32 {
    let hash = fnv1a(bytes);
    (hash ^ (hash >> 32)) as u32
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
