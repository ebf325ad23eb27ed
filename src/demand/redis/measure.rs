//! What is asked of a Redis, and what number an answer is.

use redis::{Cmd, Value};

use crate::api::demand::{GroupEntries, RedisMeasure, RedisStream};
use crate::demand::push::listed;

/// So much of a text that is no number is shown.
const SHOWN: usize = 100;

/// A command whose answer holds the number.
pub struct Measure {
    words: Vec<String>,
    group: Option<(String, GroupEntries)>,
}

impl Measure {
    /// # Errors
    /// In words, for a channel, which is not asked for.
    pub fn of(spec: &RedisMeasure) -> Result<Self, String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (words, group) = match spec {
            RedisMeasure::ListName(name) => (words(&["LLEN", name]), None),
            RedisMeasure::Stream(RedisStream { name, consumer_group: None, .. }) => (words(&["XLEN", name]), None),
            RedisMeasure::Stream(RedisStream { name, consumer_group: Some(group), entries }) => {
                (words(&["XINFO GROUPS", name]), Some((group.clone(), entries.unwrap_or_default())))
            }
            RedisMeasure::SortedSet(set) => {
                let bound = |score: &Option<String>, default: &str| score.clone().unwrap_or_else(|| default.to_owned());
                (words(&["ZCOUNT", &set.name, &bound(&set.min_score, "-inf"), &bound(&set.max_score, "+inf")]), None)
            }
            RedisMeasure::Hash(hash) => (words(&["HGET", &hash.name, &hash.field]), None),
            RedisMeasure::Key(key) => (words(&["GET", key]), None),
            RedisMeasure::Channel(channel) => return Err(format!("channel {channel} is not asked for")),
        };
        Ok(Self { words, group })
    }

    /// The key that it is about.
    pub fn key(&self) -> &str {
        &self.words[1]
    }

    /// As people write it.
    pub fn question(&self) -> String {
        self.words.join(" ")
    }

    pub fn command(&self) -> Cmd {
        let mut command = Cmd::new();
        // Commands of two words are two arguments.
        for word in self.words[0].split(' ').chain(self.words[1..].iter().map(String::as_str)) {
            command.arg(word);
        }
        command
    }

    /// The number that this answer is. With `discreet`, nothing of it is shown.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn number(&self, answer: &Value, discreet: bool) -> Result<f64, String> {
        let read = match &self.group {
            Some((group, entries)) => entries_of(answer, group, *entries, discreet),
            None => plain(answer, discreet),
        };
        read.map_err(|why| format!("{}: {why}", self.question()))
    }
}

fn plain(answer: &Value, discreet: bool) -> Result<f64, String> {
    match answer {
        #[allow(clippy::cast_precision_loss, reason = "nobody has so many")]
        Value::Int(number) => Ok(*number as f64),
        Value::Double(number) => Ok(*number),
        Value::BulkString(text) => text_number(text, discreet),
        Value::SimpleString(text) => text_number(text.as_bytes(), discreet),
        Value::Nil => Err("nothing is there".to_owned()),
        _ => Err("the answer is no number".to_owned()),
    }
}

/// The number that this text is.
///
/// # Errors
/// In words; with `discreet`, without the text.
pub fn text_number(text: &[u8], discreet: bool) -> Result<f64, String> {
    let text = String::from_utf8_lossy(text);
    let short = || text.chars().take(SHOWN).collect::<String>();
    text.trim()
        .parse()
        .map_err(|_| if discreet { "found a text that is no number".to_owned() } else { format!("found {:?}", short()) })
}

