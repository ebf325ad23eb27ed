//! The Microscaling Engine, microscaling/microscaling `engine/localEngine/scalingCalc.go`, `target/queue.go` and `demand/`, with its
//! habits: capacity is a number of containers, an app that is on its way is left alone, a second victim's plan replaces the first.

/// What a container is wanted for.
#[derive(Clone, Debug)]
pub enum Target {
    Queue(QueueLength),
    Remainder,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub priority: i32,
    pub running: i64,
    /// What the scheduler was told last.
    pub requested: i64,
    /// What it is to be told now.
    pub demand: i64,
    pub min: i64,
    pub max: i64,
    pub max_delta: i64,
    pub target: Target,
    /// The length of the queue.
    pub metric: i64,
    ideal: i64,
}

impl Task {
    pub fn new(priority: i32, (min, max): (i64, i64), max_delta: i64, target: Target) -> Self {
        Self { priority, running: 0, requested: 0, demand: 0, min, max, max_delta, target, metric: 0, ideal: 0 }
    }

    fn is_remainder(&self) -> bool {
        matches!(self.target, Target::Remainder)
    }

    fn is_moving(&self) -> bool {
        self.running != self.requested
    }

    fn bounded(&self, delta: i64) -> i64 {
        (self.requested + delta).max(self.min).min(self.max) - self.requested
    }

    fn up_by(&self) -> i64 {
        let meets = matches!(&self.target, Target::Queue(queue) if self.metric <= queue.length);
        let wanted = if meets { 0 } else { (self.ideal - self.requested).max(0) };
        self.bounded(wanted).min(self.max_delta)
    }

    fn down_by(&self) -> i64 {
        let exceeds = matches!(&self.target, Target::Queue(queue) if self.metric <= queue.least());
        let wanted = if exceeds { (self.ideal - self.requested).min(0) } else { 0 };
        self.bounded(wanted).max(-self.max_delta)
    }
}

/// One pass over all tasks, in a cluster for so many containers: sets [`Task::demand`].
pub fn calculate(tasks: &mut [Task], most: i64) {
    for task in &mut *tasks {
        task.ideal = task.running
            + match &mut task.target {
                Target::Queue(queue) => queue.delta(task.metric),
                Target::Remainder => most,
            };
    }
    tasks.sort_by_key(|task| task.priority);
    for task in tasks.iter_mut().rev().filter(|task| task.requested != task.min && !task.is_moving()) {
        let delta = task.down_by();
        if delta < 0 {
            task.demand = task.running + delta;
        }
    }
    let available = most - tasks.iter().map(|task| task.requested).sum::<i64>();
    for at in 0..tasks.len() {
        let wanted = if tasks[at].is_moving() { 0 } else { tasks[at].up_by() };
        if wanted > available && !tasks[at].is_remainder() {
            take_from_lower(tasks, at, wanted - available);
        }
        // The rest has to wait for the next pass.
        let delta = wanted.min(available);
        let task = &mut tasks[at];
        if delta > 0 {
            task.demand = if task.demand >= task.max { task.max } else { task.running + delta };
        }
    }
}

fn take_from_lower(tasks: &mut [Task], at: usize, mut missing: i64) {
    let priority = tasks[at].priority;
    for lower in tasks[at + 1..].iter_mut().rev().filter(|lower| lower.priority > priority) {
        let taken = (lower.requested - lower.min).clamp(0, missing.max(0));
        if taken > 0 {
            lower.demand = lower.running - taken;
            missing -= taken;
        }
    }
}

/// Keeps a queue below a length: proportional to the error and to its change, tuned after Ziegler and Nichols.
#[derive(Clone, Debug)]
pub struct QueueLength {
    pub length: i64,
    pub proportional: f64,
    pub derivative: f64,
    last: Option<i64>,
}

impl QueueLength {
    /// The shipped gains: an ultimate gain of 0.05 and an ultimate period of 10.
    pub fn new(length: i64) -> Self {
        let (ultimate_gain, ultimate_period) = (0.05, 10.0);
        Self { length, proportional: 0.8 * ultimate_gain, derivative: ultimate_period / 8.0, last: None }
    }

