#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::*;
use crate::api::MicroscalingPool;
use crate::api::app::PolicyKind;

/// The smallest app, with fields of its spec replaced.
fn app(spec: Value) -> MicroscaledApp {
    let mut all = json!({"template": {"resources": {"cpu": "500m", "memory": "64Mi"}, "shell": "sleep 1"}});
    for (field, value) in spec.as_object().cloned().unwrap_or_default() {
        all[field] = value;
    }
    serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscaledApp", "metadata": {"name": "search", "generation": 3}, "spec": all,
    }))
    .unwrap()
}

fn pool(spec: Value) -> MicroscalingPool {
    serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool", "metadata": {"name": "shop", "namespace": "eu"}, "spec": spec,
    }))
    .unwrap()
}

fn template(resources: Value) -> Value {
    json!({"template": {"resources": resources, "shell": "sleep 1"}})
}

#[test]
fn what_is_left_out_has_its_default() {
    let app = App::read(&app(json!({}))).unwrap();
    assert_eq!((app.key.as_str(), app.pool.as_str(), app.generation), ("default/search", "default/default", 3));
    assert_eq!((app.priority, app.replicas, app.min, app.max, app.max_surge), (100, 1, 0, i64::MAX, 1));
    assert_eq!((app.up.window_ms, app.down.window_ms), (0, 2000));
    assert_eq!((app.spread, app.remainder), (Spread::Pack, None));
    assert!(!app.suspended && !app.observed_only && app.demand.is_empty());
}

#[test]
fn amounts_are_read_in_thousandths() {
    let read = App::read(&app(template(json!({"cpu": "1.5", "memory": "64Mi", "disk": "1Gi", "gpu": 2})))).unwrap();
    assert_eq!(read.size, Resources { cpu: 1500, memory: 64_000, disk: 1_024_000, gpu: 2, ports: 0 });
    let endless = App::read(&app(template(json!({"cpu": "999999999999999999T", "memory": "1"})))).unwrap();
    assert_eq!(endless.size.cpu, i64::MAX / 1024);
    assert_eq!(endless.size.memory, 1, "a byte is a part of a thousandth of a MiB, and never nothing");
}

#[test]
fn nothing_at_all_is_no_size() {
    let error = App::read(&app(template(json!({"cpu": "0", "memory": "0Mi"})))).unwrap_err();
    assert_eq!(error.to_string(), "spec.template.resources: cpu and memory are both 0, so Mesos would refuse the task");
    let error = App::read(&app(template(json!({"cpu": "half", "memory": "0Mi"})))).unwrap_err();
    assert!(error.to_string().starts_with("spec.template.resources.cpu: 'half' is not an amount"), "{error}");
}

#[test]
fn a_wait_shorter_than_a_poll_cannot_be_kept() {
    let read = |wait: u64| {
        let http = json!({"url": "http://shop/", "pollMilliseconds": 100, "calmPollMilliseconds": 400});
        App::read(&app(json!({"demand": [{"name": "a", "http": http, "target": {"queue": {"maxWaitMilliseconds": wait}}}]})))
    };
    assert!(read(400).is_ok());
    let error = read(399).unwrap_err().to_string();
    assert!(error.starts_with("spec.demand[0].target.queue.maxWaitMilliseconds: no such wait can be kept"), "{error}");
}

#[test]
fn a_forecast_is_in_milliseconds_and_its_season_fits() {
    let read = |forecast: Value| {
        let demand = json!([{"name": "a", "push": {}, "target": {"averageValue": 1}, "forecast": forecast}]);
        App::read(&app(json!({"demand": demand}))).map(|app| app.demand[0].forecast.unwrap()).map_err(|error| error.to_string())
    };
    let day = Foresight { horizon_ms: 60_000, season_ms: Some(90_000_000), step_ms: 15_000, steps: 20_000 };
    assert_eq!(read(json!({"horizonSeconds": 60, "season": "1d1h"})), Ok(day));
    let short = Foresight { horizon_ms: 500, season_ms: None, step_ms: 1000, steps: 60 };
    assert_eq!(read(json!({"horizonMilliseconds": 500, "historySeconds": 60})), Ok(short));
    assert_eq!(read(json!({"horizonSeconds": 9, "season": "1m30s500ms"})).map(|it| it.season_ms), Ok(Some(90_500)));
    let field = "spec.demand[0].forecast.season: a season has to";
    let long = read(json!({"horizonSeconds": 1, "season": "7d"})).unwrap_err();
    assert!(long.starts_with(&format!("{field} fit into the history twice")), "{long}");
    let fast = read(json!({"horizonSeconds": 60, "season": "20s"})).unwrap_err();
    assert!(fast.starts_with(&format!("{field} be two steps long at least")), "{fast}");
}

