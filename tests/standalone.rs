//! `microscaler run` on a real Mesos, as a framework and through a Marathon: what users count on.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use microscaler::api::status::Phase;
use microscaler_testbed::{Agent, Cluster};
use support::place::{Kind, pool, pool_with};
use support::{PUSHED, REMAINDER, SLOT, Scaler, alive, app, cluster, is_of, microscaler, running, sleeper, wait_for};

scenarios! {
    on_both: [
        a_rush_takes_room_and_gives_it_back,
        floors_are_kept_and_more_important_work_is_served_first,
        placement_is_kept,
        a_changed_template_rolls_over_without_a_gap,
        a_rollover_in_a_full_pool_goes_on_in_place,
        deleting_an_app_ends_its_tasks_and_no_others,
        a_crash_loop_backs_off_and_harms_nobody_else,
        a_bad_file_keeps_the_last_good_spec_and_says_so,
        a_slip_ends_nothing,
        a_file_that_is_bad_from_the_start_ends_no_task,
        a_polled_document_drives_and_its_loss_holds,
        a_simulated_load_drives,
        ports_and_environment_reach_the_task,
        observe_reports_but_does_nothing_and_suspend_freezes,
        limits_of_the_pool_are_kept,
        verbs_tell_the_truth,
        drain_without_a_running_one_ends_what_was_left,
    ],
    on_mesos_alone: {
        tasks_tell_in_mesos_what_they_are: "names and labels of tasks are Marathon's own there",
        a_pool_that_is_connected_anew_uses_no_task_id_twice: "ids of tasks are Marathon's own there",
        headroom_of_the_pool_is_kept: "room is held in offers, which Marathon has",
        a_master_that_asks_for_credentials_gets_them: "the framework is Marathon's; its own credentials are in tests/marathon.rs",
    },
}

fn a_rush_takes_room_and_gives_it_back(kind: Kind) {
    let mesos = kind.cluster(2);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("search.yaml", &sleeper("search", &format!("priority: 1\nminReplicas: 2\nmaxReplicas: 12\n{PUSHED}"))),
            ("fulfilment.yaml", &sleeper("fulfilment", &format!("priority: 5\nminReplicas: 2\n{REMAINDER}"))),
        ],
    );
    scaler.settle(&mesos, &[("search", 2), ("fulfilment", 14)]);
    let before = running(&mesos, "search");

    scaler.push("search", "load", 100.0);
    scaler.settle(&mesos, &[("search", 10), ("fulfilment", 6)]);
    let during = running(&mesos, "search");
    assert!(before.iter().all(|task| during.contains(task)), "growth left what ran alone");

    scaler.push("search", "load", 1000.0);
    scaler.settle(&mesos, &[("search", 12), ("fulfilment", 4)]);

    scaler.push("search", "load", 0.0);
    scaler.settle(&mesos, &[("search", 2), ("fulfilment", 14)]);
    assert_eq!(alive(&mesos).len(), 16, "the pool is full and nothing else lives");
}

fn tasks_tell_in_mesos_what_they_are() {
    let mesos = cluster(1);
    let scaler = Scaler::start(&mesos, &[("web.yaml", &sleeper("web", "priority: 7\nreplicas: 1"))]);
    scaler.settle(&mesos, &[("web", 1)]);
    let task = mesos.tasks().unwrap().into_iter().find(|task| task.name == "web").unwrap();
    assert!(task.id.starts_with("default.web."), "{}", task.id);
    let label = |key: &str| task.labels.get(key).cloned();
    assert_eq!(label("microscaling.dev/namespace").as_deref(), Some("default"));
    assert_eq!(label("microscaling.dev/app").as_deref(), Some("web"));
    assert_eq!(label("microscaling.dev/priority").as_deref(), Some("7"));
    assert!(label("microscaling.dev/version").is_some());
}

fn floors_are_kept_and_more_important_work_is_served_first(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("a.yaml", &sleeper("a", &format!("priority: 1\n{PUSHED}"))),
            ("b.yaml", &sleeper("b", &format!("priority: 2\nminReplicas: 3\n{PUSHED}"))),
        ],
    );
    scaler.push("b", "load", 80.0);
    scaler.push("a", "load", 20.0);
    scaler.settle(&mesos, &[("a", 2), ("b", 6)]);
    scaler.push("a", "load", 80.0);
    scaler.settle(&mesos, &[("a", 5), ("b", 3)]);
    let status = scaler.app("a").unwrap().status.unwrap();
    assert_eq!((status.wanted, status.phase), (8, Some(Phase::CapacityLimited)));
    assert!(status.reason.contains("8 wanted, 5 granted"), "{}", status.reason);
}

