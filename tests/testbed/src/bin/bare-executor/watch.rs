//! What this thread waits for: the agent's events, its answers to our calls, the ends of processes, and time.

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// At most so many are taken at once; the rest comes at the next call.
const BATCH: usize = 256;

/// Events of the agent; processes have the numbers from [`FIRST_TASK`] on.
pub const EVENTS: u64 = 0;
pub const ANSWERS: u64 = 1;
pub const FIRST_TASK: u64 = 2;

pub struct Watch {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, ready: Vec::with_capacity(BATCH) })
    }

    /// Until the descriptor is closed; a process' is readable when the process has ended.
    pub fn add(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// Waits for any of them, or until `limit` is over: the numbers of those that are ready.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<u64>> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(self.ready.iter().map(|event| event.data.u64()).collect()),
            Err(error) => Err(error.into()),
        }
    }
}
