//! How many messages wait in a channel of NSQ: nsqlookupd tells which nsqd have the topic, and each nsqd tells its part of the depth.
//!
//! What counts is what counts for KEDA's scaler `nsq`: <https://keda.sh/docs/latest/scalers/nsq/>. Unlike there, a topic that no nsqd has
//! is a failure, since a nsqlookupd that has just started knows of none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::poll::Query;
use super::web::{Web, address, shown};
use crate::api::demand::Nsq;

/// One channel, on all the nsqd that have it.
pub struct Depth {
    context: Context,
    spec: Nsq,
    lookupds: Vec<Server>,
    /// The nsqd that were asked last, by address. A nsqlookupd that is away, or has just started, does not know them, and yet messages
    /// wait there.
    nsqds: Mutex<BTreeMap<String, Arc<Server>>>,
}

/// One HTTP server, and the page that it is asked for.
struct Server {
    web: Web,
    page: Url,
}

/// Answer of nsqlookupd to `/lookup`.
#[derive(Deserialize)]
struct Lookup {
    producers: Vec<Producer>,
}

#[derive(Deserialize)]
struct Producer {
    broadcast_address: String,
    http_port: u16,
}

/// Answer of nsqd to `/stats`.
#[derive(Deserialize)]
struct Stats {
    /// `null` where there is none.
    topics: Option<Vec<Topic>>,
}

#[derive(Deserialize)]
struct Topic {
    topic_name: String,
    depth: u64,
    channels: Option<Vec<Channel>>,
}

#[derive(Deserialize)]
struct Channel {
    channel_name: String,
    depth: u64,
    paused: bool,
}

impl Depth {
    /// # Errors
    /// In words, when an address is none.
    pub fn new(context: Context, spec: &Nsq) -> Result<Self, String> {
        let lookupd = |at: &String| server(&context, spec, at, "lookup", &[("topic", &spec.topic)]);
        let lookupds = spec.lookupds.iter().map(lookupd).collect::<Result<_, _>>()?;
        Ok(Self { context, spec: spec.clone(), lookupds, nsqds: Mutex::default() })
    }

    /// Addresses of the nsqd that are to answer: those that the spec names or a nsqlookupd, and those known where one does not tell.
    async fn named(&self) -> Result<BTreeSet<String>, String> {
        let mut named: BTreeSet<String> = self.spec.nsqds.iter().cloned().collect();
        let mut silent = None;
        for told in join_all(self.lookupds.iter().map(Server::read::<Lookup>)).await {
            match told {
                Ok(lookup) => named.extend(lookup.into_iter().flat_map(|lookup| lookup.producers).map(|one| one.address())),
                Err(why) => silent = Some(why),
            }
        }
        if let Some(why) = silent {
            named.extend(self.nsqds.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
            if named.len() == self.spec.nsqds.len() {
                return Err(why);
            }
        }
        Ok(named)
    }

    /// These and those known.
    fn nsqds(&self, named: &BTreeSet<String>) -> Result<BTreeMap<String, Arc<Server>>, String> {
        // Not with the channel: where there is no such channel, nothing would be told of the topic.
        let topic = [("format", "json"), ("include_clients", "false"), ("include_mem", "false"), ("topic", &*self.spec.topic)];
        let mut nsqds = self.nsqds.lock().unwrap_or_else(PoisonError::into_inner);
        for at in named {
            if !nsqds.contains_key(at) {
                nsqds.insert(at.clone(), Arc::new(server(&self.context, &self.spec, at, "stats", &topic)?));
            }
        }
        Ok(nsqds.clone())
    }

    fn forget(&self, at: &str) {
        self.nsqds.lock().unwrap_or_else(PoisonError::into_inner).remove(at);
    }
}

impl Query for Depth {
    async fn ask(&self) -> Result<f64, String> {
        let Nsq { topic, channel, .. } = &self.spec;
        let named = self.named().await?;
        let nsqds = self.nsqds(&named)?;
        let answers = join_all(nsqds.values().map(|nsqd| nsqd.read::<Stats>())).await;
        let mut depth = None;
        for (at, answer) in nsqds.keys().zip(answers) {
            match answer.map(|stats| stats.and_then(|stats| part(&stats, topic, channel))) {
                Ok(Some(part)) => depth = Some(part + depth.unwrap_or(0.0)),
                // Nobody names it any more, and it has nothing.
                _ if !named.contains(at) => self.forget(at),
                Ok(None) => {}
                Err(why) => return Err(why),
            }
        }
        depth.ok_or_else(|| format!("no nsqd has the topic {topic:?}: is this its name, and has a message been published?"))
    }
}

impl Producer {
    fn address(&self) -> String {
        let Self { broadcast_address: host, http_port: port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Server {
    /// The page, if there is one.
    async fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let Some(body) = self.web.find(|client| client.get(self.page.clone())).await? else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|problem| {
            format!("GET {}: this is no answer of NSQ, at line {} column {}", shown(&self.page), problem.line(), problem.column())
        })
    }
}

fn server(context: &Context, spec: &Nsq, at: &str, path: &str, query: &[(&str, &str)]) -> Result<Server, String> {
    let scheme = if spec.use_https { "https" } else { "http" };
    let mut page = address(&format!("{scheme}://{at}/{path}")).map_err(|error| error.to_string())?;
    page.query_pairs_mut().extend_pairs(query);
    Ok(Server { web: Web::of(context.clone(), &page, None, spec.tls.clone()), page })
}

/// The messages of one nsqd that wait for consumers of the channel; `None` if it does not have the topic.
#[allow(clippy::cast_precision_loss, reason = "a depth is not above 2^53")]
fn part(stats: &Stats, topic: &str, channel: &str) -> Option<f64> {
    let topic = stats.topics.iter().flatten().find(|found| found.topic_name == topic)?;
    Some(match topic.channels.iter().flatten().find(|found| found.channel_name == channel) {
        Some(channel) if channel.paused => 0.0,
        Some(channel) => channel.depth as f64,
        None => topic.depth as f64,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_counts_is_what_counts_for_keda() {
        let channel = |name: &str, depth: u64, paused: bool| json!({"channel_name": name, "depth": depth, "paused": paused});
        let stats = |topic: &str, depth: u64, channels: serde_json::Value| {
            serde_json::from_value::<Stats>(json!({"topics": [{"topic_name": topic, "depth": depth, "channels": channels}]}))
                .unwrap()
        };
        let channels = json!([channel("mail", 7, false), channel("audit", 50, false), channel("sms", 30, true)]);
        let one = stats("orders", 1000, channels);
        let told = |topic, channel| part(&one, topic, channel);
        assert_eq!((told("orders", "mail"), told("orders", "sms")), (Some(7.0), Some(0.0)), "a channel, and one that is paused");
        assert_eq!(told("orders", "new"), Some(1000.0), "the topic's where there is no such channel");
        assert_eq!(part(&stats("orders", 2, json!([])), "orders", "mail"), Some(2.0));
        assert_eq!(told("returns", "mail"), None);
        assert_eq!(part(&serde_json::from_value(json!({"topics": null})).unwrap(), "orders", "mail"), None);
    }

    #[test]
    fn addresses_of_ipv6_have_brackets() {
        let of = |host: &str| Producer { broadcast_address: host.to_owned(), http_port: 4151 }.address();
        assert_eq!((of("::1"), of("nsqd-0")), ("[::1]:4151".to_owned(), "nsqd-0:4151".to_owned()));
    }
}
