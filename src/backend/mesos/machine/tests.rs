use super::super::testing::{answer, offer, one_core, pool, status};
use super::super::wire::{Event as WireEvent, Failure, Kind, Operation, TaskStatus};
use super::*;
use crate::api::validated::App;
use crate::backend::{End, Kill, Launch, Orders, task_id};
use crate::policy::world::{AgentIx, TaskPhase};

const A: AgentIx = AgentIx(0);

struct Bed {
    machine: Machine,
    world: World,
    app: Arc<App>,
}

impl Bed {
    /// Subscribed, with 4 cores held on agent A.
    fn new() -> Self {
        let mut bed = Self { machine: Machine::new(&pool()), world: World::default(), app: one_core("web") };
        bed.subscribe(true, 0);
        bed.event(WireEvent::Offers(vec![offer("O1", "A", 4)]), 0);
        bed.machine.outbox.clear();
        bed
    }

    fn subscribe(&mut self, new: bool, now: Millis) {
        let mut out = Out::default();
        self.machine.subscribed(new, &mut self.world, now, &mut out);
        self.machine.settle(out, now);
    }

    fn event(&mut self, event: WireEvent, now: Millis) -> Applied {
        self.machine.apply(Input::Wire(event), &mut self.world, now)
    }

    fn update(&mut self, status: TaskStatus, now: Millis) -> Applied {
        self.event(WireEvent::Update(status), now)
    }

    fn launch(&self, serial: u64) -> Launch {
        Launch { id: self.id(serial), app: self.app.clone(), agent: A }
    }

    fn id(&self, serial: u64) -> Arc<str> {
        task_id(&self.app.key, self.app.version, "k", serial)
    }

    fn kill(&self, serial: u64) -> Kill {
        Kill { app: self.app.key.clone(), id: self.id(serial), grace_ms: Some(0) }
    }

    #[allow(clippy::needless_pass_by_value)]
    fn dispatch(&mut self, orders: Orders, now: Millis) -> Vec<Kind> {
        self.machine.dispatch(&orders, &mut self.world, now);
        self.sent()
    }

    fn tick(&mut self, now: Millis) -> Vec<Kind> {
        self.machine.tick(&mut self.world, now);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Kind> {
        self.machine.outbox.drain(..).map(|call| call.kind()).collect()
    }

    fn cores(&self) -> (i64, i64) {
        (self.world.agents[0].held.cpu / 1000, self.world.agents[0].expected.cpu / 1000)
    }
}

#[test]
fn a_batch_has_its_order() {
    let mut bed = Bed::new();
    bed.event(WireEvent::Offers(vec![offer("O2", "B", 1)]), 0);
    bed.dispatch(Orders { launches: vec![bed.launch(1)], ..Orders::default() }, 10);
    bed.event(WireEvent::Offers(vec![offer("O3", "A", 3)]), 0);
    let (kills, launches) = (vec![bed.kill(1)], vec![bed.launch(2)]);
    let orders = Orders { kills, launches, release: vec![AgentIx(1)], recall: true, ..Orders::default() };
    assert_eq!(bed.dispatch(orders, 20), [Kind::Kill, Kind::Accept, Kind::Decline, Kind::Revive]);
    assert_eq!(bed.dispatch(Orders { quiet: true, ..Orders::default() }, 30), [Kind::Suppress]);
    assert_eq!(bed.dispatch(Orders { quiet: true, ..Orders::default() }, 40), []);
    assert_eq!(bed.dispatch(Orders { recall: true, ..Orders::default() }, 50), [Kind::Revive]);
}

#[test]
fn orders_are_booked_before_dispatch_returns() {
    let mut bed = Bed::new();
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 1)]), 0);
    let launches = vec![bed.launch(1), bed.launch(2)];
    bed.machine.dispatch(&Orders { launches, ..Orders::default() }, &mut bed.world, 10);
    assert_eq!(bed.cores(), (0, 3), "what is left over is expected");
    assert_eq!(bed.world.apps[&bed.app.key].tasks.len(), 2);
    let Call::Accept { accept } = &bed.machine.outbox[0] else { panic!("{:?}", bed.machine.outbox) };
    assert_eq!(accept.offer_ids.len(), 2, "crumbs are merged");
    let Operation::Launch { launch } = &accept.operations[0];
    assert_eq!((launch.task_infos.len(), accept.filters.refuse_seconds), (2, 0.0));
}

