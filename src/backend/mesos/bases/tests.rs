use serde_json::json;

use super::super::Input;
use super::super::machine::Machine;
use super::super::testing::{answer, app, offer, one_core, pool, pooled, pooled_status, status};
use super::super::wire::{Call, Event, Failure, Kind, Message, Operation, TaskInfo, TaskStatus};
use super::*;
use crate::backend::{Applied, End, Launch, Orders, preparation_id, task_id};

const A: AgentIx = AgentIx(0);

/// A machine that is connected and holds 4 cores on agent A.
struct Bed {
    machine: Machine,
    world: World,
    app: Arc<App>,
    serial: u64,
}

impl Bed {
    fn new() -> Self {
        let mut bed = Self { machine: Machine::new(&pool()), world: World::default(), app: pooled("web"), serial: 0 };
        bed.machine.subscribed(true, &mut bed.world, 0, &mut Out::default());
        bed.offer(&[], 0);
        assert!(bed.machine.standing().ready);
        bed
    }

    fn event(&mut self, event: Event, now: Millis) -> Applied {
        self.machine.apply(Input::Wire(event), &mut self.world, now)
    }

    fn tell(&mut self, status: TaskStatus, now: Millis) -> Applied {
        self.event(Event::Update(status), now)
    }

    fn offer(&mut self, executors: &[&Arc<str>], now: Millis) {
        self.serial += 1;
        let executor_ids = executors.iter().map(|id| Id::from((*id).clone())).collect();
        self.event(
            Event::Offers(vec![super::super::wire::Offer { executor_ids, ..offer(&format!("O{}", self.serial), "A", 4) }]),
            now,
        );
    }

    fn launches(&mut self, count: usize) -> Vec<Launch> {
        let app = self.app.clone();
        let id = |serial| task_id(&app.key, app.version, "k", serial);
        (0..count).map(|_| (self.serial += 1, Launch { id: id(self.serial), app: app.clone(), agent: A }).1).collect()
    }

    fn order(&mut self, orders: &Orders, now: Millis) -> Vec<TaskInfo> {
        self.machine.outbox.clear();
        self.machine.dispatch(orders, &mut self.world, now);
        let accept =
            self.machine.outbox.iter().find_map(|call| if let Call::Accept { accept } = call { Some(accept) } else { None });
        let Some(Operation::Launch { launch }) = accept.and_then(|accept| accept.operations.first()) else { return Vec::new() };
        launch.task_infos.clone()
    }

    fn launch(&mut self, count: usize, now: Millis) -> Vec<TaskInfo> {
        let launches = self.launches(count);
        self.order(&Orders { launches, ..Orders::default() }, now)
    }

    fn prepare(&mut self, now: Millis) -> Vec<TaskInfo> {
        self.serial += 1;
        let id = preparation_id(&self.app.base.as_ref().unwrap().key, "k", self.serial);
        let prepare = vec![Launch { id, app: self.app.clone(), agent: A }];
        self.order(&Orders { prepare, ..Orders::default() }, now)
    }

    fn bases(&self) -> &[Fitted] {
        &self.world.agents[0].bases
    }

    fn phase(&self) -> Option<&BasePhase> {
        self.bases().first().map(|fitted| &fitted.phase)
    }

    fn tick(&mut self, now: Millis) {
        self.machine.tick(&mut self.world, now);
    }

    fn sent(&mut self) -> Vec<Kind> {
        self.machine.outbox.drain(..).map(|call| call.kind()).collect()
    }

    fn expected(&self) -> i64 {
        self.world.agents[0].expected.cpu
    }

    fn failure(&mut self, executor: &Arc<str>, status: i32, now: Millis) -> Applied {
        let failure = Failure {
            agent_id: Some(Id::from(Arc::from("A"))),
            executor_id: Some(executor.clone().into()),
            status: Some(status),
        };
        self.event(Event::Failure(failure), now)
    }

    /// An executor that was prepared at 0 and is ready.
    fn ready() -> (Self, Arc<str>) {
        let mut bed = Self::new();
        let task = bed.prepare(0).remove(0);
        let id = id_of(&task);
        bed.tell(spoken(&task, "TASK_FINISHED"), 50);
        assert_eq!(bed.phase(), Some(&BasePhase::Ready));
        (bed, id)
    }
}

