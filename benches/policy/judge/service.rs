//! A queue and the replicas that work on it, first come, first served; each request takes equally long.

use std::collections::VecDeque;

use super::{SERVICE_MS, STEP_MS};

#[derive(Default)]
pub struct Service {
    /// When they came, and how many of them still wait.
    queue: VecDeque<(u64, u64)>,
    waiting: u64,
    /// Begun in each of the last steps: those of the oldest are done.
    begun: VecDeque<u64>,
    in_hand: u64,
}

impl Service {
    /// One step: `served` is told of how many requests began after which wait in milliseconds.
    pub fn step(&mut self, now: u64, arrived: u64, replicas: u64, mut served: impl FnMut(u64, u64)) {
        if self.begun.len() as u64 == SERVICE_MS / STEP_MS {
            self.in_hand -= self.begun.pop_front().unwrap_or(0);
        }
        if arrived > 0 {
            self.queue.push_back((now, arrived));
            self.waiting += arrived;
        }
        // A replica that is told to end finishes what it has in hand, so more may be in hand than there are replicas.
        let mut free = replicas.saturating_sub(self.in_hand);
        let mut begins = 0;
        while let Some((came, count)) = self.queue.front_mut().filter(|_| free > 0) {
            let taken = free.min(*count);
            served(now - *came, taken);
            *count -= taken;
            (free, begins) = (free - taken, begins + taken);
            if *count == 0 {
                self.queue.pop_front();
            }
        }
        self.waiting -= begins;
        self.in_hand += begins;
        self.begun.push_back(begins);
    }

    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Being answered.
    pub fn in_hand(&self) -> u64 {
        self.in_hand
    }

    /// Waiting or being answered: what Knative calls concurrency.
    pub fn in_system(&self) -> u64 {
        self.waiting + self.in_hand
    }

    /// How long the one that has waited longest has waited.
    pub fn longest_wait(&self, now: u64) -> u64 {
        self.queue.front().map_or(0, |(came, _)| now - came)
    }

    /// Those that still wait, as if they were served now.
    pub fn left(&self, now: u64) -> impl Iterator<Item = (u64, u64)> {
        self.queue.iter().map(move |(came, count)| (now - came, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays steps of `(arrived, replicas)`: waits in order, and how many are in the system after each step.
    fn play(steps: &[(u64, u64)]) -> (Vec<(u64, u64)>, Vec<u64>) {
        let (mut service, mut waits, mut inside) = (Service::default(), Vec::new(), Vec::new());
        for (n, (arrived, replicas)) in (0..).zip(steps) {
            service.step(n * STEP_MS, *arrived, *replicas, |wait, count| waits.push((wait, count)));
            inside.push(service.in_system());
        }
        (waits, inside)
    }

    #[test]
    fn one_replica_answers_one_after_the_other() {
        let mut steps = vec![(0, 1); 25];
        steps[0] = (2, 1);
        let (waits, inside) = play(&steps);
        assert_eq!(waits, [(0, 1), (100, 1)]);
        assert_eq!((inside[0], inside[9], inside[10], inside[19], inside[20]), (2, 2, 1, 1, 0));
    }

    #[test]
    fn what_is_in_hand_is_finished_by_replicas_that_end() {
        let mut steps = vec![(0, 1); 25];
        (steps[0], steps[1], steps[2]) = ((3, 3), (1, 3), (0, 1));
        let (waits, inside) = play(&steps);
        assert_eq!(waits, [(0, 3), (90, 1)]);
        assert_eq!((inside[5], inside[10], inside[20]), (4, 1, 0));
    }

    #[test]
    fn first_come_first_served() {
        let (waits, _) = play(&[(1, 0), (1, 0), (1, 2)]);
        assert_eq!(waits, [(20, 1), (10, 1)]);
    }
}
