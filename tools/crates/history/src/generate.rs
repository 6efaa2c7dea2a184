//! Histories of a store that does everything right: to measure the checkers, and to break on
//! purpose.
//!
//! Clients in virtual time against one sequential store. Each operation takes effect at an instant
//! between its sending and its return. Some outcomes are unknown: those take effect late, or never.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tandem::protocol::placement;
use tandem::protocol::types::{Epoch, KeySet, LossEpoch, Op, Position};
use tandem::sim::rng::Rng;

use crate::history::History;
use crate::model::State;
use crate::operation::{Answer, Ending, Expect, Operation, Reply, Text, What};

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub operations: usize,
    pub keys: usize,
    /// Clients at work at any time.
    pub clients: usize,
    pub key_sets: u16,
    /// How many in a million have an unknown outcome.
    pub unknown_ppm: u64,
    /// A read in the second half returns what the key held before the last write.
    pub stale_read: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            operations: 1_000,
            keys: 10,
            clients: 20,
            key_sets: 16,
            unknown_ppm: 10_000,
            stale_read: false,
        }
    }
}

/// What happens next, in virtual time; at one instant in the order written here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum Event {
    TakeEffect(usize),
    Return(usize),
    Send { client: usize },
}

/// The store and its clients.
struct Run {
    settings: Settings,
    rng: Rng,
    agenda: BinaryHeap<Reverse<(u64, Event)>>,
    operations: Vec<Operation>,
    /// The client of each operation, and the answer that it will get.
    clients: Vec<(usize, Option<Answer>)>,
    process_last: u64,
    processes: Vec<u64>,
    keys: BTreeMap<usize, State>,
    ops: BTreeMap<KeySet, Op>,
    /// What each key held before its last write.
    before: BTreeMap<usize, State>,
    value_last: u64,
    planted: bool,
}

/// Generates a history. Even keys are only put and read, each value put once; odd ones see every
/// kind of operation.
#[must_use]
pub fn generate(settings: &Settings) -> History {
    let mut run = Run {
        settings: *settings,
        rng: Rng::new(settings.seed),
        agenda: BinaryHeap::new(),
        operations: Vec::with_capacity(settings.operations),
        clients: Vec::with_capacity(settings.operations),
        process_last: settings.clients as u64,
        processes: (1..=settings.clients as u64).collect(),
        keys: BTreeMap::new(),
        ops: BTreeMap::new(),
        before: BTreeMap::new(),
        value_last: 0,
        planted: false,
    };
    for client in 0..settings.clients {
        let at = run.rng.below(100_000);
        run.agenda.push(Reverse((at, Event::Send { client })));
    }
    while let Some(Reverse((now, event))) = run.agenda.pop() {
        match event {
            Event::Send { client } => run.send(now, client),
            Event::TakeEffect(index) => run.take_effect(index),
            Event::Return(index) => run.come_back(now, index),
        }
    }
    let mut operations = run.operations;
    for (index, operation) in operations.iter_mut().enumerate() {
        operation.line = index + 1;
    }
    History { operations }
}

impl Run {
    fn send(&mut self, now: u64, client: usize) {
        let index = self.operations.len();
        if index >= self.settings.operations {
            return;
        }
        let key = self.rng.below(self.settings.keys.max(1) as u64) as usize;
        let what = self.what(key);
        let unknown = self.rng.chance(self.settings.unknown_ppm);
        let returns = now + self.rng.between(50_000, 500_000);
        let effect = match unknown {
            true => now + self.rng.between(0, 20_000_000),
            false => self.rng.between(now, returns),
        };
        // Half of the unknown ones never take effect.
        if !unknown || self.rng.chance(500_000) {
            self.agenda.push(Reverse((effect, Event::TakeEffect(index))));
        }
        if unknown {
            // The client is retired, and another takes its place.
            let at = now + self.rng.between(50_000, 500_000);
            self.agenda.push(Reverse((at, Event::Send { client })));
        } else {
            self.agenda.push(Reverse((returns, Event::Return(index))));
        }
        self.operations.push(Operation {
            line: 0,
            process: self.processes[client],
            key: name(key),
            what,
            invoke_ns: now,
            ending: Ending::Unknown,
        });
        self.clients.push((client, None));
        if unknown {
            self.process_last += 1;
            self.processes[client] = self.process_last;
        }
    }

