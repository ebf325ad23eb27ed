//! The table for people and the JSON for programs.

use serde_json::{Value, json};

use crate::setting::Setting;
use crate::support::contest::Case;
use crate::support::times::{Summary, Times};
use crate::support::usage::{load, result_path};

/// One case, measured.
pub struct Row {
    pub setting: &'static Setting,
    pub case: Case,
    pub rounds: usize,
    pub ours: Times,
    pub floor: Times,
    /// Our own share, over all cases of the setting.
    pub reaction: Value,
    /// From our request to RUNNING, by our own count, over all replicas of the setting.
    pub launch: Value,
}

pub fn table(rows: &[Row]) {
    println!("\nmilliseconds, p50/p90/p99; load {}", load().split(' ').next().unwrap_or("?"));
    println!(
        "{:<8} {:<13} {:<6}  {:<24} {:<24} {:<11} {:<22} floor",
        "flags", "case", "rounds", "push→last RUNNING", "floor", "ratio", "down→last KILLED"
    );
    for row in rows {
        let (up, floor) = (Summary::of(&row.ours.up), Summary::of(&row.floor.up));
        let (down, floor_down) = (Summary::of(&row.ours.down), Summary::of(&row.floor.down));
        let ratio = format!("{:.2} {:.2}", up.p50 / floor.p50, up.p99 / floor.p99);
        println!(
            "{:<8} {:<13} {:<6}  {:<24} {:<24} {ratio:<11} {:<22} {}",
            row.setting.name,
            row.case.name(),
            row.rounds,
            up.words(),
            floor.words(),
            down.words(),
            floor_down.words()
        );
    }
    for rows in rows.chunk_by(|one, next| std::ptr::eq(one.setting, next.setting)) {
        let Row { setting, reaction, launch, .. } = &rows[0];
        let words = |times: &Value| format!("median {} ms, p99 {} ms", times["p50"], times["p99"]);
        println!("{}: push → request: {}; request → RUNNING: {}", setting.name, words(reaction), words(launch));
    }
}

pub fn json(rows: &[Row]) {
    let row = |row: &Row| {
        json!({
            "setting": row.setting.name, "flags": row.setting.flags.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "case": row.case.name(), "rounds": row.rounds, "ours": row.ours.json(), "floor": row.floor.json(),
            "reaction": row.reaction, "launch": row.launch,
        })
    };
    let report = json!({"load": load(), "unit": "ms", "rows": rows.iter().map(row).collect::<Vec<_>>()});
    let path = result_path("marathon.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    println!("{}", path.display());
}
