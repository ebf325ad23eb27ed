//! Which object is meant, and how it is addressed.

use std::fmt;

use kube::Resource as _;
use kube::core::request::Request;
use serde_json::{Value, json};

use crate::api::validated::Key;
use crate::api::{MicroscaledApp, MicroscalingPool};

/// What kinds of objects are looked after. Pools come first: much depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pool,
    App,
}

/// An object by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub kind: Kind,
    pub key: Key,
}

impl Target {
    #[must_use]
    pub fn app(key: &Key) -> Self {
        Self { kind: Kind::App, key: key.clone() }
    }

    #[must_use]
    pub fn pool(key: &Key) -> Self {
        Self { kind: Kind::Pool, key: key.clone() }
    }

    /// `MicroscaledApp` or `MicroscalingPool`.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::App => "MicroscaledApp",
            Kind::Pool => "MicroscalingPool",
        }
    }

    /// As kubectl knows it for short.
    #[must_use]
    pub fn short_kind(&self) -> &'static str {
        match self.kind {
            Kind::App => "msa",
            Kind::Pool => "mpool",
        }
    }

    #[must_use]
    pub fn api_version(&self) -> String {
        MicroscaledApp::api_version(&()).into_owned()
    }

    /// Requests for objects of its kind in its namespace.
    #[must_use]
    pub fn requests(&self) -> Request {
        let namespace = Some(self.key.namespace());
        Request::new(match self.kind {
            Kind::App => MicroscaledApp::url_path(&(), namespace),
            Kind::Pool => MicroscalingPool::url_path(&(), namespace),
        })
    }

    /// The object with this metadata beside its name, to apply.
    #[must_use]
    pub fn patch(&self, mut metadata: Value) -> Value {
        metadata["name"] = json!(self.key.name());
        metadata["namespace"] = json!(self.key.namespace());
        json!({ "apiVersion": self.api_version(), "kind": self.kind_name(), "metadata": metadata })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind_name(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_those_of_the_definitions() {
        let (app, pool) = (Target::app(&Key::new("shop", "a")), Target::pool(&Key::new("shop", "p")));
        assert_eq!(app.kind_name(), MicroscaledApp::kind(&()));
        assert_eq!(pool.kind_name(), MicroscalingPool::kind(&()));
        assert_eq!(pool.api_version(), MicroscalingPool::api_version(&()));
        assert_eq!(app.to_string(), "MicroscaledApp shop/a");
    }
}
