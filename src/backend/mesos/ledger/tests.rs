use super::super::testing::{answer, app, offer, one_core, pooled_status, status};
use super::*;
use crate::backend::task_id;
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, Fitted};

const EXECUTOR: &str = "microscaler.0badcafe.0000beef0badf00d";

struct Bed {
    ledger: Ledger,
    offers: Offers,
    world: World,
    app: Arc<App>,
}

impl Bed {
    fn new() -> Self {
        let (mut offers, mut world) = (Offers::default(), World::default());
        offers.receive(offer("O1", "A", 8), &mut world);
        offers.take(AgentIx(0), &mut world);
        Self { ledger: Ledger::default(), offers, world, app: one_core("web") }
    }

    fn id(&self, serial: u64) -> Arc<str> {
        task_id(&self.app.key, self.app.version, "k", serial)
    }

    fn launch(&mut self, serial: u64, now: Millis) -> Arc<str> {
        let id = self.id(serial);
        let launch = Launch { id: id.clone(), app: self.app.clone(), agent: AgentIx(0) };
        self.ledger.launched(&mut self.world, &launch, None, now);
        id
    }

    fn running(&mut self, serial: u64) -> Arc<str> {
        let id = self.launch(serial, 0);
        assert!(self.tell(&status(&id, "TASK_RUNNING", "A"), 100).applied.decide);
        id
    }

    fn tell(&mut self, status: &TaskStatus, now: Millis) -> Out {
        let mut out = Out::default();
        self.ledger.update(status, &mut self.world, &mut self.offers, now, &mut out);
        out
    }

    fn how(&mut self, status: &TaskStatus, now: Millis) -> Option<End> {
        self.tell(status, now).applied.endings.first().map(|ending| ending.how)
    }

    fn kill(&mut self, id: &Arc<str>, now: Millis) -> Option<Call> {
        let kill = Kill { app: self.app.key.clone(), id: id.clone(), grace_ms: Some(0) };
        self.ledger.kill(&mut self.world, &kill, now)
    }

    fn due(&mut self, now: Millis) -> Vec<Call> {
        let mut out = Out::default();
        self.ledger.due(&mut self.world, now, &mut out);
        out.calls
    }

    fn phase(&self, id: &str) -> Option<TaskPhase> {
        let tasks = &self.world.apps.get(&self.app.key)?.tasks;
        tasks.iter().find(|task| &*task.id == id).map(|task| task.phase)
    }

    fn expected(&self) -> i64 {
        self.world.agents[0].expected.cpu
    }
}

#[test]
fn a_life() {
    let mut bed = Bed::new();
    let id = bed.launch(1, 0);
    assert_eq!(bed.phase(&id), Some(TaskPhase::Starting));
    bed.tell(&status(&id, "TASK_STARTING", "A"), 10);
    bed.tell(&status(&id, "TASK_RUNNING", "A"), 20);
    let task = &bed.world.apps[&bed.app.key].tasks[0];
    assert_eq!((task.phase, task.ready, task.since, task.born), (TaskPhase::Running, true, 20, 0));
    let out = bed.tell(&status(&id, "TASK_FAILED", "A"), 120);
    let ending = &out.applied.endings[0];
    assert_eq!((ending.how, ending.ran_ms, ending.version), (End::Failed, 100, Some(bed.app.version)));
    assert_eq!(bed.expected(), 1000, "its room is expected back");
    assert!(bed.world.apps.is_empty() && bed.ledger.next_timer().is_none());
}

#[test]
fn what_we_ended_is_no_crash() {
    for state in ["TASK_KILLED", "TASK_FAILED", "TASK_FINISHED", "TASK_GONE"] {
        let mut bed = Bed::new();
        let id = bed.running(1);
        bed.kill(&id, 200);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
        bed.tell(&status(&id, "TASK_RUNNING", "A"), 201);
        assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping), "a late RUNNING changes nothing");
        assert_eq!(bed.how(&status(&id, state, "A"), 300), Some(End::Killed), "{state}");
    }
}

#[test]
fn endings_of_the_state_table() {
    let drained = TaskStatus { reason: Some("REASON_AGENT_DRAINING".into()), ..status("", "TASK_KILLED", "A") };
    let cases = [
        (status("", "TASK_FINISHED", "A"), End::Finished),
        (status("", "TASK_KILLED", "A"), End::Killed),
        (status("", "TASK_ERROR", "A"), End::Refused),
        (status("", "TASK_DROPPED", "A"), End::Dropped),
        (status("", "TASK_GONE", "A"), End::Lost),
        (status("", "TASK_GONE_BY_OPERATOR", "A"), End::Lost),
        (drained, End::Lost),
        (TaskStatus { healthy: Some(false), ..status("", "TASK_KILLED", "A") }, End::Failed),
    ];
    for (mut case, how) in cases {
        let mut bed = Bed::new();
        case.task_id.value = bed.running(1);
        assert_eq!(bed.how(&case, 300), Some(how), "{case:?}");
    }
}