fn id_of(task: &TaskInfo) -> Arc<str> {
    task.executor.as_ref().unwrap().executor_id.value.clone()
}

fn spoken(task: &TaskInfo, state: &str) -> TaskStatus {
    pooled_status(&task.task_id.value, state, &id_of(task), "SOURCE_EXECUTOR", "")
}

fn ended(task: &TaskInfo, reason: &str) -> TaskStatus {
    pooled_status(&task.task_id.value, "TASK_FAILED", &id_of(task), "SOURCE_AGENT", reason)
}

#[test]
fn the_first_replicas_bring_their_executor_along() {
    let mut bed = Bed::new();
    let tasks = bed.launch(3, 10);
    assert_eq!((tasks.len(), id_of(&tasks[0])), (3, id_of(&tasks[2])));
    assert!(Arc::ptr_eq(tasks[0].executor.as_ref().unwrap(), tasks[1].executor.as_ref().unwrap()));
    assert_eq!(bed.expected(), 4000 - 3000 - 10, "its room is cut once");
    assert_eq!(bed.phase(), Some(&BasePhase::Coming));
    assert_eq!(bed.world.apps[&bed.app.key].tasks[0].executor, Some(id_of(&tasks[0])));
    bed.offer(&[&id_of(&tasks[0])], 20);
    assert_eq!(bed.phase(), Some(&BasePhase::Coming), "the master knows it already, but it is not up");
    bed.event(Event::Rescind("O5".into()), 21);
    bed.tell(spoken(&tasks[0], "TASK_RUNNING"), 60);
    assert_eq!((bed.phase(), bed.bases()[0].since), (Some(&BasePhase::Ready), 60));
    bed.offer(&[&id_of(&tasks[0])], 70);
    let more = bed.launch(1, 80);
    assert_eq!(more[0].executor, tasks[0].executor, "the same to the last byte");
    assert_eq!(bed.expected(), 3000, "and no room of its own");
}

#[test]
fn a_replica_and_its_executor_fit_together_or_not_at_all() {
    let mut bed = Bed::new();
    assert_eq!(bed.launch(4, 10).len(), 3);
    let mut bed = Bed::new();
    bed.app = Arc::new(app("web", "{launch: pooled, shell: x, resources: {cpu: 4, memory: 1Mi}}"));
    assert!(bed.launch(1, 10).is_empty() && bed.bases().is_empty());
    assert_eq!(bed.machine.apply(Input::News, &mut bed.world, 10).endings[0].how, End::Dropped);
}

#[test]
fn a_prepared_executor_costs_its_room_and_no_task() {
    let mut bed = Bed::new();
    let task = bed.prepare(0).remove(0);
    assert_eq!((bed.phase(), bed.expected()), (Some(&BasePhase::Coming), 4000 - 10 - 1));
    assert!(bed.world.apps.is_empty());
    assert!(bed.prepare(1).is_empty(), "it is on its way");
    let applied = bed.tell(spoken(&task, "TASK_FINISHED"), 50);
    assert!(applied.decide && applied.endings.is_empty() && applied.notes.is_empty(), "{applied:?}");
    assert_eq!((bed.phase(), bed.expected()), (Some(&BasePhase::Ready), 4000 - 10));
}

#[test]
fn an_executor_that_does_not_come_up_is_tried_ever_less_often() {
    let mut bed = Bed::new();
    let mut seen = Vec::new();
    for (round, now) in [(1, 0), (2, 10_000), (3, 20_000)] {
        bed.offer(&[], now);
        let task = bed.prepare(now).remove(0);
        seen.push(id_of(&task));
        bed.tell(ended(&task, "REASON_EXECUTOR_TERMINATED"), now + 100);
        bed.failure(&id_of(&task), 127 << 8, now + 110);
        let [Fitted { phase: BasePhase::Failed { until, tries, why }, executor: None, .. }] = bed.bases() else {
            panic!("{:?}", bed.bases())
        };
        assert_eq!((*until, *tries), (now + 100 + 500 * (1 << round), round));
        let program = "(/usr/local/bin/microscaler; stderr in its sandbox may say more)";
        assert_eq!(**why, format!("executor ended before it registered: so it is {program}; exited with status 127"));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "what is late about one is not about the next");
}

