//! A bare v1 framework: what a scheduler does at the least. Tests drive Mesos with it, and benches measure it as the floor that no
//! scheduler gets below.
//!
//! [`Calls`] and [`Records`] are the raw connections, with nothing between the caller and the socket; [`Framework`] is both, with
//! the bookkeeping that most tests want.

use crate::wire::{Connection, Records, Request, is_timeout};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

const PATH: &str = "/master/api/v1/scheduler";
const HEADERS: &str = "Content-Type: application/json\r\nAccept: application/json\r\n";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So many answers may be unread before [`Calls::flush`] reads them: far fewer than a socket's buffer holds.
const UNREAD_ANSWERS: usize = 256;

/// `FrameworkInfo` of a framework of role `*`, user root, that checkpoints and knows partitions. Change what you need.
#[must_use]
pub fn framework_info(name: &str) -> Value {
    json!({
        "user": "root",
        "name": name,
        "roles": ["*"],
        "failover_timeout": 600.0,
        "checkpoint": true,
        "capabilities": [{ "type": "MULTI_ROLE" }, { "type": "PARTITION_AWARE" }],
    })
}

/// A `TaskInfo` that runs a shell command on the agent of `offer`.
#[must_use]
pub fn task_info(id: &str, offer: &Value, command: &str, cpus: f64, mem: f64) -> Value {
    json!({
        "name": id,
        "task_id": { "value": id },
        "agent_id": offer["agent_id"],
        "resources": [scalar_resource("cpus", cpus, offer), scalar_resource("mem", mem, offer)],
        "command": { "value": command },
    })
}

/// `ExecutorInfo` of a pooled `bare-executor` (whose `program` is [`Cluster::program`](crate::Cluster::program)) on the agent of
/// `offer`. `mode` is `--run`, or `--pretend` for tasks without processes.
#[must_use]
pub fn executor_info(id: &str, offer: &Value, program: &Path, mode: &str, cpus: f64, mem: f64) -> Value {
    json!({
        "type": "CUSTOM",
        "executor_id": { "value": id },
        "command": { "shell": false, "value": program, "arguments": [program, mode] },
        "resources": [scalar_resource("cpus", cpus, offer), scalar_resource("mem", mem, offer)],
    })
}

/// A `TaskInfo` that runs a shell command in a pooled executor, of which each task carries the same description.
#[must_use]
pub fn pooled_task_info(id: &str, offer: &Value, executor: &Value, command: &str, cpus: f64, mem: f64) -> Value {
    let mut task = task_info(id, offer, "", cpus, mem);
    task["executor"] = executor.clone();
    task["data"] = STANDARD.encode(json!({ "shell": command }).to_string()).into();
    if let Some(task) = task.as_object_mut() {
        // A task of a custom executor must have none.
        task.remove("command");
    }
    task
}

fn scalar_resource(name: &str, value: f64, offer: &Value) -> Value {
    json!({ "name": name, "type": "SCALAR", "scalar": { "value": value }, "allocation_info": offer["allocation_info"] })
}

/// Calls of a subscribed framework, on one connection. They are written when [`flush`](Self::flush) says so, without waiting for
/// the answers.
pub struct Calls {
    connection: Connection,
    headers: String,
    framework_id: Value,
    /// Calls that are not answered yet.
    open: usize,
}

impl Calls {
    /// Adds a call whose JSON stands ready, `framework_id` included: the quickest way.
    pub fn push_raw(&mut self, body: &[u8]) {
        self.connection.push(Request { method: "POST", path: PATH, headers: &self.headers, body });
        self.open += 1;
    }

    /// Adds a call, such as `push("KILL", "kill", &json!({…}))`; `Null` content for a call that has none.
    pub fn push(&mut self, kind: &str, field: &str, content: &Value) {
        let mut call = json!({ "framework_id": self.framework_id, "type": kind });
        if !content.is_null() {
            call[field] = content.clone();
        }
        self.push_raw(call.to_string().as_bytes());
    }

    pub fn accept(&mut self, offer_ids: &[&Value], operations: &Value, refuse: Duration) {
        let filters = json!({ "refuse_seconds": refuse.as_secs_f64() });
        self.push("ACCEPT", "accept", &json!({ "offer_ids": offer_ids, "operations": operations, "filters": filters }));
    }