fn placement_is_kept(kind: Kind) {
    let mesos = kind.cluster(4);
    let only = |rack: &str, replicas: u32| {
        format!("replicas: {replicas}\nplacement:\n  where: [{{attribute: rack, operator: In, values: [{rack}]}}]")
    };
    let scaler = Scaler::start(
        &mesos,
        &[
            ("zero.yaml", &sleeper("zero", &only("r0", 15))),
            ("one.yaml", &sleeper("one", &only("r1", 15))),
            ("none.yaml", &sleeper("none", &only("r9", 1))),
        ],
    );
    scaler.settle(&mesos, &[("zero", 15), ("one", 15)]);
    let agents: Vec<String> = (0..4).map(|i| mesos.agent(i).id().unwrap()).collect();
    let rack = |agent: &str| agents.iter().position(|id| id == agent).map(|i| i % 2);
    let racks = |name: &str| {
        let mut racks: Vec<Option<usize>> =
            mesos.tasks().unwrap().iter().filter(|task| is_of(task, name)).map(|task| rack(&task.agent_id)).collect();
        racks.sort_unstable();
        racks
    };
    assert_eq!((racks("zero"), racks("one")), (vec![Some(0); 15], vec![Some(1); 15]));
    scaler.wait("the reason to be told", || scaler.reason("none").contains("no agent"));

    // Marathon learns of racks from what it is offered, and may use one of them alone. Here it has to use both, and so it knows of both.
    let spread = |replicas: u32| sleeper("two", &format!("replicas: {replicas}\nplacement: {{spread: rack}}"));
    scaler.write("two.yaml", &spread(2));
    scaler.settle(&mesos, &[("two", 2)]);
    assert_eq!(racks("two"), [Some(0), Some(1)], "each rack has room for one");
    scaler.write("zero.yaml", &sleeper("zero", &only("r0", 1)));
    scaler.write("one.yaml", &sleeper("one", &only("r1", 8)));
    scaler.settle(&mesos, &[("zero", 1), ("one", 8)]);
    scaler.write("two.yaml", &spread(6));
    scaler.settle(&mesos, &[("two", 6)]);
    assert_eq!(racks("two"), [0, 0, 0, 1, 1, 1].map(Some), "as many on each rack");
}

fn a_changed_template_rolls_over_without_a_gap(kind: Kind) {
    let mesos = kind.cluster(1);
    let with =
        |word: &str| app("web", "replicas: 4", SLOT, &format!("shell: exec sleep 100000\nenv: [{{name: WORD, value: {word}}}]"));
    let scaler = Scaler::start(&mesos, &[("web.yaml", &with("old"))]);
    scaler.settle(&mesos, &[("web", 4)]);
    let old: BTreeSet<String> = running(&mesos, "web").into_iter().collect();

    scaler.write("web.yaml", &with("new"));
    let mut fewest = usize::MAX;
    let mut most = 0;
    wait_for("all tasks to be new", || {
        let now = running(&mesos, "web");
        fewest = fewest.min(now.len());
        most = most.max(alive(&mesos).len());
        (now.len() == 4 && now.iter().all(|task| !old.contains(task))).then_some(())
    });
    assert!(fewest >= 4, "never fewer than four ran, but {fewest} did");
    assert!(most <= 6, "at most one extra at a time (and one that is just ending), but {most} lived");
    scaler.settle(&mesos, &[("web", 4)]);
}

fn a_rollover_in_a_full_pool_goes_on_in_place(kind: Kind) {
    let mesos = kind.cluster(1);
    let with =
        |word: &str| app("rest", REMAINDER, SLOT, &format!("shell: exec sleep 100000\nenv: [{{name: WORD, value: {word}}}]"));
    let scaler = Scaler::start(&mesos, &[("rest.yaml", &with("old"))]);
    scaler.settle(&mesos, &[("rest", 8)]);
    let old = running(&mesos, "rest");
    scaler.write("rest.yaml", &with("new"));
    scaler.wait("all tasks to be new", || {
        let now = running(&mesos, "rest");
        now.len() == 8 && now.iter().all(|task| !old.contains(task))
    });
}

