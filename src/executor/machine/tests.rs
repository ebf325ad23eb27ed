use super::super::checks::Outcome;
use super::super::settings::tests::{GIVEN, read};
use super::super::told::tests::statuses;
use super::*;
use crate::engine::clock;

/// A subscribed machine, and the time in it.
struct Rig {
    machine: Machine,
    now: Instant,
    /// Statuses that the agent has been told, oldest first.
    told: Vec<serde_json::Value>,
}

impl Rig {
    fn new() -> Self {
        Self::of(&GIVEN, "")
    }

    fn of(given: &[(&str, &str)], capability: &str) -> Self {
        let machine = Machine::new(&read(given).unwrap());
        let mut rig = Self { machine, now: clock::instant(), told: Vec::new() };
        rig.event(&format!(
            r#"{{"type":"SUBSCRIBED","subscribed":{{"framework_info":{{"capabilities":[{{"type":"{capability}"}}]}}}}}}"#
        ));
        rig
    }

    fn event(&mut self, json: &str) -> Vec<String> {
        self.machine.apply(Event::read(json.as_bytes()).unwrap(), self.now);
        self.effects()
    }

    /// What is to be done, in short; updates go to `told`.
    fn effects(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        for effect in std::mem::take(&mut self.machine.effects) {
            match effect {
                Effect::Tell(call) => self.told.extend(statuses(&call)),
                Effect::Start(id, _) => rest.push(format!("start {id}")),
                Effect::Signal(id, signal) => rest.push(format!("{signal:?} {id}")),
                Effect::Clear(id) => rest.push(format!("clear {id}")),
                Effect::Probe(id, role) => rest.push(format!("probe {id} {role:?}")),
                Effect::Abort(id, role) => rest.push(format!("abort {id} {role:?}")),
            }
        }
        rest
    }

