//! The process: it listens, it may come to lead, and it answers or passes on.

use crate::faults::Faults;
use crate::http::{Connection, Request, Response};
use crate::leader::Leader;
use crate::settings::Settings;
use crate::store::Store;
use crate::{health, mesos, proxy, routes, stream};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

const FAULT_PATH: &str = "/testbed/fault";
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const ELECTION_INTERVAL: Duration = Duration::from_millis(100);
/// Marathon's, if a process of the same address is still on the list.
const SAME_ID: i32 = 104;

pub struct Server {
    settings: Settings,
    store: Store,
    faults: Faults,
    leader: OnceLock<Arc<Leader>>,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
}

/// Serves until the process ends.
///
/// # Errors
/// If the port or the directory cannot be used.
pub fn run(settings: Settings) -> Result<()> {
    let session_timeout = Duration::from_millis(u64::try_from(settings.zk_session_timeout)?);
    let store = Store::open(settings.testbed_state.clone(), settings.address(), session_timeout)?;
    if store.is_alive(&settings.address()) {
        eprintln!("Multiple election participants have the same id: {}", settings.address());
        std::process::exit(SAME_ID);
    }
    store.touch()?;
    let server =
        Arc::new(Server { settings, store, faults: Faults::default(), leader: OnceLock::new(), connections: Mutex::default() });
    // Before anybody is let in: a single process leads from the start.
    server.stand_for_election()?;
    let candidate = Arc::clone(&server);
    thread::spawn(move || {
        loop {
            thread::sleep(ELECTION_INTERVAL);
            if let Err(error) = candidate.stand_for_election() {
                eprintln!("the election fails: {error:#}");
            }
        }
    });
    leave_on_signal(&server)?;
    server.listen()
}

/// SIGTERM and SIGINT end the process at once, but not without telling.
fn leave_on_signal(server: &Arc<Server>) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    let store = server.store.clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            store.leave();
            std::process::exit(143);
        }
    });
    Ok(())
}

impl Server {
    /// Gives a sign of life, and leads if nobody else does.
    fn stand_for_election(&self) -> Result<()> {
        if !self.store.is_alive(&self.settings.address()) {
            // It was halted for longer than its session: others have taken over, or may.
            eprintln!("the session is over: this process ends");
            std::process::exit(1);
        }
        self.store.touch()?;
        if self.leader.get().is_none() && self.store.try_to_lead()? {
            let leader = Arc::new(Leader::new(self.settings.clone(), self.store.clone())?);
            mesos::start(&leader);
            health::start(&leader);
            // Nobody else sets it.
            let _ = self.leader.set(leader);
        }
        Ok(())
    }

    fn listen(self: &Arc<Self>) -> Result<()> {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.settings.http_port)).context(self.settings.address())?;
            listener.set_nonblocking(true)?;
            let refusal = self.accept(&listener);
            drop(listener);
            self.close_connections();
            thread::sleep(refusal);
        }
    }

    /// Until nobody is to be let in for a while.
    fn accept(self: &Arc<Self>, listener: &TcpListener) -> Duration {
        loop {
            if let Some(refusal) = self.faults.refusal() {
                return refusal;
            }
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let server = Arc::clone(self);
            thread::spawn(move || server.serve(stream));
        }
    }

    fn serve(&self, stream: TcpStream) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let idle = Duration::from_millis(u64::try_from(self.settings.testbed_idle_timeout).unwrap_or(30_000));
        if stream.set_nonblocking(false).is_ok()
            && let Ok(copy) = stream.try_clone()
            && let Ok(mut connection) = Connection::new(stream, idle)
        {
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, copy);
            // Whatever ends a connection is the client's business.
            let _ = self.serve_requests(&mut connection);
        }
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    fn close_connections(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn serve_requests(&self, connection: &mut Connection) -> Result<()> {
        while let Some(request) = connection.receive()? {
            let Some(response) = self.answer(&request, connection) else { break };
            connection.send(&request, &response)?;
            if request.wants_close() {
                break;
            }
        }
        Ok(())
    }

    /// None if the connection is over, without an answer or after a stream.
    fn answer(&self, request: &Request, connection: &mut Connection) -> Option<Response> {
        if request.path() == FAULT_PATH {
            return Some(self.set_fault(request));
        }
        while self.faults.get().is_frozen {
            thread::sleep(BETWEEN_LOOKS);
        }
        if let Some(refusal) = self.refuse_stranger(request) {
            return Some(refusal);
        }
        let response = match self.leader.get() {
            None => match proxy::answer(&self.store, &self.settings.address(), request, || self.leader.get().is_some()) {
                Some(response) => response,
                None => self.lead(request, connection)?,
            },
            Some(_) => self.lead(request, connection)?,
        };
        thread::sleep(self.faults.get().delay);
        Some(response)
    }

    fn lead(&self, request: &Request, connection: &mut Connection) -> Option<Response> {
        let leader = self.leader.get()?;
        if request.path() == "/v2/events" {
            return stream::serve(leader, request, connection);
        }
        let response = routes::answer(leader, request);
        let is_update = request.method != "GET" && response.status < 300;
        if is_update && self.faults.takes_failure() {
            return Some(routes::with_usual_headers(leader, Response::page(503, "Service Unavailable", request)));
        }
        Some(response)
    }

    /// 401 without the right name and password, also for `/ping` and events.
    fn refuse_stranger(&self, request: &Request) -> Option<Response> {
        let credentials = self.settings.http_credentials.as_ref()?;
        let wanted = format!("Basic {}", STANDARD.encode(credentials));
        if request.header("authorization") == Some(wanted.as_str()) {
            return None;
        }
        let mut page = Response::page(401, "Unauthorized", request);
        // The realm is never what --http_realm says.
        page.headers.insert(0, ("WWW-Authenticate".to_owned(), "basic realm=\"null\"".to_owned()));
        Some(page)
    }

    /// See [`Faults::set`]; `"drop_events": true` ends all streams now.
    fn set_fault(&self, request: &Request) -> Response {
        let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        self.faults.set(&wanted);
        if wanted["drop_events"] == true
            && let Some(leader) = self.leader.get()
        {
            leader.drop_streams();
        }
        Response::new(204)
    }
}