fn deleting_an_app_ends_its_tasks_and_no_others(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler = Scaler::start(&mesos, &[("a.yaml", &sleeper("a", "replicas: 3")), ("b.yaml", &sleeper("b", "replicas: 2"))]);
    scaler.settle(&mesos, &[("a", 3), ("b", 2)]);
    let b = running(&mesos, "b");
    scaler.remove("a.yaml");
    scaler.wait("the tasks to end", || running(&mesos, "a").is_empty() && scaler.app("a").is_none());
    assert_eq!(running(&mesos, "b"), b);
    scaler.wait("the processes to end", || mesos.processes().len() == 2);
}

fn a_crash_loop_backs_off_and_harms_nobody_else(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("bad.yaml", &app("bad", "priority: 1\nreplicas: 1", SLOT, "shell: exit 3")),
            ("good.yaml", &sleeper("good", "replicas: 2")),
        ],
    );
    scaler.settle(&mesos, &[("good", 2)]);
    let good = running(&mesos, "good");
    scaler.wait("the loop to be seen", || scaler.app("bad").and_then(|app| app.status?.phase) == Some(Phase::Failed));
    assert!(scaler.reason("bad").contains("status 3"), "{}", scaler.reason("bad"));
    std::thread::sleep(Duration::from_secs(4));
    let tries = mesos.tasks().unwrap().iter().filter(|task| is_of(task, "bad")).count();
    assert!((2..=8).contains(&tries), "{tries} tries");
    assert_eq!(running(&mesos, "good"), good);

    // A new template gets a new chance at once.
    scaler.write("bad.yaml", &sleeper("bad", "priority: 1\nreplicas: 1"));
    scaler.settle(&mesos, &[("bad", 1)]);
}

fn a_bad_file_keeps_the_last_good_spec_and_says_so(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler =
        Scaler::start(&mesos, &[("web.yaml", &sleeper("web", "replicas: 3")), ("other.yaml", &sleeper("other", "replicas: 1"))]);
    scaler.settle(&mesos, &[("web", 3), ("other", 1)]);
    let before = running(&mesos, "web");

    scaler.write("web.yaml", &sleeper("web", "replicas: 3\nminReplicas: 50\nmaxReplicas: 40"));
    scaler.wait("the problem to be told", || scaler.reason("web").contains("50 is more than maxReplicas (40)"));
    let stalled =
        scaler.app("web").unwrap().status.unwrap().conditions.into_iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "BadSpec"));
    assert!(stalled.message.contains("web.yaml:"), "{}", stalled.message);

    scaler.write("web.yaml", "spec: [not yaml\n");
    scaler.write("other.yaml", &sleeper("other", "replicas: 2"));
    scaler.settle(&mesos, &[("other", 2)]);
    assert_eq!(running(&mesos, "web"), before, "nothing was lost");

    scaler.write("web.yaml", &sleeper("web", "replicas: 4"));
    scaler.settle(&mesos, &[("web", 4)]);
    assert!(before.iter().all(|task| running(&mesos, "web").contains(task)));
}

fn a_slip_ends_nothing(kind: Kind) {
    let mesos = kind.cluster(1);
    let web = sleeper("web", "replicas: 3");
    let scaler = Scaler::start(&mesos, &[("web.yaml", &web), ("other.yaml", &sleeper("other", "replicas: 1"))]);
    scaler.settle(&mesos, &[("web", 3), ("other", 1)]);
    let before = alive(&mesos);
    let path = scaler.manifests().join("web.yaml");
    let taken_over = |replicas: i64| {
        scaler.write("other.yaml", &sleeper("other", &format!("replicas: {replicas}")));
        scaler.settle(&mesos, &[("other", replicas)]);
    };

    // As `helm template … > web.yaml` does, and takes its time.
    std::fs::write(&path, "").unwrap();
    scaler.wait("the empty file to be told", || {
        scaler.get("/v1/apps").is_some_and(|apps| apps["problems"].to_string().contains("is empty"))
    });
    taken_over(2);
    // As an editor does that renames the file away and writes it anew.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &web).unwrap();
    taken_over(3);
    // A pool of that name does not exist.
    scaler.write("web.yaml", &sleeper("web", "replicas: 3\npool: sohp"));
    scaler.wait("the slip to be told", || {
        scaler.get("/v1/apps").is_some_and(|apps| apps["problems"].to_string().contains("no MicroscalingPool default/sohp"))
    });
    taken_over(1);
    scaler.write("web.yaml", &web);
    scaler.settle(&mesos, &[("web", 3), ("other", 1)]);
    assert!(
        before.iter().filter(|task| task.contains(".web.")).all(|task| running(&mesos, "web").contains(task)),
        "the same tasks as before"
    );
}