#[test]
fn the_end_of_an_executor_is_booked_once() {
    let mut bed = Bed::new();
    let tasks = bed.launch(2, 10);
    tasks.iter().for_each(|task| drop(bed.tell(spoken(task, "TASK_RUNNING"), 50)));
    let before = bed.expected();
    let mut endings = bed.tell(ended(&tasks[0], "REASON_EXECUTOR_TERMINATED"), 100).endings;
    endings.extend(bed.tell(ended(&tasks[1], "REASON_EXECUTOR_TERMINATED"), 102).endings);
    endings.extend(bed.failure(&id_of(&tasks[0]), 9, 103).endings);
    assert!(endings.len() == 2 && endings.iter().all(|ending| ending.how == End::Lost), "{endings:?}");
    assert_eq!((bed.expected() - before, bed.bases()), (2010, &[][..]));
    bed.tell(spoken(&tasks[0], "TASK_RUNNING"), 110);
    bed.offer(&[], 120);
    assert_eq!(bed.bases(), [], "late");
    let next = bed.launch(1, 130);
    assert_ne!(id_of(&next[0]), id_of(&tasks[0]));
    bed.tell(spoken(&next[0], "TASK_RUNNING"), 150);
    bed.failure(&id_of(&next[0]), 9, 200);
    assert!(matches!(bed.phase(), Some(BasePhase::Failed { .. })), "again so soon");
}

#[test]
fn a_launch_into_an_executor_that_has_just_ended_starts_it_anew() {
    let (mut bed, id) = Bed::ready();
    bed.offer(&[&id], 100);
    let tasks = bed.launch(3, 110);
    bed.tell(ended(&tasks[2], "REASON_EXECUTOR_TERMINATED"), 115);
    bed.offer(&[&id], 116);
    assert_eq!(bed.bases(), [], "late");
    bed.failure(&id, 9, 120);
    bed.tell(spoken(&tasks[0], "TASK_RUNNING"), 150);
    assert_eq!((bed.phase(), bed.bases()[0].executor.as_ref()), (Some(&BasePhase::Ready), Some(&id)));
    bed.failure(&id, 9, 200);
    bed.offer(&[&id], 210);
    assert_eq!(bed.phase(), Some(&BasePhase::Ready), "so the master says");
    bed.failure(&id, 9, 220);
    let refused = pooled_status(&tasks[1].task_id.value, "TASK_ERROR", &id, "SOURCE_MASTER", "REASON_TASK_INVALID");
    assert_eq!(bed.tell(refused, 230).endings[0].how, End::Dropped, "not its fault");
}

#[test]
fn what_was_never_started_is_not_waited_for() {
    let mut bed = Bed::new();
    let tasks = bed.launch(2, 10);
    let dropped = |task: &TaskInfo| {
        pooled_status(&task.task_id.value, "TASK_DROPPED", &id_of(task), "SOURCE_MASTER", "REASON_INVALID_OFFERS")
    };
    bed.tell(dropped(&tasks[0]), 20);
    assert_eq!(bed.phase(), Some(&BasePhase::Coming), "the other may bring it");
    bed.tell(dropped(&tasks[1]), 20);
    assert_eq!((bed.bases(), bed.expected()), (&[][..], 4000));
    bed.offer(&[], 30);
    let task = bed.launch(1, 30).remove(0);
    let refused = pooled_status(&task.task_id.value, "TASK_ERROR", &id_of(&task), "SOURCE_MASTER", "REASON_TASK_INVALID");
    assert_eq!(bed.tell(refused, 40).endings[0].how, End::Dropped);
    assert!(matches!(bed.phase(), Some(BasePhase::Failed { .. })));
}

