//! The table for people and the JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bare::Habit;
use crate::cases::{Case, Launch, Times};
use crate::support::onlooker::{percentile, sorted};
use crate::support::usage::{load, result_path};

/// One case, measured.
pub struct Row {
    pub interval: String,
    pub launch: Launch,
    pub case: Case,
    pub ours: Times,
    pub floor: Times,
    /// With an executor that only pretends.
    pub pretended: Option<Times>,
    /// Our own share, over all cases of the interval and launch.
    pub reaction: Value,
}

impl Row {
    /// More rounds of the same.
    pub fn take(&mut self, other: Self) {
        self.ours.take(other.ours);
        self.floor.take(other.floor);
        if let (Some(times), Some(more)) = (&mut self.pretended, other.pretended) {
            times.take(more);
        }
        // Of two shares, the greater one.
        if other.reaction["p99"].as_f64() > self.reaction["p99"].as_f64() {
            self.reaction = other.reaction;
        }
    }
}

/// In milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Summary {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

impl Summary {
    pub fn of(times: &[Duration]) -> Self {
        let times = sorted(times);
        Self { p50: percentile(&times, 50), p90: percentile(&times, 90), p99: percentile(&times, 99) }
    }

    fn json(self) -> Value {
        json!({"p50": self.p50, "p90": self.p90, "p99": self.p99})
    }
}

pub fn table(rows: &[Row], rounds: usize) {
    let load = load();
    println!("\nmilliseconds, p50/p90/p99 of {rounds} rounds; load {}", load.split(' ').next().unwrap_or("?"));
    println!(
        "{:<8} {:<9} {:<14}  {:<19} {:<19} {:<10} {:<10} {:<19} floor",
        "interval", "launch", "case", "push→last RUNNING", "floor", "ratio", "pretended", "down→last KILLED"
    );
    for row in rows {
        let (up, floor) = (Summary::of(&row.ours.up), Summary::of(&row.floor.up));
        let (down, floor_down) = (Summary::of(&row.ours.down), Summary::of(&row.floor.down));
        let ratio = format!("{:.2} {:.2}", up.p50 / floor.p50, up.p99 / floor.p99);
        let pretended =
            row.pretended.as_ref().map_or_else(|| "-".to_owned(), |times| format!("{:.1}", Summary::of(&times.up).p50));
        println!(
            "{:<8} {:<9} {:<14}  {:<19} {:<19} {ratio:<10} {pretended:<10} {:<19} {}",
            row.interval,
            row.launch.name(),
            row.case.name(),
            words(up),
            words(floor),
            words(down),
            words(floor_down)
        );
    }
    for row in rows.iter().filter(|row| row.case == rows[0].case) {
        let Row { interval, launch, reaction, .. } = row;
        println!(
            "{interval} {}: push → calls written: median {} ms, p99 {} ms",
            launch.name(),
            reaction["median"],
            reaction["p99"]
        );
    }
}

/// What each habit does to the floor.
pub fn habits(all: &[(Habit, [(Case, Times); 2])], rounds: usize) {
    println!("\nbare client and executor, milliseconds, p50/p90/p99 of {rounds} rounds; load {}", load());
    for (habit, cases) in all {
        for (case, times) in cases {
            let [up, down] = [&times.up, &times.down].map(|times| words(Summary::of(times)));
            println!("{:<16} {:<16} up {up:<19} down {down}", format!("{habit:?}"), case.name());
        }
    }
}

fn words(Summary { p50, p90, p99 }: Summary) -> String {
    format!("{p50:.1}/{p90:.1}/{p99:.1}")
}

pub fn json(rows: &[Row], rounds: usize) {
    let row = |row: &Row| {
        let both = |times: &Times| json!({"up": Summary::of(&times.up).json(), "down": Summary::of(&times.down).json()});
        json!({
            "interval": row.interval, "launch": row.launch.name(), "case": row.case.name(), "ours": both(&row.ours),
            "floor": both(&row.floor), "pretended": row.pretended.as_ref().map(both), "reaction": row.reaction,
        })
    };
    let report = json!({"rounds": rounds, "load": load(), "unit": "ms", "rows": rows.iter().map(row).collect::<Vec<_>>()});
    let path = result_path("reaction.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    println!("{}", path.display());
}
