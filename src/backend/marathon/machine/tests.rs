use serde_json::{Value as Json, json};

use super::super::testing::{app, doc, pool, task};
use super::*;
use crate::backend::{End, Kill, Launch, Orders};
use crate::policy::resources::Resources;
use crate::policy::world::{AppView, Task, TaskPhase};

/// A machine with its world, and a Marathon that answers as a test says.
struct Scene {
    machine: Machine,
    world: World,
    now: Millis,
    serial: u64,
    applied: Applied,
}

impl Scene {
    /// With these apps; not connected.
    fn with(capacity: &str, specs: &[(&str, &str)]) -> Self {
        let machine = Machine::new(&pool(capacity));
        let mut scene = Self { machine, world: World::default(), now: 1000, serial: 0, applied: Applied::default() };
        scene.world.limits = Resources::UNLIMITED;
        specs.iter().for_each(|(name, spec)| scene.declare(name, spec));
        scene
    }

    /// Connected to a Marathon with these apps.
    fn start(specs: &[(&str, &str)], docs: &[Json]) -> Self {
        let mut scene = Self::with("{fixed: {cpu: 10, memory: 10Gi}}", specs);
        scene.connect();
        scene.answer_read(docs, &[]);
        scene.tick(0);
        scene
    }

    fn declare(&mut self, name: &str, spec: &str) {
        let spec = Arc::new(app(name, spec));
        let view = self.world.apps.entry(spec.key.clone()).or_default();
        (view.spec, view.deleted) = (Some(spec), false);
    }

    fn undeclare(&mut self, name: &str) {
        let view = self.world.apps.get_mut(&Key::new("default", name)).unwrap();
        (view.spec, view.deleted) = (None, true);
    }

    fn input(&mut self, input: Input) {
        self.applied = self.machine.apply(input, &mut self.world, self.now);
        self.tick(0);
    }

    fn tick(&mut self, later: Millis) -> Option<Millis> {
        self.now += later;
        let (applied, next) = self.machine.tick(&mut self.world, self.now);
        self.applied.endings.extend(applied.endings);
        self.applied.notes.extend(applied.notes);
        next
    }

    fn connect(&mut self) {
        self.tick(0);
        self.input(Input::Connected { leader: "http://m:8080/".to_owned(), info: Box::default() });
    }

    fn event(&mut self, event: Json) {
        self.input(Input::Wire(serde_json::from_value(event).unwrap()));
    }

    /// What a task of the app has come to.
    fn status(&mut self, app: &str, n: u32, status: &str) {
        let name = app.trim_start_matches('/').replace('/', "_");
        self.event(
            json!({"eventType": "status_update_event", "taskId": format!("{name}.instance-{n}._app.1"), "taskStatus": status,
            "appId": app, "slaveId": "A", "host": "h", "message": "", "version": "2026-11-22T20:30:39.969Z",
            "timestamp": format!("2026-11-22T20:32:{n:02}.000Z")}),
        );
    }

    /// The requests since this was last asked, without those that only look.
    fn requests(&mut self) -> Vec<Request> {
        let sent: Vec<_> = self.machine.outbox.extract_if(.., |sent| sent.request != Request::Read).collect();
        self.serial = sent.last().map_or(self.serial, |sent| sent.serial);
        sent.into_iter().map(|sent| sent.request).collect()
    }

