//! The core as the leading process holds it: one at a time works on it, its events go to all streams, its calls to Mesos, and its
//! state to the store.

use crate::core::events::{Event, event};
use crate::core::refusal::Refusal;
use crate::core::time::Millis;
use crate::core::{Call, Core};
use crate::settings::Settings;
use crate::store::Store;
use jiff::Timestamp;
use serde_json::json;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How old the written state may be, but for updates and launches.
const SAVE_INTERVAL: Millis = 50;

pub struct Leader {
    pub settings: Settings,
    store: Store,
    core: Mutex<Core>,
    /// There are calls, or the next tick is at another time.
    changed: Condvar,
    /// Updates are serialised, each with the time that it takes to be persisted.
    updates: Mutex<()>,
    streams: Mutex<Vec<Stream>>,
}

/// Somebody who listens to events.
struct Stream {
    events: SyncSender<Arc<Event>>,
    connection: TcpStream,
}

impl Stream {
    /// At once, even if the other side does not read: so does Marathon with who is too far behind.
    fn end(&self) {
        // It may be closed already.
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

#[must_use]
pub fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

impl Leader {
    /// Takes over what the store has.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn new(settings: Settings, store: Store) -> anyhow::Result<Self> {
        let core = Core::new(settings.clone(), store.load()?, now());
        Ok(Self {
            settings,
            store,
            core: Mutex::new(core),
            changed: Condvar::new(),
            updates: Mutex::new(()),
            streams: Mutex::new(Vec::new()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the core. What it says goes out in the order in which it said it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Core, Millis) -> T) -> T {
        let mut core = self.lock();
        let result = work(&mut core, now());
        self.publish(&mut core);
        self.changed.notify_all();
        result
    }

    /// Looks at the core.
    pub fn read<T>(&self, look: impl FnOnce(&Core, Millis) -> T) -> T {
        look(&self.lock(), now())
    }

    /// Works on the core as a request that changes something: such are carried out one after the other, and survive the process
    /// when they are answered.
    ///
    /// # Errors
    /// Those of `work`; or 500 if the state cannot be written.
    pub fn update<T>(&self, work: impl FnOnce(&mut Core, Millis) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let _turn = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::sleep(Duration::from_millis(u64::try_from(self.settings.testbed_persistence_delay).unwrap_or(0)));
        let mut core = self.lock();
        let result = work(&mut core, now());
        let saved = self.save(&mut core);
        // Refusals have events as well.
        self.publish(&mut core);
        self.changed.notify_all();
        saved.map_err(|error| Refusal::new(500, &format!("{error:#}")))?;
        result
    }

    fn save(&self, core: &mut Core) -> anyhow::Result<()> {
        if std::mem::take(&mut core.is_dirty) { self.store.save(&core.state) } else { Ok(()) }
    }

    fn publish(&self, core: &mut Core) {
        let events: Vec<Arc<Event>> = core.events.drain(..).map(Arc::new).collect();
        if !events.is_empty() {
            self.streams().retain(|stream| {
                let keeps_up = events.iter().all(|event| stream.events.try_send(Arc::clone(event)).is_ok());
                if !keeps_up {
                    stream.end();
                }
                keeps_up
            });
        }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All events from now on, the one of this attachment first.
    pub fn attach(&self, connection: TcpStream) -> Receiver<Arc<Event>> {
        let (events, receiver) = sync_channel(self.settings.testbed_event_buffer);
        self.with(|core, now| {
            self.streams().push(Stream { events, connection });
            core.events.push(event("event_stream_attached", json!({ "remoteAddress": "127.0.0.1" }), now));
        });
        receiver
    }

    pub fn tell_detached(&self) {
        self.with(|core, now| core.events.push(event("event_stream_detached", json!({ "remoteAddress": "127.0.0.1" }), now)));
    }

    /// Ends the process in order, a moment later: who else is there leads then.
    pub fn abdicate(&self, later: Duration) {
        let store = self.store.clone();
        std::thread::spawn(move || {
            std::thread::sleep(later);
            store.leave();
            std::process::exit(0);
        });
    }

    pub fn drop_streams(&self) {
        self.streams().drain(..).for_each(|stream| stream.end());
    }

    /// Lets time pass: waits until something is to be sent to Mesos, or to be done by its time; gives the calls.
    pub fn next_calls(&self) -> Vec<Call> {
        let mut core = self.lock();
        let mut saved_at = now();
        loop {
            let time = now();
            core.tick(time);
            self.publish(&mut core);
            // What is launched is known before it is; of statuses, reconciliation tells again.
            if (!core.calls.is_empty() || saved_at + SAVE_INTERVAL <= time)
                && let Err(error) = self.save(&mut core)
            {
                eprintln!("the state cannot be written: {error:#}");
            }
            saved_at = if core.is_dirty { saved_at } else { time };
            if core.ends_at.is_some_and(|end| time >= end) {
                eprintln!("java.lang.OutOfMemoryError: Java heap space");
                std::process::exit(137);
            }
            if !core.calls.is_empty() {
                return std::mem::take(&mut core.calls);
            }
            let next = core.next_tick(time).min(if core.is_dirty { saved_at + SAVE_INTERVAL } else { Millis::MAX });
            let wait = Duration::from_millis(u64::try_from(next - time).unwrap_or(1).max(1));
            core = self.changed.wait_timeout(core, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
