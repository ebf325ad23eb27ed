use std::time::Duration;

use super::*;
use crate::api::status::{AppStatus, Phase};
use crate::api::validated::Key;
use crate::kubernetes::testing::app_status;

fn target(n: usize) -> Target {
    Target::app(&Key::new("shop", &format!("a{n:04}")))
}

fn status(change: impl FnOnce(&mut AppStatus)) -> Status {
    let mut status = app_status();
    change(&mut status);
    Status::app(status)
}

fn running(running: i64) -> Status {
    status(|status| status.running = running)
}

fn phase(phase: Phase) -> Status {
    status(|status| status.phase = Some(phase))
}

fn value(value: f64) -> Status {
    status(|status| status.demand[0].value = Some(value))
}

/// Objects whose statuses are as in [`app_status`].
fn schedule(objects: usize, limits: Limits) -> Schedule {
    let mut schedule = Schedule::new(limits);
    for n in 0..objects {
        see(&mut schedule, n, "1", Some(running(3)), 0);
        schedule.wants(&target(n), running(3), 0);
    }
    schedule
}

fn one() -> Schedule {
    schedule(1, Limits::default())
}

fn see(schedule: &mut Schedule, n: usize, version: &str, status: Option<Status>, now: Millis) {
    let shown = Shown { uid: format!("uid-{n}"), version: version.to_owned(), generation: 1, status };
    schedule.sees(&target(n), shown, now);
}

fn failure(kind: call::Kind, message: &str) -> Outcome {
    Err(call::Failure { kind, message: message.to_owned() })
}

const BUSY: call::Kind = call::Kind::Busy { retry_after: None };

/// The server takes it.
fn written(schedule: &mut Schedule, write: &Write, version: &str, now: Millis) -> Option<News> {
    schedule.done(write, Ok((version.to_owned(), Some(write.status.clone()))), now)
}

/// Lets time pass until there is a write; gives it and when it came.
fn next(schedule: &mut Schedule, until: Millis) -> Option<(Millis, Write)> {
    let now = schedule.next()?;
    let write = (now <= until).then(|| schedule.due(now).pop())??;
    Some((now, write))
}

#[test]
fn nothing_is_written_when_nothing_differs() {
    let mut schedule = one();
    assert_eq!((schedule.due(1000), schedule.next()), (vec![], None));
    let mut seen = app_status();
    seen.conditions[0].message = "another hand".to_owned();
    see(&mut schedule, 0, "2", Some(Status::App(Box::new(seen))), 2000);
    let write = schedule.due(2000).pop().unwrap();
    assert_eq!((write.status.clone(), write.version.as_deref()), (running(3), Some("2")), "put right");
    written(&mut schedule, &write, "3", 2010);
    see(&mut schedule, 0, "2", None, 2020);
    assert!(schedule.due(9000).is_empty(), "what comes late by watch is older than what was written");
}

#[test]
fn what_was_ours_is_taken_away_once() {
    let mut schedule = one();
    schedule.wants(&target(0), status(|status| status.demand.clear()), 10);
    let write = schedule.due(10).pop().unwrap();
    // Others may own it as well, so that it stays.
    schedule.done(&write, Ok(("2".to_owned(), Some(running(3)))), 20);
    assert!(schedule.due(9000).is_empty());
}

#[test]
fn fast_changes_become_one_write_per_half_second() {
    let mut schedule = one();
    let mut writes = Vec::new();
    for now in 1000..3000 {
        schedule.wants(&target(0), running(i64::try_from(now).unwrap()), now);
        for write in schedule.due(now) {
            writes.push(now);
            written(&mut schedule, &write, &now.to_string(), now);
        }
    }
    assert_eq!(writes, [1000, 1500, 2000, 2500]);
    assert_eq!(schedule.take_coalesced(), 2000 - 5, "all but those written and the last one, which waits");
    let (now, write) = next(&mut schedule, 4000).unwrap();
    assert_eq!((now, write.status, write.since), (3000, running(2999), 2501), "the newest, since the first");
}

#[test]
fn noise_is_written_less_often() {
    let mut schedule = one();
    let mut writes = Vec::new();
    for now in 1000..7000 {
        #[allow(clippy::cast_precision_loss)]
        schedule.wants(&target(0), value(now as f64), now);
        for write in schedule.due(now) {
            writes.push(now);
            written(&mut schedule, &write, &now.to_string(), now);
        }
    }
    assert_eq!(writes, [1000, 3000, 5000]);
}

