//! How long until what is wanted runs on a Marathon: Microscaler beside a bare client that knows beforehand what to ask.
//!
//! The Marathon is the small one of the testbed, on a real Mesos of four agents, which share this machine with everything else. Both
//! contenders scale the same two apps, `/web` and `/rest`, and the same onlooker times both, by the master's own operator events. The
//! bare client sends one `PATCH /v2/apps?force=true` and decides nothing; so does Microscaler, once it has decided. They take turns round
//! by round, each first in half of the rounds. While the bare client has its turn, Microscaler stands still (SIGSTOP).
//!
//! Each turn comes at a random moment. With stock flags, Marathon lets one change of its wish for offers pass in 5 s, and so a start may
//! have to wait for the next slot: pauses of up to 6 s show all parts of that. Where a change may pass in each 100 ms, what is left is the
//! master's allocation interval of 1 s, and pauses are up to a second longer than the shortest, of 150 ms.
//!
//! `cargo bench --bench marathon [-- ROUNDS WORD…]` prints a table; the numbers go to `target/bench/marathon.json`. With words, only
//! what they name is measured: flags (`stock`, `revive`, `awake`), cases (`+1`). There are a third of the rounds with stock flags.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod bare;
mod ours;
mod report;
mod setting;
#[path = "../../tests/support/mod.rs"]
mod support;

use bare::Bare;
use ours::Ours;
use report::Row;
use setting::{AGENTS, SETTINGS, SLOTS, Setting};
use support::contest::{Case, Contender, arguments, named};
use support::times::Times;

/// Swaps last: the pool is filled for them.
const CASES: [Case; 4] = [Case::Burst(1), Case::Burst(5), Case::Burst(20), Case::Swap(20)];

fn main() {
    // `cargo test --all-targets` starts benches, too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (rounds, words) = arguments(30);
    let cases = named(&CASES, |case| case.name(), &words);
    let settings = named(&SETTINGS.each_ref(), |setting| setting.name.to_owned(), &words);
    let rows: Vec<Row> = settings.into_iter().flat_map(|setting| compare(setting, &cases, rounds)).collect();
    report::table(&rows);
    report::json(&rows);
}

/// These cases by both contenders, on a Marathon with these flags.
fn compare(setting: &'static Setting, cases: &[Case], rounds: usize) -> Vec<Row> {
    let bed = setting.bed();
    bed.make("/web", 0, &setting::killed_at_once());
    bed.make("/rest", 0, &setting::killed_at_once());
    let mut ours = Ours::start(&bed, setting);
    let mut bare = Bare::start(&bed, setting);
    let rounds = rounds.div_ceil(setting.shares).max(1);
    let measured: Vec<_> = cases.iter().map(|case| (*case, both(&mut ours, &mut bare, *case, rounds))).collect();
    let (reaction, launch) = ours.finish();
    let row =
        |(case, (ours, floor))| Row { setting, case, rounds, ours, floor, reaction: reaction.clone(), launch: launch.clone() };
    measured.into_iter().map(row).collect()
}

/// The first round of each warms up and does not count.
fn both(ours: &mut Ours, bare: &mut Bare, case: Case, rounds: usize) -> (Times, Times) {
    ours.prepare(case);
    bare.prepare(case);
    let (mut ours_times, mut bare_times) = (Times::default(), Times::default());
    for round in 0..=rounds {
        let mut turns: [(&mut dyn FnMut() -> _, &mut Times); 2] =
            [(&mut || ours.round(case), &mut ours_times), (&mut || bare.round(case), &mut bare_times)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (turn, times) in turns {
            let taken = turn();
            if round > 0 {
                times.push(taken);
            }
        }
        eprint!(".");
    }
    (ours_times, bare_times)
}