#[test]
fn targets_and_ages_are_plain_numbers() {
    let demand = json!([
        {"name": "a", "push": {}, "target": {"averageValue": "1500m"}},
        {"name": "b", "http": {"url": "http://x/", "pollMilliseconds": 2000}, "target": {"value": 7}},
        {"name": "c", "push": {}, "target": {"value": "2k"}, "staleAfterMilliseconds": 9},
        {"name": "d", "simulated": {"sine": {"min": 0, "max": 1, "periodMilliseconds": 20}}, "target": {"value": 1}},
        {"name": "e", "remainder": {"weight": 3}},
    ]);
    let app = App::read(&app(json!({ "demand": demand }))).unwrap();
    let read: Vec<_> = app.demand.iter().map(|m| (&*m.name, m.target, m.stale_after_ms)).collect();
    assert_eq!(
        read,
        [
            ("a", TargetValue::Average(1.5), 60_000),
            ("b", TargetValue::Value(7.0), 20_000),
            ("c", TargetValue::Value(2000.0), 9),
            ("d", TargetValue::Value(1.0), u64::MAX),
        ]
    );
    assert_eq!(app.remainder, Some(3));
}

#[test]
fn a_target_of_zero_is_no_target() {
    let demand = json!([{"name": "a", "push": {}, "target": {"averageValue": 0}}]);
    let error = App::read(&app(json!({ "demand": demand }))).unwrap_err();
    assert_eq!(error.to_string(), "spec.demand[0].target.averageValue: must be more than 0");
}

#[test]
fn a_schedule_that_cannot_be_kept_is_refused() {
    let read = |end: &str| {
        let schedule = json!({"timezone": "Europe/London", "start": "0 8 * * *", "end": end, "replicas": 3});
        App::read(&app(json!({"demand": [{"name": "a", "schedule": schedule}]})))
    };
    let error = read("0 0 31 4 *").unwrap_err();
    assert_eq!(error.to_string(), "spec.demand[0].schedule.end: 0 0 31 4 * never comes");
    let metric = &read("0 18 * * *").unwrap().demand[0];
    assert_eq!((metric.target, metric.stale_after_ms), (TargetValue::None, u64::MAX));
}

#[test]
fn damping_is_in_milliseconds() {
    let rules = json!({"stabilizationWindowSeconds": 3, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 1}], "tolerance": 0.2});
    let app =
        App::read(&app(json!({"behavior": {"scaleUp": rules, "scaleDown": {"stabilizationWindowMilliseconds": 0}}}))).unwrap();
    assert_eq!(app.up.window_ms, 3000);
    assert_eq!(app.up.limits, [RateLimit { kind: PolicyKind::Pods, value: 2, period_ms: 1000 }]);
    assert_eq!((app.up.tolerance, app.down.window_ms), (Some(0.2), 0));
}

#[test]
fn placement_names_an_attribute_or_packs() {
    let read = |placement: Value| App::read(&app(json!({ "placement": placement }))).unwrap().spread;
    assert_eq!(read(json!({"spread": "pack"})), Spread::Pack);
    assert_eq!(read(json!({"spread": "rack"})), Spread::Over("rack".to_owned()));
}

#[test]
fn a_pool_has_no_limits_unless_named() {
    let read = Pool::read(&pool(
        json!({"mesos": {"masters": ["http://m:5050"], "headroom": {"cpu": "2"}}, "limits": {"memory": "1Gi"}}),
    ));
    let read = read.unwrap();
    assert_eq!(read.key.as_str(), "eu/shop");
    assert_eq!(read.limits, Resources { memory: 1_024_000, ..Resources::UNLIMITED });
    assert_eq!(read.headroom, Resources { cpu: 2000, ..Resources::ZERO });
    let error = Pool::read(&pool(json!({"mesos": {"masters": []}, "limits": {"cpu": "x"}}))).unwrap_err();
    assert!(error.to_string().starts_with("spec.limits.cpu: 'x' is not an amount"), "{error}");
}