#[test]
fn a_change_of_state_goes_at_once_but_not_all_the_time() {
    let mut schedule = one();
    let mut writes = Vec::new();
    for now in 1000..4000 {
        schedule.wants(&target(0), phase(if now % 2 == 0 { Phase::Growing } else { Phase::Converged }), now);
        for write in schedule.due(now) {
            writes.push(now);
            written(&mut schedule, &write, &now.to_string(), now);
        }
    }
    assert_eq!(writes[..3], [1001, 1002, 1003]);
    assert!(writes.len() <= 3 + 6, "{writes:?}");
}

#[test]
fn changes_of_state_go_first_and_nobody_starves() {
    let limits = Limits { per_second: 10, in_flight: 1 };
    let mut schedule = schedule(40, limits);
    // A burst empties the bucket.
    for n in 0..10 {
        schedule.wants(&target(n), running(9), 100);
    }
    let mut version = 1;
    let mut order = Vec::new();
    let mut run = |schedule: &mut Schedule, from: Millis, until: Millis, order: &mut Vec<Target>| {
        for now in from..until {
            for write in schedule.due(now) {
                version += 1;
                written(schedule, &write, &version.to_string(), now);
                order.push(write.target);
            }
        }
    };
    run(&mut schedule, 100, 110, &mut order);
    assert_eq!(order.len(), 10);
    order.clear();
    schedule.wants(&target(20), running(9), 200);
    schedule.wants(&target(21), running(9), 201);
    schedule.wants(&target(22), phase(Phase::Failed), 202);
    run(&mut schedule, 202, 600, &mut order);
    assert_eq!(order, [target(22), target(20), target(21)]);
    // From now on more changes of state than can be written.
    order.clear();
    schedule.wants(&target(30), running(9), 1000);
    for now in 1000..12_000 {
        if now % 50 == 0 {
            let n = usize::try_from(now / 50 % 20).unwrap();
            schedule.wants(&target(n), phase(if now / 1000 % 2 == 0 { Phase::Failed } else { Phase::Converged }), now);
        }
        run(&mut schedule, now, now + 1, &mut order);
    }
    assert!(order.contains(&target(30)));
}

#[test]
fn a_budget_holds_for_all() {
    let mut schedule = schedule(200, Limits { per_second: 50, in_flight: 1000 });
    for n in 0..200 {
        schedule.wants(&target(n), running(9), 1000);
    }
    let mut writes = 0;
    for now in 1000..2000 {
        for write in schedule.due(now) {
            writes += 1;
            written(&mut schedule, &write, "2", now);
        }
    }
    assert_eq!(writes, 50 + 49);
}

#[test]
fn an_outage_stops_all_and_the_newest_is_written_afterwards() {
    let mut schedule = schedule(20, Limits::default());
    for n in 0..20 {
        schedule.wants(&target(n), running(9), 1000);
    }
    let writes = schedule.due(1000);
    assert_eq!(writes.len(), 8);
    let news: Vec<_> = writes.iter().filter_map(|write| schedule.done(write, failure(BUSY, "refused"), 1010)).collect();
    assert_eq!(news, [News::Away("refused".to_owned())], "once");
    let mut tries = Vec::new();
    for now in 1010..40_000 {
        for n in (0..20).filter(|_| now % 500 == 499) {
            schedule.wants(&target(n), running(i64::try_from(now).unwrap()), now);
        }
        let due = schedule.due(now);
        assert!(due.len() <= 1, "one at a time");
        for write in due {
            tries.push(now);
            assert_eq!(schedule.done(&write, failure(BUSY, "refused"), now + 1), None);
        }
    }
    assert!(tries.len() < 12, "{tries:?}");
    let (now, write) = next(&mut schedule, 60_000).unwrap();
    assert_eq!(written(&mut schedule, &write, "2", now), Some(News::Back));
    let mut left = 0;
    for now in now..now + 9000 {
        for write in schedule.due(now) {
            left += 1;
            assert_eq!(write.status, running(39_999));
            written(&mut schedule, &write, "2", now);
        }
    }
    assert_eq!(left, 19);
}

#[test]
fn a_server_says_how_long_to_wait() {
    let mut schedule = one();
    schedule.wants(&target(0), running(9), 1000);
    let write = schedule.due(1000).pop().unwrap();
    schedule.done(&write, failure(call::Kind::Busy { retry_after: Some(Duration::from_secs(3)) }, "429"), 1001);
    assert_eq!(schedule.next(), Some(4001));
}

