use super::super::status::{CommandStatus, HttpStatus};
use super::*;
use crate::engine::clock;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn checker(role: Role, text: &str, now: Instant) -> Checker {
    Checker::new(serde_json::from_str(text).unwrap(), role, now).unwrap()
}

const HTTP: &str = r#"{"type":"HTTP","http":{"port":80},"delay_seconds":1,"interval_seconds":0.5,"timeout_seconds":2,
                       "grace_period_seconds":4,"consecutive_failures":2}"#;

/// Lets it probe at `at` seconds, and gives the verdict on the outcome.
fn round(checker: &mut Checker, start: Instant, at: f64, outcome: &Outcome) -> Verdict {
    assert_eq!(checker.due(start + seconds(at)), Due::Probe);
    checker.judge(outcome, start + seconds(at))
}

#[test]
fn probes_come_after_the_delay_and_an_interval_after_each_end() {
    let start = clock::instant();
    let mut checker = checker(Role::Check, HTTP, start);
    assert_eq!(checker.due(start + seconds(0.9)), Due::Nothing);
    assert_eq!(checker.next(), Some(start + seconds(1.0)));
    assert_eq!(checker.due(start + seconds(1.0)), Due::Probe);
    assert_eq!(checker.due(start + seconds(1.1)), Due::Nothing);
    checker.judge(&Outcome::StatusCode(200), start + seconds(1.3));
    assert_eq!(checker.next(), Some(start + seconds(1.8)));
}

#[test]
fn a_probe_without_an_end_is_aborted() {
    let start = clock::instant();
    let mut checker = checker(Role::Check, HTTP, start);
    round(&mut checker, start, 1.0, &Outcome::StatusCode(200));
    assert_eq!(checker.due(start + seconds(1.5)), Due::Probe);
    let Due::Abort(outcome) = checker.due(start + seconds(3.5)) else { panic!("not aborted") };
    let nothing = CheckStatus::empty(CheckKind::Http);
    assert_eq!(checker.judge(&outcome, start + seconds(3.5)), Verdict::Status(nothing));
    // What comes of the aborted probe later on means nothing.
    assert_eq!(checker.judge(&Outcome::StatusCode(500), start + seconds(3.6)), Verdict::Unchanged);
}

#[test]
fn only_changes_of_a_check_are_told() {
    let start = clock::instant();
    let mut checker = checker(Role::Check, HTTP, start);
    let status = |code| CheckStatus { http: Some(HttpStatus { status_code: Some(code) }), ..CheckStatus::empty(CheckKind::Http) };
    assert_eq!(checker.status(), &CheckStatus::empty(CheckKind::Http));
    assert_eq!(round(&mut checker, start, 1.0, &Outcome::StatusCode(200)), Verdict::Status(status(200)));
    assert_eq!(round(&mut checker, start, 1.5, &Outcome::StatusCode(200)), Verdict::Unchanged);
    assert_eq!(round(&mut checker, start, 2.0, &Outcome::StatusCode(503)), Verdict::Status(status(503)));
    let empty = CheckStatus::empty(CheckKind::Http);
    assert_eq!(round(&mut checker, start, 2.5, &Outcome::Failed("refused".to_owned())), Verdict::Status(empty));
}

#[test]
fn the_exit_code_of_a_command_is_told() {
    let start = clock::instant();
    let mut checker = checker(Role::Check, r#"{"type":"COMMAND","command":{"command":{"value":"x"}},"delay_seconds":0}"#, start);
    let Verdict::Status(status) = round(&mut checker, start, 0.0, &Outcome::ExitCode(7)) else { panic!("unchanged") };
    assert_eq!(status.command, Some(CommandStatus { exit_code: Some(7) }));
}

#[test]
fn failures_in_the_grace_period_do_not_count() {
    let start = clock::instant();
    let mut checker = checker(Role::Health, HTTP, start);
    for at in [1.0, 2.0, 3.0, 4.0] {
        assert_eq!(round(&mut checker, start, at, &Outcome::StatusCode(500)), Verdict::Unchanged, "{at}");
    }
    assert_eq!(round(&mut checker, start, 4.5, &Outcome::StatusCode(500)), Verdict::Unhealthy { is_news: true, fatal: None });
    let fatal = Some("HTTP health check failed 2 times in a row: the answer is 500".to_owned());
    assert_eq!(round(&mut checker, start, 5.0, &Outcome::StatusCode(500)), Verdict::Unhealthy { is_news: false, fatal });
}

#[test]
fn the_first_success_ends_the_grace_period_and_any_success_the_count() {
    let start = clock::instant();
    let mut checker = checker(Role::Health, HTTP, start);
    let unhealthy = Verdict::Unhealthy { is_news: true, fatal: None };
    assert_eq!(round(&mut checker, start, 1.0, &Outcome::StatusCode(302)), Verdict::Healthy);
    assert_eq!(round(&mut checker, start, 1.5, &Outcome::StatusCode(200)), Verdict::Unchanged);
    assert_eq!(round(&mut checker, start, 2.0, &Outcome::Failed("refused".to_owned())), unhealthy);
    assert_eq!(round(&mut checker, start, 2.5, &Outcome::StatusCode(200)), Verdict::Healthy);
    assert_eq!(round(&mut checker, start, 3.0, &Outcome::StatusCode(404)), unhealthy);
}

#[test]
fn what_cannot_be_checked_is_said() {
    let error = |text: &str| Checker::new(serde_json::from_str(text).unwrap(), Role::Health, clock::instant()).unwrap_err();
    assert_eq!(error(r#"{"type":"GRPC"}"#), CheckError::Kind);
    assert_eq!(error(r#"{"type":"TCP"}"#).to_string(), "its type is TCP, but it has no `tcp`");
    assert_eq!(error(r#"{"type":"HTTP","http":{"port":1,"scheme":"https"}}"#), CheckError::Scheme("https".to_owned()));
    assert_eq!(error(r#"{"type":"HTTP","http":{"port":1,"path":"x"}}"#), CheckError::Path("x".to_owned()));
    assert_eq!(error(r#"{"type":"TCP","tcp":{"port":1},"delay_seconds":-1}"#), CheckError::Number("delay_seconds"));
}
