//! What `behavior.panic` promises, whatever is asked for and whenever it is looked at.
#![allow(clippy::cast_precision_loss)]

use microscaler::api::validated::{App, Panic, TargetValue};
use microscaler::policy::resources::Resources;
use proptest::prelude::*;

use crate::sim::{Habits, Sim, app, key, metric};

const STABLE_MS: u64 = 20_000;
const PANIC: Panic = Panic { window_ms: STABLE_MS / 10, stable_ms: STABLE_MS, threshold: 2.0, step_ms: STABLE_MS / 80 };

/// When, and what is asked for from then on.
type Course = Vec<(u64, i64)>;

/// What is wanted of an app of one replica for each that is asked for: at each of these moments, and whenever it wants to look again.
fn play(course: &Course, panic: Option<Panic>, until: u64, window_ms: u64) -> Course {
    let mut sim = Sim::new(Habits { start_ms: 50, stop_ms: 50, offer_ms: 1, ..Habits::default() });
    sim.add_agent(Resources::new(1_000_000, 1_000_000), &[]);
    let mut spec = App { panic, max: 1000, demand: vec![metric("load", TargetValue::Average(1.0), u64::MAX)], ..app("a") };
    spec.down.window_ms = window_ms;
    sim.set_app(spec);
    let (mut next, mut wanted) = (course.iter().peekable(), Vec::new());
    while sim.now < until {
        let pushed = next.peek().map_or(until, |(at, _)| *at);
        let to = sim.next().unwrap_or(until).min(pushed).max(sim.now);
        sim.advance(to);
        if let Some((_, asked)) = next.next_if(|(at, _)| *at <= to) {
            sim.push("a", *asked as f64);
        }
        sim.decide_fast();
        wanted.push((to, sim.last.verdicts[&key("a")].wanted));
    }
    wanted
}

/// The value that holds at a moment.
fn at(course: &Course, now: u64) -> i64 {
    course[..course.partition_point(|(at, _)| *at <= now)].last().map_or(0, |(_, value)| *value)
}

/// What is left of so many after so long, if it fades as told; a step more, as it is looked at in steps.
fn faded(level: i64, ms: u64) -> f64 {
    level as f64 * (-((ms + PANIC.step_ms) as f64) / PANIC.half_life_ms() as f64).exp2()
}

fn a_course() -> impl Strategy<Value = Course> {
    prop::collection::vec((1..8000_u64, prop_oneof![3 => 0..6_i64, 1 => 0..80_i64]), 1..40).prop_map(|steps| {
        let mut now = 1;
        let mut moment = |(ms, asked)| {
            now += ms;
            (now, asked)
        };
        steps.into_iter().map(&mut moment).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Never fewer than are asked for; and what was kept beyond that is given up little by little.
    #[test]
    fn there_is_no_cliff(course in a_course()) {
        let wanted = play(&course, Some(PANIC), 400_000, 0);
        for two in wanted.windows(2) {
            let [(before, kept), (now, wanted)] = [two[0], two[1]];
            prop_assert!(wanted >= at(&course, now), "{wanted} at {now}");
            let was_kept = kept > at(&course, before);
            let least = faded(kept, now - before) - 1.0;
            prop_assert!(!was_kept || wanted as f64 >= least, "{kept} at {before}, {wanted} at {now}");
        }
        prop_assert_eq!(wanted.last().map(|(_, wanted)| *wanted), course.last().map(|(_, asked)| *asked), "in the end, it is over");
    }

    /// After a burst in truth: far above what was usual, and for longer than the window in which that is told.
    #[test]
    fn a_burst_is_not_undone_before_it_has_faded(
        (usual, times, for_ms) in (0..6_i64, 4..20_i64, PANIC.window_ms..STABLE_MS),
        after in prop::collection::vec((1..5000_u64, 0..4_i64), 1..20),
    ) {
        let (begins, most) = (3 * STABLE_MS, usual.max(1) * times);
        let ends = begins + for_ms;
        let mut course = vec![(1, usual), (begins, most), (ends, 0)];
        let mut now = ends;
        course.extend(after.into_iter().map(|(ms, asked)| {
            now += ms;
            (now, asked)
        }));
        let wanted = play(&course, Some(PANIC), ends + 3 * STABLE_MS, 0).into_iter().skip_while(|(now, _)| *now < begins);
        // Once no more is kept than is asked for, it is over.
        let is_over = |now: u64, wanted: i64| now >= begins + STABLE_MS && wanted <= at(&course, now);
        for (now, wanted) in wanted.take_while(|(now, wanted)| !is_over(*now, *wanted)) {
            let least = if now < ends { most as f64 } else { faded(most, now - ends) - 1.0 };
            prop_assert!(wanted as f64 >= least, "{wanted} at {now} of {least}");
        }
    }

    #[test]
    fn a_panic_never_lowers(course in a_course(), window_ms in 0..5000_u64) {
        let [with, without] = [Some(PANIC), None].map(|panic| play(&course, panic, 200_000, window_ms));
        for now in with.iter().chain(&without).map(|(now, _)| *now) {
            prop_assert!(at(&with, now) >= at(&without, now), "{} of {} at {now}", at(&with, now), at(&without, now));
        }
    }
}