fn a_pool_that_is_connected_anew_uses_no_task_id_twice() {
    let mesos = cluster(1);
    let pool = |timeout: u32| {
        format!(
            "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: shop}}\nspec:\n  mesos:\n    masters: [\"{}\"]\n    failoverTimeoutSeconds: {timeout}\n",
            mesos.master_url()
        )
    };
    let web = |replicas: u32| sleeper("web", &format!("pool: shop\nreplicas: {replicas}"));
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool(3600)), ("web.yaml", &web(2))]);
    scaler.settle(&mesos, &[("web", 2)]);
    let before = running(&mesos, "web");
    scaler.write("pool.yaml", &pool(7200));
    scaler.write("web.yaml", &web(4));
    scaler.settle(&mesos, &[("web", 4)]);
    assert!(before.iter().all(|task| running(&mesos, "web").contains(task)), "the same tasks as before, and two more");
    assert_eq!(alive(&mesos).len(), 4);
}

fn a_file_that_is_bad_from_the_start_ends_no_task(kind: Kind) {
    let mesos = kind.cluster(1);
    let mut scaler =
        Scaler::start(&mesos, &[("web.yaml", &sleeper("web", "replicas: 3")), ("gone.yaml", &sleeper("gone", "replicas: 1"))]);
    scaler.settle(&mesos, &[("web", 3), ("gone", 1)]);
    let before = alive(&mesos);
    scaler.stop();
    scaler.write("web.yaml", "spec: [not yaml\n");
    scaler.run();
    scaler.wait("control", || scaler.counts("gone") == Some((1, 1, 0)));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(alive(&mesos), before, "the tasks of the app that cannot be read live on");

    // Once all can be read again, what is not declared is known to be deleted.
    scaler.remove("gone.yaml");
    scaler.write("web.yaml", &sleeper("web", "replicas: 3"));
    scaler.settle(&mesos, &[("web", 3)]);
    scaler.wait("the deleted app's task to end", || running(&mesos, "gone").is_empty());
}

