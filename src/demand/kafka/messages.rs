//! The requests of Kafka's protocol that it takes to learn a group's lag, each in one version that all brokers from 1.0 to 4.x know
//! (<https://kafka.apache.org/protocol>).

use super::wire::{Garbled, Reader, Writer};

/// A request with its answer.
pub trait Call {
    const KEY: i16;
    const VERSION: i16;
    const NAME: &'static str;
    type Answer;

    fn write(&self, to: &mut Writer);

    /// # Errors
    /// If it is not such an answer.
    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled>;
}

/// What versions of which requests a broker knows.
pub struct ApiVersions;

/// The key of a request, with the lowest and the highest version that is known.
pub struct Known {
    pub key: i16,
    pub versions: std::ops::RangeInclusive<i16>,
}

impl Call for ApiVersions {
    const KEY: i16 = 18;
    const VERSION: i16 = 0;
    const NAME: &'static str = "ApiVersions";
    type Answer = (i16, Vec<Known>);

    fn write(&self, _: &mut Writer) {}

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        let known = |from: &mut Reader| Ok(Known { key: from.i16()?, versions: from.i16()?..=from.i16()? });
        Ok((from.i16()?, from.array(known)?))
    }
}

/// Which mechanism follows. Answered by an error code, and the mechanisms that are on.
pub struct SaslHandshake<'a> {
    pub mechanism: &'a str,
}

impl Call for SaslHandshake<'_> {
    const KEY: i16 = 17;
    const VERSION: i16 = 1;
    const NAME: &'static str = "SaslHandshake";
    type Answer = (i16, Vec<String>);

    fn write(&self, to: &mut Writer) {
        to.string(self.mechanism);
    }

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        Ok((from.i16()?, from.array(Reader::string)?))
    }
}

/// A step of the mechanism. Answered by an error code, the error in words, and the broker's step.
pub struct SaslAuthenticate<'a> {
    pub step: &'a [u8],
}

impl Call for SaslAuthenticate<'_> {
    const KEY: i16 = 36;
    const VERSION: i16 = 0;
    const NAME: &'static str = "SaslAuthenticate";
    type Answer = (i16, Option<String>, Vec<u8>);

    fn write(&self, to: &mut Writer) {
        to.bytes(self.step);
    }

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        Ok((from.i16()?, from.nullable_string()?, from.bytes()?))
    }
}

/// Where the partitions of these topics are led.
pub struct Metadata<'a> {
    pub topics: &'a [String],
}

#[derive(Debug)]
pub struct Layout {
    pub brokers: Vec<Node>,
    pub topics: Vec<Topic<Led>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

/// A topic's partitions, as they are told of in each kind of answer.
#[derive(Debug)]
pub struct Topic<P> {
    /// 0 where all is well, and where an answer has none.
    pub error: i16,
    pub name: String,
    pub partitions: Vec<P>,
}

#[derive(Debug)]
pub struct Led {
    pub index: i32,
    /// -1: nobody at the moment.
    pub leader: i32,
}

impl Call for Metadata<'_> {
    const KEY: i16 = 3;
    const VERSION: i16 = 4;
    const NAME: &'static str = "Metadata";
    type Answer = Layout;

    fn write(&self, to: &mut Writer) {
        to.array(self.topics, |to, topic| to.string(topic));
        // Asking must not make the topic.
        to.i8(0);
    }

    fn read(from: &mut Reader) -> Result<Layout, Garbled> {
        let _throttle = from.i32()?;
        let brokers = from.array(|from| {
            let node = Node::read(from)?;
            let _rack = from.nullable_string()?;
            Ok(node)
        })?;
        let (_cluster, _controller) = (from.nullable_string()?, from.i32()?);
        let topics = from.array(|from| {
            let (error, name, _internal) = (from.i16()?, from.string()?, from.bool()?);
            let partitions = from.array(Led::read)?;
            Ok(Topic { error, name, partitions })
        })?;
        Ok(Layout { brokers, topics })
    }
}

impl<P> Topic<P> {
    /// All topics of an answer that tells no more of each than its partitions.
    fn all(from: &mut Reader, partition: impl Fn(&mut Reader) -> Result<P, Garbled>) -> Result<Vec<Self>, Garbled> {
        from.array(|from| Ok(Self { error: 0, name: from.string()?, partitions: from.array(&partition)? }))
    }
}

impl Node {
    fn read(from: &mut Reader) -> Result<Self, Garbled> {
        Ok(Self { id: from.i32()?, host: from.string()?, port: from.i32()? })
    }
}

impl Led {
    fn read(from: &mut Reader) -> Result<Self, Garbled> {
        // The leader says enough about a partition without one.
        let (_error, index, leader) = (from.i16()?, from.i32()?, from.i32()?);
        let (_replicas, _in_sync) = (from.array(Reader::i32)?, from.array(Reader::i32)?);
        Ok(Self { index, leader })
    }
}

/// Which broker keeps a group's offsets. Answered by an error code and the broker.
pub struct FindCoordinator<'a> {
    pub group: &'a str,
}

impl Call for FindCoordinator<'_> {
    const KEY: i16 = 10;
    const VERSION: i16 = 1;
    const NAME: &'static str = "FindCoordinator";
    type Answer = (i16, Node);

    fn write(&self, to: &mut Writer) {
        to.string(self.group);
        // It is a group, not a transaction.
        to.i8(0);
    }

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        let (_throttle, error, _message) = (from.i32()?, from.i16()?, from.nullable_string()?);
        Ok((error, Node::read(from)?))
    }
}

/// All that a group has committed, as far as the user may see it. Answered by an error code of the group, and by topics.
pub struct OffsetFetch<'a> {
    pub group: &'a str,
}

#[derive(Debug)]
pub struct Offset {
    pub index: i32,
    pub error: i16,
    /// -1: none was committed.
    pub offset: i64,
}

impl Call for OffsetFetch<'_> {
    const KEY: i16 = 9;
    const VERSION: i16 = 3;
    const NAME: &'static str = "OffsetFetch";
    type Answer = (i16, Vec<Topic<Offset>>);

    fn write(&self, to: &mut Writer) {
        to.string(self.group);
        // All topics.
        to.null_array();
    }

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        let _throttle = from.i32()?;
        let topics = Topic::all(from, |from| {
            let (index, offset, _metadata) = (from.i32()?, from.i64()?, from.nullable_string()?);
            Ok(Offset { index, offset, error: from.i16()? })
        })?;
        Ok((from.i16()?, topics))
    }
}

/// Where partitions end or begin, asked of their leader.
pub struct ListOffsets<'a> {
    pub end: End,
    pub topics: &'a [(String, Vec<i32>)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Latest,
    Earliest,
}

impl Call for ListOffsets<'_> {
    const KEY: i16 = 2;
    const VERSION: i16 = 1;
    const NAME: &'static str = "ListOffsets";
    type Answer = Vec<Topic<Offset>>;

    fn write(&self, to: &mut Writer) {
        // We are no replica.
        to.i32(-1);
        let timestamp = match self.end {
            End::Latest => -1,
            End::Earliest => -2,
        };
        to.array(self.topics, |to, (name, partitions)| {
            to.string(name);
            to.array(partitions, |to, index| {
                to.i32(*index);
                to.i64(timestamp);
            });
        });
    }

    fn read(from: &mut Reader) -> Result<Self::Answer, Garbled> {
        Topic::all(from, |from| {
            let (index, error, _timestamp) = (from.i32()?, from.i16()?, from.i64()?);
            Ok(Offset { index, error, offset: from.i64()? })
        })
    }
}