#[test]
fn room_is_asked_for_when_the_victim_has_ended_and_not_before() {
    let mut bed = Bed::new();
    bed.dispatch(Orders { launches: (1..=4).map(|n| bed.launch(n)).collect(), ..Orders::default() }, 10);
    bed.update(status(&bed.id(1), "TASK_RUNNING", "A"), 20);
    assert_eq!(bed.dispatch(Orders { kills: vec![bed.kill(1)], ..Orders::default() }, 30), [Kind::Kill]);
    bed.update(status(&bed.id(1), "TASK_KILLED", "A"), 40);
    assert_eq!(bed.cores(), (0, 1));
    assert_eq!(bed.dispatch(Orders { recall: true, ..Orders::default() }, 40), [Kind::Revive]);
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 1)]), 42);
    assert_eq!(bed.cores(), (1, 0));
}

#[test]
fn a_launch_without_room_is_told_to_be_dropped() {
    let mut bed = Bed::new();
    bed.event(WireEvent::Rescind("O1".into()), 5);
    assert_eq!(bed.dispatch(Orders { launches: vec![bed.launch(1)], ..Orders::default() }, 10), []);
    assert!(bed.machine.has_news() && bed.world.apps.is_empty());
    let endings = bed.machine.apply(Input::News, &mut bed.world, 10).endings;
    assert_eq!((endings[0].how, endings.len(), bed.machine.has_news()), (End::Dropped, 1, false));
}

#[test]
fn nothing_is_ordered_before_what_runs_is_known() {
    let mut bed = Bed { machine: Machine::new(&pool()), world: World::default(), app: one_core("web") };
    bed.subscribe(false, 30);
    // All that is not known, the end mark, and room.
    assert_eq!(bed.sent(), [Kind::Reconcile, Kind::Reconcile, Kind::Revive]);
    assert!(bed.machine.wants_inventory(30));
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 3)]), 31);
    assert_eq!(bed.dispatch(Orders { launches: vec![bed.launch(2)], ..Orders::default() }, 32), []);
    bed.update(answer(&bed.id(1), "TASK_RUNNING", Some("A")), 33);
    bed.machine.apply(Input::Inventory(Found::default()), &mut bed.world, 34);
    assert!(!bed.machine.standing().ready);
    bed.update(answer("microscaler-reconciled-1", "TASK_UNKNOWN", None), 35);
    assert!(bed.machine.standing().ready);
    assert_eq!(bed.world.apps[&bed.app.key].tasks[0].phase, TaskPhase::Running);
    assert_eq!(bed.dispatch(Orders { launches: vec![bed.launch(2)], ..Orders::default() }, 36), [Kind::Accept]);
}

#[test]
fn silence_of_missing_agents_is_waited_for_but_not_for_ever() {
    let mut bed = Bed::new();
    bed.dispatch(Orders { launches: vec![bed.launch(1)], ..Orders::default() }, 10);
    bed.machine.apply(Input::Disconnected { why: "gone".into(), tries: 1 }, &mut bed.world, 20);
    bed.subscribe(false, 1000);
    bed.machine.wants_inventory(1000);
    bed.machine.apply(Input::Inventory(Found::default()), &mut bed.world, 1001);
    bed.sent();
    let asked: Vec<_> = (1000..60_000).filter(|now| bed.tick(*now).contains(&Kind::Reconcile)).collect();
    assert!(bed.machine.standing().ready);
    // The round at 1 s, 2 s, 4 s … after, and the launch's own timer.
    assert_eq!(asked, [2000, 4000, 8000, 10_010, 16_000, 30_010, 32_000]);
    assert_eq!(bed.world.apps[&bed.app.key].tasks.len(), 1, "silence is not loss");
}

#[test]
fn an_agent_that_is_gone_takes_its_room_along() {
    let mut bed = Bed::new();
    let failure = Failure { agent_id: Some(Arc::<str>::from("A").into()), executor_id: None, status: None };
    bed.event(WireEvent::Failure(failure), 10);
    assert!(!bed.world.agents[0].present);
    assert_eq!(bed.cores(), (0, 0));
}

#[test]
fn a_taken_over_instance_orders_nothing() {
    let mut bed = Bed::new();
    bed.machine.apply(Input::Stalled("another instance has taken over".into()), &mut bed.world, 10);
    let standing = bed.machine.standing();
    assert!(standing.stalled && !standing.ready && !standing.connected);
    assert_eq!(bed.dispatch(Orders { launches: vec![bed.launch(1)], recall: true, ..Orders::default() }, 20), []);
    assert_eq!(bed.machine.tick(&mut bed.world, 1 << 40).1, None);
    assert_eq!(bed.sent(), []);
}

#[test]
fn unmet_want_starts_over() {
    let mut bed = Bed::new();
    bed.dispatch(Orders { recall: true, ..Orders::default() }, 100);
    assert_eq!(bed.tick(150), [Kind::Revive]);
    bed.tick(1150);
    assert_eq!(bed.tick(2100), [Kind::Decline, Kind::Revive]);
    assert_eq!(bed.cores(), (0, 4));
}