#[test]
fn one_object_that_cannot_be_written_does_not_keep_others_out() {
    let mut schedule = schedule(2, Limits::default());
    let mut told = Vec::new();
    let (mut bad, mut good) = (0, 0);
    for now in 1000..61_000 {
        for n in (0..2).filter(|_| now % 100 == 0) {
            schedule.wants(&target(n), running(i64::try_from(now).unwrap()), now);
        }
        for write in schedule.due(now) {
            if write.target == target(0) {
                bad += 1;
                told.extend(schedule.done(&write, failure(call::Kind::Broken, "webhook"), now));
            } else {
                good += 1;
                written(&mut schedule, &write, &now.to_string(), now);
            }
        }
    }
    assert!((4..10).contains(&bad) && good > 100, "{bad} {good}");
    let refused = told.iter().filter(|news| matches!(news, News::Refused(..))).count();
    assert_eq!(refused, 1);
}

#[test]
fn a_conflict_waits_for_the_newest_version() {
    let mut schedule = one();
    schedule.wants(&target(0), running(9), 1000);
    let write = schedule.due(1000).pop().unwrap();
    assert_eq!(schedule.done(&write, failure(call::Kind::Conflict, "modified"), 1001), None);
    assert!(schedule.due(1500).is_empty());
    see(&mut schedule, 0, "5", Some(running(3)), 1600);
    let write = schedule.due(1600).pop().unwrap();
    assert_eq!(write.version.as_deref(), Some("5"));
    schedule.done(&write, failure(call::Kind::Conflict, "modified"), 1601);
    let (now, write) = next(&mut schedule, 9000).unwrap();
    assert_eq!(now, 3601, "or not for ever");
    schedule.done(&write, failure(call::Kind::Conflict, "modified"), 3602);
    assert_eq!(next(&mut schedule, 90_000).unwrap().1.version, None);
}

#[test]
fn an_object_that_was_created_anew_gets_nothing_of_the_old_one() {
    let mut schedule = one();
    schedule.wants(&target(0), running(9), 1000);
    let write = schedule.due(1000).pop().unwrap();
    let shown = Shown { uid: "another".to_owned(), version: "9".to_owned(), generation: 1, status: None };
    schedule.sees(&target(0), shown, 1001);
    assert_eq!(written(&mut schedule, &write, "8", 1002), None);
    assert!(schedule.due(1003).is_empty(), "nothing is known of this one");
    schedule.wants(&target(0), running(1), 1004);
    assert_eq!(schedule.due(1004).pop().unwrap().uid, "another");
}

#[test]
fn an_object_that_is_too_large_gets_a_short_status() {
    let mut schedule = one();
    schedule.wants(&target(0), running(9), 1000);
    let write = schedule.due(1000).pop().unwrap();
    let news = schedule.done(&write, failure(call::Kind::TooLarge, "request is too large"), 1001);
    assert_eq!(news, Some(News::Shortened(target(0))));
    let (now, write) = next(&mut schedule, 9000).unwrap();
    assert_eq!(write.status, running(9).shortened());
    written(&mut schedule, &write, "2", now);
    assert!(schedule.due(90_000).is_empty());
    schedule.wants(&target(0), running(9), 90_000);
    assert!(schedule.due(99_000).is_empty(), "it stays short");
    schedule.wants(&target(0), running(10), 99_000);
    let write = schedule.due(99_000).pop().unwrap();
    schedule.done(&write, failure(call::Kind::TooLarge, "request is too large"), 99_001);
    assert!(schedule.next().unwrap() >= 100_001);
}

#[test]
fn a_new_term_looks_at_everything_again() {
    let mut schedule = one();
    schedule.wants(&target(0), status(|status| status.last_convergence_milliseconds = Some(1.0)), 1000);
    let write = schedule.due(1000).pop().unwrap();
    written(&mut schedule, &write, "2", 1001);
    schedule.forget();
    schedule.wants(&target(0), running(3), 2000);
    assert!(schedule.due(9000).pop().is_some(), "something is shown that nobody says any more");
}

#[test]
fn at_the_end_only_changes_of_state_are_written() {
    let mut schedule = schedule(2, Limits::default());
    schedule.wants(&target(0), running(9), 1000);
    schedule.wants(&target(1), phase(Phase::Failed), 1000);
    schedule.close();
    let writes = schedule.due(1000);
    assert_eq!(writes.iter().map(|write| &write.target).collect::<Vec<_>>(), [&target(1)]);
    assert!(!schedule.is_idle());
    written(&mut schedule, &writes[0], "2", 1001);
    assert!(schedule.is_idle());
}
