//! The lag of a consumer group of Apache Kafka.
//!
//! | look for | in |
//! |---|---|
//! | from offsets to lag | `lag`, `partitions` |
//! | the brokers that are asked | `cluster`, `connection` |
//! | passwords | `sasl` |
//! | what is said, and how it is encoded | `messages`, `wire` |

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::cluster::Cluster;
use self::connection::Access;
use self::lag::{Offsets, Uncommitted};
use self::messages::{End, FindCoordinator, OffsetFetch};
use self::partitions::Partitions;
use self::sasl::Identity;
use super::context::Context;
use super::link::{Link, Trouble};
use super::poll::Query;
use super::tls::Material;
use crate::api::demand::Kafka;

mod cluster;
mod connection;
mod lag;
mod messages;
mod partitions;
mod sasl;
mod wire;

const NO_SUCH_TOPIC: i16 = 3;

/// Why a cluster that answers does not tell the lag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    #[error("topic {topic}: {}", in_words(*.code))]
    Topic { topic: String, code: i16 },
    #[error("topic {topic}, partition {partition}: {}", in_words(*.code))]
    Partition { topic: String, partition: i32, code: i16 },
    #[error("topic {topic}, partition {partition}: it has no leader at the moment")]
    NoLeader { topic: String, partition: i32 },
    #[error("group {group}: {}", in_words(*.code))]
    Group { group: String, code: i16 },
    #[error("group {group} has not committed anything yet: name the topic that it consumes")]
    NothingCommitted { group: String },
}

impl From<KafkaError> for Trouble {
    fn from(error: KafkaError) -> Self {
        Self::Answer(error.to_string())
    }
}

/// Of Kafka's error codes, those that may come.
fn in_words(code: i16) -> String {
    let words = match code {
        NO_SUCH_TOPIC => "there is no such topic, or none that the user may see",
        5 | 6 => "its leader is changing",
        14 => "its coordinator is still reading what was committed",
        15 | 16 => "its coordinator is changing",
        29 => "the user may not describe the topic",
        30 => "the user may not describe the group",
        _ => return format!("Kafka's error {code}"),
    };
    words.to_owned()
}

/// A group whose lag is asked for.
pub struct Lag {
    context: Context,
    spec: Kafka,
    link: Arc<Link<Arc<Cluster>>>,
}

impl Lag {
    #[must_use]
    pub fn new(context: Context, spec: &Kafka) -> Self {
        let link = context.link(&context.servers.kafka, &(&spec.bootstrap_servers, &spec.sasl, &spec.tls));
        Self { context, spec: spec.clone(), link }
    }

    async fn identity(&self) -> Result<Option<Identity>, String> {
        let Some(sasl) = &self.spec.sasl else { return Ok(None) };
        let username = self.context.secret(&sasl.username).await?;
        let password = self.context.secret(&sasl.password).await?;
        Ok(Some(Identity { mechanism: sasl.mechanism, username, password }))
    }

    /// How brokers are reached with these credentials.
    fn access(&self, material: &Material, identity: Option<Identity>) -> Result<Access, String> {
        let tls = self.spec.tls.as_ref().map(|_| material.config().map(Arc::new)).transpose()?;
        Ok(Access { tls, identity, discreet: self.context.secrets.are_discreet() })
    }

    async fn measure(&self, cluster: &Cluster) -> Result<i64, Trouble> {
        let committed = self.committed(cluster).await?;
        let topics = match &self.spec.topic {
            Some(topic) => vec![topic.clone()],
            None => distinct_topics(&committed),
        };
        if topics.is_empty() {
            return Err(KafkaError::NothingCommitted { group: self.spec.consumer_group.clone() }.into());
        }
        let partitions = Partitions::of(cluster, &topics, self.spec.topic.is_some()).await?;
        let uncommitted = Uncommitted::of(self.spec.offset_reset_policy, self.spec.scale_to_zero_on_invalid_offset);
        let all = uncommitted == Uncommitted::All;
        let latest = partitions.offsets(cluster, End::Latest, |place| all || committed.contains_key(place)).await?;
        let earliest = partitions.offsets(cluster, End::Earliest, |place| all && !committed.contains_key(place)).await?;
        Ok(lag::total(partitions.places(), &committed, uncommitted, &earliest, &latest))
    }

    /// What the group has committed, where it has.
    async fn committed(&self, cluster: &Cluster) -> Result<Offsets, Trouble> {
        let group = &self.spec.consumer_group;
        let refused = |code| KafkaError::Group { group: group.clone(), code };
        let (error, coordinator) = cluster.first().call(&FindCoordinator { group }).await?;
        if error != 0 {
            return Err(refused(error).into());
        }
        let (error, topics) = cluster.broker(&coordinator).await?.call(&OffsetFetch { group }).await?;
        if error != 0 {
            return Err(refused(error).into());
        }
        let mut committed = Offsets::new();
        for topic in topics {
            for partition in topic.partitions {
                if partition.error != 0 {
                    let (partition, code) = (partition.index, partition.error);
                    return Err(KafkaError::Partition { topic: topic.name, partition, code }.into());
                }
                if partition.offset >= 0 {
                    committed.insert((topic.name.clone(), partition.index), partition.offset);
                }
            }
        }
        Ok(committed)
    }
}

fn distinct_topics(committed: &Offsets) -> Vec<String> {
    let topics: BTreeSet<&String> = committed.keys().map(|(topic, _)| topic).collect();
    topics.into_iter().cloned().collect()
}

impl Query for Lag {
    async fn ask(&self) -> Result<f64, String> {
        let identity = self.identity().await?;
        let material = self.context.tls(self.spec.tls.as_ref()).await?;
        let connect = || {
            let access = self.access(&material, identity.clone());
            async move { Cluster::open(&self.spec.bootstrap_servers, access?).await }
        };
        let question = |cluster: Arc<Cluster>| async move { self.measure(&cluster).await };
        let lag = self.link.ask(&(&material, &identity), connect, question).await;
        #[allow(clippy::cast_precision_loss, reason = "nobody waits for so many messages")]
        lag.map(|lag| lag as f64).map_err(|why| format!("Kafka at {}: {why}", self.spec.bootstrap_servers))
    }
}