    pub fn decline(&mut self, offer_ids: &[&Value], refuse: Duration) {
        let filters = json!({ "refuse_seconds": refuse.as_secs_f64() });
        self.push("DECLINE", "decline", &json!({ "offer_ids": offer_ids, "filters": filters }));
    }

    /// Without `grace`, the task's own grace period counts.
    pub fn kill(&mut self, task_id: &str, grace: Option<Duration>) {
        let mut kill = json!({ "task_id": { "value": task_id } });
        if let Some(grace) = grace {
            let nanoseconds = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
            kill["kill_policy"] = json!({ "grace_period": { "nanoseconds": nanoseconds } });
        }
        self.push("KILL", "kill", &kill);
    }

    /// Does nothing for a status without uuid, which wants no acknowledgement.
    pub fn acknowledge(&mut self, status: &Value) {
        if status["uuid"].is_string() {
            let acknowledge = json!({ "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"] });
            self.push("ACKNOWLEDGE", "acknowledge", &acknowledge);
        }
    }

    pub fn revive(&mut self) {
        self.push("REVIVE", "revive", &Value::Null);
    }

    pub fn suppress(&mut self) {
        self.push("SUPPRESS", "suppress", &Value::Null);
    }

    /// No ids: all tasks.
    pub fn reconcile(&mut self, task_ids: &[&str]) {
        let tasks: Vec<Value> = task_ids.iter().map(|id| json!({ "task_id": { "value": id } })).collect();
        self.push("RECONCILE", "reconcile", &json!({ "tasks": tasks }));
    }

    /// Ends the framework and all its tasks.
    pub fn teardown(&mut self) {
        self.push("TEARDOWN", "teardown", &Value::Null);
    }

    /// Writes all calls at once. Reads old answers only if there are many.
    ///
    /// # Errors
    /// If the connection is lost, or a call was refused.
    pub fn flush(&mut self) -> Result<()> {
        self.connection.flush()?;
        if self.open > UNREAD_ANSWERS { self.confirm() } else { Ok(()) }
    }

    /// Waits until all calls are answered.
    ///
    /// # Errors
    /// If the connection is lost, or a call was refused.
    pub fn confirm(&mut self) -> Result<()> {
        self.connection.flush()?;
        while self.open > 0 {
            let response = self.connection.receive()?;
            self.open -= 1;
            let text = String::from_utf8_lossy(&response.body);
            // UPDATE_FRAMEWORK is answered when it is done, other calls when they are taken.
            ensure!(matches!(response.status, 200 | 202), "a call is answered {} {text}", response.status);
        }
        Ok(())
    }
}

/// A subscribed framework.
pub struct Framework {
    pub id: String,
    pub calls: Calls,
    pub events: Records,
    /// Offers that are neither used nor rescinded, by id.
    pub offers: BTreeMap<String, Value>,
    /// The latest status of each task, by id.
    pub statuses: BTreeMap<String, Value>,
}

impl Framework {
    /// Subscribes with the leading master (`http://host:port`), once. With the `id` of a former one in `info`, takes that over.
    ///
    /// # Errors
    /// If the master is not there, does not lead, or refuses.
    pub fn subscribe(master_url: &str, info: &Value) -> Result<Self> {
        let address = address_of(master_url)?;
        let mut call = json!({ "type": "SUBSCRIBE", "subscribe": { "framework_info": info } });
        if info["id"].is_object() {
            call["framework_id"] = info["id"].clone();
        }
        let body = call.to_string().into_bytes();
        let request = Request { method: "POST", path: PATH, headers: HEADERS, body: &body };
        let subscribed = Connection::open(address, CONNECT_TIMEOUT)?.subscribe(request)?;
        let mut events = match subscribed {
            Ok(events) => events,
            Err(response) => bail!("SUBSCRIBE is answered {} {}", response.status, String::from_utf8_lossy(&response.body)),
        };
        let first: Value = serde_json::from_slice(events.next()?.context("the stream ends at once")?)?;
        let framework_id = first["subscribed"]["framework_id"].clone();
        let id = framework_id["value"].as_str().with_context(|| format!("not subscribed: {first}"))?.to_owned();
        let stream_id = events.response().header("mesos-stream-id").context("no Mesos-Stream-Id")?;
        let headers = format!("{HEADERS}Mesos-Stream-Id: {stream_id}\r\n");
        let connection = Connection::open(address, CONNECT_TIMEOUT)?;
        let calls = Calls { connection, headers, framework_id, open: 0 };
        Ok(Self { id, calls, events, offers: BTreeMap::new(), statuses: BTreeMap::new() })
    }