#[test]
fn an_error_about_a_namesake_does_not_end_the_running_task() {
    let mut bed = Bed::new();
    let id = bed.running(1);
    let mut error = status(&id, "TASK_ERROR", "A");
    error.uuid = None;
    assert_eq!(bed.how(&error, 200), None);
    assert_eq!(bed.phase(&id), Some(TaskPhase::Running));
    error.task_id.value = bed.launch(2, 200);
    assert_eq!(bed.how(&error, 210), Some(End::Refused));
}

#[test]
fn the_end_is_the_end() {
    let mut bed = Bed::new();
    let id = bed.running(1);
    assert_eq!(bed.how(&status(&id, "TASK_FINISHED", "A"), 200), Some(End::Finished));
    for state in ["TASK_FINISHED", "TASK_RUNNING", "TASK_UNREACHABLE", "TASK_STARTING"] {
        let out = bed.tell(&status(&id, state, "A"), 300);
        assert!(out.applied.endings.is_empty() && out.calls.is_empty() && bed.phase(&id).is_none(), "{state}");
    }
}

#[test]
fn unreachable_tasks_use_no_room_and_may_return() {
    let mut bed = Bed::new();
    let id = bed.running(1);
    bed.tell(&status(&id, "TASK_UNREACHABLE", "A"), 200);
    assert_eq!((bed.phase(&id), bed.world.agents[0].present), (Some(TaskPhase::Unreachable), false));
    bed.tell(&answer(&id, "TASK_RUNNING", Some("A")), 300);
    let task = &bed.world.apps[&bed.app.key].tasks[0];
    assert_eq!((task.phase, task.ready, bed.world.agents[0].present), (TaskPhase::Running, true, true));
    bed.tell(&status(&id, "TASK_UNREACHABLE", "A"), 400);
    bed.kill(&id, 410);
    assert_eq!(bed.phase(&id), Some(TaskPhase::Unreachable));
    bed.due(1410);
    bed.tell(&answer(&id, "TASK_RUNNING", Some("A")), 1500);
    assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
    assert!(matches!(bed.due(1500)[..], [Call::Kill { .. }]), "told as soon as it is back");
}

#[test]
fn kills_are_repeated_until_they_work() {
    let mut bed = Bed::new();
    let id = bed.running(1);
    assert!(matches!(bed.kill(&id, 1000), Some(Call::Kill { .. })));
    assert_eq!(bed.kill(&id, 1001), None);
    let sent: Vec<_> = (1000..100_000).filter(|now| !bed.due(*now).is_empty()).collect();
    assert_eq!(sent, [2000, 4000, 8000, 16_000, 32_000, 62_000, 92_000]);
    assert_eq!(bed.how(&status(&id, "TASK_KILLED", "A"), 100_000), Some(End::Killed));
    assert!(bed.due(1 << 40).is_empty());
}

#[test]
fn a_launch_without_a_word_is_asked_about() {
    let mut bed = Bed::new();
    let id = bed.launch(1, 0);
    assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 10), None, "not asked, so not meant");
    assert_eq!(bed.how(&answer(&id, "TASK_GONE", Some("A")), 10), None, "not asked, so not meant");
    assert!(bed.due(9999).is_empty());
    assert!(matches!(&bed.due(10_000)[..], [Call::Reconcile { reconcile }] if reconcile.tasks.len() == 1));
    assert_eq!(bed.how(&answer(&id, "TASK_GONE", Some("A")), 10_001), Some(End::Dropped));
    assert_eq!(bed.expected(), 1000);
}

#[test]
fn a_launch_that_is_stuck_is_asked_about_and_then_ended() {
    let mut bed = Bed::new();
    let id = bed.launch(1, 0);
    bed.tell(&status(&id, "TASK_STARTING", "A"), 100);
    let mut asked = Vec::new();
    for now in 0..120_000 {
        if !bed.due(now).is_empty() {
            bed.tell(&answer(&id, "TASK_STAGING", Some("A")), now);
            asked.push(now);
        }
    }
    assert_eq!(asked, [10_000, 30_000, 60_000, 90_000]);
    let mut out = Out::default();
    bed.ledger.due(&mut bed.world, 120_000, &mut out);
    assert!(matches!(out.calls[..], [Call::Kill { .. }]) && out.applied.notes[0].warning);
    assert_eq!(bed.how(&status(&id, "TASK_KILLED", "A"), 120_100), Some(End::Killed));
    let id = bed.launch(2, 0);
    bed.tell(&status(&id, "TASK_RUNNING", "A"), 100);
    assert_eq!(bed.ledger.next_timer(), None);
}

#[test]
fn unknown_is_believed_the_second_time() {
    let mut bed = Bed::new();
    let id = bed.running(1);
    assert_eq!(bed.ledger.unheard(&bed.world, u64::MAX).len(), 1);
    assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 1000), None);
    assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 2000), None);
    assert!(matches!(bed.due(11_000)[..], [Call::Reconcile { .. }]));
    assert_eq!(bed.how(&answer(&id, "TASK_UNKNOWN", Some("A")), 11_001), Some(End::Lost));
    let out = bed.tell(&status(&id, "TASK_RUNNING", "A"), 20_000);
    assert!(matches!(out.calls[..], [Call::Kill { .. }]), "the revenant is ended");
    assert_eq!(bed.phase(&id), Some(TaskPhase::Stopping));
}