    /// Below this, containers may go.
    fn least(&self) -> i64 {
        (self.length as f64 * 0.7) as i64
    }

    fn delta(&mut self, length: i64) -> i64 {
        let change = self.last.replace(length).map_or(0, |last| length - last);
        let delta = self.proportional * (length - self.length) as f64 + self.derivative * change as f64;
        (delta + 0.5).floor() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TestQueue` of `target/queue_test.go`.
    #[test]
    fn the_engines_own_queue_example() {
        let mut queue = QueueLength { proportional: 1.0, derivative: 1.0, ..QueueLength::new(10) };
        assert_eq!([20, 30, 30, 5].map(|length| queue.delta(length)), [10, 30, 20, -30]);
        assert_eq!((queue.length, queue.least()), (10, 7));
    }

    #[test]
    fn the_shipped_gains() {
        let queue = QueueLength::new(50);
        assert!((queue.proportional - 0.04).abs() < 1e-12 && (queue.derivative - 1.25).abs() < 1e-12);
    }

    /// `TestScaleUpCount` and `TestScaleDownCount` of `demand/task_test.go`: one to five containers, two at a time.
    #[test]
    fn the_engines_own_counts() {
        let task = |ideal, requested, metric| {
            let task = Task::new(1, (1, 5), 2, Target::Queue(QueueLength::new(10)));
            Task { requested, metric, ideal, ..task }
        };
        let up = |ideal, requested| task(ideal, requested, 100).up_by();
        assert_eq!([task(2, 2, 0).up_by(), up(10, 4), up(10, 2), up(1, 2), up(4, 2)], [0, 1, 2, 0, 2]);
        let down = |ideal, requested| task(ideal, requested, 1).down_by();
        assert_eq!([down(2, 2), down(0, 2), down(1, 5), down(10, 5), down(4, 5)], [0, -1, -2, 0, -1]);
    }

    fn at_rest(task: Task, containers: i64, metric: i64) -> Task {
        Task { running: containers, requested: containers, demand: containers, metric, ..task }
    }

    /// A queue that wants the error as containers, and spare work, in a cluster for ten.
    fn two(queue: (i64, i64), spare: i64) -> [Task; 2] {
        let target = Target::Queue(QueueLength { proportional: 1.0, derivative: 0.0, ..QueueLength::new(10) });
        let first = at_rest(Task::new(1, (1, 10), 10, target), queue.0, queue.1);
        [first, at_rest(Task::new(2, (1, 10), 10, Target::Remainder), spare, 0)]
    }

    fn demands(mut tasks: [Task; 2]) -> [i64; 2] {
        calculate(&mut tasks, 10);
        tasks.map(|task| task.demand)
    }

    #[test]
    fn spare_work_fills_the_cluster() {
        assert_eq!(demands(two((2, 9), 3)), [2, 8]);
    }

    #[test]
    fn room_is_taken_in_one_pass_and_used_in_the_next() {
        assert_eq!(demands(two((2, 14), 8)), [2, 4]);
        let mut tasks = two((2, 14), 4);
        assert_eq!(demands(tasks.clone())[0], 6);
        tasks[0].running = 1;
        assert_eq!(demands(tasks)[0], 2, "one that is on its way is left alone");
    }

    #[test]
    fn containers_go_only_below_seven_tenths() {
        assert_eq!([demands(two((6, 8), 4))[0], demands(two((6, 7), 4))[0]], [6, 3]);
    }

    #[test]
    fn minimums_and_steps_bound_it() {
        let mut tasks = two((2, 19), 8);
        assert_eq!(demands(tasks.clone())[1], 1, "its minimum is left");
        tasks[0].max_delta = 2;
        assert_eq!(demands(tasks)[1], 6);
        assert_eq!(demands(two((0, 0), 0))[0], 1);
    }
}
