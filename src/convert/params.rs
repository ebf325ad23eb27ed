//! The parameters of a trigger, and which of them nobody has asked for.

use serde_json::{Map, Value, json};

use super::auth::Secrets;

/// KEDA's `metadata` of a trigger: texts by name. What is left in the end was not carried over.
pub(super) struct Params<'a> {
    left: Map<String, Value>,
    secrets: &'a Secrets,
    used: Vec<String>,
}

impl<'a> Params<'a> {
    pub fn new(metadata: Option<&Value>, secrets: &'a Secrets) -> Self {
        let left = metadata.and_then(Value::as_object).cloned().unwrap_or_default();
        Self { left, secrets, used: Vec::new() }
    }

    /// The text of this name.
    pub fn text(&mut self, name: &str) -> Option<String> {
        Some(match self.left.remove(name)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// The number of this name; what is none stays a text, of which the check will say so.
    pub fn number(&mut self, name: &str) -> Option<Value> {
        let text = self.text(name)?;
        Some(text.trim().parse::<i64>().map(Value::from).unwrap_or_else(|_| Value::from(text)))
    }

    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.text(name).map(|text| text.trim() == "true")
    }

    /// What a TriggerAuthentication names for this parameter: `{secretRef: {name, key}}`.
    pub fn secret(&mut self, name: &str) -> Option<Value> {
        let secret = self.secrets.get(name)?;
        self.used.push(name.to_owned());
        Some(secret)
    }

    /// A text from metadata that may also be kept in a Secret: only as text, where our field is none for secrets.
    pub fn text_not_secret(&mut self, name: &str, notes: &mut Vec<String>) -> Option<String> {
        if let Some(text) = self.text(name) {
            return Some(text);
        }
        self.secret(name)?;
        notes.push(format!("{name} is kept in a Secret there, and is written in the spec here: fill it in"));
        None
    }

    /// TLS by KEDA's names.
    pub fn tls(&mut self) -> Option<Value> {
        let mut tls = Map::new();
        for name in ["ca", "cert", "key"] {
            if let Some(secret) = self.secret(name) {
                tls.insert(name.to_owned(), secret);
            }
        }
        if self.flag("unsafeSsl") == Some(true) {
            tls.insert("unsafeSsl".to_owned(), json!(true));
        }
        let wanted = ["tls", "enableTLS"].into_iter().filter_map(|name| self.text(name)).any(|on| on == "enable" || on == "true");
        let secret = self.secret("tls").is_some();
        (wanted || secret || !tls.is_empty()).then_some(Value::Object(tls))
    }

    /// What nobody has asked for.
    pub fn rest(self) -> Vec<String> {
        let of_secrets = self.secrets.names().filter(|name| !self.used.iter().any(|used| used == name)).map(str::to_owned);
        self.left.into_iter().map(|(name, _)| name).chain(of_secrets).collect()
    }

    /// All that is left, as it is.
    pub fn take_all(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.left)
    }
}