/// From an answer to XINFO GROUPS.
fn entries_of(answer: &Value, group: &str, entries: GroupEntries, discreet: bool) -> Result<f64, String> {
    let groups = answer.as_sequence().ok_or("the answer is no list of groups")?;
    let name = |of: &Value| field(of, "name").and_then(text);
    let Some(found) = groups.iter().find(|of| name(of).as_deref() == Some(group)) else {
        let exist = if discreet {
            String::new()
        } else {
            format!("; {}", listed("groups", groups.iter().filter_map(name).collect::<Vec<_>>().iter()))
        };
        return Err(format!("there is no consumer group {group}{exist}"));
    };
    let count = |name: &str| field(found, name).map(|count| plain(count, discreet));
    let pending = || count("pending").ok_or("the answer tells no pending entries")?;
    let lag = || match field(found, "lag") {
        Some(Value::Nil) => Err("the server cannot tell the lag, as entries were deleted from within the stream".to_owned()),
        Some(lag) => plain(lag, discreet),
        None => Err("the server tells no lag, as it is older than Redis 7: use entries: Pending".to_owned()),
    };
    match entries {
        GroupEntries::Pending => pending(),
        GroupEntries::Lag => lag(),
        GroupEntries::Unacknowledged => Ok(pending()? + lag()?),
    }
}

fn field<'v>(group: &'v Value, name: &str) -> Option<&'v Value> {
    group.as_map_iter()?.find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value)
}

fn text(value: &Value) -> Option<String> {
    redis::from_redis_value(value.clone()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measure(spec: serde_json::Value) -> Measure {
        Measure::of(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn word(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn each_measure_is_a_command() {
        for (spec, question) in [
            (json!({"listName": "jobs"}), "LLEN jobs"),
            (json!({"stream": {"name": "s"}}), "XLEN s"),
            (json!({"stream": {"name": "s", "consumerGroup": "g"}}), "XINFO GROUPS s"),
            (json!({"sortedSet": {"name": "z", "maxScore": "(5"}}), "ZCOUNT z -inf (5"),
            (json!({"hash": {"name": "h", "field": "f"}}), "HGET h f"),
            (json!({"key": "k"}), "GET k"),
        ] {
            let measure = measure(spec);
            assert_eq!(measure.question(), question);
            let words = question.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<String>();
            let packed = measure.command().get_packed_command();
            assert!(String::from_utf8(packed).unwrap().ends_with(&words));
        }
    }

    #[test]
    fn answers_are_numbers_or_it_is_said_what_they_are() {
        let read = |value, discreet| measure(json!({"key": "k"})).number(&value, discreet);
        assert_eq!(read(Value::Int(7), false), Ok(7.0));
        assert_eq!(read(word(" 1.5\n"), false), Ok(1.5));
        assert_eq!(read(Value::Nil, false), Err("GET k: nothing is there".to_owned()));
        assert_eq!(read(word("s3cret"), false), Err("GET k: found \"s3cret\"".to_owned()));
        assert_eq!(read(word("s3cret"), true), Err("GET k: found a text that is no number".to_owned()));
        assert_eq!(read(Value::Okay, false), Err("GET k: the answer is no number".to_owned()));
    }

    #[test]
    fn entries_of_a_group_are_counted_as_wanted() {
        let group = |name, lag| {
            let fields = [("name", word(name)), ("pending", Value::Int(2)), ("lag", lag)];
            Value::Map(fields.map(|(key, value)| (word(key), value)).to_vec())
        };
        let old = Value::Map(vec![(word("name"), word("old")), (word("pending"), Value::Int(2))]);
        let answer = Value::Array(vec![group("a", Value::Int(3)), group("b", Value::Nil), old]);
        let read = |name: &str, entries: &str| {
            let measure = measure(json!({"stream": {"name": "s", "consumerGroup": name, "entries": entries}}));
            measure.number(&answer, false)
        };
        assert_eq!(["Pending", "Lag", "Unacknowledged"].map(|entries| read("a", entries)), [Ok(2.0), Ok(3.0), Ok(5.0)]);
        assert_eq!(read("b", "Pending"), Ok(2.0));
        assert!(read("b", "Lag").unwrap_err().contains("entries were deleted from within the stream"));
        assert!(read("old", "Unacknowledged").unwrap_err().contains("older than Redis 7"));
        let missing = "XINFO GROUPS s: there is no consumer group c; groups that exist: a, b, old";
        assert_eq!(read("c", "Lag"), Err(missing.to_owned()));
    }
}
