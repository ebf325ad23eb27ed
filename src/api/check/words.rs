//! Wording: what a pattern asks for, which name may have been meant, how a value is shown.

use serde_json::Value;

use crate::api::{portion, quantity};

const LONGEST_SHOWN: usize = 60;
/// Names less alike than this (Jaro–Winkler, 0 to 1) are no help.
const ALIKE: f64 = 0.84;

/// Each pattern of the definitions, in words.
const PATTERNS: &[(&str, &str)] = &[
    (quantity::PATTERN, "not an amount: write a number with an optional suffix, such as 500m, 2, 64Mi or 1.5Gi"),
    (quantity::POSITIVE, "not an amount above 0: write a number with an optional suffix, such as 10, 500m or 1.5k"),
    (portion::PATTERN, "not a number of replicas: write 2 or 20%"),
    (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "must be lower case letters, digits and '-', with a letter or digit at both ends"),
    (r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", "must be lower case letters, digits, '-' and '.', with a letter or digit at both ends"),
    (r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", "must be letters, digits, '-', '_' and '.', and must not start with a digit"),
    (r"^https?://[^/?# \t\r\n]+([/?#][^ \t\r\n]*)?$", "must be an address such as http://host:port/path"),
    (r"^https?://[^/?#@ \t\r\n]+/?$", "must be an address such as http://host:5050, without a path or credentials"),
    (r"^https?://[^/?#@ \t\r\n]+(/[^?#@ \t\r\n]*)?$", "must be an address such as http://host:8080, without credentials"),
    (
        r"^(/[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)+$",
        "must be the id of an app such as /shop/search: lower case letters, digits, '-' and '.' between slashes",
    ),
    (r"^[-._a-zA-Z0-9]+$", "must be letters, digits, '-', '_' and '.'"),
    (r"^[^/?#@ \t\r\n]+:[0-9]{1,5}$", "must be HOST:PORT"),
    (r"^[^/%?# \t\r\n]+$", "must be a name without '/', '%', '?', '#' and blanks"),
    (r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?v[a-z0-9]+$", "must be a version such as v1 or networking.k8s.io/v1"),
    (r"^[A-Za-z][A-Za-z0-9]*$", "must be a kind such as Service"),
    (r"^[.a-zA-Z0-9_-]+(#ephemeral)?$", "must be letters, digits, '-', '_' and '.', with #ephemeral at its end or not"),
    (r"^[^:\r\n]+$", "must not hold a ':'"),
    (r"^/", "must be a path that begins with '/'"),
    (r"^/[^ \t\r\n]*$", "must be a path such as /ready, without blanks"),
    (r"^[^ \t\r\n]+$", "must not hold blanks"),
    (r"^[^\r\n]*$", "must be one line"),
    (
        r"^(\[[0-9a-fA-F:.]+\]|[^\[\]:,/ \t\r\n]+):[0-9]{1,5}(,(\[[0-9a-fA-F:.]+\]|[^\[\]:,/ \t\r\n]+):[0-9]{1,5})*$",
        "must be addresses of brokers with commas between them, such as kafka-0:9092,kafka-1:9092",
    ),
    (r"^[a-z_][a-z0-9_$]*$", "must be lower case letters, digits, '_' and '$', and must not start with a digit or '$'"),
    (r"^[^/, \t\r\n]+$", "must be one host, without '/', ',' and blanks"),
    (r"^(/.*)?$", "must be empty or a JSON pointer such as /queues/0/depth"),
    (r"^([ \t]*[0-9]+[ \t]*,[ \t]*[0-9]+(\.[0-9]+)?[ \t\r]*(\n|$))+$", "must be lines of milliseconds,value such as 1500,200"),
    (
        r"^(\*|[^-./* \t\r\n][^* \t\r\n]*)$",
        "must be * or a role of Mesos: no blanks or '*' in it, and no '-', '.' or '/' at its start",
    ),
];

/// What a pattern asks for.
pub fn pattern(pattern: &str) -> String {
    let words = PATTERNS.iter().find(|(known, _)| *known == pattern).map(|(_, words)| *words);
    words.map_or_else(|| format!("must match {pattern}"), str::to_owned)
}

/// `, did you mean x?` or nothing.
pub fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let alike = |known: &'k str| (strsim::jaro_winkler(&word.to_lowercase(), &known.to_lowercase()), known);
    let best = known.map(alike).filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(String::new, |(_, known)| format!(", did you mean `{known}`?"))
}

/// A value as in JSON, cut where it gets long.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Schemas hold 1.0 where people say 1.
pub fn number(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())
}

pub fn items(count: u64) -> &'static str {
    if count == 1 { "item" } else { "items" }
}

/// `a, b and c`.
pub fn list(names: &[&str], and: &str) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_of_the_definitions_has_words() {
        fn walk(schema: &Value) {
            match schema {
                Value::Object(map) => {
                    if let Some(Value::String(found)) = map.get("pattern") {
                        assert!(PATTERNS.iter().any(|(known, _)| known == found), "no words for {found}");
                    }
                    map.values().for_each(walk);
                }
                Value::Array(items) => items.iter().for_each(walk),
                _ => {}
            }
        }
        for definition in crate::api::crd::all() {
            walk(&crate::api::crd::schema(&definition));
        }
    }

    #[test]
    fn guesses_help_or_are_left_out() {
        let known = ["minReplicas", "maxReplicas", "template"];
        assert_eq!(did_you_mean("minReplica", known.into_iter()), ", did you mean `minReplicas`?");
        assert_eq!(did_you_mean("minreplicas", known.into_iter()), ", did you mean `minReplicas`?");
        assert_eq!(did_you_mean("image", known.into_iter()), "");
    }
}
