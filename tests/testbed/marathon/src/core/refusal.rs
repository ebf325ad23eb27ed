//! What Marathon answers to a request that it does not carry out.

use serde_json::{Value, json};

/// A status above 399, and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: u16,
    pub body: Value,
}

const LOCKED: &str = "App is locked by one or more deployments. Override with the option '?force=true'. View details at \
                      '/v2/deployments/<DEPLOYMENT_ID>'.";

impl Refusal {
    #[must_use]
    pub fn new(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "message": message }) }
    }

    /// One field is not as the schema wants it.
    #[must_use]
    pub fn field(path: &str, error: &str) -> Self {
        Self { status: 422, body: json!({ "message": "Invalid JSON", "details": [{ "path": path, "errors": [error] }] }) }
    }

    /// The schema is kept, but the whole makes no sense.
    #[must_use]
    pub fn object(path: &str, error: &str) -> Self {
        Self { status: 422, body: json!({ "message": "Object is not valid", "details": [{ "path": path, "errors": [error] }] }) }
    }

    /// `kind` is `App`, `Group`, `Path` … For reads, the answer has empty `details`, which is told apart by `is_read`.
    #[must_use]
    pub fn missing(kind: &str, id: &str, is_read: bool) -> Self {
        let mut refusal = Self::new(404, &format!("{kind} '{id}' does not exist"));
        if is_read {
            refusal.body["details"] = json!([]);
        }
        refusal
    }

    #[must_use]
    pub fn locked(deployments: &[String]) -> Self {
        let deployments: Vec<Value> = deployments.iter().map(|id| json!({ "id": id })).collect();
        Self { status: 409, body: json!({ "message": LOCKED, "deployments": deployments }) }
    }

    /// For a client, this looks like a lack of permission; only the message tells.
    #[must_use]
    pub fn too_many_deployments(maximum: usize) -> Self {
        let message = format!(
            "Max number ({maximum}) of running deployments is achieved. Wait for existing deployments to complete or cancel one \
             using force=true parameter. You can increase max deployment number by using --max_running_deployments parameter"
        );
        Self::new(403, &message)
    }

    #[must_use]
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}
