//! The placement constraints of an app.

use super::definition::Definition;
use super::instance::Instance;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// Whether the offer's agent may take one more instance of the app.
pub fn are_met<'a>(definition: &Definition, app: &str, offer: &Value, all: impl Iterator<Item = &'a Instance>) -> bool {
    let constraints = definition.list("constraints");
    if constraints.is_empty() {
        return true;
    }
    let placed: Vec<&Instance> = all.filter(|instance| instance.app == app && instance.host.is_some()).collect();
    constraints.iter().all(|constraint| is_met(constraint, offer, &placed))
}

fn is_met(constraint: &Value, offer: &Value, placed: &[&Instance]) -> bool {
    let field = constraint[0].as_str().unwrap_or_default();
    let argument = constraint[2].as_str();
    let Some(value) = value_of(field, offer) else {
        // Who has no such attribute can only be unlike something.
        return constraint[1] == "UNLIKE";
    };
    // The attributes of agents are not kept, so how many there are of one value is told for hosts and agents only.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let value_of_instance = |instance: &&&Instance| {
        let own = if field == "@hostname" || field == "hostname" { &instance.host } else { &instance.agent };
        own.clone()
    };
    placed.iter().filter_map(|instance| value_of_instance(&instance)).for_each(|own| *counts.entry(own).or_default() += 1);
    let key = if is_host(field) { value.clone() } else { offer["agent_id"]["value"].as_str().unwrap_or_default().to_owned() };
    let here = counts.get(&key).copied().unwrap_or(0);
    let matches = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(&value));
    match constraint[1].as_str().unwrap_or_default() {
        "UNIQUE" => here == 0,
        "MAX_PER" => argument.and_then(|most| most.parse().ok()).is_none_or(|most: usize| here < most),
        "CLUSTER" | "IS" => match argument.filter(|argument| !argument.is_empty()) {
            Some(wanted) => wanted == value,
            None => counts.is_empty() || here > 0,
        },
        "LIKE" => argument.is_none_or(matches),
        "UNLIKE" => !argument.is_some_and(matches),
        // GROUP_BY, as long as nothing else is known: no value gets further ahead.
        "GROUP_BY" => counts.values().all(|other| here <= *other),
        _ => true,
    }
}

fn is_host(field: &str) -> bool {
    matches!(field, "hostname" | "@hostname")
}

/// Of the host's name, or of an attribute of any type.
fn value_of(field: &str, offer: &Value) -> Option<String> {
    if is_host(field) {
        return offer["hostname"].as_str().map(ToOwned::to_owned);
    }
    let attributes = offer["attributes"].as_array().into_iter().flatten();
    let attribute = attributes.into_iter().find(|attribute| attribute["name"] == field)?;
    let text = attribute["text"]["value"].as_str().map(ToOwned::to_owned);
    text.or_else(|| attribute["scalar"]["value"].as_f64().map(|number| number.to_string()))
}
