//! The partitions of topics: where each is led, begins and ends.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::cluster::Cluster;
use super::lag::{Offsets, Place};
use super::messages::{End, ListOffsets, Metadata, Node};
use super::{KafkaError, NO_SUCH_TOPIC};
use crate::demand::link::Trouble;

/// Partitions with their leaders.
pub struct Partitions(BTreeMap<Place, Node>);

impl Partitions {
    /// All of these topics. Those that are gone are left out, unless they are `named` by the spec.
    ///
    /// # Errors
    /// If the brokers do not tell, or a partition has no leader.
    pub async fn of(cluster: &Cluster, topics: &[String], named: bool) -> Result<Self, Trouble> {
        let layout = cluster.first().call(&Metadata { topics }).await?;
        let mut leaders = BTreeMap::new();
        for topic in layout.topics {
            match topic.error {
                0 => {}
                NO_SUCH_TOPIC if !named => continue,
                code => return Err(KafkaError::Topic { topic: topic.name, code }.into()),
            }
            for partition in topic.partitions {
                let leader = layout.brokers.iter().find(|node| node.id == partition.leader).cloned();
                let no_leader = || KafkaError::NoLeader { topic: topic.name.clone(), partition: partition.index };
                leaders.insert((topic.name.clone(), partition.index), leader.ok_or_else(no_leader)?);
            }
        }
        Ok(Self(leaders))
    }

    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.keys()
    }

    /// Where those of the partitions end or begin that are wanted; all leaders are asked at once.
    ///
    /// # Errors
    /// If one of them does not tell.
    pub async fn offsets(&self, cluster: &Cluster, end: End, wanted: impl Fn(&Place) -> bool) -> Result<Offsets, Trouble> {
        let mut by_leader = BTreeMap::<&Node, BTreeMap<&str, Vec<i32>>>::new();
        for ((topic, index), leader) in self.0.iter().filter(|(place, _)| wanted(place)) {
            by_leader.entry(leader).or_default().entry(topic).or_default().push(*index);
        }
        let asked = by_leader.into_iter().map(|(leader, topics)| {
            let topics = topics.into_iter().map(|(topic, partitions)| (topic.to_owned(), partitions)).collect();
            offsets_at(cluster, leader, end, topics)
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }
}

async fn offsets_at(cluster: &Cluster, leader: &Node, end: End, topics: Vec<(String, Vec<i32>)>) -> Result<Offsets, Trouble> {
    let answer = cluster.broker(leader).await?.call(&ListOffsets { end, topics: &topics }).await?;
    let mut offsets = Offsets::new();
    for topic in answer {
        for partition in topic.partitions {
            if partition.error != 0 {
                let (partition, code) = (partition.index, partition.error);
                return Err(KafkaError::Partition { topic: topic.name, partition, code }.into());
            }
            offsets.insert((topic.name.clone(), partition.index), partition.offset);
        }
    }
    Ok(offsets)
}