fn a_polled_document_drives_and_its_loss_holds(kind: Kind) {
    let mesos = kind.cluster(1);
    let document = support::web::Document::serve(r#"{"queues": [{"depth": 40}]}"#);
    let demand = format!(
        "demand:\n- name: depth\n  http: {{url: \"{}\", pointer: /queues/0/depth, pollMilliseconds: 50}}\n  target: {{averageValue: 10}}\n  staleAfterMilliseconds: 700",
        document.url()
    );
    let scaler = Scaler::start(
        &mesos,
        &[
            ("web.yaml", &sleeper("web", &demand)),
            ("safe.yaml", &sleeper("safe", &format!("{demand}\nfallback: {{replicas: 2}}"))),
        ],
    );
    scaler.settle(&mesos, &[("web", 4), ("safe", 4)]);
    document.set(r#"{"queues": [{"depth": 10}]}"#);
    scaler.settle(&mesos, &[("web", 1), ("safe", 1)]);
    document.set("out of order");
    scaler.settle(&mesos, &[("web", 1), ("safe", 2)]);
    assert_eq!(scaler.app("web").unwrap().status.unwrap().phase, Some(Phase::Stale));
    document.set(r#"{"queues": [{"depth": 30}]}"#);
    scaler.settle(&mesos, &[("web", 3), ("safe", 3)]);
}

fn a_simulated_load_drives(kind: Kind) {
    let mesos = kind.cluster(1);
    let demand =
        "demand:\n- name: load\n  simulated: {step: {from: 20, to: 50, afterMilliseconds: 1500}}\n  target: {averageValue: 10}";
    let scaler = Scaler::start(&mesos, &[("web.yaml", &sleeper("web", demand))]);
    scaler.settle(&mesos, &[("web", 5)]);
}

fn ports_and_environment_reach_the_task(kind: Kind) {
    let mesos = kind.cluster(1);
    let out = tempfile::NamedTempFile::new().unwrap();
    let template = format!(
        "command: [/bin/sh, -c, 'echo \"$0 $PORT $SHOP $MICROSCALER_APP\" > {}; exec sleep 100000', $(PORT_HTTP)]\nports: [{{name: http}}]\nenv: [{{name: SHOP, value: winter}}]",
        out.path().display()
    );
    let scaler = Scaler::start(&mesos, &[("web.yaml", &app("web", "replicas: 1", SLOT, &template))]);
    scaler.settle(&mesos, &[("web", 1)]);
    let text =
        wait_for("the task's words", || Some(std::fs::read_to_string(out.path()).unwrap()).filter(|text| text.ends_with('\n')));
    let words: Vec<&str> = text.split_whitespace().collect();
    let port: u16 = words[0].parse().unwrap();
    assert!((31000..=31999).contains(&port), "{text}");
    assert_eq!(words[1..], [words[0], "winter", "web"]);
}

fn observe_reports_but_does_nothing_and_suspend_freezes(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("seen.yaml", &sleeper("seen", "priority: 1\nreplicas: 3\nmode: Observe")),
            ("rest.yaml", &sleeper("rest", &format!("priority: 2\n{REMAINDER}"))),
        ],
    );
    scaler.settle(&mesos, &[("rest", 8)]);
    scaler.wait("the rehearsal", || {
        scaler.app("seen").and_then(|app| app.status).is_some_and(|status| status.wanted == 3 && status.granted == 3)
    });
    assert!(running(&mesos, "seen").is_empty());

    scaler.write("rest.yaml", &sleeper("rest", &format!("priority: 2\nsuspend: true\n{REMAINDER}")));
    scaler.wait("suspension", || scaler.app("rest").and_then(|app| app.status?.phase) == Some(Phase::Suspended));
    scaler.write("seen.yaml", &sleeper("seen", "priority: 1\nreplicas: 3"));
    scaler.wait("the reason to be told", || {
        scaler.app("seen").and_then(|app| app.status).is_some_and(|status| status.granted == 0)
    });
    assert_eq!(running(&mesos, "rest").len(), 8);
    scaler.write("rest.yaml", &sleeper("rest", &format!("priority: 2\n{REMAINDER}")));
    scaler.settle(&mesos, &[("seen", 3), ("rest", 5)]);
}

fn limits_of_the_pool_are_kept(kind: Kind) {
    let mesos = kind.cluster(2);
    let small = |limits: &str| pool("small", "default", &mesos, limits);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("pool.yaml", &small("")),
            ("rest.yaml", &sleeper("rest", &format!("pool: small\npriority: 9\n{REMAINDER}"))),
            ("web.yaml", &sleeper("web", &format!("pool: small\npriority: 1\n{PUSHED}"))),
        ],
    );
    scaler.settle(&mesos, &[("rest", 16), ("web", 0)]);
    scaler.push("web", "load", 30.0);
    scaler.settle(&mesos, &[("rest", 13), ("web", 3)]);
    scaler.write("pool.yaml", &small("  limits: {cpu: 4}\n"));
    scaler.settle(&mesos, &[("rest", 5), ("web", 3)]);
}

fn headroom_of_the_pool_is_kept() {
    let mesos = cluster(2);
    let pool = pool_with("small", "default", &mesos, ", headroom: {cpu: 1500m}", "");
    let scaler = Scaler::start(
        &mesos,
        &[
            ("pool.yaml", &pool),
            ("rest.yaml", &sleeper("rest", &format!("pool: small\npriority: 9\n{REMAINDER}"))),
            ("web.yaml", &sleeper("web", &format!("pool: small\npriority: 1\n{PUSHED}"))),
        ],
    );
    scaler.settle(&mesos, &[("rest", 13), ("web", 0)]);
    scaler.push("web", "load", 30.0);
    scaler.settle(&mesos, &[("rest", 10), ("web", 3)]);
}