    fn what(&mut self, key: usize) -> What {
        let kind = self.rng.below(if key.is_multiple_of(2) { 2 } else { 6 });
        match kind {
            0 => What::Get,
            1 => What::Put { value: self.value(key) },
            2 => What::Delete,
            3 | 4 => What::Incr { by: self.rng.between(1, 5) as i64 },
            _ => {
                let state = self.keys.get(&key).cloned().unwrap_or_default();
                let expect = match (self.rng.below(4), state.value, state.revision) {
                    (0, Some(_), Some(revision)) => Expect::Revision(revision),
                    (1 | 2, Some(value), _) => Expect::Value(value),
                    _ => Expect::Absent,
                };
                let value = self.rng.chance(800_000).then(|| self.value(key));
                What::Cas { expect, value }
            }
        }
    }

    /// A value that was never there; a number for the keys that are counters as well.
    fn value(&mut self, key: usize) -> Text {
        self.value_last += 1;
        match key.is_multiple_of(2) {
            true => Text::from(format!("v{}", self.value_last)),
            false => Text::from((self.value_last * 1_000_000).to_string()),
        }
    }

    fn take_effect(&mut self, index: usize) {
        let Operation { key, what, .. } = &self.operations[index];
        let number = number(key);
        let set = placement::key_set(key.as_bytes(), self.settings.key_sets);
        let state = self.keys.get(&number).cloned().unwrap_or_default();
        let op = self.ops.entry(set).or_insert(Op(0));
        let changed = state.changed_by(what);
        let reply = match (what, &changed) {
            (What::Get, _) => Reply::Value(state.value.clone()),
            (What::Put { .. }, _) => Reply::Stored,
            (What::Delete, _) => Reply::Existed(changed.is_some()),
            (What::Cas { .. }, _) => Reply::Swapped(changed.is_some()),
            (What::Incr { .. }, changed) => Reply::Number(
                changed.as_ref().and_then(|it| it.value.as_ref()?.parse::<i64>().ok()),
            ),
        };
        if changed.is_some() {
            *op = op.next();
        }
        let position = Position { loss_epoch: LossEpoch(0), epoch: Epoch(1), op: *op };
        let mut answer = Answer { reply, revision: state.revision, position: Some(position) };
        if let Some(changed) = changed {
            let revision = Some(position.revision());
            answer.revision = revision;
            let is_there = changed.value.is_some();
            let next = State { value: changed.value, revision: revision.filter(|_| is_there) };
            self.before.insert(number, state);
            self.keys.insert(number, next);
        } else if matches!(answer.reply, Reply::Existed(_) | Reply::Number(_)) {
            answer.revision = None;
        }
        self.plant(index, number, &mut answer);
        self.clients[index].1 = Some(answer);
    }

    /// Once, in the second half, on a key that is only put and read: a read of what was there
    /// before the last write, which had ended.
    fn plant(&mut self, index: usize, key: usize, answer: &mut Answer) {
        let late = index > self.settings.operations / 2 && self.settings.stale_read;
        let due = late && !self.planted && key.is_multiple_of(2);
        let Some(before) = self.before.get(&key).filter(|_| due) else { return };
        let (key, sent) = (&self.operations[index].key, self.operations[index].invoke_ns);
        let writer = |revision| {
            let wrote = |it: &Answer| it.has_effect() && it.revision == revision;
            self.operations.iter().find(|it| it.key == *key && it.answer().is_some_and(wrote))
        };
        let Some(last) = writer(answer.revision) else { return };
        // The older value must be gone for sure, whatever order one looks for.
        let is_over = match &before.value {
            None => true,
            Some(_) => writer(before.revision)
                .and_then(Operation::return_ns)
                .is_some_and(|ended| ended < last.invoke_ns),
        };
        let is_read = matches!(answer.reply, Reply::Value(_));
        if is_read && is_over && last.return_ns().is_some_and(|ended| ended < sent) {
            self.planted = true;
            answer.reply = Reply::Value(before.value.clone());
            answer.revision = before.revision;
        }
    }

    fn come_back(&mut self, now: u64, index: usize) {
        let (client, answer) = &mut self.clients[index];
        let client = *client;
        let answer = answer.take().expect("an operation takes effect before it returns");
        self.operations[index].ending = Ending::Ok { return_ns: now, answer };
        let at = now + self.rng.between(1_000, 200_000);
        self.agenda.push(Reverse((at, Event::Send { client })));
    }
}

fn name(key: usize) -> Text {
    Text::from(format!("k{key}"))
}

/// The number that `name` made a key of.
fn number(key: &Text) -> usize {
    key.trim_start_matches('k').parse().expect("keys are named by their numbers")
}
