//! The table for people and the JSON for programs.

use serde_json::{Value, json};

use crate::bare::Habit;
use crate::launch::Launch;
use crate::support::contest::Case;
use crate::support::times::{Summary, Times};
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
            up.words(),
            floor.words(),
            down.words(),
            floor_down.words()
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
            let [up, down] = [&times.up, &times.down].map(|times| Summary::of(times).words());
            println!("{:<16} {:<16} up {up:<19} down {down}", format!("{habit:?}"), case.name());
        }
    }
}

pub fn json(rows: &[Row], rounds: usize) {
    let row = |row: &Row| {
        json!({
            "interval": row.interval, "launch": row.launch.name(), "case": row.case.name(), "ours": row.ours.json(),
            "floor": row.floor.json(), "pretended": row.pretended.as_ref().map(Times::json), "reaction": row.reaction,
        })
    };
    let report = json!({"rounds": rounds, "load": load(), "unit": "ms", "rows": rows.iter().map(row).collect::<Vec<_>>()});
    let path = result_path("reaction.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    println!("{}", path.display());
}
