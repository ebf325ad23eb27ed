use serde_json::json;

use super::*;

const APPS: Source = Source { what: What::Apps, namespace: None };
const POOLS: Source = Source { what: What::Pools, namespace: None };
const NAMES: Source = Source { what: What::PoolNames, namespace: None };

fn app(name: &str, generation: i64, spec: &serde_json::Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscaledApp",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": generation, "resourceVersion": "1"},
        "spec": spec, "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

fn pool(name: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {"mesos": {"masters": ["http://127.0.0.1:5050"]}},
    }))
    .unwrap()
}

fn good(replicas: i64) -> serde_json::Value {
    json!({"replicas": replicas, "template": {"shell": "sleep 1", "resources": {"cpu": "100m", "memory": "32Mi"}}})
}

/// Decodable, and yet of no use: Mesos refuses a task that uses nothing.
fn bad() -> serde_json::Value {
    json!({"template": {"shell": "sleep 1", "resources": {"cpu": 0, "memory": 0}}})
}

fn key(name: &str) -> Key {
    Key::new("shop", name)
}

/// An index that has listed these.
fn listed(apps: Vec<DynamicObject>, pools: Vec<DynamicObject>) -> Index {
    let mut index = Index::new([APPS, POOLS]);
    list(&mut index, &APPS, apps);
    assert!(!index.is_synced());
    list(&mut index, &POOLS, pools);
    assert!(index.is_synced());
    index
}

fn list(index: &mut Index, source: &Source, objects: Vec<DynamicObject>) {
    index.apply(source, Event::Init);
    for object in objects {
        index.apply(source, Event::InitApply(object));
    }
    index.apply(source, Event::InitDone);
}

fn names(specs: &Specs) -> Vec<&str> {
    specs.apps.keys().map(Key::name).collect()
}

#[test]
fn a_list_that_is_read_anew_tells_of_deletions_only_when_it_is_complete() {
    let mut index = listed(vec![app("a", 1, &good(1)), app("b", 1, &good(1))], vec![pool("default")]);
    index.apply(&APPS, Event::Init);
    index.apply(&APPS, Event::InitApply(app("a", 1, &good(1))));
    assert_eq!(names(&index.specs()), ["a", "b"]);
    assert!(index.apply(&APPS, Event::InitDone).specs);
    assert_eq!(names(&index.specs()), ["a"]);
    assert!(index.specs().complete);
}

#[test]
fn what_is_not_of_the_spec_is_no_news_to_the_engines() {
    let mut index = listed(vec![app("a", 1, &good(1))], vec![pool("default")]);
    let mut same = app("a", 1, &good(1));
    same.metadata.resource_version = Some("2".to_owned());
    same.data["status"] = json!({"observedGeneration": 1, "phase": "Converged"});
    assert_eq!(index.apply(&APPS, Event::Apply(same)), Changed { specs: false, objects: true });
    let seen = index.objects().apps[&key("a")].clone();
    assert_eq!((seen.resource_version.as_str(), seen.status.as_ref().unwrap().observed_generation), ("2", 1));
    assert!(index.apply(&APPS, Event::Apply(app("a", 2, &good(2)))).specs);
    assert_eq!(index.specs().apps[&key("a")].app.replicas, 2);
}

#[test]
fn a_bad_spec_leaves_the_last_good_one_in_force() {
    let mut index = listed(vec![app("a", 1, &good(3)), app("b", 1, &good(1))], vec![pool("default")]);
    index.apply(&APPS, Event::Apply(app("a", 2, &bad())));
    let specs = index.specs();
    assert_eq!(specs.apps[&key("a")].app.replicas, 3);
    let [problem] = &specs.problems[..] else { panic!("{:?}", specs.problems) };
    assert_eq!((problem.app.as_ref(), problem.generation), (Some(&key("a")), Some(2)));
    assert!(problem.message.contains("spec.template.resources"), "{}", problem.message);
    assert!(specs.complete && specs.spared.is_empty());
    assert!(index.objects().apps[&key("a")].fault.is_some());
    index.apply(&APPS, Event::Apply(app("a", 3, &good(4))));
    assert!(index.specs().problems.is_empty());
    assert!(index.objects().apps[&key("a")].fault.is_none());
}

#[test]
fn what_runs_of_an_app_that_was_never_readable_is_left_alone() {
    let index = listed(vec![app("a", 1, &bad()), app("b", 1, &good(1))], vec![pool("default")]);
    let specs = index.specs();
    assert_eq!(names(&specs), ["b"]);
    assert!(specs.complete, "the others are not harmed");
    assert!(specs.spared.contains(&key("a")));
}

#[test]
fn an_object_made_anew_inherits_nothing() {
    let mut index = listed(vec![app("a", 1, &good(3))], vec![pool("default")]);
    let mut anew = app("a", 1, &bad());
    anew.metadata.uid = Some("another".to_owned());
    index.apply(&APPS, Event::Apply(anew));
    assert!(index.specs().apps.is_empty());
}

#[test]
fn a_deleted_app_is_gone_for_the_engines_while_its_object_waits() {
    let mut index = listed(vec![app("a", 1, &good(3))], vec![pool("default")]);
    let mut deleted = app("a", 2, &good(3));
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert!(index.apply(&APPS, Event::Apply(deleted)).specs);
    assert!(index.specs().apps.is_empty() && index.specs().spared.is_empty());
    assert!(index.objects().apps[&key("a")].deleting);
    index.apply(&APPS, Event::Delete(app("a", 2, &good(3))));
    assert!(index.objects().apps.is_empty());
}

fn in_pool(name: &str, pool: &str) -> DynamicObject {
    let mut spec = good(1);
    spec["pool"] = json!(pool);
    app(name, 1, &spec)
}

#[test]
fn an_app_without_its_pool_is_told_of() {
    let specs = listed(vec![in_pool("a", "other")], vec![pool("default")]).specs();
    assert_eq!(specs.problems.len(), 1);
    assert!(specs.problems[0].message.contains("there is no MicroscalingPool shop/other"), "{:?}", specs.problems);
}

#[test]
fn an_app_goes_with_its_pool_and_one_without_any_is_everybodys() {
    let mut index = Index::new([APPS, POOLS, NAMES]);
    list(&mut index, &APPS, vec![in_pool("mine", "default"), in_pool("theirs", "other"), in_pool("lost", "nowhere")]);
    list(&mut index, &POOLS, vec![pool("default")]);
    list(&mut index, &NAMES, vec![pool("default"), pool("other")]);
    assert_eq!(names(&index.specs()), ["lost", "mine"]);
    assert_eq!(index.objects().apps.len(), 2);
    assert!(index.apply(&NAMES, Event::Delete(pool("other"))).specs);
    assert_eq!(names(&index.specs()), ["lost", "mine", "theirs"]);
}

#[test]
fn in_doubt_nothing_is_concluded_from_what_is_not_there() {
    let mut index = listed(vec![app("a", 1, &good(1))], vec![pool("default")]);
    index.doubt([APPS, POOLS]);
    let specs = index.specs();
    assert!(!specs.complete && names(&specs) == ["a"]);
    list(&mut index, &POOLS, vec![pool("default")]);
    list(&mut index, &APPS, vec![app("b", 1, &good(1))]);
    assert!(index.specs().complete);
    assert_eq!(names(&index.specs()), ["b"]);
}
