//! What containers use, as their agents tell: each agent is asked for all who want to know, and over all of them no more often than it can bear.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use super::http::{Http, HttpError, SetupError};
use crate::api::validated::MesosPool;
use crate::engine::clock;
use crate::store::secrets::Secrets;

/// An agent looks at each of its containers to answer: what is younger than this is not asked for anew.
pub const FRESH: Duration = Duration::from_millis(400);

/// Why it is not known what containers use.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the master does not know the agent {agent}")]
    Unknown { agent: Arc<str> },
    #[error("the master names {pid:?} as the address of the agent {agent}")]
    Address { agent: Arc<str>, pid: String },
}

/// The agents of one pool.
pub struct Agents {
    http: Http,
    masters: usize,
    /// Where each agent is.
    book: AsyncMutex<HashMap<Arc<str>, Url>>,
    readings: Mutex<HashMap<Arc<str>, Arc<Reading>>>,
}

type Reading = AsyncMutex<Option<(Instant, Arc<Containers>)>>;
/// By the id of the executor, which is that of the task where Mesos' own executors run it.
pub type Containers = HashMap<Arc<str>, Statistics>;

/// What one container has used (`ResourceStatistics` of Mesos); what the agent's isolation does not measure is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Statistics {
    /// When that was, in seconds of the agent's clock.
    pub timestamp: f64,
    pub cpus_user_time_secs: Option<f64>,
    pub cpus_system_time_secs: Option<f64>,
    /// Periods in which it was ready to run, and those in which it came to its limit.
    pub cpus_nr_periods: Option<u64>,
    pub cpus_nr_throttled: Option<u64>,
    pub mem_rss_bytes: Option<u64>,
}

/// Of the agent's `/containers`.
#[derive(Deserialize)]
struct Container {
    executor_id: Arc<str>,
    /// Missing while it starts.
    statistics: Option<Statistics>,
}

/// Of `/master/slaves`.
#[derive(Deserialize)]
struct AgentPages {
    slaves: Vec<AgentPage>,
}

#[derive(Deserialize)]
struct AgentPage {
    id: Arc<str>,
    pid: String,
}

impl Agents {
    /// # Errors
    /// When HTTP cannot be set up.
    pub fn new(pool: MesosPool, secrets: Arc<Secrets>) -> Result<Self, SetupError> {
        let masters = pool.mesos.masters.len();
        let http = Http::new(Arc::new(pool), secrets)?;
        Ok(Self { http, masters, book: AsyncMutex::default(), readings: Mutex::default() })
    }

    /// What the containers of an agent have used, not longer ago than [`FRESH`]. Cancel-safe.
    ///
    /// # Errors
    /// When neither master nor agent answers, or the agent is not known.
    pub async fn containers(&self, agent: &Arc<str>) -> Result<Arc<Containers>, UsageError> {
        let reading = self.readings.lock().unwrap_or_else(PoisonError::into_inner).entry(agent.clone()).or_default().clone();
        let mut reading = reading.lock().await;
        if let Some((at, containers)) = &*reading
            && clock::instant() - *at < FRESH
        {
            return Ok(containers.clone());
        }
        let containers = Arc::new(self.ask(agent).await?);
        *reading = Some((clock::instant(), containers.clone()));
        Ok(containers)
    }

    async fn ask(&self, agent: &Arc<str>) -> Result<Containers, UsageError> {
        let address = self.address(agent).await?;
        match self.http.get::<Vec<Container>>(&address, "/containers", "").await {
            Ok(containers) => Ok(containers.into_iter().filter_map(|one| Some((one.executor_id, one.statistics?))).collect()),
            Err(error) => {
                // It may have come back elsewhere.
                self.book.lock().await.remove(agent);
                Err(error.into())
            }
        }
    }

    async fn address(&self, agent: &Arc<str>) -> Result<Url, UsageError> {
        let mut book = self.book.lock().await;
        if let Some(address) = book.get(agent) {
            return Ok(address.clone());
        }
        let (master, pages) = self.pages().await?;
        let address = |page: &AgentPage| {
            let at = page.pid.split_once('@').and_then(|(_, at)| Url::parse(&format!("{}://{at}", master.scheme())).ok());
            at.ok_or_else(|| UsageError::Address { agent: page.id.clone(), pid: page.pid.clone() })
        };
        *book = pages.slaves.iter().map(|page| Ok((page.id.clone(), address(page)?))).collect::<Result<_, UsageError>>()?;
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).retain(|known, _| book.contains_key(known));
        book.get(agent).cloned().ok_or_else(|| UsageError::Unknown { agent: agent.clone() })
    }

    /// From the first master that answers.
    async fn pages(&self) -> Result<(Url, AgentPages), HttpError> {
        let mut n = 0;
        loop {
            let master = self.http.master(n);
            match self.http.get(&master, "/master/slaves", "").await {
                Err(_) if n + 1 < self.masters => n += 1,
                answer => return Ok((master, answer?)),
            }
        }
    }
}