#[test]
fn a_retired_executor_gets_no_new_tasks_and_leaves() {
    let (mut bed, id) = Bed::ready();
    let retire = vec![Retire { executor: id.clone(), agent: A }];
    bed.order(&Orders { retire: retire.clone(), ..Orders::default() }, 100);
    assert_eq!((bed.sent(), bed.phase()), (vec![Kind::Shutdown], Some(&BasePhase::Leaving)));
    bed.order(&Orders { retire, ..Orders::default() }, 101);
    assert_eq!(bed.sent(), []);
    bed.offer(&[&id], 110);
    let task = bed.launch(1, 110).remove(0);
    assert_ne!(id_of(&task), id);
    let before = bed.expected();
    bed.failure(&id, 0, 150);
    assert_eq!((bed.bases().len(), bed.expected() - before), (1, 10));
}

#[test]
fn one_that_leaves_in_silence_has_left_after_a_while() {
    let (mut bed, id) = Bed::ready();
    bed.order(&Orders { retire: vec![Retire { executor: id, agent: A }], ..Orders::default() }, 100);
    bed.tick(10_099);
    assert_eq!(bed.bases().len(), 1);
    bed.tick(10_100);
    assert_eq!(bed.bases(), []);
}

#[test]
fn executors_are_adopted_and_asked_for_what_they_are() {
    let (mut first, id) = Bed::ready();
    let task = first.launches(1).remove(0);
    let mut bed = Bed::new();
    bed.tell(pooled_status(&task.id, "TASK_RUNNING", &id, "SOURCE_MASTER", "REASON_RECONCILIATION"), 10);
    assert_eq!(
        (bed.phase(), bed.bases()[0].key.as_ref()),
        (Some(&BasePhase::Ready), bed.app.base.as_ref().map(|base| &base.key))
    );
    assert_eq!(bed.world.apps[&bed.app.key].tasks[0].executor.as_ref(), Some(&id));
    assert!(bed.sent().contains(&Kind::Message));
    let hello = |unlimited: &str| Message {
        agent_id: Id::from(Arc::from("A")),
        executor_id: Id::from(id.clone()),
        data: base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            json!({"version": "1", "unlimited": unlimited}).to_string(),
        ),
    };
    bed.tick(10_010);
    assert_eq!(bed.sent(), [Kind::Message], "it has not told");
    assert!(bed.event(Event::Message(hello("no cgroups")), 10_020).decide);
    bed.tick(20_010);
    assert_eq!(bed.sent(), []);
    assert_eq!(bed.bases()[0].limits, Some(Err("no cgroups".into())));
    let launched = bed.launch(1, 30);
    assert_eq!((id_of(&launched[0]), bed.bases().len()), (id, 1), "its description has been found out");
}

#[test]
fn one_of_other_settings_is_left_to_its_tasks() {
    let mut bed = Bed::new();
    let key = bed.app.base.as_ref().unwrap().key.clone();
    let old: Arc<str> = format!("microscaler.{key}.0000000000000000").into();
    bed.offer(&[&old], 10);
    assert_eq!(bed.bases()[0].key, None);
    // One of these settings, and yet not of this room: a launch shows it.
    let other: Arc<str> = format!("microscaler.{key}.{}00000000", settings(&pool())).into();
    bed.offer(&[&old, &other], 15);
    assert_eq!(bed.bases()[1].key.as_ref(), Some(&key));
    let task = bed.launch(1, 20).remove(0);
    assert!(![&old, &other].contains(&&id_of(&task)));
    assert_eq!((bed.bases()[1].key.as_ref(), bed.bases()[2].key.as_ref()), (None, Some(&key)));
    bed.tell(spoken(&task, "TASK_RUNNING"), 30);
    bed.offer(&[&id_of(&task)], 40);
    assert_eq!(bed.bases().len(), 1, "the master does not know them any longer");
}

#[test]
fn apps_share_an_executor_for_what_they_are_and_not_for_a_key() {
    let (mut bed, id) = Bed::ready();
    let base = bed.app.base.clone();
    bed.offer(&[&id], 100);
    bed.app = Arc::new(App { base, ..app("web", "{launch: pooled, user: root, shell: x, resources: {cpu: 1, memory: 1Mi}}") });
    let task = bed.launch(1, 110).remove(0);
    assert_ne!(id_of(&task), id);
}