    fn request(&mut self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// To the last of them.
    fn answer(&mut self, answer: Answer) {
        self.input(Input::Answered { serial: self.serial, answer });
    }

    fn done(&mut self) {
        self.answer(Answer::Done { deployment: Some("ours".into()) });
    }

    /// Waits until it is read again, and answers that.
    fn reread(&mut self, docs: &[Json], queue: &[Json]) {
        for _ in 0..100 {
            if self.machine.outbox.iter().any(|sent| sent.request == Request::Read) {
                return self.answer_read(docs, queue);
            }
            self.tick(200);
        }
        panic!("it is not read again");
    }

    fn answer_read(&mut self, docs: &[Json], queue: &[Json]) {
        let at = self.machine.outbox.iter().position(|sent| sent.request == Request::Read).unwrap();
        let serial = self.machine.outbox.remove(at).serial;
        let from = |value: &Json| serde_json::from_value(value.clone()).unwrap();
        let queue = queue.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect();
        self.input(Input::Read { serial, result: Ok(Snapshot { apps: docs.iter().map(from).collect(), queue }) });
    }

    fn view(&self, name: &str) -> &AppView {
        &self.world.apps[&Key::new("default", name)]
    }

    fn tasks(&self, name: &str) -> &[Task] {
        &self.view(name).tasks
    }

    /// `(starting, running, stopping)`
    fn counts(&self, name: &str) -> (usize, usize, usize) {
        let count = |phase| self.tasks(name).iter().filter(|task| task.phase == phase).count();
        (count(TaskPhase::Starting), count(TaskPhase::Running), count(TaskPhase::Stopping))
    }

    fn order(&mut self, launches: &[(&str, usize)], kills: &[(&str, usize)]) {
        let mut orders = Orders::default();
        for (name, count) in launches {
            let spec = self.view(name).spec.clone().unwrap();
            for n in 0..*count {
                let id = format!("launch-{}-{n}", self.now).into();
                orders.launches.push(Launch { id, app: spec.clone(), agent: AgentIx(0) });
            }
        }
        for (name, count) in kills {
            let live = |task: &&Task| matches!(task.phase, TaskPhase::Running | TaskPhase::Starting);
            let ids = self.tasks(name).iter().filter(live).rev().take(*count).map(|task| task.id.clone());
            let app = Key::new("default", name);
            orders.kills.extend(ids.map(|id| Kill { app: app.clone(), id, grace_ms: None }));
        }
        self.machine.dispatch(&orders, &mut self.world, self.now);
    }

    fn noted(&self, reason: &str) -> bool {
        self.applied.notes.iter().any(|note| note.reason == reason)
    }

    fn trouble(&self, name: &str) -> Option<&'static str> {
        self.view(name).trouble.as_ref().map(|trouble| trouble.word)
    }
}

/// The document of an app with so many running tasks.
fn running(id: &str, instances: i64, running: u32) -> Json {
    let mut doc = doc(id, instances);
    doc["tasks"] = (1..=running).map(|n| task(id, n, "A", "TASK_RUNNING")).collect();
    doc
}

fn scale(apps: &[(&str, i64)]) -> Request {
    Request::Scale(apps.iter().map(|(id, instances)| ((*id).into(), *instances)).collect())
}

const ADOPTED: &str = "{marathonApp: /web}";
const OTHER: &str = "{marathonApp: /low}";
const OWN: &str = "{template: {shell: x, resources: {cpu: 1, memory: 64Mi}}}";

#[test]
fn a_restart_takes_over_what_is_there_and_asks_for_nothing() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 3, 2)]);
    assert!(scene.machine.standing().ready);
    assert_eq!(scene.counts("web"), (1, 2, 0), "one more is asked for already, and waits");
    assert_eq!(scene.requests(), []);
    assert_eq!(scene.view("web").spec.as_ref().unwrap().size, Resources::new(1000, 64), "Marathon's");
    assert_eq!(scene.world.agents[0].held, Resources::new(7000, 10 * 1024 - 3 * 64));
}

#[test]
fn a_swap_is_one_request_and_nothing_is_counted_twice() {
    let mut scene = Scene::start(&[("web", ADOPTED), ("low", OTHER)], &[running("/web", 1, 1), running("/low", 2, 2)]);
    scene.order(&[("web", 1)], &[("low", 1)]);
    assert_eq!(scene.request(), scale(&[("/low", 1), ("/web", 2)]));
    assert_eq!((scene.counts("web"), scene.counts("low")), ((1, 1, 0), (0, 1, 1)));
    let before = scene.world.agents[0].held;
    scene.done();
    scene.status("/low", 2, "TASK_KILLED");
    assert_eq!(scene.applied.endings[0].how, End::Killed);
    scene.status("/web", 2, "TASK_STARTING");
    assert_eq!((scene.counts("web"), scene.counts("low")), ((1, 1, 0), (0, 1, 0)));
    scene.status("/web", 2, "TASK_RUNNING");
    assert_eq!((scene.counts("web"), scene.requests()), ((0, 2, 0), vec![]));
    assert_eq!(scene.world.agents[0].held, before + Resources::new(1000, 64));
    assert_eq!(scene.machine.launches.len(), 1);
}