    fn launch_with(&mut self, id: &str, work: &str, more: &str) -> Vec<String> {
        let data = STANDARD.encode(work);
        self.event(&format!(r#"{{"type":"LAUNCH","launch":{{"task":{{"task_id":{{"value":"{id}"}},"data":"{data}"{more}}}}}}}"#))
    }

    fn run_with(&mut self, id: &str, more: &str) {
        assert_eq!(self.launch_with(id, r#"{"shell":"x"}"#, more), [format!("start {id}")]);
        self.machine.started(&id.into());
        self.effects();
    }

    fn run(&mut self, id: &str) {
        self.run_with(id, "");
    }

    fn kill(&mut self, id: &str, grace_ms: Option<u64>) -> Vec<String> {
        let policy = grace_ms.map(|ms| format!(r#","kill_policy":{{"grace_period":{{"nanoseconds":{}}}}}"#, ms * 1_000_000));
        let policy = policy.unwrap_or_default();
        self.event(&format!(r#"{{"type":"KILL","kill":{{"task_id":{{"value":"{id}"}}{policy}}}}}"#))
    }

    fn exit(&mut self, id: &str, exit: Exit) {
        self.machine.exited(&id.into(), exit, None, self.now);
        assert_eq!(self.effects().last(), Some(&format!("clear {id}")));
        self.machine.cleared(&id.into(), self.now);
        self.effects();
    }

    fn after(&mut self, ms: u64) -> Vec<String> {
        self.now += Duration::from_millis(ms);
        self.machine.tick(self.now);
        self.effects()
    }

    fn probed(&mut self, id: &str, outcome: &Outcome) -> Vec<String> {
        self.machine.probed(&id.into(), Role::Health, outcome, self.now);
        self.effects()
    }

    /// `id STATE message`, of all updates.
    fn states(&self) -> Vec<String> {
        let line = |status: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let line = [text(&status["task_id"]["value"]), text(&status["state"]), text(&status["message"])].join(" ");
            line.trim_end().to_owned()
        };
        self.told.iter().map(line).collect()
    }

    fn last(&self) -> &serde_json::Value {
        self.told.last().unwrap()
    }

    fn is_over(&self) -> Option<bool> {
        self.machine.is_over(self.now)
    }
}

const HARD: Exit = Exit::Signal(9);

#[test]
fn a_task_runs_and_ends_by_itself() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.run("b");
    rig.exit("a", Exit::Status(0));
    rig.exit("b", Exit::Status(3));
    let expected = [
        "a TASK_RUNNING",
        "b TASK_RUNNING",
        "a TASK_FINISHED Command exited with status 0",
        "b TASK_FAILED Command exited with status 3",
    ];
    assert_eq!(rig.states(), expected);
}

#[test]
fn what_cannot_run_fails_with_the_reason() {
    let mut rig = Rig::new();
    assert!(rig.launch_with("a", "{", "").is_empty());
    assert!(rig.last()["message"].as_str().unwrap().starts_with("TaskInfo.data cannot be read: EOF"));
    assert_eq!(rig.last()["reason"], "REASON_TASK_INVALID");
    assert!(rig.launch_with("b", "{}", "").is_empty());
    assert_eq!(rig.last()["message"], "TaskInfo.data says nothing to be run: neither shell nor argv");
    assert!(rig.launch_with("c", r#"{"shell":"x"}"#, r#","health_check":{"type":"HTTP"}"#).is_empty());
    assert_eq!(rig.last()["message"], "health_check: its type is HTTP, but it has no `http`");
    assert_eq!(rig.launch_with("d", r#"{"argv":["/x"]}"#, ""), ["start d"]);
    rig.machine.not_started(&"d".into(), "cannot execute \"/x\": no such file", rig.now);
    rig.effects();
    assert_eq!(rig.last()["message"], "Failed to launch the task: cannot execute \"/x\": no such file");
    assert_eq!((&rig.last()["state"], &rig.last()["reason"]), (&"TASK_FAILED".into(), &"REASON_CONTAINER_LAUNCH_FAILED".into()));
}

#[test]
fn nothing_is_finished_at_once() {
    let mut rig = Rig::new();
    assert!(rig.launch_with("a", r#"{"nothing":true}"#, "").is_empty());
    assert_eq!(rig.last()["state"], "TASK_FINISHED");
}

#[test]
fn a_group_is_refused() {
    let mut rig = Rig::new();
    rig.event(r#"{"type":"LAUNCH_GROUP","launch_group":{"task_group":{"tasks":[{"task_id":{"value":"a"}},{"task_id":{"value":"b"}}]}}}"#);
    assert_eq!(rig.told.len(), 2);
    assert_eq!((&rig.last()["state"], &rig.last()["reason"]), (&"TASK_FAILED".into(), &"REASON_TASK_GROUP_INVALID".into()));
}

#[test]
fn the_kills_own_grace_counts_then_the_tasks_then_the_executors() {
    let policy = r#","kill_policy":{"grace_period":{"nanoseconds":2000000000}}"#;
    for (more, grace, expected) in [(policy, Some(500), 500), (policy, None, 2000), ("", None, 3000)] {
        let mut rig = Rig::new();
        rig.run_with("a", more);
        assert_eq!(rig.kill("a", grace), ["Term a"]);
        assert!(rig.after(expected - 1).is_empty(), "{expected}");
        assert_eq!(rig.after(1), ["Kill a"]);
        rig.exit("a", HARD);
        assert_eq!(rig.states().last().unwrap(), "a TASK_KILLED Command terminated with signal Killed");
    }
}

#[test]
fn no_grace_kills_at_once() {
    let mut rig = Rig::new();
    rig.run("a");
    assert_eq!(rig.kill("a", Some(0)), ["Kill a"]);
    assert!(rig.after(60_000).is_empty());
}

#[test]
fn killing_again_only_brings_the_end_nearer() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.kill("a", Some(1000));
    assert!(rig.kill("a", Some(60_000)).is_empty());
    rig.after(300);
    assert!(rig.kill("a", Some(500)).is_empty());
    assert!(rig.after(199).is_empty());
    assert_eq!(rig.after(1), ["Kill a"]);
    assert_eq!(rig.kill("a", Some(0)), ["Kill a"]);
    rig.exit("a", Exit::Status(0));
    assert_eq!(rig.states().last().unwrap(), "a TASK_KILLED Command exited with status 0");
}

#[test]
fn who_wants_to_hear_of_killing_does() {
    let mut rig = Rig::of(&GIVEN, "TASK_KILLING_STATE");
    rig.run("a");
    rig.kill("a", None);
    rig.kill("a", None);
    assert_eq!(rig.states(), ["a TASK_RUNNING", "a TASK_KILLING"]);
}

#[test]
fn a_kill_may_come_first() {
    let mut rig = Rig::new();
    assert!(rig.kill("a", None).is_empty());
    assert!(rig.told.is_empty());
    assert!(rig.launch_with("a", r#"{"shell":"x"}"#, "").is_empty());
    assert_eq!(rig.states(), ["a TASK_KILLED Killed before it was launched"]);
    // Once, and not for ever.
    rig.run("a");
    rig.kill("b", None);
    rig.after(61_000);
    rig.kill("c", None);
    rig.run("b");
}

#[test]
fn an_end_is_told_only_when_nothing_is_left() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.kill("a", None);
    rig.machine.exited(&"a".into(), HARD, None, rig.now);
    assert_eq!(rig.effects(), ["clear a"]);
    assert!(rig.kill("a", Some(0)).is_empty());
    assert!(rig.after(10_000).is_empty());
    assert_eq!(rig.states(), ["a TASK_RUNNING"]);
    rig.machine.cleared(&"a".into(), rig.now);
    rig.effects();
    assert_eq!(rig.states().len(), 2);
}

#[test]
fn memory_is_told_as_such_unless_the_task_was_killed_anyway() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.machine.over_memory(&"a".into(), "too much".to_owned(), rig.now);
    assert_eq!(rig.effects(), ["Kill a"]);
    rig.exit("a", HARD);
    assert_eq!(
        (&rig.last()["reason"], &rig.last()["message"]),
        (&"REASON_CONTAINER_LIMITATION_MEMORY".into(), &"too much".into())
    );
    assert_eq!(rig.last()["state"], "TASK_FAILED");
    rig.run("b");
    rig.kill("b", None);
    rig.machine.exited(&"b".into(), HARD, Some("too much".to_owned()), rig.now);
    rig.machine.cleared(&"b".into(), rig.now);
    rig.effects();
    assert_eq!(rig.last()["state"], "TASK_KILLED");
}

#[test]
fn a_task_may_have_a_time_limit() {
    let mut rig = Rig::new();
    rig.run_with("a", r#","max_completion_time":{"nanoseconds":5000000000}"#);
    assert!(rig.after(4999).is_empty());
    assert_eq!(rig.after(1), ["Kill a"]);
    rig.exit("a", HARD);
    assert_eq!(rig.last()["reason"], "REASON_MAX_COMPLETION_TIME_REACHED");
}

const HEALTH: &str = r#","health_check":{"type":"TCP","tcp":{"port":1},"delay_seconds":0.1,"interval_seconds":0.1,
    "grace_period_seconds":0,"consecutive_failures":2},"check":{"type":"COMMAND","command":{"command":{"value":"x"}},"delay_seconds":60}"#;

#[test]
fn health_is_told_and_ends_the_task() {
    let mut rig = Rig::new();
    rig.run_with("a", HEALTH);
    assert_eq!(rig.last()["check_status"], serde_json::json!({"type": "COMMAND", "command": {}}));
    assert_eq!(rig.after(100), ["probe a Health"]);
    assert!(rig.probed("a", &Outcome::Connected(true)).is_empty());
    assert_eq!(
        (&rig.last()["healthy"], &rig.last()["reason"]),
        (&true.into(), &"REASON_TASK_HEALTH_CHECK_STATUS_UPDATED".into())
    );
    for expected in [vec![], vec!["abort a Check", "abort a Health", "Term a"]] {
        assert_eq!(rig.after(100), ["probe a Health"]);
        assert_eq!(rig.probed("a", &Outcome::Connected(false)), expected);
    }
    assert_eq!(rig.told.len(), 3);
    rig.exit("a", Exit::Signal(15));
    let message = "TCP health check failed 2 times in a row: the port does not accept connections; \
                   killed: Command terminated with signal Terminated";
    assert_eq!(rig.states().last().unwrap(), &format!("a TASK_FAILED {message}"));
    assert_eq!(rig.last()["healthy"], false);
}

#[test]
fn a_task_that_is_killed_is_not_checked() {
    let mut rig = Rig::new();
    rig.run_with("a", HEALTH);
    rig.after(100);
    rig.kill("a", Some(60_000));
    assert!(rig.probed("a", &Outcome::Connected(true)).is_empty());
    assert!(rig.after(1000).is_empty());
    assert_eq!(rig.told.len(), 1);
}

#[test]
fn what_happens_without_an_agent_is_told_when_it_is_back() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.machine.lost(rig.now);
    rig.exit("a", Exit::Status(0));
    assert_eq!(rig.told.len(), 1);
    let subscribe = rig.machine.told.subscribe();
    let again: Vec<_> = statuses(&subscribe).iter().map(|status| status["state"].clone()).collect();
    assert_eq!(again, ["TASK_RUNNING", "TASK_FINISHED"]);
    rig.event(r#"{"type":"SUBSCRIBED"}"#);
    assert_eq!(rig.told.len(), 1);
    assert!(rig.after(200_000).is_empty());
    assert_eq!(rig.is_over(), None);
}

#[test]
fn an_agent_that_stays_away_ends_all() {
    let mut rig = Rig::new();
    rig.run("a");
    rig.machine.lost(rig.now);
    assert!(rig.after(60_000).is_empty());
    rig.machine.lost(rig.now);
    assert_eq!(rig.after(60_000), ["Term a"]);
    rig.exit("a", HARD);
    assert_eq!(rig.is_over(), None);
    rig.after(1000);
    assert_eq!(rig.is_over(), Some(false));
}

#[test]
fn without_checkpoints_nobody_is_waited_for() {
    let given: Vec<_> = GIVEN.into_iter().filter(|(name, _)| *name != "MESOS_CHECKPOINT").collect();
    let mut rig = Rig::of(&given, "");
    rig.run("a");
    rig.machine.lost(rig.now);
    assert_eq!(rig.after(0), ["Term a"]);
}

#[test]
fn a_shutdown_ends_tasks_within_the_agents_time() {
    let mut rig = Rig::new();
    rig.run_with("a", r#","kill_policy":{"grace_period":{"nanoseconds":60000000000}}"#);
    assert_eq!(rig.event(r#"{"type":"SHUTDOWN"}"#), ["Term a"]);
    assert!(rig.launch_with("b", r#"{"shell":"x"}"#, "").is_empty());
    assert_eq!(rig.states().last().unwrap(), "b TASK_KILLED its executor was told to end");
    assert_eq!(rig.last()["reason"], "REASON_EXECUTOR_UNREGISTERED");
    assert_eq!(rig.after(4000), ["Kill a"]);
    rig.exit("a", HARD);
    assert_eq!(rig.states().last().unwrap(), "a TASK_KILLED its executor was told to end");
    assert_eq!(rig.last()["reason"], "REASON_EXECUTOR_UNREGISTERED");
    assert_eq!(rig.is_over(), None);
    for status in rig.told.clone() {
        let uuid = status["uuid"].as_str().unwrap();
        rig.event(&format!(r#"{{"type":"ACKNOWLEDGED","acknowledged":{{"task_id":{{"value":"a"}},"uuid":"{uuid}"}}}}"#));
    }
    assert_eq!(rig.is_over(), Some(true));
}

#[test]
fn an_end_that_was_asked_for_is_told_as_such_also_where_the_executor_ends() {
    let mut rig = Rig::new();
    rig.run("before");
    rig.run("after");
    rig.kill("before", None);
    rig.machine.shut_down(true, rig.now);
    rig.kill("after", None);
    for id in ["before", "after"] {
        rig.exit(id, HARD);
        assert_eq!(rig.states().last().unwrap(), &format!("{id} TASK_KILLED Command terminated with signal Killed"));
        assert_eq!(rig.last()["reason"], serde_json::Value::Null);
    }
}