#[test]
fn preparations_that_are_not_heard_of_are_asked_about() {
    let mut bed = Bed::new();
    let task = bed.prepare(0).remove(0);
    let id = &task.task_id.value;
    bed.sent();
    bed.tell(answer(id, "TASK_GONE", Some("A")), 100);
    assert_eq!(bed.phase(), Some(&BasePhase::Coming), "from before the launch");
    bed.tick(10_099);
    assert!(!bed.sent().contains(&Kind::Reconcile));
    bed.tick(10_110);
    assert!(bed.sent().contains(&Kind::Reconcile));
    bed.tell(answer(id, "TASK_UNKNOWN", Some("A")), 10_200);
    assert_eq!(bed.bases(), []);
    let stranger = preparation_id("0badcafe", "old", 1);
    assert!(bed.tell(status(&stranger, "TASK_FINISHED", "A"), 10_300).notes.is_empty());
    bed.tell(status(&stranger, "TASK_RUNNING", "A"), 10_400);
    assert!(!bed.sent().contains(&Kind::Kill), "it is no foreign task");
}

#[test]
fn images_are_there_when_something_ran_in_them() {
    let mut bed = Bed::new();
    bed.app = Arc::new(app("web", "{shell: x, image: 'web:1', resources: {cpu: 1, memory: 1Mi}}"));
    let failed = |task: &TaskInfo, source: &str, reason: &str| TaskStatus {
        source: Some(source.into()),
        reason: Some(reason.into()),
        ..status(&task.task_id.value, "TASK_FAILED", "A")
    };
    let task = bed.prepare(0).remove(0);
    assert_eq!((bed.phase(), bed.bases()[0].key.as_deref()), (Some(&BasePhase::Coming), Some("mesos:web:1")));
    bed.tell(failed(&task, "SOURCE_AGENT", "REASON_CONTAINER_LAUNCH_FAILED"), 100);
    assert!(matches!(bed.phase(), Some(BasePhase::Failed { until: 1100, .. })), "{:?}", bed.bases());
    bed.offer(&[], 2000);
    let task = bed.prepare(2000).remove(0);
    bed.tell(failed(&task, "SOURCE_EXECUTOR", "REASON_COMMAND_EXECUTOR_FAILED"), 2100);
    assert_eq!((bed.phase(), bed.bases().len()), (Some(&BasePhase::Ready), 1), "only `true` is missing in it");

    let mut bed = Bed::new();
    bed.app = Arc::new(app("web", "{shell: x, image: 'web:1', resources: {cpu: 1, memory: 1Mi}}"));
    bed.world.apps.entry(bed.app.key.clone()).or_default().spec = Some(bed.app.clone());
    let task = bed.launch(1, 0).remove(0);
    assert_eq!(bed.bases(), []);
    bed.tell(status(&task.task_id.value, "TASK_RUNNING", "A"), 100);
    assert_eq!((bed.phase(), bed.bases()[0].key.as_deref()), (Some(&BasePhase::Ready), Some("mesos:web:1")));
    bed.offer(&[], 300);
    let task = bed.launch(1, 300).remove(0);
    bed.tell(failed(&task, "SOURCE_AGENT", "REASON_CONTAINER_LAUNCH_FAILED"), 400);
    assert_eq!(bed.bases(), [], "it may have been removed");
    bed.offer(&[], 500);
    let task = bed.launch(1, 500).remove(0);
    bed.tell(status(&task.task_id.value, "TASK_RUNNING", "A"), 600);
    bed.tick(60_000);
    assert_eq!(bed.bases().len(), 1);
    bed.world.apps.clear();
    bed.tick(200_000);
    assert_eq!(bed.bases(), [], "no app has it");
}

#[test]
fn bases_outlast_an_unreachable_agent_but_not_one_that_is_gone() {
    let (mut bed, _) = Bed::ready();
    let gone = Failure { agent_id: Some(Id::from(Arc::from("A"))), executor_id: None, status: None };
    bed.event(Event::Failure(gone), 100);
    assert!(!bed.world.agents[0].present && bed.bases().len() == 1);
    let id = task_id(&one_core("web").key, bed.app.version, "k", 99);
    bed.tell(status(&id, "TASK_GONE_BY_OPERATOR", "A"), 200);
    assert_eq!(bed.bases(), []);
}
