//! Reconciliation: finding out what really runs (Mesos docs, `reconciliation.md`).
//!
//! A round asks about every task we know, each with its agent, and again about those that were not answered, ever less often: silence
//! means that their agents are not back yet, never that they are lost. Then it asks for all tasks of the framework, to find those that
//! we do not know. Mesos does not say where its answer to that ends, but it answers in order: a question about a task that cannot exist
//! is answered right behind it (seen on Mesos 1.11: all tasks are known about 10 ms after the start). While agents are missing after a change
//! of the master that answer does not come, nor are their tasks told when they are back: so both are asked again until it comes, and after a
//! while orders are given all the same.

use std::sync::Arc;

use super::ledger::Ledger;
use super::wire::{Call, ReconcileTask, Value};
use crate::policy::world::{Millis, World};

const BATCH: usize = 1000;
const FIRST_WAIT_MS: u64 = 1000;
const MAX_WAIT_MS: u64 = 30_000;
const EVERY_MS: u64 = 15 * 60 * 1000;
/// Longest wait for the answers before orders are given.
const PATIENCE_MS: u64 = 5000;

/// Where the questioning stands.
#[derive(Debug, Default)]
pub struct Reconcile {
    round: Option<Round>,
    /// Until all tasks are known.
    last: Option<Last>,
    /// All tasks were known once. Since every change is told until it is acknowledged, a new connection changes nothing of that.
    complete: bool,
    next_round: Option<Millis>,
    rounds: u64,
}

/// The question for all tasks, with the made-up one behind it.
#[derive(Debug)]
struct Last {
    id: Arc<str>,
    /// Orders wait for the answer until then; `None`: no more.
    until: Option<Millis>,
    ask_at: Millis,
    wait_ms: Millis,
}

#[derive(Debug)]
struct Round {
    mark: u64,
    ask_at: Millis,
    wait_ms: u64,
}

impl Reconcile {
    /// Begins the round of a new connection: until [`Self::pending`] is false, no orders. After a change of the master that costs no
    /// time, as its agents may be long in coming back, and what runs on them is known.
    pub fn connected(&mut self, ledger: &mut Ledger, world: &World, now: Millis) -> Vec<Call> {
        let mut calls = self.round(ledger, world, now);
        if self.complete {
            return calls;
        }
        let (question, id) = self.made_up();
        calls.push(question);
        self.last = Some(Last { id, until: Some(now + PATIENCE_MS), ask_at: now + FIRST_WAIT_MS, wait_ms: FIRST_WAIT_MS });
        calls
    }

    fn made_up(&self) -> (Call, Arc<str>) {
        let id: Arc<str> = format!("microscaler-reconciled-{}", self.rounds).into();
        (Call::reconcile(vec![ReconcileTask { task_id: Value::from(id.clone()), agent_id: None }]), id)
    }

    /// Without a connection, nothing is asked.
    pub fn disconnected(&mut self) {
        (self.round, self.last, self.next_round) = (None, None, None);
    }

    /// A framework that has never been has no tasks.
    pub fn nothing_to_ask(&mut self, now: Millis) {
        self.complete = true;
        self.next_round = Some(now + EVERY_MS);
    }

    pub fn pending(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.until.is_some())
    }

    /// Whether this is the answer that ends the first round, and no task at all.
    pub fn is_last(&mut self, id: &str) -> bool {
        if self.last.as_ref().is_some_and(|last| &*last.id == id) {
            self.last = None;
            self.complete = true;
        }
        id.starts_with("microscaler-reconciled-")
    }

    /// The questions that are due.
    pub fn due(&mut self, ledger: &mut Ledger, world: &World, now: Millis) -> Vec<Call> {
        if let Some(last) = self.last.as_mut().filter(|last| last.until.is_some_and(|until| until <= now)) {
            tracing::info!("some agents are not back yet; their tasks are not known");
            last.until = None;
        }
        if self.last.as_ref().is_some_and(|last| last.ask_at <= now) {
            return self.ask_for_all(now);
        }
        if self.next_round.is_some_and(|at| at <= now) {
            return self.round(ledger, world, now);
        }
        let Some(round) = self.round.as_mut().filter(|round| round.ask_at <= now) else { return Vec::new() };
        round.wait_ms = (round.wait_ms * 2).min(MAX_WAIT_MS);
        round.ask_at = now + round.wait_ms;
        let questions = ledger.unheard(world, round.mark);
        if questions.is_empty() {
            self.round = None;
        }
        batches(&questions).collect()
    }

    /// Only the newest question counts: what was told before it may have been without the agents that are back by now.
    fn ask_for_all(&mut self, now: Millis) -> Vec<Call> {
        self.rounds += 1;
        let (question, id) = self.made_up();
        if let Some(last) = &mut self.last {
            last.wait_ms = (last.wait_ms * 2).min(MAX_WAIT_MS);
            (last.ask_at, last.id) = (now + last.wait_ms, id);
        }
        vec![Call::reconcile(Vec::new()), question]
    }

    pub fn next(&self) -> Option<Millis> {
        let last = self.last.as_ref();
        let times = [
            self.round.as_ref().map(|round| round.ask_at),
            last.map(|last| last.ask_at),
            last.and_then(|last| last.until),
            self.next_round,
        ];
        times.into_iter().flatten().min()
    }

    fn round(&mut self, ledger: &mut Ledger, world: &World, now: Millis) -> Vec<Call> {
        self.rounds += 1;
        self.next_round = Some(now + EVERY_MS);
        let mark = ledger.mark();
        self.round = Some(Round { mark, ask_at: now + FIRST_WAIT_MS, wait_ms: FIRST_WAIT_MS });
        batches(&ledger.unheard(world, mark)).chain([Call::reconcile(Vec::new())]).collect()
    }
}

fn batches(questions: &[ReconcileTask]) -> impl Iterator<Item = Call> {
    questions.chunks(BATCH).map(|batch| Call::reconcile(batch.to_vec()))
}
