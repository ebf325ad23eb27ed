//! A real API server judges the corpus of `tests/check.rs`: the same files are accepted and refused there as by `microscaler check`, and each
//! rule of the definitions is broken by some file and answered in its words.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use microscaler::api::crd;
use microscaler_testbed::ControlPlane;
use serde_json::Value;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// What the API server answers to each file: the error, or nothing.
fn verdicts(kubernetes: &ControlPlane, files: &[PathBuf]) -> BTreeMap<PathBuf, Option<String>> {
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let judge = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = kubernetes.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()]);
            verdicts.lock().unwrap().insert(file.clone(), answer.err().map(|error| error.to_string()));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(judge))));
    verdicts.into_inner().unwrap()
}

/// The words of every rule; of those that are put together, what they are put together from.
fn words_of_rules(schema: &Value, words: &mut Vec<String>) {
    if let Some(rules) = schema.get("x-kubernetes-validations").and_then(Value::as_array) {
        for rule in rules {
            let message = rule["message"].as_str().map(str::to_owned);
            let pieces = || rule["messageExpression"].as_str().map(|text| text.split('%').nth(1).unwrap()[1..].to_owned());
            words.push(message.or_else(pieces).unwrap_or_else(|| panic!("a rule without words: {rule}")));
        }
    }
    match schema {
        Value::Object(map) => map.values().for_each(|value| words_of_rules(value, words)),
        Value::Array(items) => items.iter().for_each(|value| words_of_rules(value, words)),
        _ => {}
    }
}

#[test]
fn an_api_server_and_check_agree() {
    let kubernetes = ControlPlane::start().unwrap();
    kubernetes.kubectl(&["apply", "--server-side", "-f", "crds/"]).unwrap();
    kubernetes.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).unwrap();
    for namespace in ["shop", "eu"] {
        kubernetes.kubectl(&["create", "namespace", namespace]).unwrap();
    }

    // A key that is set twice has gone before the server sees it: kubectl keeps the last one.
    let bad: Vec<_> = files("tests/corpus/bad").into_iter().filter(|file| !file.ends_with("duplicate-key.yaml")).collect();
    let bad = verdicts(&kubernetes, &bad);
    let accepted: Vec<_> = bad.iter().filter(|(_, answer)| answer.is_none()).map(|(file, _)| file).collect();
    assert!(accepted.is_empty(), "an API server accepts {accepted:?}");

    let mut words = Vec::new();
    crd::all().iter().for_each(|definition| words_of_rules(&crd::schema(definition), &mut words));
    assert!(words.len() > 10, "{words:?}");
    let answers: Vec<&String> = bad.values().flatten().collect();
    let unbroken: Vec<_> = words.iter().filter(|words| !answers.iter().any(|answer| answer.contains(words.as_str()))).collect();
    assert!(unbroken.is_empty(), "no file breaks the rules {unbroken:?}");

    let good: Vec<_> = ["tests/corpus/good", "manifests/demo"].into_iter().flat_map(files).collect();
    // An object as read from an API server names the version that it was read at, which nothing that is created may do.
    let good: Vec<_> = good.into_iter().filter(|file| !file.ends_with("as-kubectl-get-prints-it.yaml")).collect();
    let refused: Vec<_> = verdicts(&kubernetes, &good).into_iter().filter(|(_, answer)| answer.is_some()).collect();
    assert!(refused.is_empty(), "an API server refuses {refused:#?}");
}
