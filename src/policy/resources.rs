//! Resource vectors in Mesos' own fixed point, so that sums never drift and nothing is rounded twice.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

/// Amounts of each resource that an agent offers or a task uses.
///
/// Units: `cpu` in thousandths of a core, `memory` and `disk` in thousandths of a MiB (Mesos keeps scalars to three decimals),
/// `gpu` in whole devices, `ports` as a count (which port numbers is decided when the offer is accepted).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub disk: i64,
    pub gpu: i64,
    pub ports: i64,
}

impl Resources {
    pub const ZERO: Self = Self { cpu: 0, memory: 0, disk: 0, gpu: 0, ports: 0 };
    /// More than any cluster has: the room of a pool without limits.
    pub const UNLIMITED: Self =
        Self { cpu: i64::MAX / 4, memory: i64::MAX / 4, disk: i64::MAX / 4, gpu: i64::MAX / 4, ports: i64::MAX / 4 };

    /// Cores in thousandths and memory in MiB, the two that every task has.
    #[must_use]
    pub fn new(cpu_milli: i64, memory_mib: i64) -> Self {
        Self { cpu: cpu_milli, memory: memory_mib * 1000, ..Self::ZERO }
    }

    fn each(self) -> [i64; 5] {
        [self.cpu, self.memory, self.disk, self.gpu, self.ports]
    }

    fn zip(self, other: Self, f: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            cpu: f(self.cpu, other.cpu),
            memory: f(self.memory, other.memory),
            disk: f(self.disk, other.disk),
            gpu: f(self.gpu, other.gpu),
            ports: f(self.ports, other.ports),
        }
    }

    /// Whether `self` has room inside `room`, in every dimension that `self` uses at all.
    #[must_use]
    pub fn fits(self, room: Self) -> bool {
        self.each().iter().zip(room.each()).all(|(need, room)| *need <= 0 || *need <= room)
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, i64::min)
    }

    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, i64::max)
    }

    /// `self - other`, never below zero in any dimension.
    #[must_use]
    pub fn minus_floor(self, other: Self) -> Self {
        (self - other).max(Self::ZERO)
    }

    /// How many copies of `size` fit (0 when none; `i64::MAX` for a size of zero).
    #[must_use]
    pub fn holds(self, size: Self) -> i64 {
        let per = |(room, need): (i64, i64)| (need > 0).then(|| room.max(0) / need);
        self.each().into_iter().zip(size.each()).filter_map(per).min().unwrap_or(i64::MAX)
    }

    /// The largest share that `self` takes of `total` in any dimension, 0.0 to 1.0 and above (Ghodsi et al., DRF, NSDI 2011).
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn dominant_share(self, total: Self) -> f64 {
        let share = |(part, whole): (i64, i64)| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
        self.each().into_iter().zip(total.each()).map(share).fold(0.0, f64::max)
    }
}

impl Add for Resources {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl Sub for Resources {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl Mul<i64> for Resources {
    type Output = Self;
    fn mul(self, n: i64) -> Self {
        self.zip(Self::ZERO, |a, _| a * n)
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Resources {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Resources {
    /// As people write it in a manifest: `cpu 2.5, memory 512Mi, gpu 1`. Ports and what is zero are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = |n: i64| {
            let text = format!("{}.{:03}", n / 1000, n % 1000);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let mut parts = vec![format!("cpu {}", thousandths(self.cpu)), format!("memory {}Mi", thousandths(self.memory))];
        if self.disk != 0 {
            parts.push(format!("disk {}Mi", thousandths(self.disk)));
        }
        if self.gpu != 0 {
            parts.push(format!("gpu {}", self.gpu));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_looks_only_at_what_is_used() {
        assert!(Resources::new(500, 64).fits(Resources::new(500, 64)));
        assert!(!Resources::new(501, 64).fits(Resources::new(500, 64)));
        let overdrawn = Resources { disk: -1, ..Resources::new(500, 64) };
        assert!(Resources::new(500, 64).fits(overdrawn));
    }

    #[test]
    fn holds_counts_by_the_scarcest() {
        assert_eq!(Resources::new(2000, 100).holds(Resources::new(500, 64)), 1);
        assert_eq!(Resources::new(2000, 1000).holds(Resources::new(500, 64)), 4);
    }

    #[test]
    fn display_reads_as_in_a_manifest() {
        assert_eq!(Resources::new(2500, 512).to_string(), "cpu 2.5, memory 512Mi");
    }
}
