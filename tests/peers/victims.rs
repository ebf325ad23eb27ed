//! Whom Kubernetes and Nomad end when something more important finds no room.

use microscaler::policy::resources::Resources;
use microscaler::policy::world::Task;

/// A task that could be ended, with what is told of its workload.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub task: &'a Task,
    pub workload: usize,
    /// Larger is more important.
    pub priority: i32,
    /// To end it would go against its workload's disruption budget.
    pub violates: bool,
}

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// kubernetes/kubernetes `pkg/scheduler/framework/preemption`: the fewest that are needed, the least important first.
    Kubernetes,
    /// hashicorp/nomad `scheduler/preemption.go`: only tasks whose priority is at least ten lower, and no regard to age.
    Nomad,
}

impl Rules {
    pub fn may_end(self, own: i32, other: i32) -> bool {
        match self {
            Self::Kubernetes => other < own,
            Self::Nomad => other <= own - 10,
        }
    }

    /// The victims on one agent where `room` is or comes free, so that `size` fits; `None` if all of them were not enough.
    pub fn victims(self, mut candidates: Vec<Candidate<'_>>, room: Resources, size: Resources) -> Option<Vec<Candidate<'_>>> {
        let mut room = candidates.iter().map(|candidate| candidate.task.resources).fold(room, |all, one| all + one);
        if !size.fits(room) {
            return None;
        }
        // All are ended in thought, and then as many as possible are spared, the most worthy first.
        candidates.sort_by_key(|candidate| (!candidate.violates, -candidate.priority, self.worth(candidate.task)));
        candidates.retain(|candidate| {
            let without = room - candidate.task.resources;
            let is_spared = size.fits(without);
            if is_spared {
                room = without;
            }
            !is_spared
        });
        Some(candidates)
    }

    /// Least first is most worthy: Kubernetes spares those that have run longest. Nomad goes through them in no order: by a hash.
    fn worth(self, task: &Task) -> u64 {
        match self {
            Self::Kubernetes => task.born,
            Self::Nomad => {
                task.id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
            }
        }
    }

    /// The least of these is the agent to choose: fewest broken budgets, least important victims, fewest of them, and the youngest.
    pub fn cost(self, victims: &[Candidate]) -> (usize, i32, i64, usize, u64) {
        let violations = victims.iter().filter(|victim| victim.violates).count();
        let top = victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
        let sum = victims.iter().map(|victim| i64::from(victim.priority)).sum();
        let oldest = victims.iter().filter(|victim| victim.priority == top).map(|victim| self.worth(victim.task)).min();
        (violations, top, sum, victims.len(), u64::MAX - oldest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use microscaler::policy::world::{AgentIx, TaskPhase};

    use super::*;

    fn task(born: u64, cores: i64) -> Task {
        Task {
            id: format!("t{born}").into(),
            agent: AgentIx(0),
            version: None,
            phase: TaskPhase::Running,
            ready: true,
            since: born,
            born,
            resources: Resources::new(cores * 1000, 64),
            executor: None,
        }
    }

    /// Of these tasks `(born, cores, priority, violates)`, the births of those that end for one of this many cores.
    fn ended(rules: Rules, tasks: &[(u64, i64, i32, bool)], free: i64, cores: i64) -> Option<Vec<u64>> {
        let made: Vec<Task> = tasks.iter().map(|(born, cores, ..)| task(*born, *cores)).collect();
        let candidates =
            made.iter().zip(tasks).map(|(task, &(.., priority, violates))| Candidate { task, workload: 0, priority, violates });
        let (room, size) = (Resources::new(free * 1000, 640), Resources::new(cores * 1000, 64));
        let victims = rules.victims(candidates.collect(), room, size)?;
        Some(victims.iter().map(|victim| victim.task.born).collect())
    }

    #[test]
    fn the_least_important_and_the_youngest_end() {
        let tasks = [(1, 1, 5, false), (2, 1, 9, false), (3, 1, 5, false)];
        assert_eq!(ended(Rules::Kubernetes, &tasks, 0, 1), Some(vec![3]));
        assert_eq!(ended(Rules::Kubernetes, &tasks, 0, 2), Some(vec![1, 3]));
        assert_eq!(ended(Rules::Kubernetes, &tasks, 0, 4), None);
        assert_eq!(ended(Rules::Kubernetes, &tasks, 2, 2), Some(vec![]));
    }

    /// "Preemption victims violating PDB are reprieved first".
    #[test]
    fn budgets_are_kept_where_possible() {
        let tasks = [(1, 1, 1, true), (2, 1, 9, false)];
        assert_eq!(ended(Rules::Kubernetes, &tasks, 0, 1), Some(vec![2]));
        assert_eq!(ended(Rules::Kubernetes, &tasks, 0, 2), Some(vec![1, 2]));
    }

    #[test]
    fn nomad_wants_ten_between_priorities() {
        assert!(Rules::Nomad.may_end(70, 60) && !Rules::Nomad.may_end(70, 61) && Rules::Kubernetes.may_end(70, 69));
    }

    #[test]
    fn the_agent_with_the_least_harm_is_chosen() {
        let made = [task(5, 1), task(7, 1)];
        let of = |task, priority, violates| Candidate { task, workload: 0, priority, violates };
        let cost = |victims: &[Candidate]| Rules::Kubernetes.cost(victims);
        assert!(cost(&[of(&made[0], 9, false)]) < cost(&[of(&made[0], 1, true)]), "budgets first");
        assert!(cost(&[of(&made[0], 1, false), of(&made[1], 1, false)]) < cost(&[of(&made[0], 9, false)]), "then importance");
        assert!(cost(&[of(&made[0], 1, false)]) < cost(&[of(&made[0], 1, false), of(&made[1], 1, false)]), "then their number");
        assert!(cost(&[of(&made[1], 1, false)]) < cost(&[of(&made[0], 1, false)]), "then the latest start");
    }
}