    /// The next event, with offers and statuses noted and updates acknowledged; none if `limit` is over.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn next_event(&mut self, limit: Duration) -> Result<Option<Value>> {
        self.events.set_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let event: Value = match self.events.next() {
            Ok(Some(record)) => serde_json::from_slice(record)?,
            Ok(None) => bail!("the master has ended the subscription"),
            Err(error) if is_timeout(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.note(&event)?;
        Ok(Some(event))
    }

    fn note(&mut self, event: &Value) -> Result<()> {
        match event["type"].as_str().unwrap_or_default() {
            "OFFERS" => {
                let offers = event["offers"]["offers"].as_array().into_iter().flatten();
                self.offers.extend(offers.filter_map(|offer| Some((offer["id"]["value"].as_str()?.to_owned(), offer.clone()))));
            }
            "RESCIND" => {
                let id = event["rescind"]["offer_id"]["value"].as_str().unwrap_or_default();
                self.offers.remove(id);
            }
            "UPDATE" => {
                let status = &event["update"]["status"];
                self.calls.acknowledge(status);
                self.calls.flush()?;
                let id = status["task_id"]["value"].as_str().unwrap_or_default();
                self.statuses.insert(id.to_owned(), status.clone());
            }
            "ERROR" => bail!("the master ends the framework: {}", event["error"]),
            _ => {}
        }
        Ok(())
    }

    /// Takes events in until `found` gives something.
    ///
    /// # Errors
    /// If the connection is lost, or `limit` is over.
    pub fn wait_for<T>(&mut self, limit: Duration, mut found: impl FnMut(&mut Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(result) = found(self) {
                return Ok(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing after {limit:?}; {} offers; {}", self.offers.len(), self.states());
            self.next_event(left)?;
        }
    }

    fn states(&self) -> String {
        let states: Vec<_> = self.statuses.iter().map(|(id, status)| format!("{id} {}", status["state"])).collect();
        states.join(", ")
    }

    /// Waits for an offer with at least that much, and takes it out of [`offers`](Self::offers). What tasks leave behind comes
    /// back as small separate offers.
    ///
    /// # Errors
    /// If the connection is lost, or `limit` is over.
    pub fn take_offer(&mut self, cpus: f64, mem: f64, limit: Duration) -> Result<Value> {
        let is_enough = |offer: &Value| scalar(offer, "cpus") >= cpus && scalar(offer, "mem") >= mem;
        self.wait_for(limit, |framework| {
            let id = framework.offers.iter().find(|(_, offer)| is_enough(offer))?.0.clone();
            framework.offers.remove(&id)
        })
    }

    /// Waits until the task is in one of the states; the whole status.
    ///
    /// # Errors
    /// If the connection is lost, or `limit` is over.
    pub fn wait_for_state(&mut self, task_id: &str, states: &[&str], limit: Duration) -> Result<Value> {
        self.wait_for(limit, |framework| {
            let status = framework.statuses.get(task_id)?;
            states.contains(&status["state"].as_str()?).then(|| status.clone())
        })
        .with_context(|| format!("{task_id} does not become {}", states.join(" or ")))
    }

    /// Launches tasks on one offer, and does not wait.
    ///
    /// # Errors
    /// If the connection is lost, or the call is refused.
    pub fn launch(&mut self, offer: &Value, tasks: &[Value]) -> Result<()> {
        let launch = json!([{ "type": "LAUNCH", "launch": { "task_infos": tasks } }]);
        self.calls.accept(&[&offer["id"]], &launch, Duration::ZERO);
        self.calls.flush()
    }
}

/// The amount of a scalar resource in an offer, over all its parts.
#[must_use]
pub fn scalar(offer: &Value, name: &str) -> f64 {
    let resources = offer["resources"].as_array().into_iter().flatten();
    resources.filter(|resource| resource["name"] == name).filter_map(|resource| resource["scalar"]["value"].as_f64()).sum()
}

fn address_of(url: &str) -> Result<SocketAddr> {
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let mut addresses = host.to_socket_addrs().with_context(|| url.to_owned())?;
    addresses.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
}