#[test]
fn crumbs_that_are_of_no_use_do_not_go_to_and_fro() {
    let mut bed = Bed::new();
    let orders = || Orders { release: vec![A], recall: true, ..Orders::default() };
    assert_eq!(bed.dispatch(orders(), 10), [Kind::Decline, Kind::Revive]);
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 4)]), 12);
    assert_eq!(bed.dispatch(orders(), 13), [Kind::Decline]);
    assert_eq!(bed.dispatch(orders(), 60), []);
    assert_eq!(bed.dispatch(Orders { recall: true, ..Orders::default() }, 200), [], "it is still of no use");
    let orders = Orders { recall: true, awaited: vec![A], ..Orders::default() };
    assert_eq!(bed.dispatch(orders, 210), [Kind::Revive], "something else wants it");
}

/// What the machine sends when its engine gives these orders whenever something happens, and each REVIVE brings `offers`.
#[test]
fn crumbs_are_asked_for_ever_less_often() {
    let mut bed = Bed::new();
    let orders = || Orders { release: vec![A], recall: true, ..Orders::default() };
    let mut revives = Vec::new();
    for now in 10..60_000 {
        let mut sent = bed.tick(now);
        if now % 500 == 10 {
            sent.extend(bed.dispatch(orders(), now));
        }
        if sent.contains(&Kind::Revive) {
            revives.push(now);
            bed.event(WireEvent::Offers(vec![offer(&format!("N{now}"), "A", 1)]), now);
            assert_eq!(bed.dispatch(orders(), now), [Kind::Decline]);
        }
    }
    assert!(revives.len() <= 7, "{revives:?}");
    bed.event(WireEvent::Offers(vec![offer("B1", "B", 1)]), 60_000);
    bed.dispatch(orders(), 60_000);
    assert_eq!(bed.tick(61_000), [Kind::Revive], "a new agent gives new hope");
}

#[test]
fn what_is_not_quiet_any_more_is_offered_room_again() {
    let mut bed = Bed::new();
    assert_eq!(bed.dispatch(Orders { quiet: true, ..Orders::default() }, 10), [Kind::Suppress]);
    assert!(bed.world.unsurveyed);
    assert_eq!(bed.dispatch(Orders::default(), 20), [Kind::Revive]);
    assert_eq!(bed.dispatch(Orders::default(), 30), []);
    assert_eq!(bed.machine.tick(&mut bed.world, 69).1, Some(70));
    assert!(bed.world.unsurveyed);
    assert!(bed.machine.tick(&mut bed.world, 70).0.decide && !bed.world.unsurveyed, "there is nothing");
}

#[test]
fn free_room_is_known_when_offers_have_come_after_a_revive() {
    let mut bed = Bed::new();
    assert!(!bed.world.unsurveyed);
    bed.dispatch(Orders { quiet: true, ..Orders::default() }, 10);
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 1)]), 11);
    assert!(bed.world.unsurveyed, "sent before it");
    bed.dispatch(Orders { recall: true, ..Orders::default() }, 20);
    bed.event(WireEvent::Offers(vec![offer("O3", "B", 1)]), 22);
    assert!(!bed.world.unsurveyed);
    bed.machine.apply(Input::Disconnected { why: "gone".into(), tries: 1 }, &mut bed.world, 30);
    bed.subscribe(false, 40);
    assert!(bed.world.unsurveyed);
}

#[test]
fn freed_room_is_asked_for_once_and_behind_the_launches() {
    let mut bed = Bed::new();
    bed.dispatch(Orders { launches: (1..=2).map(|n| bed.launch(n)).collect(), recall: true, ..Orders::default() }, 10);
    bed.event(WireEvent::Offers(vec![offer("O2", "A", 2)]), 12);
    bed.update(status(&bed.id(1), "TASK_KILLED", "A"), 40);
    assert_eq!(bed.tick(40), [], "orders are about to come");
    let orders = Orders { launches: vec![bed.launch(3)], recall: true, ..Orders::default() };
    assert_eq!(bed.dispatch(orders, 41), [Kind::Accept, Kind::Revive]);
    bed.event(WireEvent::Offers(vec![offer("O3", "B", 1)]), 42);
    bed.dispatch(Orders { recall: true, ..Orders::default() }, 42);
    assert_eq!(bed.tick(91), [Kind::Revive], "the room on the other agent has not come");
    bed.update(status(&bed.id(2), "TASK_KILLED", "A"), 200);
    assert_eq!(bed.machine.tick(&mut bed.world, 200).1, Some(205));
    assert_eq!(bed.tick(205), [Kind::Revive], "no orders came");
}

#[test]
fn tries_are_counted_in_words() {
    let words: Vec<_> = [1, 2, 3, 4, 11, 12, 21, 113].map(ordinal).to_vec();
    assert_eq!(words, ["1st try", "2nd try", "3rd try", "4th try", "11th try", "12th try", "21st try", "113th try"]);
}
