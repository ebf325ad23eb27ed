//! Faults around a Marathon, each in the middle of a swap: the newest demand is what counts in the end, no important task ends that
//! was wanted, nothing is done twice, and nobody is asked without end.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::http::Method;
use microscaler_testbed_marathon::Builder;
use serde_json::{Value, json};
use support::front::{Asked, Spoil};
use support::marathon::{Bed, adopted};
use support::{PUSHED, REMAINDER, wait_for};

/// Requests of any kind, in a test without a fault: the first reading, and one more for each change of demand.
const AT_MOST: usize = 60;
/// And so many in each second: a look at all there is four times a second takes two requests, and some updates are tried again.
const AT_MOST_A_SECOND: f64 = 12.0;

fn random() -> fastrand::Rng {
    let seed =
        std::env::var("MICROSCALER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MICROSCALER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Two apps on 16 slots: `web` is important, `low` fills the rest.
struct Swap {
    bed: Bed,
    began: Instant,
}

impl Swap {
    fn start(change: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Self {
        Self::on(Bed::behind_a_front(2, change))
    }

    fn on(mut bed: Bed) -> Self {
        let began = Instant::now();
        bed.make("/web", 2, &Value::Null);
        bed.make("/low", 1, &json!({"taskKillGracePeriodSeconds": 0}));
        let at_once = "behavior: {scaleDown: {stabilizationWindowSeconds: 0}}";
        let web = adopted("web", "/web", &format!("priority: 1\n{PUSHED}\n{at_once}"));
        bed.scale(&[("web", &web), ("low", &adopted("low", "/low", &format!("priority: 9\n{REMAINDER}")))]);
        let swap = Self { bed, began };
        swap.want(2);
        swap.settle(2);
        swap
    }

    /// Demand for so many of `web`.
    fn want(&self, count: usize) {
        self.bed.scaler().push("web", "load", f64::from(u32::try_from(count).unwrap()) * 10.0);
    }

    /// Until this holds by our status, by Marathon's number, by Mesos' tasks and by the processes.
    fn settle(&self, web: usize) {
        self.bed.settle(&[("web", "/web", web), ("low", "/low", 16 - web)]);
        self.bed.scaler().wait("the processes to be exactly the tasks", || self.bed.cluster.processes().len() == 16);
    }

    fn tasks(&self) -> [BTreeSet<String>; 2] {
        [self.bed.running("/web"), self.bed.running("/low")]
    }

    /// These are wanted, one after the other, either ever more or ever fewer; behind the first, something goes wrong. In the end the last
    /// one holds, and nothing has ended or begun but what had to.
    fn change(&self, wanted: &[usize], harm: impl FnOnce()) {
        let ([first, rest @ ..], [web, low]) = (wanted, self.tasks()) else { panic!("nothing is wanted") };
        self.want(*first);
        harm();
        rest.iter().for_each(|web| self.want(*web));
        let last = *wanted.last().unwrap();
        self.settle(last);
        let [web_now, low_now] = self.tasks();
        let (less, more) =
            if last < web.len() { ((&web, &web_now), (&low, &low_now)) } else { ((&low, &low_now), (&web, &web_now)) };
        assert!(less.1.is_subset(less.0), "of what was to shrink, some were started: {:?}", less.1.difference(less.0));
        assert!(more.0.is_subset(more.1), "of what was to grow, some have ended: {:?}", more.0.difference(more.1));
    }

    /// What has changed numbers since there were `before` of them, one after the other.
    fn scalings_since(&self, before: usize) -> Vec<Asked> {
        let scalings = self.bed.front().scalings().split_off(before);
        let patches: Vec<_> = scalings.iter().filter(|asked| asked.method == Method::PATCH).collect();
        for pair in patches.windows(2) {
            assert!(pair[0].ended.is_some_and(|ended| ended <= pair[1].began), "two at the same time: {pair:#?}");
        }
        scalings
    }

    /// Nobody was asked without end.
    fn no_storm(&self) {
        let asked = self.bed.front().asked();
        #[allow(clippy::cast_precision_loss)]
        let (count, most) = (asked.len() as f64, AT_MOST as f64 + AT_MOST_A_SECOND * self.began.elapsed().as_secs_f64());
        assert!(count <= most, "{count} requests, and not {most}: {asked:#?}");
    }
}

#[test]
fn what_is_locked_is_asked_for_again() {
    let swap = Swap::start(|marathon| marathon);
    let before = swap.bed.front().scalings().len();
    let locked = Spoil::Refuse(409, "App is locked by one or more deployments. Override with the option '?force=true'.");
    swap.bed.front().spoil(vec![locked; 6]);
    let spoilt = || wait_for("some refusals", || (swap.bed.front().left_to_spoil() <= 3).then_some(()));
    swap.change(&[5, 7, 9], spoilt);
    let count = swap.scalings_since(before).len();
    assert!((7..=9).contains(&count), "six that were refused, and at least the newest: {count}");
    swap.no_storm();
}

#[test]
fn too_many_deployments_are_waited_for() {
    let swap = Swap::start(|marathon| marathon.flag("max_running_deployments", "2"));
    let before = swap.bed.front().scalings().len();
    // Those of a person, which never end: nothing has so much room.
    let stuck = |id: &str| {
        let app = json!({"id": id, "cmd": "exec sleep 100000", "cpus": 100, "mem": 32, "instances": 1});
        let (status, answer) = swap.bed.marathon.send("POST", "/v2/apps", &app).unwrap();
        assert_eq!(status, 201, "{answer}");
        answer["deployments"][0]["id"].as_str().unwrap().to_owned()
    };
    let deployments = ["/stuck-1", "/stuck-2"].map(stuck);
    swap.change(&[5, 7, 9], || {
        wait_for("some refusals", || (swap.bed.front().scalings().len() >= before + 3).then_some(()));
        let [web, low] = swap.tasks();
        assert_eq!((web.len(), low.len()), (2, 14), "refused whole, nothing is done by half");
        let (status, answer) =
            swap.bed.marathon.send("DELETE", &format!("/v2/deployments/{}?force=true", deployments[0]), &Value::Null).unwrap();
        assert_eq!(status, 202, "{answer}");
    });
    swap.scalings_since(before);
    swap.no_storm();
}

#[test]
fn what_was_carried_out_although_the_answer_says_otherwise_is_not_asked_for_twice() {
    let swap = Swap::start(|marathon| marathon);
    for wanted in [10, 3] {
        let before = swap.bed.front().scalings().len();
        swap.bed.front().spoil([Spoil::Lose(503)]);
        swap.change(&[wanted], || ());
        assert_eq!(swap.scalings_since(before).len(), 1, "once is enough");
    }
    // Some are carried out, and others are not.
    let before = swap.bed.front().scalings().len();
    swap.bed.front().spoil([Spoil::Lose(503), Spoil::Refuse(503, "Service Unavailable"), Spoil::Lose(500), Spoil::Lose(502)]);
    swap.change(&[5, 8, 12], || std::thread::sleep(Duration::from_millis(100)));
    swap.scalings_since(before);
    swap.no_storm();
}

#[test]
fn a_stream_that_breaks_again_and_again_costs_no_event() {
    let mut random = random();
    let swap = Swap::start(|marathon| marathon);
    for wanted in [[4, 6], [9, 12], [10, 7], [5, 1], [8, 13]] {
        swap.change(&wanted, || {
            std::thread::sleep(Duration::from_millis(random.u64(0..150)));
            swap.bed.marathon.fault(&json!({"drop_events": true})).unwrap();
        });
    }
    let attached = swap.bed.front().asked().iter().filter(|asked| asked.path == "/v2/events").count();
    assert!((6..=8).contains(&attached), "at the start, and after each break: {attached}");
    swap.scalings_since(0);
    swap.no_storm();
}

#[test]
fn slow_answers_lead_to_no_second_request_beside_the_first() {
    let swap = Swap::start(|marathon| marathon);
    let before = swap.bed.front().scalings().len();
    swap.bed.front().delay(Duration::from_millis(1500));
    swap.change(&[4, 5, 6, 8, 11], || ());
    let count = swap.scalings_since(before).len();
    assert!(count <= 3, "what was wanted meanwhile is one request: {count}");
    swap.bed.front().delay(Duration::ZERO);
    swap.change(&[6], || ());
    swap.no_storm();
}

#[test]
fn a_marathon_that_is_away_for_a_while_is_read_anew() {
    let swap = Swap::start(|marathon| marathon);
    swap.change(&[6, 9, 12], || {
        swap.bed.front().set_away(true);
        swap.bed.marathon.fault(&json!({"drop_events": true})).unwrap();
        swap.bed.scaler().wait("to notice", || swap.bed.scaler().reason("web").contains("no orders can be given"));
        std::thread::sleep(Duration::from_secs(4));
        swap.bed.front().set_away(false);
    });
    let away = swap.bed.front().asked().len();
    // Also when nobody listens at all.
    swap.change(&[9, 4], || swap.bed.marathon.fault(&json!({"refuse": 3000})).unwrap());
    assert!(swap.bed.front().asked().len() > away);
    swap.scalings_since(0);
    swap.no_storm();
}

#[test]
fn a_deployment_that_somebody_cancels_is_seen_to() {
    let swap = Swap::start(|marathon| marathon);
    let before = swap.bed.front().scalings().len();
    let cancel = || {
        let running = || swap.bed.marathon.get("/v2/deployments").ok()?[0]["id"].as_str().map(ToOwned::to_owned);
        let id = wait_for("a deployment", running);
        // It may be over just now.
        drop(swap.bed.marathon.send("DELETE", &format!("/v2/deployments/{id}?force=true"), &Value::Null));
    };
    for wanted in [10, 5, 13, 2] {
        swap.change(&[wanted], cancel);
    }
    swap.scalings_since(before);
    swap.no_storm();
}

#[test]
fn a_neighbour_whose_deployment_is_cancelled_by_ours_keeps_its_number() {
    let swap = Swap::start(|marathon| marathon);
    swap.bed.make("/other", 0, &json!({"cpus": 100}));
    // A person changes it together with one of ours; it never ends, as nothing has so much room.
    let both = json!([{"id": "/web", "instances": 3}, {"id": "/other", "instances": 1}]);
    assert_eq!(swap.bed.marathon.send("PATCH", "/v2/apps?force=true", &both).unwrap().0, 200);
    swap.change(&[8], || ());
    assert_eq!(swap.bed.instances("/other"), Some(1), "it is not ours to change");
    let queue = swap.bed.marathon.get("/v2/queue").unwrap()["queue"].clone();
    assert!(queue.as_array().unwrap().iter().any(|queued| queued["app"]["id"] == "/other"), "it waits as before: {queue}");
    swap.no_storm();
}

#[test]
fn either_may_die_at_any_moment() {
    let mut random = random();
    let mut swap = Swap::start(|marathon| marathon.flag("zk_session_timeout", "500"));
    for round in 0..8 {
        swap.want(random.usize(1..15));
        std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        if round % 2 == 0 {
            swap.bed.marathon.kill();
            std::thread::sleep(Duration::from_millis(random.u64(0..600)));
            swap.bed.marathon.start().unwrap();
        } else {
            let scaler = swap.bed.scaler.as_mut().unwrap();
            scaler.kill();
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
            scaler.run();
        }
    }
    swap.want(4);
    swap.settle(4);
    swap.change(&[7], || ());
    swap.no_storm();
}

#[test]
fn a_leader_that_dies_in_the_middle_of_a_swap_is_followed_by_the_other() {
    let mut random = random();
    let swap = Swap::on(Bed::with(2, |marathon| marathon.processes(2).flag("zk_session_timeout", "1000")));
    let mut leader = 0;
    for wanted in [[6, 10], [7, 3], [8, 12]] {
        swap.change(&wanted, || {
            std::thread::sleep(Duration::from_millis(random.u64(0..80)));
            swap.bed.marathon.process(leader).kill();
            leader = 1 - leader;
            wait_for("the other to lead", || {
                let answer = swap.bed.marathon.ask(leader, "GET", "/v2/leader", None).ok()?;
                (answer.status == 200).then_some(())
            });
            swap.bed.marathon.process(1 - leader).start().unwrap();
            swap.bed.marathon.wait_until_ready().unwrap();
        });
    }
    let sent = swap.bed.sent("SCALE") + swap.bed.sent("SHRINK");
    assert!(sent <= 30, "{sent} requests for six changes of demand");
}
