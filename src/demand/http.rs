//! Demand as a number inside a JSON document that is polled over HTTP.

use reqwest::Url;
use serde_json::Value;

use super::context::Context;
use super::poll::Query;
use super::web::{Web, address, shown};
use crate::api::demand::Http;

/// So much of a text that is no number is shown.
const SHOWN: usize = 100;
const A_STRING: &str = "found the string";

/// Why a document yielded no number.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("GET {url}: not JSON: {problem}")]
    NotJson { url: String, problem: serde_json::Error },
    #[error("no number at {pointer}: {found}")]
    NoNumber { pointer: String, found: String },
}

impl HttpError {
    /// The same without anything of what was found.
    #[must_use]
    pub fn discreet(self) -> Self {
        match self {
            Self::NoNumber { pointer, found } if found.starts_with(A_STRING) => {
                Self::NoNumber { pointer, found: "found a string that is no number".to_owned() }
            }
            error => error,
        }
    }
}

/// A document, and where in it the number is.
pub struct Document {
    web: Web,
    url: Url,
    pointer: String,
    discreet: bool,
}

impl Document {
    /// # Errors
    /// In words, when the address is none.
    pub fn new(context: Context, spec: &Http) -> Result<Self, String> {
        let url = address(&spec.url).map_err(|error| error.to_string())?;
        let discreet = context.secrets.are_discreet();
        let web = Web::of(context, &url, spec.auth.clone(), spec.tls.clone());
        Ok(Self { web, url, pointer: spec.pointer.clone(), discreet })
    }
}

impl Query for Document {
    async fn ask(&self) -> Result<f64, String> {
        let body = self.web.fetch(|client| client.get(self.url.clone())).await?;
        let number = read(&body, &self.url, &self.pointer);
        number.map_err(|error| if self.discreet { error.discreet() } else { error }.to_string())
    }
}

fn read(body: &[u8], url: &Url, pointer: &str) -> Result<f64, HttpError> {
    let document = serde_json::from_slice(body).map_err(|problem| HttpError::NotJson { url: shown(url), problem })?;
    number_at(&document, pointer)
}

/// The number, or a string that holds one, at `pointer` (RFC 6901).
///
/// # Errors
/// Says what was found there instead.
pub fn number_at(document: &Value, pointer: &str) -> Result<f64, HttpError> {
    let found = match document.pointer(pointer) {
        Some(Value::Number(number)) => match number.as_f64() {
            Some(number) => return Ok(number),
            None => format!("{number} is too large"),
        },
        Some(Value::String(text)) => match text.trim().parse() {
            Ok(number) => return Ok(number),
            Err(_) => format!("{A_STRING} {:?}", text.chars().take(SHOWN).collect::<String>()),
        },
        Some(Value::Object(_)) => "found an object".to_owned(),
        Some(Value::Array(_)) => "found an array".to_owned(),
        Some(Value::Bool(truth)) => format!("found {truth}"),
        Some(Value::Null) => "found null".to_owned(),
        None => "nothing is there".to_owned(),
    };
    let pointer = if pointer.is_empty() { "the top of the document".to_owned() } else { pointer.to_owned() };
    Err(HttpError::NoNumber { pointer, found })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[allow(clippy::float_cmp)]
    fn numbers_are_found_by_pointer() {
        let document = json!({"queues": [{"depth": 12, "lag": " 1.5 "}], "a/b": {"~": -2.5}});
        assert_eq!(number_at(&document, "/queues/0/depth").unwrap(), 12.0);
        assert_eq!(number_at(&document, "/queues/0/lag").unwrap(), 1.5);
        assert_eq!(number_at(&document, "/a~1b/~0").unwrap(), -2.5);
        assert_eq!(number_at(&json!(7), "").unwrap(), 7.0);
    }

    #[test]
    fn what_is_there_instead_is_said() {
        let document = json!({"o": {}, "a": [], "t": true, "n": null, "s": "many"});
        let said = |pointer| number_at(&document, pointer).unwrap_err().to_string();
        assert_eq!(said("/o"), "no number at /o: found an object");
        assert_eq!(said("/a"), "no number at /a: found an array");
        assert_eq!(said("/t"), "no number at /t: found true");
        assert_eq!(said("/n"), "no number at /n: found null");
        assert_eq!(said("/s"), "no number at /s: found the string \"many\"");
        assert_eq!(said("/x/y"), "no number at /x/y: nothing is there");
        assert_eq!(said(""), "no number at the top of the document: found an object");
    }

    #[test]
    fn where_it_has_to_be_nothing_of_the_answer_is_shown() {
        let said = number_at(&json!({"key": "s3cret"}), "/key").unwrap_err().discreet().to_string();
        assert_eq!(said, "no number at /key: found a string that is no number");
    }
}
