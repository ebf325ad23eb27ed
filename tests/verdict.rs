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

/// Files that fail before the definitions are asked, so that the answer does not name the field, and what it says instead.
const REFUSED_EARLIER: [(&str, &str); 16] = [
    ("metadata-bad-label", "metadata.labels: Invalid value: \"a b\""),
    ("metadata-bad-namespace", "namespaces \"a.b\" not found"),
    ("metadata-generate-name", "cannot use generate name with apply"),
    ("metadata-missing", "resource name may not be empty"),
    ("metadata-no-name", "resource name may not be empty"),
    ("metadata-number-annotation", "cannot unmarshal number into Go struct field ObjectMeta.metadata.annotations"),
    ("metadata-number-label", "cannot unmarshal number into Go struct field ObjectMeta.metadata.labels"),
    ("not-an-object", "invalid object to validate"),
    ("several-problems", "unknown field \"spec.maxReplica\""),
    ("unknown-source", "unknown field \"spec.demand[0].mysql\""),
    ("version-foreign", "no matches for kind \"MicroscaledApp\" in version \"apps/v1\""),
    ("version-unknown", "no matches for kind \"MicroscaledApp\" in version \"microscaling.dev/v1\""),
    ("yaml-not-a-number", "error converting YAML to JSON: json: unsupported value: NaN"),
    ("yaml-syntax", "error converting YAML to JSON: yaml: line 7"),
    ("yaml-tab", "error converting YAML to JSON: yaml: line 8"),
    ("yaml-undefined-alias", "unknown anchor"),
];

/// The `FIELD: MESSAGE` of each `# expect: LINE: FIELD: MESSAGE`.
fn expected(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("# expect: "));
    let split = |line: &str| {
        let (field, message) = line.split_once(": ")?.1.split_once(": ")?;
        Some((field.to_owned(), message.to_owned()))
    };
    lines.map(|line| split(line).unwrap_or_else(|| panic!("{}: no field in {line:?}", file.display()))).collect()
}

/// Whether the field is named, and not only one within it or one whose name begins the same.
fn names(answer: &str, field: &str) -> bool {
    answer
        .match_indices(field)
        .any(|(at, _)| !answer[at + field.len()..].starts_with(|next: char| next.is_alphanumeric() || ".[".contains(next)))
}

/// What is missing in the answer to a file. An answer that is no verdict, such as a timeout, has nothing of it.
fn missing(file: &Path, answer: &str) -> Vec<String> {
    let answer = answer.replace(file.to_str().unwrap(), "");
    let name = file.file_stem().unwrap().to_str().unwrap();
    let wanted: Vec<(String, bool)> = match REFUSED_EARLIER.iter().find(|(earlier, _)| *earlier == name) {
        Some((_, words)) => vec![((*words).to_owned(), answer.contains(words))],
        None => expected(file)
            .into_iter()
            .flat_map(|(field, message)| {
                let found = names(&answer, &field);
                // The words of the schema are the server's own, those of the rules ours.
                let message = name.starts_with("rule-").then(|| (message.clone(), answer.contains(&message)));
                std::iter::once((field, found)).chain(message)
            })
            .collect(),
    };
    assert!(!wanted.is_empty(), "{name}: nothing is expected");
    wanted.into_iter().filter(|(_, found)| !found).map(|(words, _)| format!("{name}: no {words:?} in {answer}")).collect()
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

    let missing: Vec<_> = bad.iter().flat_map(|(file, answer)| missing(file, answer.as_deref().unwrap())).collect();
    assert!(missing.is_empty(), "an API server refuses for other reasons:\n{}", missing.join("\n"));

    let mut words = Vec::new();
    crd::all().iter().for_each(|definition| words_of_rules(&crd::schema(definition), &mut words));
    assert!(words.len() > 10, "{words:?}");
    let answers: Vec<&String> = bad.values().flatten().collect();
    let unbroken: Vec<_> = words.iter().filter(|words| !answers.iter().any(|answer| answer.contains(words.as_str()))).collect();
    assert!(unbroken.is_empty(), "no file breaks the rules {unbroken:?}");

    let good: Vec<_> =
        ["tests/corpus/good", "tests/corpus/unusable", "manifests/demo", "manifests/demo-marathon", "manifests/sources"]
            .into_iter()
            .flat_map(files)
            .collect();
    // An object as read from an API server names the version that it was read at, which nothing that is created may do.
    let good: Vec<_> = good.into_iter().filter(|file| !file.ends_with("as-kubectl-get-prints-it.yaml")).collect();
    let refused: Vec<_> = verdicts(&kubernetes, &good).into_iter().filter(|(_, answer)| answer.is_some()).collect();
    assert!(refused.is_empty(), "an API server refuses {refused:#?}");
}