#[test]
fn a_launch_is_timed_from_its_own_request() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 1, 1)]);
    scene.order(&[("web", 1)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 2)]));
    scene.status("/web", 2, "TASK_RUNNING");
    scene.done();
    assert!(scene.machine.launches.is_empty(), "it ran before the answer: nobody waits for it");
    scene.tick(5000);
    scene.order(&[("web", 1)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 3)]));
    scene.done();
    scene.tick(100);
    scene.status("/web", 3, "TASK_RUNNING");
    assert_eq!(scene.machine.launches, [Duration::from_millis(100)]);
}

#[test]
fn the_newest_wish_goes_next_and_one_at_a_time() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 1, 1)]);
    scene.order(&[("web", 1)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 2)]));
    scene.tick(10);
    scene.order(&[("web", 1)], &[]);
    scene.tick(10);
    scene.order(&[("web", 2)], &[]);
    assert_eq!(scene.requests(), [], "the first is on its way");
    scene.done();
    assert_eq!(scene.request(), scale(&[("/web", 5)]));
}

#[test]
fn an_unplaced_instance_costs_no_running_one() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.order(&[("web", 3)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 5)]));
    scene.done();
    scene.order(&[], &[]);
    // Those that wait are not wanted any more.
    let waiting: Vec<_> =
        scene.tasks("web").iter().filter(|task| task.phase == TaskPhase::Starting).map(|task| task.id.clone()).collect();
    let kills = waiting.into_iter().map(|id| Kill { app: Key::new("default", "web"), id, grace_ms: None }).collect();
    scene.machine.dispatch(&Orders { kills, ..Orders::default() }, &mut scene.world, scene.now);
    assert_eq!((scene.counts("web"), scene.requests()), ((0, 2, 0), vec![]), "a lower number would end the two that run");
    // One finds a place after all: it ends by name.
    scene.status("/web", 7, "TASK_RUNNING");
    let Request::Shrink(ids) = scene.request() else { panic!() };
    assert_eq!((ids, scene.counts("web")), (vec!["web.instance-7._app.1".into()], (0, 2, 1)));
    scene.done();
    scene.status("/web", 7, "TASK_KILLED");
    scene.reread(&[running("/web", 4, 2)], &[json!({"app": {"id": "/web"}, "count": 2})]);
    assert_eq!((scene.counts("web"), scene.trouble("web")), ((0, 2, 0), Some("Surplus")));
    assert_eq!(scene.requests(), []);
}

#[test]
fn an_answer_that_is_lost_is_read_before_anything_is_asked_again() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 1, 1)]);
    scene.order(&[("web", 2)], &[]);
    scene.request();
    scene.answer(Answer::Unknown { message: "503".to_owned(), retry_in_ms: 100 });
    scene.tick(50);
    assert_eq!(scene.requests(), []);
    scene.reread(&[running("/web", 3, 1)], &[json!({"app": {"id": "/web"}, "count": 2})]);
    assert_eq!(scene.requests(), [], "it was done");
    assert!(!scene.noted("PutBack"), "and it was us");
    scene.order(&[("web", 1)], &[]);
    scene.request();
    scene.answer(Answer::Unknown { message: "503".to_owned(), retry_in_ms: 100 });
    scene.reread(&[running("/web", 3, 1)], &[json!({"app": {"id": "/web"}, "count": 2})]);
    scene.tick(100);
    assert_eq!(scene.request(), scale(&[("/web", 4)]), "it was not");
}