fn a_master_that_asks_for_credentials_gets_them() {
    let files = tempfile::TempDir::new().unwrap();
    let credentials = files.path().join("credentials.json");
    std::fs::write(&credentials, r#"{"credentials": [{"principal": "shop", "secret": "right"}]}"#).unwrap();
    let secret = files.path().join("secret");
    std::fs::write(&secret, "wrong\n").unwrap();
    let mesos = Cluster::builder()
        .agent(Agent::default().resources("cpus:4;mem:4096"))
        .master_flag("credentials", format!("file://{}", credentials.display()))
        .master_flag("authenticate_http_frameworks", "true")
        .master_flag("http_framework_authenticators", "basic")
        .start()
        .unwrap();
    let pool = format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: shop}}\nspec:\n  mesos:\n    masters: [\"{}\"]\n    role: team/shop\n    principal: shop\n    secretFile: {}\n",
        mesos.master_url(),
        secret.display()
    );
    let mut scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &sleeper("web", "pool: shop\nreplicas: 2"))]);
    scaler.wait("the refusal to be said", || {
        scaler.get("/v1/pools").is_some_and(|pools| pools["items"].to_string().contains("401"))
    });
    scaler.stop();
    std::fs::write(&secret, "right\n").unwrap();
    scaler.run();
    scaler.settle(&mesos, &[("web", 2)]);
}

fn verbs_tell_the_truth(kind: Kind) {
    let mesos = kind.cluster(1);
    let scaler = Scaler::start(
        &mesos,
        &[
            ("web.yaml", &sleeper("web", &format!("priority: 1\n{PUSHED}"))),
            ("rest.yaml", &sleeper("rest", &format!("priority: 2\n{REMAINDER}"))),
        ],
    );
    scaler.settle(&mesos, &[("web", 0), ("rest", 8)]);
    let server = ["--server", scaler.url()];
    let run = |args: &[&str]| microscaler(&[args, &server[..]].concat());

    assert_eq!(run(&["push", "default/web", "load", "20"]).0, 0);
    scaler.settle(&mesos, &[("web", 2), ("rest", 6)]);
    let (code, table, _) = run(&["get", "apps"]);
    assert_eq!(code, 0);
    assert!(table.lines().next().unwrap().starts_with("NAME"), "{table}");
    let web: Vec<&str> = table.lines().find(|line| line.starts_with("web")).unwrap().split_whitespace().collect();
    assert_eq!(web[1..7], ["1", "2", "2", "2", "2", "Converged"], "{table}");
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");

    let (code, text, error) = run(&["push", "default/web", "nonsense", "20"]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(error.contains("load"), "it names what there is: {error}");
    let (_, text, _) = run(&["describe", "app", "web"]);
    assert!(text.contains("Converged") && text.contains("ScaledUp"), "{text}");
    let (_, tasks, _) = run(&["get", "tasks", "web"]);
    assert_eq!(tasks.lines().count(), 3, "{tasks}");
    let (_, yaml, _) = run(&["get", "app", "web", "-o", "yaml"]);
    assert!(yaml.contains("kind: MicroscaledApp") && yaml.contains("granted: 2"), "{yaml}");
    let (_, pools, _) = run(&["get", "pools"]);
    assert!(pools.contains("True"), "{pools}");

    let manifests = scaler.manifests().display().to_string();
    let master = mesos.master_url();
    let pool: &[&str] = if kind == Kind::Mesos { &["--mesos", &master] } else { &[] };
    let (code, plan, error) = microscaler(&[&["plan", "-f", &manifests, "--demand", "web.load=50"], pool].concat());
    assert_eq!(code, 0, "{error}");
    assert!(plan.contains("3 x stop  default/rest: gives way to web"), "{plan}");
    assert_eq!(running(&mesos, "web").len(), 2, "a plan changes nothing");

    assert_eq!(run(&["drain", "default/default"]).0, 0);
    assert!(alive(&mesos).is_empty());
}

fn drain_without_a_running_one_ends_what_was_left(kind: Kind) {
    let mesos = kind.cluster(1);
    let mut scaler = Scaler::start(&mesos, &[("web.yaml", &sleeper("web", "replicas: 3"))]);
    scaler.settle(&mesos, &[("web", 3)]);
    assert!(scaler.stop().success());
    assert_eq!(alive(&mesos).len(), 3, "stopping leaves tasks alone");
    let state = scaler.state_dir().display().to_string();
    let (master, manifests) = (mesos.master_url(), scaler.manifests().display().to_string());
    let pool = if kind == Kind::Mesos { ["--mesos", &master] } else { ["--manifests", &manifests] };
    let (code, _, error) = microscaler(&[&["drain", "--state-dir", &state][..], &pool].concat());
    assert_eq!(code, 0, "{error}");
    assert!(alive(&mesos).is_empty());
}
