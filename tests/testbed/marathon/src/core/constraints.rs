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
    let argument = constraint[2].as_str().filter(|argument| !argument.is_empty());
    let Some(value) = value_of(field, offer["hostname"].as_str(), attributes(offer)) else {
        // Who has no such attribute can only be unlike something.
        return constraint[1] == "UNLIKE";
    };
    // How many there are of each value.
    let mut groups: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for instance in placed {
        *groups.entry(value_of(field, instance.host.as_deref(), &instance.attributes)).or_default() += 1;
    }
    let matches = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(&value));
    let here = groups.get(&Some(value.clone())).copied().unwrap_or(0);
    let number = argument.and_then(|number| number.parse::<usize>().ok());
    match constraint[1].as_str().unwrap_or_default() {
        "UNIQUE" => here == 0,
        "MAX_PER" => number.is_none_or(|most| here < most),
        "CLUSTER" | "IS" => argument.map_or(here == placed.len(), |wanted| wanted == value),
        "LIKE" => argument.is_none_or(matches),
        "UNLIKE" => !argument.is_some_and(matches),
        // A value that is new, or has the fewest by now, once there are as many values as are named. Others are not known of.
        "GROUP_BY" => here == 0 || (groups.len() >= number.unwrap_or(0) && groups.values().all(|other| here <= *other)),
        _ => true,
    }
}

/// Of the host's name, or of an attribute of any type.
fn value_of(field: &str, host: Option<&str>, attributes: &[Value]) -> Option<String> {
    if matches!(field, "hostname" | "@hostname") {
        return host.map(ToOwned::to_owned);
    }
    let attribute = attributes.iter().find(|attribute| attribute["name"] == field)?;
    let text = attribute["text"]["value"].as_str().map(ToOwned::to_owned);
    text.or_else(|| attribute["scalar"]["value"].as_f64().map(|number| number.to_string()))
}

/// Of the agent that is offered.
pub fn attributes(offer: &Value) -> &[Value] {
    offer["attributes"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Which of the offers are taken, each of an agent on the rack by this name.
    fn taken(constraint: Value, racks: &str) -> String {
        let fields = json!({ "cmd": "sleep 1", "constraints": [constraint] });
        let definition = Definition::update("/a", None, &fields).unwrap_or_else(|refusal| panic!("{}", refusal.status));
        let (mut placed, mut taken) = (Vec::<Instance>::new(), String::new());
        for rack in racks.chars() {
            let text = json!({ "value": rack.to_string() });
            let offer = json!({ "hostname": "host", "attributes": [{ "name": "rack", "type": "TEXT", "text": text }] });
            if are_met(&definition, "/a", &offer, placed.iter()) {
                let instance = Instance::scheduled("/a", 0, 0, 0);
                placed.push(Instance { host: Some("host".to_owned()), attributes: attributes(&offer).to_vec(), ..instance });
                taken.push(rack);
            }
        }
        taken
    }

    #[test]
    fn racks_are_counted() {
        assert_eq!(taken(json!(["rack", "UNIQUE"]), "aabba"), "ab");
        assert_eq!(taken(json!(["rack", "MAX_PER", "2"]), "aaabb"), "aabb");
        assert_eq!(taken(json!(["rack", "CLUSTER"]), "abab"), "aa");
        assert_eq!(taken(json!(["rack", "CLUSTER", "b"]), "abab"), "bb");
    }

    #[test]
    fn groups_that_are_known_of_are_kept_even() {
        assert_eq!(taken(json!(["rack", "GROUP_BY", ""]), "aaaa"), "aaaa", "no other is known of");
        assert_eq!(taken(json!(["rack", "GROUP_BY", ""]), "aabaabba"), "aabbba");
        assert_eq!(taken(json!(["rack", "GROUP_BY", "2"]), "aabaabb"), "ababb");
    }
}