#[test]
fn what_is_locked_is_asked_again_later() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 1, 1)]);
    scene.order(&[("web", 1)], &[]);
    scene.request();
    scene.answer(Answer::Later { message: "409".to_owned(), retry_in_ms: 300 });
    scene.tick(200);
    assert_eq!(scene.requests(), []);
    scene.tick(200);
    assert_eq!(scene.request(), scale(&[("/web", 2)]));
}

#[test]
fn one_app_that_is_refused_does_not_hold_up_the_others() {
    let mut scene = Scene::start(&[("web", ADOPTED), ("low", OTHER)], &[running("/web", 1, 1), running("/low", 1, 1)]);
    let docs = [running("/web", 1, 1), running("/low", 1, 1)];
    scene.order(&[("web", 1), ("low", 1)], &[]);
    scene.request();
    scene.answer(Answer::Refused { status: 422, message: "Object is not valid".to_owned() });
    scene.reread(&docs, &[]);
    assert_eq!(scene.request(), scale(&[("/low", 2)]));
    scene.answer(Answer::Refused { status: 422, message: "Object is not valid".to_owned() });
    scene.reread(&docs, &[]);
    assert_eq!((scene.request(), scene.trouble("low")), (scale(&[("/web", 2)]), Some("Refused")));
}

#[test]
fn a_task_that_fails_is_told_and_marathon_starts_another() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.status("/web", 1, "TASK_FAILED");
    assert_eq!(scene.applied.endings.iter().map(|ending| ending.how).collect::<Vec<_>>(), [End::Failed]);
    assert_eq!((scene.counts("web"), scene.requests()), ((1, 1, 0), vec![]));
    // The same, by the instance: nothing new.
    scene.event(json!({"eventType": "instance_changed_event", "instanceId": "web.instance-1", "condition": "Failed",
        "runSpecId": "/web", "timestamp": "2026-11-22T20:32:00.000Z"}));
    assert_eq!((scene.applied.endings.len(), scene.counts("web")), (0, (1, 1, 0)));
    scene.status("/web", 1, "TASK_RUNNING");
    assert_eq!(scene.counts("web"), (0, 2, 0));
}

#[test]
fn what_has_happened_while_it_was_read_is_not_forgotten() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.tick(READ_EVERY_MS);
    scene.status("/web", 1, "TASK_KILLED");
    let told = scene.applied.endings.len();
    scene.status("/web", 3, "TASK_RUNNING");
    scene.answer_read(&[running("/web", 2, 2)], &[]);
    let ids: Vec<_> = scene.tasks("web").iter().map(|task| task.id.to_string()).collect();
    assert_eq!(ids, ["web.instance-2._app.1", "web.instance-3._app.1"]);
    assert_eq!((told, scene.applied.endings.len()), (1, 0), "its end was told once");
    scene.reread(&[running("/web", 2, 0)], &[]);
    assert_eq!(scene.applied.endings.len(), 2, "both are gone, and nobody has told");
}

#[test]
fn a_hand_edit_is_put_back_and_ever_later() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.event(json!({"eventType": "deployment_info", "plan": {"id": "theirs", "steps": [{"actions": [{"app": "/web"}]}]}}));
    scene.reread(&[running("/web", 5, 2)], &[]);
    assert!(scene.noted("PutBack"));
    assert_eq!(scene.requests(), [], "three wait, which nothing takes back");
    scene.reread(&[running("/web", 1, 1)], &[]);
    assert_eq!(scene.requests(), [], "not at once the second time");
    scene.tick(1500);
    assert_eq!(scene.request(), scale(&[("/web", 2)]));
}