#[test]
fn tasks_of_an_earlier_run_are_adopted() {
    let mut bed = Bed::new();
    let id = bed.id(7);
    bed.tell(&answer(&id, "TASK_RUNNING", Some("B")), 100);
    let task = bed.world.apps[&bed.app.key].tasks[0].clone();
    assert_eq!((task.phase, task.agent, task.version), (TaskPhase::Running, AgentIx(1), Some(bed.app.version)));
    assert!(bed.ledger.has_unsized() && task.resources.is_zero());
    bed.ledger.size(&mut bed.world, &HashMap::from([(id, Resources::new(1000, 64))]));
    assert_eq!(bed.world.apps[&bed.app.key].tasks[0].resources, Resources::new(1000, 64));
    assert!(!bed.ledger.has_unsized());
    bed.tell(&answer(&bed.id(6), "TASK_RUNNING", Some("B")), 100);
    assert!(bed.ledger.has_unsized());
    bed.tell(&status(&bed.id(6), "TASK_FINISHED", "B"), 100);
    assert!(!bed.ledger.has_unsized());
    bed.world.apps.get_mut(&bed.app.key).unwrap().spec = Some(bed.app.clone());
    bed.tell(&answer(&bed.id(8), "TASK_STAGING", Some("B")), 100);
    assert_eq!(bed.world.apps[&bed.app.key].tasks[1].resources, bed.app.size, "the spec of its version tells");
}

#[test]
fn foreign_tasks_are_ended() {
    let mut bed = Bed::new();
    let out = bed.tell(&status("made-by-hand", "TASK_RUNNING", "A"), 100);
    assert!(matches!(out.calls[..], [Call::Kill { .. }]) && out.applied.notes.len() == 1);
    assert!(bed.tell(&status("made-by-hand", "TASK_KILLED", "A"), 100).calls.is_empty());
}

#[test]
fn what_its_executor_did_is_not_blamed_on_a_task() {
    let ended = |id: &str| pooled_status(id, "TASK_FAILED", EXECUTOR, "SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED");
    let mut bed = Bed::new();
    let id = bed.running(1);
    bed.tell(&pooled_status(&id, "TASK_RUNNING", EXECUTOR, "SOURCE_EXECUTOR", ""), 110);
    let ending = bed.tell(&ended(&id), 200).applied.endings.remove(0);
    assert_eq!((ending.how, &*ending.message), (End::Lost, "its executor ended: so it is"));
    let id = bed.launch(2, 200);
    assert_eq!(bed.how(&ended(&id), 210), Some(End::Dropped), "it never ran");
    let id = bed.running(3);
    let failed = pooled_status(&id, "TASK_FAILED", EXECUTOR, "SOURCE_EXECUTOR", "REASON_CONTAINER_LIMITATION_MEMORY");
    assert_eq!(bed.how(&failed, 300), Some(End::Failed), "the executor lives, and says what the task did");
    let id = bed.running(4);
    bed.kill(&id, 310);
    assert_eq!(bed.how(&ended(&id), 320), Some(End::Killed));
}

#[test]
fn a_refusal_is_not_the_tasks_while_its_executor_has_not_come() {
    for (phase, how) in [(BasePhase::Coming, End::Dropped), (BasePhase::Ready, End::Refused)] {
        let mut bed = Bed::new();
        let id = bed.launch(1, 0);
        let tasks = &mut bed.world.apps.get_mut(&bed.app.key).unwrap().tasks;
        tasks[0].executor = Some(EXECUTOR.into());
        let fitted = Fitted { key: None, executor: Some(EXECUTOR.into()), phase, since: 0, limits: None };
        bed.world.agents[0].bases.push(fitted);
        assert_eq!(bed.how(&status(&id, "TASK_ERROR", "A"), 10), Some(how));
    }
}

#[test]
fn a_task_is_ready_when_its_check_says_so() {
    let mut bed = Bed::new();
    bed.app = Arc::new(app("web", "{shell: x, readiness: {exec: {command: ['true']}}, resources: {cpu: 1, memory: 64Mi}}"));
    let spec = Some(bed.app.clone());
    bed.world.apps.entry(bed.app.key.clone()).or_default().spec = spec;
    let id = bed.running(1);
    let ready = |bed: &Bed| bed.world.apps[&bed.app.key].tasks[0].ready;
    assert!(!ready(&bed));
    let mut checked = |code: i32, now: Millis| {
        let check = serde_json::json!({"type": "COMMAND", "command": {"exit_code": code}});
        let check_status = serde_json::from_value(check).unwrap();
        let decide = bed.tell(&TaskStatus { check_status, ..status(&id, "TASK_RUNNING", "A") }, now).applied.decide;
        (decide, ready(&bed))
    };
    assert_eq!([checked(0, 200), checked(0, 210), checked(1, 220)], [(true, true), (false, true), (true, false)]);
}
