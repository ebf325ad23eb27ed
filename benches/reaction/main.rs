//! How long until what is wanted runs: Microscaler beside a bare client that sends the same calls and decides nothing.
//!
//! Both run in turn on the same real Mesos (four agents, which share this machine with everything else), and the same onlooker times
//! both: a subscription to the master's own operator events. The bare client knows beforehand what to launch and which tasks to kill; it
//! asks for room in the same way (REVIVE), acknowledges at once, and kills and launches with one write. For pooled tasks it has a bare
//! executor, which does nothing but start processes; another that only pretends shows what Mesos itself takes. Files of agents are in
//! memory where that can be: each launch makes some, and the time that a disk takes for them varies more than what is compared here.
//!
//! `cargo bench --bench reaction [-- ROUNDS WORD…]` prints a table; the numbers go to `target/bench/reaction.json`, a picture of them to
//! `target/bench/reaction.svg`. With words, only what they name is measured: intervals (`1secs`), launches (`pooled`), cases (`+1`);
//! with the one word `habits`, what lowers the floor itself.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod bare;
mod launch;
mod ours;
mod plot;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;

use microscaler_testbed::{Agent, Cluster};

use bare::{Bare, Executor, Habit};
use launch::Launch;
use ours::Ours;
use report::Row;
use support::contest::{Case, Contender, arguments, measure, named};
use support::times::Times;

pub const AGENTS: usize = 4;
/// Tasks of half a core on each agent, beside the executor.
pub const SLOTS: usize = 16;
/// The stock one, and one that costs a small cluster nothing.
const INTERVALS: [&str; 2] = ["1secs", "100ms"];
/// Swaps last: the pool is filled for them.
pub const CASES: [Case; 5] = [Case::Burst(1), Case::Burst(10), Case::Burst(50), Case::Swap(1), Case::Swap(20)];

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (rounds, words) = arguments(50);
    if words == ["habits"] {
        return habits(rounds);
    }
    let (intervals, launches) =
        (named(&INTERVALS, |it| (*it).to_owned(), &words), named(&Launch::ALL, |it| it.name().to_owned(), &words));
    let cases = named(&CASES, |it| it.name(), &words);
    let both = |interval| launches.iter().map(move |launch| (interval, *launch));
    let rows: Vec<Row> =
        intervals.into_iter().flat_map(both).flat_map(|(interval, launch)| compare(interval, launch, &cases, rounds)).collect();
    report::table(&rows, rounds);
    report::json(&rows, rounds);
    plot::draw(&rows);
}

/// These cases by each contender, in two halves on clusters of their own. Each goes first in one of them: a cluster gets slower with use,
/// and a machine has its moods.
fn compare(interval: &str, launch: Launch, cases: &[Case], rounds: usize) -> Vec<Row> {
    let [mut first, second] = [false, true].map(|floor_first| half(interval, launch, cases, rounds.div_ceil(2), floor_first));
    for (row, more) in first.iter_mut().zip(second) {
        row.take(more);
    }
    first
}

fn half(interval: &str, launch: Launch, cases: &[Case], rounds: usize, floor_first: bool) -> Vec<Row> {
    let mesos = cluster(interval);
    let floor = || measure_all(&mut Bare::start(&mesos, launch.floor(), Habit::Plain), cases, rounds);
    let early = floor_first.then(floor);
    let (ours, reaction) = {
        let mut ours = Ours::start(&mesos, launch);
        let times = measure_all(&mut ours, cases, rounds);
        (times, ours.finish())
    };
    let floor = early.unwrap_or_else(floor);
    let pretending = || measure_all(&mut Bare::start(&mesos, Executor::Pretending, Habit::Plain), cases, rounds);
    let mut pretended = (launch == Launch::Pooled).then(pretending).into_iter().flatten();
    let row = |((case, ours), floor)| Row {
        interval: interval.to_owned(),
        launch,
        case,
        ours,
        floor,
        pretended: pretended.next(),
        reaction: reaction.clone(),
    };
    cases.iter().copied().zip(ours).zip(floor).map(row).collect()
}

/// The bare client and executor with each habit, where it tells.
fn habits(rounds: usize) {
    let mesos = cluster(INTERVALS[0]);
    let cases = [Case::Burst(50), Case::Swap(20)];
    let measured = |habit| {
        let mut bare = Bare::start(&mesos, Executor::Running, habit);
        (habit, cases.map(|case| (case, measure(&mut bare, case, rounds))))
    };
    let all: Vec<_> = Habit::ALL.into_iter().map(measured).collect();
    report::habits(&all, rounds);
}

fn measure_all(contender: &mut impl Contender, cases: &[Case], rounds: usize) -> Vec<Times> {
    cases.iter().map(|case| measure(contender, *case, rounds)).collect()
}

fn cluster(interval: &str) -> Cluster {
    let agent = || Agent::default().resources("cpus:8.1;mem:4096;disk:4096;ports:[31000-31999]");
    let builder = Cluster::builder().master_flag("allocation_interval", interval);
    let in_memory = Path::new("/dev/shm");
    let builder = if in_memory.is_dir() { builder.run_directory(in_memory) } else { builder };
    (0..AGENTS).fold(builder, |builder, _| builder.agent(agent())).start().unwrap()
}