#[test]
fn a_hand_edit_is_put_back_once_where_the_spec_yields() {
    let spec = "{marathonApp: /web, marathon: {onConflict: Yield}}";
    let mut scene = Scene::start(&[("web", spec)], &[running("/web", 2, 2)]);
    scene.reread(&[running("/web", 1, 1)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 2)]));
    scene.done();
    scene.reread(&[running("/web", 3, 3)], &[]);
    assert!(scene.noted("Conflict"));
    assert_eq!((scene.trouble("web"), scene.counts("web"), scene.requests()), (Some("Conflict"), (0, 3, 0), vec![]));
    let newer = Arc::new(crate::api::validated::App { generation: 2, ..app("web", spec) });
    scene.world.apps.get_mut(&Key::new("default", "web")).unwrap().spec = Some(newer);
    scene.tick(1);
    assert_eq!(scene.trouble("web"), None);
}

#[test]
fn an_observed_app_is_left_to_others() {
    let mut scene = Scene::start(&[("web", "{marathonApp: /web, mode: Observe}")], &[running("/web", 2, 2)]);
    scene.reread(&[running("/web", 4, 3)], &[]);
    assert_eq!((scene.counts("web"), scene.requests(), scene.noted("PutBack")), ((1, 3, 0), vec![], false));
}

#[test]
fn an_app_of_ours_is_made_changed_and_deleted() {
    let mut scene = Scene::start(&[("web", OWN)], &[]);
    assert_eq!(scene.trouble("web"), None);
    scene.order(&[("web", 2)], &[]);
    let Request::Create(definition) = scene.request() else { panic!() };
    assert_eq!((&definition["id"], &definition["instances"]), (&json!("/default/web"), &json!(2)));
    scene.done();
    assert_eq!((scene.counts("web"), scene.requests()), ((2, 0, 0), vec![]));
    let made = |instances: i64, count: u32, labels: &Json| {
        let mut doc = running("/default/web", instances, count);
        doc["labels"] = labels.clone();
        doc
    };
    let labels = definition["labels"].clone();
    scene.reread(&[made(2, 2, &labels)], &[]);
    assert_eq!((scene.counts("web"), scene.requests()), ((0, 2, 0), vec![]));

    scene.declare("web", &OWN.replace("shell: x", "shell: y"));
    scene.tick(1);
    let Request::Update(id, changed) = scene.request() else { panic!() };
    assert_eq!((&*id, &changed["instances"], &changed["cmd"]), ("/default/web", &json!(2), &json!("y")));
    scene.done();
    scene.reread(&[made(2, 2, &changed["labels"])], &[]);
    assert_eq!(scene.requests(), []);

    scene.undeclare("web");
    scene.tick(1);
    assert_eq!(scene.request(), Request::Delete("/default/web".into()));
    scene.done();
    assert_eq!(scene.counts("web"), (0, 0, 2));
    scene.status("/default/web", 1, "TASK_KILLED");
    scene.status("/default/web", 2, "TASK_KILLED");
    scene.reread(&[], &[]);
    scene.tick(1);
    assert!(scene.world.apps.is_empty() && scene.requests().is_empty());
}

#[test]
fn an_app_of_ours_that_nobody_declares_is_deleted_only_when_all_specs_are_known() {
    let labels = json!({"MICROSCALER_APP": "default/old", "MICROSCALER_POOL": "default/main", "MICROSCALER_VERSION": "x"});
    let doc = |pool: &str| {
        let mut doc = running("/old", 1, 1);
        doc["labels"] = labels.clone();
        doc["labels"]["MICROSCALER_POOL"] = json!(pool);
        doc
    };
    let mut scene = Scene::start(&[], &[doc("default/main")]);
    assert_eq!((scene.counts("old"), scene.requests()), ((0, 1, 0), vec![]));
    scene.world.end_orphans = true;
    scene.tick(1);
    assert_eq!(scene.request(), Request::Delete("/old".into()));
    let mut scene = Scene::start(&[], &[doc("default/other")]);
    scene.world.end_orphans = true;
    scene.tick(1);
    assert!(scene.requests().is_empty(), "another pool's");
}

#[test]
fn an_app_of_ours_is_drained_without_its_spec() {
    let labels = json!({"MICROSCALER_APP": "default/old", "MICROSCALER_POOL": "default/main", "MICROSCALER_VERSION": "x"});
    let mut ours = running("/old", 2, 2);
    ours["labels"] = labels;
    let mut scene = Scene::start(&[], &[ours]);
    scene.order(&[], &[("old", 2)]);
    assert_eq!(scene.request(), scale(&[("/old", 0)]));
}

