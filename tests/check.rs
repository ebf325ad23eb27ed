//! The verdict on manifests, held to a corpus: each file of `tests/corpus/bad` tells the problems to expect in its first lines
//! (`# expect: LINE: FIELD: MESSAGE`), those of `tests/corpus/good` and the demonstration have none. A real API server must accept
//! and refuse the same files.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use microscaler::api::check::{Checked, Checker, Object};
use microscaler::api::crd;
use proptest::prelude::*;
use serde_json::Value;

fn checker() -> &'static Checker {
    static CHECKER: OnceLock<Checker> = OnceLock::new();
    CHECKER.get_or_init(Checker::new)
}

/// The manifests of a directory, each with its text.
fn manifests(directory: &str) -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn problems(checked: &Checked) -> Vec<String> {
    let told = |problem: &microscaler::api::check::Problem| {
        let file = format!("{}:", problem.file.display());
        problem.to_string().strip_prefix(&file).unwrap().to_owned()
    };
    checked.problems.iter().map(told).collect()
}

#[test]
fn bad_manifests_are_refused_with_the_expected_words() {
    let files = manifests("tests/corpus/bad");
    assert!(files.len() > 100, "the corpus is complete");
    // Those can be written and yet not be used: what is wrong with them, no schema and no rule can say.
    for (file, text) in files.into_iter().chain(manifests("tests/corpus/unusable")) {
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        assert!(!expected.is_empty(), "{}: nothing is expected", file.display());
        assert_eq!(problems(&checker().check(&file, &text)), expected, "{}", file.display());
    }
}

#[test]
fn good_manifests_pass() {
    for (file, text) in
        ["tests/corpus/good", "manifests/demo", "manifests/demo-marathon", "manifests/sources"].into_iter().flat_map(manifests)
    {
        let checked = checker().check(&file, &text);
        assert_eq!(problems(&checked), [""; 0], "{}", file.display());
        assert!(!checked.objects.is_empty(), "{}", file.display());
    }
}

#[test]
fn the_other_documents_of_a_bad_file_are_kept() {
    let text = include_str!("corpus/bad/several-documents.yaml");
    let checked = checker().check(Path::new("several.yaml"), text);
    let kept: Vec<_> =
        checked.objects.iter().map(|(line, object)| (*line, object.kind().name(), object.key().as_str())).collect();
    assert_eq!(kept, [(13, "MicroscalingPool", "default/shop")]);
    let about: Vec<_> = checked.problems.iter().map(|p| p.about.as_ref().unwrap().1.as_str()).collect();
    assert_eq!(about, ["default/search", "default/checkout"]);
}

#[test]
fn what_is_read_is_what_was_written() {
    let text = include_str!("corpus/good/yaml-as-kubectl-reads-it.yaml");
    let checked = checker().check(Path::new("x.yaml"), text);
    let Object::App(raw, app) = &checked.objects[0].1 else { panic!("an app comes first") };
    assert_eq!((app.min, app.max, app.replicas, app.priority, app.suspended), (8, 10, 2, 10, false));
    assert_eq!(app.template.shell.as_deref(), Some("exec sleep infinity"));
    let env: Vec<_> = app.template.env.iter().map(|e| (e.name.as_str(), e.value.as_str())).collect();
    assert_eq!(env, [("SHOP", "no"), ("YES", "no"), ("TEXT", "--- not a new document\n")]);
    assert_eq!(raw.metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn other_kinds_are_noted() {
    let text = include_str!("corpus/good/as-kubectl-get-prints-it.yaml");
    let checked = checker().check(Path::new("x.yaml"), text);
    assert_eq!(checked.notes, ["x.yaml:25: ConfigMap (v1) is not a kind of microscaling.dev, skipped"]);
}

#[test]
fn an_object_of_a_newer_api_server_is_read_without_what_is_not_known() {
    let text = include_str!("corpus/bad/unknown-field.yaml");
    let value: Value = serde_saphyr::from_str(text).unwrap();
    assert!(checker().check_value(value.clone()).is_ok());
    let mut bad = value;
    bad["spec"]["priority"] = 0.into();
    let faults = checker().check_value(bad).unwrap_err();
    assert_eq!(faults[0].to_string(), "spec.priority: Invalid value: 0: must be >= 1");
}

/// Every field of the definitions is in a good manifest, so that a new one is tried, too.
#[test]
fn good_manifests_name_every_field() {
    let mut fields = BTreeSet::new();
    for definition in crd::all() {
        let schema = crd::schema(&definition);
        leaves(&schema["properties"]["spec"], &definition.spec.names.kind, &mut fields);
    }
    let text = include_str!("corpus/good/every-field.yaml");
    for document in text.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        let kind = value["kind"].as_str().unwrap().to_owned();
        named(&value["spec"], &kind, &mut fields);
    }
    let shared = |field: &str| shared(field).is_some_and(|of_http| of_http != field && !fields.contains(&of_http));
    let missing: Vec<_> = fields.iter().filter(|field| !shared(field)).collect();
    assert!(missing.is_empty(), "fields in no good manifest: {missing:#?}");
}

/// The same field of `http`, where a source has it in common with that: how it is asked, TLS, and what credentials look like.
fn shared(field: &str) -> Option<String> {
    let (_, inner) = field.strip_prefix("MicroscaledApp.demand[].")?.split_once('.')?;
    if inner == "tls" || inner.starts_with("tls.") || inner.ends_with("Milliseconds") {
        return Some(format!("MicroscaledApp.demand[].http.{inner}"));
    }
    let credential = ["secretRef", "file"].iter().filter_map(|kind| inner.rfind(kind)).max()?;
    Some(format!("MicroscaledApp.demand[].http.tls.ca.{}", &inner[credential..]))
}

fn leaves(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    fields.insert(path.to_owned());
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        leaves(schema, &format!("{path}.{name}"), fields);
    }
    if schema["items"].is_object() {
        leaves(&schema["items"], &format!("{path}[]"), fields);
    }
}

fn named(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    fields.remove(path);
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| named(value, &format!("{path}.{name}"), fields)),
        Value::Array(items) => items.iter().for_each(|item| named(item, &format!("{path}[]"), fields)),
        _ => {}
    }
}

/// A change of a valid manifest: bytes replaced, cut out or repeated.
fn mutated() -> impl Strategy<Value = String> {
    let every_field = include_str!("corpus/good/every-field.yaml").as_bytes();
    let edit = (0..every_field.len(), 0..20_usize, proptest::collection::vec(prop_oneof![any::<u8>(), token()], 0..6));
    proptest::collection::vec(edit, 1..8).prop_map(move |edits| {
        let mut text = every_field.to_vec();
        for (at, length, with) in edits {
            let start = at.min(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, with);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Bytes that mean something in YAML.
fn token() -> impl Strategy<Value = u8> {
    proptest::sample::select(b"-:{}[]&*!|>'\"%@`#,?\n\t 0~<".to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), token()], 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().count().max(1);
        let checked = checker().check(Path::new("x.yaml"), &text);
        prop_assert!(checked.problems.iter().all(|problem| (1..=lines + 1).contains(&problem.line)));
    }

    #[test]
    fn any_change_of_a_manifest_is_judged_without_a_panic(text in mutated()) {
        let checked = checker().check(Path::new("x.yaml"), &text);
        prop_assert!(checked.objects.len() + checked.problems.len() + checked.notes.len() <= 10_000);
    }
}
