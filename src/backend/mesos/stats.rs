//! What metrics are made of.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::wire::Kind;

/// More samples than are collected between two looks at them are dropped.
const MAX_SAMPLES: usize = 65_536;

/// Counters of one backend; shared with its session.
#[derive(Debug, Default)]
pub struct Stats {
    calls: [AtomicU64; Kind::ALL.len()],
    refused_calls: AtomicU64,
    subscriptions: AtomicU64,
    unknown_events: AtomicU64,
    unreadable_events: AtomicU64,
    reactions: Mutex<Vec<Duration>>,
}

impl Stats {
    /// Calls written so far, by their names.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL.iter().zip(&self.calls).map(|(kind, count)| (kind.as_str(), count.load(Ordering::Relaxed)))
    }

    /// Calls that the master did not take.
    pub fn refused_calls(&self) -> u64 {
        self.refused_calls.load(Ordering::Relaxed)
    }

    pub fn subscriptions(&self) -> u64 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Events of types that are not known here.
    pub fn unknown_events(&self) -> u64 {
        self.unknown_events.load(Ordering::Relaxed)
    }

    pub fn unreadable_events(&self) -> u64 {
        self.unreadable_events.load(Ordering::Relaxed)
    }

    /// The times from a reading or spec change to the calls it led to being written, since this was last asked.
    pub fn take_reactions(&self) -> Vec<Duration> {
        self.reactions.lock().map(|mut reactions| std::mem::take(&mut *reactions)).unwrap_or_default()
    }

    pub(super) fn written(&self, kind: Kind) {
        self.calls[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unknown_event(&self) {
        self.unknown_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unreadable_event(&self) {
        self.unreadable_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reacted(&self, time: Duration) {
        if let Ok(mut reactions) = self.reactions.lock()
            && reactions.len() < MAX_SAMPLES
        {
            reactions.push(time);
        }
    }
}