#[test]
fn a_rollover_without_room_for_one_more_goes_on_in_place() {
    let doc = |version: &Json, deploys: bool| {
        let mut doc = running("/default/web", 2, 2);
        doc["labels"] =
            json!({"MICROSCALER_APP": "default/web", "MICROSCALER_POOL": "default/main", "MICROSCALER_VERSION": version});
        if deploys {
            doc["versionInfo"]["lastConfigChangeAt"] = json!("2026-11-22T21:00:00.000Z");
            doc["deployments"] = json!([{"id": "ours"}]);
        }
        doc
    };
    let mut scene = Scene::start(&[("web", OWN)], &[doc(&json!("old"), false)]);
    let Request::Update(_, changed) = scene.request() else { panic!() };
    scene.done();
    let version = &changed["labels"]["MICROSCALER_VERSION"];
    let queued = json!({"app": {"id": "/default/web"}, "count": 2});
    scene.reread(&[doc(version, true)], std::slice::from_ref(&queued));
    assert_eq!(scene.requests(), [], "it may be on its way");
    let since = scene.now;
    let asked = (0..20).find_map(|_| {
        scene.reread(&[doc(version, true)], std::slice::from_ref(&queued));
        scene.requests().pop()
    });
    assert_eq!(asked, Some(Request::Replace("default_web.instance-2._app.1".into())), "the one that Marathon would end next");
    assert!(scene.now - since >= 15_000, "{}", scene.now - since);
    scene.done();
    assert_eq!(scene.counts("web"), (1, 1, 1), "another is to come in its place");
    scene.reread(&[doc(version, true)], std::slice::from_ref(&queued));
    assert_eq!(scene.requests(), [], "one is on its way out");
}

#[test]
fn an_adopted_app_whose_spec_is_gone_stays_as_it_is() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.undeclare("web");
    scene.tick(1);
    assert!(scene.world.apps.is_empty() && scene.requests().is_empty());
}

#[test]
fn what_stands_in_the_way_is_said_and_nothing_is_done() {
    let specs = [
        ("none", "{marathonApp: /none}"),
        ("theirs", OWN),
        ("pooled", &OWN.replace("shell", "launch: pooled, shell")),
        ("twin", OTHER),
        ("low", OTHER),
    ];
    let mut scene = Scene::start(&specs, &[running("/default/theirs", 1, 1), running("/low", 1, 1)]);
    let said = ["none", "theirs", "pooled", "twin", "low"].map(|name| scene.trouble(name));
    assert_eq!(said, [Some("NoSuchApp"), Some("NotOurs"), Some("NotOnMarathon"), Some("SameApp"), None]);
    assert_eq!(scene.requests(), []);
}

#[test]
fn a_delay_is_ended_and_a_standstill_is_nudged_each_only_so_often() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 1, 1)]);
    scene.order(&[("web", 2)], &[]);
    scene.request();
    scene.done();
    let delayed = json!({"app": {"id": "/web"}, "count": 2, "delay": {"timeLeftSeconds": 60, "overdue": false}});
    for _ in 0..6 {
        scene.reread(&[running("/web", 3, 1)], std::slice::from_ref(&delayed));
    }
    let resets = scene.requests();
    assert_eq!(resets, vec![Request::ResetDelay("/web".into()); 3]);
    scene.tick(LOOK_CLOSER_MS * 5);
    assert_eq!(scene.trouble("web"), Some("Delayed"));
    // Nothing is under way, and nothing waits.
    let mut nudges = Vec::new();
    for _ in 0..30 {
        scene.reread(&[running("/web", 3, 1)], &[]);
        for request in scene.requests() {
            nudges.push(request);
            scene.done();
        }
    }
    assert_eq!(nudges, [2, 3, 2, 3, 2, 3].map(|instances| scale(&[("/web", instances)])));
}

