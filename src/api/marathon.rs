//! A Marathon as what runs the containers, and how an app stands on it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;
use super::secret::{Auth, SecretRef, SecretValue};

/// A Marathon 1.8 or later, driven through its REST API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Marathon {
    /// Addresses of its instances, tried in turn; any of them leads to the leader.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+(/[^?#@ \t\r\n]*)?$"))
    )]
    pub urls: Vec<String>,

    /// How requests are authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,

    /// Where it is known from how much room there is.
    pub capacity: Capacity,
}

/// Where it is known from how much room there is. Exactly one is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Capacity {
    /// The agents are read from the Mesos that the Marathon runs on: addresses of its masters.
    Mesos(
        #[schemars(length(min = 1, max = 16), inner(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+/?$")))]
        Vec<String>,
    ),
    /// So much for the apps of this pool together, wherever it is.
    Fixed(Fixed),
    /// So many replicas of all apps of this pool together, whatever their size.
    Instances(#[schemars(range(min = 0, max = 100_000))] i32),
}

/// So much for the apps of a pool together. What is not named is not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fixed {
    /// Processor cores: 500m is half a core.
    pub cpu: Quantity,
    /// Memory in bytes: 64Mi.
    pub memory: Quantity,
    /// Disk in bytes: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Whole graphics processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpu: Option<i64>,
}

impl Marathon {
    /// The Secret that its credentials are in, if they are in one.
    #[must_use]
    pub fn secret_ref(&self) -> Option<&SecretRef> {
        match self.secret()? {
            SecretValue::SecretRef(reference) => Some(reference),
            SecretValue::File(_) => None,
        }
    }

    /// Where its credentials are kept.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretValue> {
        self.auth.as_ref().map(|auth| match auth {
            Auth::Bearer(token) => token,
            Auth::Basic(basic) => &basic.password,
        })
    }
}

/// How an app is treated on a Marathon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarathonTerms {
    /// Which replicas end when there are too many: those that Marathon chooses by the app's killSelection (the default), or those
    /// whose end loses the least work.
    #[serde(default)]
    pub victims: VictimChoice,

    /// What to do when somebody else changes the number of instances: put it back (the default), or put it back once and then leave
    /// the app alone until its spec is changed.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// Who chooses the replicas that end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VictimChoice {
    #[default]
    KillSelection,
    LeastLostWork,
}

/// What to do when somebody else changes the number of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnConflict {
    #[default]
    PutBack,
    Yield,
}
