//! What users write and read: the kinds of group `microscaling.dev`, version `v1alpha1`.
//!
//! | look for | in |
//! |---|---|
//! | `MicroscaledApp`: priority, replicas, damping | [`app`] |
//! | its demand metrics and their targets | [`demand`] |
//! | what stands in for a metric that is stale | [`fallback`] |
//! | bursts of demand | [`panic`] |
//! | the container it runs and where | [`template`], [`container`], [`probe`] |
//! | `MicroscalingPool`: the Mesos or Marathon that it runs on | [`pool`], [`marathon`] |
//! | who is told when a pool is too small | [`scale_out`] |
//! | what is reported back | [`status`] |
//! | where credentials are kept | [`secret`] |
//! | amounts such as `500m` and `64Mi` | [`quantity`] |
//! | how far what runs is spared | [`protection`] |
//! | numbers such as `2` or `20%` | [`portion`] |
//! | the verdict of an API server on a manifest, without one | [`check`] |
//! | the one reader of raw specs; all other code sees only its types | [`validated`] |
//!
//! The rustdoc of these types is what `kubectl explain` shows: it speaks to users.

pub mod app;
pub mod check;
pub mod container;
pub mod crd;
pub mod demand;
pub mod fallback;
pub mod marathon;
pub mod panic;
pub mod pool;
pub mod portion;
pub mod probe;
pub mod protection;
pub mod quantity;
pub mod scale_out;
pub mod secret;
pub mod status;
pub mod template;
pub mod validated;

pub use app::{MicroscaledApp, MicroscaledAppSpec};
pub use pool::{MicroscalingPool, MicroscalingPoolSpec};

/// The API group of all kinds.
pub const GROUP: &str = "microscaling.dev";
/// The one version, additive for now.
pub const VERSION: &str = "v1alpha1";