#[test]
fn chosen_victims_end_by_name() {
    let spec = "{marathonApp: /web, marathon: {victims: LeastLostWork}}";
    let mut scene = Scene::start(&[("web", spec)], &[running("/web", 3, 3)]);
    let kill = Kill { app: Key::new("default", "web"), id: "web.instance-1._app.1".into(), grace_ms: None };
    scene.machine.dispatch(&Orders { kills: vec![kill], ..Orders::default() }, &mut scene.world, scene.now);
    assert_eq!(scene.request(), Request::Shrink(vec!["web.instance-1._app.1".into()]));
    assert_eq!(scene.counts("web"), (0, 2, 1));
    scene.done();
    scene.status("/web", 1, "TASK_KILLED");
    scene.reread(&[running("/web", 2, 0)], &[]);
    assert_eq!(scene.requests(), []);
}

#[test]
fn while_marathon_is_away_nothing_is_done_and_all_is_kept() {
    let mut scene = Scene::start(&[("web", ADOPTED)], &[running("/web", 2, 2)]);
    scene.input(Input::Disconnected { why: "closed".to_owned(), tries: 1 });
    assert_eq!((scene.machine.standing().ready, scene.counts("web")), (false, (0, 2, 0)));
    scene.order(&[("web", 1)], &[]);
    scene.tick(300_000);
    assert_eq!(scene.requests(), []);
    scene.connect();
    assert!(!scene.machine.standing().ready, "not before it is read");
    scene.answer_read(&[running("/web", 2, 2)], &[]);
    assert_eq!((scene.machine.standing().ready, scene.counts("web"), scene.requests()), (true, (0, 2, 0), vec![]));
}

#[test]
fn replicas_whose_room_others_have_taken_are_taken_off_the_books() {
    let mut scene = Scene::with("{mesos: ['http://127.0.0.1:1']}", &[("web", ADOPTED)]);
    scene.connect();
    let agent = |used: i64| Agent {
        id: "A".into(),
        total: Resources::new(4000, 4096),
        used: Resources::new(used, 64),
        active: true,
        ..Agent::default()
    };
    scene.input(Input::Agents(Ok(vec![agent(1000)])));
    scene.answer_read(&[running("/web", 1, 1)], &[]);
    scene.requests();
    scene.order(&[("web", 2)], &[]);
    assert_eq!(scene.request(), scale(&[("/web", 3)]));
    scene.done();
    scene.tick(16_000);
    assert_eq!(scene.counts("web"), (2, 1, 0), "there is room, and so they wait");
    scene.input(Input::Agents(Ok(vec![agent(4000)])));
    assert_eq!(scene.counts("web"), (0, 1, 0));
    assert_eq!(scene.applied.endings.iter().map(|ending| ending.how).collect::<Vec<_>>(), [End::Dropped; 2]);
    assert!(scene.world.futile_until > scene.now);
}

#[test]
fn a_replica_is_expected_where_marathon_leaves_room_for_it() {
    let mut scene = Scene::with("{mesos: ['http://127.0.0.1:1']}", &[("web", ADOPTED), ("low", OTHER)]);
    scene.connect();
    let agent = |id: &str| Agent { id: id.into(), total: Resources::new(2000, 4096), active: true, ..Agent::default() };
    scene.input(Input::Agents(Ok(vec![agent("A"), agent("B")])));
    scene.answer_read(&[running("/web", 0, 0), running("/low", 0, 0)], &[]);
    scene.order(&[("web", 1)], &[]);
    assert_eq!(scene.tasks("web")[0].agent, AgentIx(0));
    scene.order(&[("low", 2)], &[]);
    scene.status("/low", 1, "TASK_RUNNING");
    scene.status("/low", 2, "TASK_RUNNING");
    assert_eq!(scene.tasks("web")[0].agent, AgentIx(1));
    assert_eq!([0, 1].map(|ix| scene.world.agents[ix].held.cpu), [0, 1000]);
}
