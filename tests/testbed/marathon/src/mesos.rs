//! The framework: a subscription on one thread, calls on another.

use crate::core::Call;
use crate::leader::Leader;
use anyhow::{Context, Result, bail};
use microscaler_testbed::bare::{Calls, Framework, framework_info};
use microscaler_testbed::wire::Records;
use serde_json::{Value, json};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Five of Mesos' heartbeats: then the master counts as lost.
const SILENCE: Duration = Duration::from_secs(75);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
/// Marathon's `reconciliation_initial_delay`. A new master says nothing of tasks before their agents have found it.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// The connection for calls while there is one, and the socket of its events. Calls meanwhile are lost, as they are on the wire.
type Line = Arc<Mutex<Option<(Calls, TcpStream)>>>;

fn lock(line: &Line) -> MutexGuard<'_, Option<(Calls, TcpStream)>> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the framework subscribed, for as long as the process leads.
pub fn start(leader: &Arc<Leader>) {
    let line: Line = Arc::default();
    let (caller, calls_line) = (Arc::clone(leader), Arc::clone(&line));
    thread::spawn(move || send_calls(&caller, &calls_line));
    let leader = Arc::clone(leader);
    thread::spawn(move || {
        loop {
            for master in &leader.settings.master {
                if let Err(error) = subscribe(&leader, master, &line) {
                    eprintln!("Mesos at {master}: {error:#}");
                }
                *lock(&line) = None;
            }
            thread::sleep(BETWEEN_ATTEMPTS);
        }
    });
}

fn info(leader: &Leader) -> Value {
    let mut info = framework_info(&leader.settings.framework_name);
    info["failover_timeout"] = json!(604_800.0);
    if let Some(id) = leader.read(|core, _| core.state.framework_id.clone()) {
        info["id"] = json!({ "value": id });
    }
    info
}

/// Subscribes, and takes events in until the connection is lost.
fn subscribe(leader: &Arc<Leader>, master: &str, line: &Line) -> Result<()> {
    let Framework { id, mut calls, mut events, .. } = Framework::subscribe(&format!("http://{master}"), &info(leader))?;
    // Launches until now may have been lost, but are known; those from now on wait for this connection.
    let mut open = lock(line);
    let tasks = leader.read(|core, _| core.tasks_to_reconcile());
    // First all, so that tasks that Marathon does not know are killed, and then those of which Mesos might know nothing.
    calls.reconcile(&[]);
    if !tasks.is_empty() {
        calls.reconcile(&tasks.iter().map(String::as_str).collect::<Vec<_>>());
    }
    calls.flush()?;
    *open = Some((calls, events.socket()?));
    drop(open);
    ask_again(leader, line);
    leader.with(|core, now| core.on_subscribed(&id, now));
    events.set_timeout(Some(SILENCE))?;
    take_events(leader, &mut events, line)
}

/// Once more, a while after a subscription.
fn ask_again(leader: &Arc<Leader>, line: &Line) {
    let (leader, line) = (Arc::clone(leader), Arc::clone(line));
    thread::spawn(move || {
        thread::sleep(ASKED_AGAIN_AFTER);
        let mut line = lock(&line);
        let Some((calls, _)) = line.as_mut() else { return };
        let tasks = leader.read(|core, _| core.tasks_to_reconcile());
        if !tasks.is_empty() {
            calls.reconcile(&tasks.iter().map(String::as_str).collect::<Vec<_>>());
            // If that fails, so will the next call, and the subscription begins anew.
            let _ = calls.flush();
        }
    });
}

fn take_events(leader: &Leader, events: &mut Records, line: &Line) -> Result<()> {
    loop {
        let event: Value = match events.next()? {
            Some(record) => serde_json::from_slice(record)?,
            None => bail!("the master has ended the subscription"),
        };
        match event["type"].as_str().unwrap_or_default() {
            "OFFERS" => {
                let offers = event["offers"]["offers"].as_array().cloned().unwrap_or_default();
                leader.with(|core, now| core.on_offers(offers, now));
            }
            "RESCIND" => {
                let id = event["rescind"]["offer_id"]["value"].as_str().unwrap_or_default();
                leader.with(|core, _| core.on_rescinded(id));
            }
            "UPDATE" => {
                let status = &event["update"]["status"];
                leader.with(|core, now| core.on_status(status, now));
                let mut line = lock(line);
                let (calls, _) = line.as_mut().context("the connection for calls is lost")?;
                calls.acknowledge(status);
                calls.flush()?;
            }
            "ERROR" => on_error(leader, event["error"]["message"].as_str().unwrap_or_default())?,
            _ => {}
        }
    }
}

fn on_error(leader: &Leader, message: &str) -> Result<()> {
    if message.contains("failed over") {
        eprintln!("another process has taken over the framework: this one ends");
        std::process::exit(1);
    }
    if message.contains("removed") {
        // Torn down by somebody: the next subscription is a new framework's.
        leader.with(|core, _| core.state.framework_id = None);
    }
    bail!("the master ends the framework: {message}")
}

fn send_calls(leader: &Leader, line: &Line) {
    loop {
        let wanted = leader.next_calls();
        let mut line = lock(line);
        let Some((calls, events)) = line.as_mut() else { continue };
        wanted.iter().for_each(|call| push(leader, calls, call));
        if let Err(error) = calls.flush() {
            eprintln!("calls to Mesos are lost: {error:#}");
            // The subscription begins anew; it may have ended already.
            let _ = events.shutdown(Shutdown::Both);
            *line = None;
        }
    }
}

fn push(leader: &Leader, calls: &mut Calls, call: &Call) {
    let id = |offer: &str| json!({ "value": offer });
    match call {
        Call::Accept { offer, tasks } => {
            let launch = json!([{ "type": "LAUNCH", "launch": { "task_infos": tasks } }]);
            calls.accept(&[&id(offer)], &launch, Duration::ZERO);
        }
        Call::Decline { offer, refuse } => {
            calls.decline(&[&id(offer)], Duration::from_millis(u64::try_from(*refuse).unwrap_or(0)));
        }
        Call::Kill { task } => calls.kill(task, None),
        Call::Revive => calls.revive(),
        Call::Suppress(is_suppressed) => {
            let roles: &[&str] = if *is_suppressed { &["*"] } else { &[] };
            let update = json!({ "framework_info": info(leader), "suppressed_roles": roles });
            calls.push("UPDATE_FRAMEWORK", "update_framework", &update);
        }
    }
}
