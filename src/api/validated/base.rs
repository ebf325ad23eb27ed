//! What has to be on an agent before replicas start there quickly.

use std::sync::Arc;

use super::key::Key;
use super::version::short_hash;
use crate::api::container::{Containerizer, Launch};
use crate::api::template::Template;

/// What replicas build on: an executor that they share, or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The same for all that share it within a pool.
    pub key: Arc<str>,
    pub kind: BaseKind,
    /// It is put on agents before it is needed there.
    pub ahead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseKind {
    /// Replicas are processes of it: without it, none runs.
    Executor,
    /// Fetched with the first replica if need be: where it is already, replicas start sooner.
    Image,
}

/// What has to be there first. The key tells apart what may not be shared.
pub(super) fn of(key: &Key, template: &Template) -> Option<Base> {
    let Template { launch, image, containerizer, volumes, user, prefetch, .. } = template;
    match launch {
        Launch::Pooled => {
            let text = serde_json::json!([key.namespace(), user, image, volumes]).to_string();
            let key = short_hash(text.as_bytes()).into();
            Some(Base { key, kind: BaseKind::Executor, ahead: true })
        }
        Launch::Isolated => image.as_ref().map(|image| {
            let by = if *containerizer == Containerizer::Docker { "docker" } else { "mesos" };
            Base { key: format!("{by}:{image}").into(), kind: BaseKind::Image, ahead: *prefetch }
        }),
    }
}
