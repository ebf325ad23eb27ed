//! The brokers of a cluster: one connection to each that has to be asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::connection::{Access, Broker, BrokerError};
use super::messages::Node;

/// The connections by host and port; each is opened when it is first needed.
type Brokers = HashMap<(String, i32), Arc<OnceCell<Arc<Broker>>>>;

/// The connections that are open to a cluster. It is opened anew as a whole when one of them breaks, as leaders move then.
pub struct Cluster {
    access: Access,
    first: Arc<Broker>,
    brokers: Mutex<Brokers>,
}

impl Cluster {
    /// Connects to the first of these servers that can be reached.
    ///
    /// # Errors
    /// What is wrong with each of them, if none can.
    pub async fn open(servers: &str, access: Access) -> Result<Arc<Self>, String> {
        let mut problems = Vec::new();
        for server in servers.split(',') {
            let Some((host, port)) = address(server) else {
                problems.push(format!("broker {server}: this is no HOST:PORT"));
                continue;
            };
            match Broker::open(host, port, &access).await {
                Ok(broker) => {
                    let first = Arc::new(broker);
                    let known = (host.to_owned(), i32::from(port));
                    let brokers = Brokers::from([(known, Arc::new(OnceCell::new_with(Some(first.clone()))))]);
                    return Ok(Arc::new(Self { access, first, brokers: Mutex::new(brokers) }));
                }
                Err(problem) => problems.push(problem.to_string()),
            }
        }
        Err(problems.join("; "))
    }

    /// One that can be asked where the others are.
    #[must_use]
    pub fn first(&self) -> &Broker {
        &self.first
    }

    /// The connection to a broker, opened if need be.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn broker(&self, node: &Node) -> Result<Arc<Broker>, BrokerError> {
        let cell = {
            let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
            brokers.entry((node.host.clone(), node.port)).or_default().clone()
        };
        let open = async || {
            let no_port = |_| BrokerError::Unreachable {
                broker: format!("{}:{}", node.host, node.port),
                problem: "this is no port".to_owned(),
            };
            let port = u16::try_from(node.port).map_err(no_port)?;
            Broker::open(&node.host, port, &self.access).await.map(Arc::new)
        };
        cell.get_or_try_init(open).await.cloned()
    }
}

/// The host, without the brackets of an IPv6 address, and the port.
fn address(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(address("kafka-0.kafka:9092"), Some(("kafka-0.kafka", 9092)));
        assert_eq!(address("[::1]:9092"), Some(("::1", 9092)));
        assert_eq!(address("kafka:99999"), None);
        assert_eq!(address("kafka"), None);
    }
}
