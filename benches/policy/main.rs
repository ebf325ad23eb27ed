//! Our judgement beside that of others, in simulated time: `make bench-policy`.
//!
//! Prints a table for each load, and what it says of the aim: at least five times less starvation of priority 1 than the best peer, at no
//! lower utilisation of the pool, and that at least 95 %. Once with everybody at the pace of its documentation, once with everybody
//! looking once a second. Then, with loads that come round, what a forecast brings. The numbers go to `target/bench/policy.json`, in short to
//! `policy.md` beside it, and a picture of one load to `policy.svg`.
//!
//! With words, only the loads that they name are played. The same is printed on any machine, whatever its speed.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/peers/mod.rs"]
mod peers;
#[path = "../../tests/scenarios/sim.rs"]
mod sim;

mod judge;
mod plot;

use judge::arena::run;
use judge::contenders::{Contender, Pace, all, foresighted};
use judge::load::Load;
use judge::report::{Row, Table, markdown};
use judge::{START_MS, shapes, traces};

/// Of replicas that take their time until they serve.
const SLOW_MS: u64 = 5000;
/// Longer loads are foreseen in longer steps.
const LONG_MS: u64 = 3_600_000;

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_named = |load: &Load| words.is_empty() || words.iter().any(|word| load.name.contains(word.as_str()));
    let (recorded, left_out): (Vec<_>, Vec<_>) = traces::all().into_iter().partition(Result::is_ok);
    let (rounds, no_rounds): (Vec<_>, Vec<_>) = [traces::week()].into_iter().partition(Result::is_ok);
    let loads: Vec<Load> = shapes::all().into_iter().chain(recorded.into_iter().flatten()).filter(is_named).collect();
    let mut tables = Vec::new();
    let mut show = |part, load: &Load, contenders: Contenders| {
        let table = play(part, load, contenders);
        println!("\n{}\n{}", table.lines().join("\n"), table.verdicts().join("\n"));
        tables.push(table);
    };
    for (pace, part) in [(Pace::Own, "own pace"), (Pace::Second, "once a second")] {
        println!("\neverybody {part}");
        loads.iter().for_each(|load| show(part, load, &|| all(pace)));
    }
    for (start_ms, part) in [(START_MS, "forecast, starts in 0.1 s"), (SLOW_MS, "forecast, starts in 5 s")] {
        println!("\n{part}");
        let come_round = shapes::coming_round().into_iter().chain(rounds.iter().flatten().cloned()).filter(is_named);
        come_round.for_each(|load| {
            let step_ms = if load.duration_ms() < LONG_MS { 2500 } else { 10_000 };
            show(part, &load.with_starts_of(start_ms), &|| foresighted(step_ms));
        });
    }
    left_out.iter().chain(&no_rounds).filter_map(|one| one.as_ref().err()).for_each(|why| println!("\n{why}"));
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory).unwrap();
    let json = serde_json::Value::from(tables.iter().map(Table::json).collect::<Vec<_>>());
    std::fs::write(directory.join("policy.json"), serde_json::to_string_pretty(&json).unwrap()).unwrap();
    std::fs::write(directory.join("policy.md"), markdown(&tables)).unwrap();
    if let Some(load) = loads.iter().find(|load| load.name == plot::LOAD) {
        plot::draw(load, &directory.join("policy.svg"));
    }
    println!("\n{}", directory.join("policy.json").display());
}

/// All of them anew.
type Contenders<'a> = &'a (dyn Fn() -> Vec<Box<dyn Contender>> + Sync);

/// Two at a time, as they have nothing to do with each other.
fn play(part: &'static str, load: &Load, all: Contenders) -> Table {
    let one = |at: usize| {
        let mut contender = all().swap_remove(at);
        let score = run(load, &mut *contender).score;
        Row {
            name: contender.name(),
            is_peer: contender.is_peer(),
            score,
            foresight: contender.foreseer().map(ToString::to_string),
        }
    };
    let rows = std::thread::scope(|scope| {
        let half = |first: usize| (first..all().len()).step_by(2).map(|at| (at, one(at))).collect::<Vec<_>>();
        let other = scope.spawn(move || half(1));
        let mut rows = half(0);
        rows.extend(other.join().unwrap());
        rows.sort_by_key(|(at, _)| *at);
        rows.into_iter().map(|(_, row)| row).collect()
    });
    Table { load: load.name, part, rows }
}