#[test]
fn docker_checks_one_thing() {
    let read = |containerizer: &str| {
        let probe = json!({"exec": {"command": ["true"]}});
        let template = json!({"resources": {"cpu": 1, "memory": "1Mi"}, "shell": "x", "image": "web", "containerizer": containerizer,
                              "readiness": probe, "liveness": probe});
        App::read(&app(json!({ "template": template }))).map_err(|error| error.to_string())
    };
    assert!(read("mesos").is_ok());
    assert_eq!(
        read("docker").unwrap_err(),
        "spec.template.readiness: containerizer docker allows readiness or liveness, not both"
    );
}

#[test]
fn the_version_is_of_what_a_running_task_cannot_take_on() {
    let version = |template: Value| App::read(&app(json!({ "template": template }))).unwrap().version;
    let base = json!({
        "resources": {"cpu": "500m", "memory": "64Mi"}, "command": ["/bin/search", "--deep"],
        "env": [{"name": "SHOP", "value": "winter"}], "ports": [{"name": "http"}],
    });
    let with = |field: &str, value: Value| {
        let mut changed = base.clone();
        changed[field] = value;
        version(changed)
    };
    // Tasks carry it, and outlive the build that made it: this number must never change.
    assert_eq!(version(base.clone()).to_string(), "93104ecb");
    assert_eq!(with("gracePeriodMilliseconds", json!(1)), version(base.clone()));
    assert_eq!(with("resources", json!({"cpu": "0.5", "memory": "65536Ki"})), version(base.clone()));
    assert_ne!(with("resources", json!({"cpu": "0.6", "memory": "64Mi"})), version(base.clone()));
    assert_ne!(with("command", json!(["/bin/search --deep"])), version(base.clone()));
    assert_ne!(with("env", json!([])), version(base.clone()));
    assert_ne!(with("ports", json!([{"name": "web"}])), version(base.clone()));
}

#[test]
fn what_stands_in_is_resolved_for_each_metric() {
    let read = |of_app: serde_json::Value, own: serde_json::Value| {
        let demand = json!([
            {"name": "rest", "remainder": {}},
            {"name": "a", "push": {}, "target": {"value": 1}, "fallbacks": own},
            {"name": "b", "push": {}, "target": {"value": 1}, "role": "Cap"},
            {"name": "c", "push": {}, "role": "Veto"},
        ]);
        let mut spec = json!({ "demand": demand });
        spec.as_object_mut().unwrap().extend(of_app.as_object().unwrap().clone());
        let ladders = |app: App| app.demand.into_iter().map(|metric| metric.ladder).collect::<Vec<_>>();
        App::read(&app(spec)).map(ladders).map_err(|error| error.to_string())
    };
    let replicas = |count, after_ms| Rung { to: StandIn::Replicas(count), after_ms };
    let one = read(json!({"fallback": {"replicas": 3}}), json!([]));
    assert_eq!(one, Ok(vec![vec![replicas(3, 0)], vec![], vec![]]), "a cap and a veto ask for nothing");
    let own = json!([{"metric": "b"}, {"replicas": 2, "afterMilliseconds": 9}, {"replicas": 4}]);
    let by_b = Rung { to: StandIn::Metric(1), after_ms: 0 };
    assert_eq!(read(json!({"fallbacks": [{"replicas": 7}]}), own).unwrap()[0], [by_b, replicas(2, 9), replicas(4, 9)]);
    let refused = |of_app, own| read(of_app, own).unwrap_err();
    assert_eq!(
        refused(json!({}), json!([{"metric": "a"}])),
        "spec.demand[1].fallbacks[0].metric: a metric cannot stand in for itself"
    );
    assert_eq!(
        refused(json!({"fallback": {"metric": "c"}}), json!([])),
        "spec.fallback.metric: c has no target, and so asks for nothing"
    );
    assert_eq!(
        refused(json!({"fallbacks": [{"hold": {}}, {"metric": "x"}]}), json!([])),
        "spec.fallbacks[1].metric: no metric of the app is called x"
    );
    assert_eq!(
        refused(json!({}), json!([{"hold": {}, "afterMilliseconds": 5}, {"replicas": 1, "afterMilliseconds": 4}])),
        "spec.demand[1].fallbacks[1].afterMilliseconds: is less than for the one before it (5)"
    );
}
