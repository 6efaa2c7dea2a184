//! What clients do of their own accord: a seeded mix of operations on few keys.
//!
//! Few keys make operations meet each other. Every value is unique, so that a read tells which
//! write it saw.

use super::ClientId;
use super::clients::ClientMachine;
use super::rng::Rng;
use super::world::{Event, World};
use crate::protocol::message::{Expect, Operation};
use crate::protocol::placement::key_set;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Key, KeySet, Value};

/// A client's habits.
#[derive(Clone, Debug)]
pub struct Workload {
    pub keys: Vec<Key>,
    pub key_sets: u16,
    /// Pause between operations.
    pub think_min: Span,
    pub think_max: Span,
    /// Deadline of an operation.
    pub patience: Span,
    pub outstanding_max: usize,
    /// Operations left to do.
    pub left: u64,
    /// Shares in a million: reads, then scans; the rest are writes of all kinds.
    pub reads_ppm: u64,
    pub scans_ppm: u64,
    /// A pinned client reads at the last moment of its server's lease, every other time.
    pub last_moment: bool,
    /// The next operation is entered already.
    pub wishing: bool,
}

impl Workload {
    /// The next operation; `unique` makes its value unlike any other.
    #[must_use]
    pub fn operation(&self, rng: &mut Rng, unique: u64) -> Operation {
        let key = rng.pick(&self.keys).cloned().unwrap_or_default();
        let value = Value::from(unique.to_string().into_bytes());
        let draw = rng.below(1_000_000);
        if draw < self.reads_ppm {
            return Operation::Get { key };
        }
        if draw < self.reads_ppm + self.scans_ppm {
            let set = key_set(&key, self.key_sets);
            let prefix = Key::new();
            let (items_max, bytes_max) = (1 + rng.below(8) as u32, 4_096);
            return Operation::Scan { set, prefix, after: None, items_max, bytes_max };
        }
        match rng.below(10) {
            0 => Operation::Delete { key },
            1 if unique.is_multiple_of(4) => {
                let (expect, lifetime_ms) = (Expect::Absent, 1 + unique * 53 % 900);
                Operation::CasFor { key, expect, value, lifetime_ms }
            }
            1 => Operation::Cas { key, expect: Expect::Absent, value: Some(value) },
            2 => {
                let guess = unique.saturating_sub(rng.below(20));
                let expect = Expect::Value(Value::from(guess.to_string().into_bytes()));
                Operation::Cas { key, expect, value: Some(value) }
            }
            3 | 4 => Operation::Incr { key, by: unique as i64 },
            _ if unique.is_multiple_of(5) => {
                Operation::PutFor { key, value, lifetime_ms: 1 + unique * 37 % 900 }
            }
            _ => Operation::Put { key, value },
        }
    }
}

/// `count` keys for each of `key_sets` key sets, in the order of the sets.
#[must_use]
pub fn keys_for(key_sets: u16, count: usize) -> Vec<Key> {
    (0..key_sets)
        .flat_map(|set| (0..count).map(move |index| (set, index)))
        .map(|(set, index)| key_in(KeySet(set), key_sets, &format!("{set}/{index}")))
        .collect()
}

/// A key that begins with `name` and belongs to `set`.
#[must_use]
pub fn key_in(set: KeySet, key_sets: u16, name: &str) -> Key {
    let mut suffix = 0u32;
    loop {
        let key = Key::from(format!("{name}~{suffix}").into_bytes());
        if key_set(&key, key_sets) == set {
            return key;
        }
        suffix += 1;
    }
}

impl World {
    /// Lets a client begin its next operation, if it wants one.
    pub(super) fn wish(&mut self, client: ClientId) {
        let unique = self.next_operation();
        let Some(node) = self.clients.get_mut(&client) else { return };
        let busy = node.running.flying.len();
        let Some(workload) = &mut node.running.workload else { return };
        workload.wishing = false;
        if workload.left == 0 || busy >= workload.outstanding_max {
            return;
        }
        workload.left -= 1;
        let mut operation = workload.operation(&mut self.rng, unique);
        // Equal writes in flight could not be told apart.
        if operation.is_write()
            && node.running.flying.values().any(|(it, _)| *it == operation)
            && let Some(key) = operation.key().cloned()
        {
            operation = Operation::Get { key };
        }
        let patience = workload.patience;
        self.submit(client, operation, patience);
        self.wish_later(client);
    }

    pub(super) fn wish_later(&mut self, client: ClientId) {
        let Some(node) = self.clients.get_mut(&client) else { return };
        let busy = node.running.flying.len();
        let Some(workload) = &mut node.running.workload else { return };
        if workload.wishing || workload.left == 0 || busy >= workload.outstanding_max {
            return;
        }
        workload.wishing = true;
        let (least, most) = (workload.think_min, workload.think_max);
        let chance = workload.last_moment && self.rng.chance(500_000);
        let last = if chance { self.last_moment(client) } else { None };
        let at = last.unwrap_or(self.now() + self.rng.span(least, most));
        self.agenda.enter(at, Event::Wish { client });
    }

    /// When a pinned client has to ask so that its server looks at the request just before its
    /// lease ends, as far as is known now.
    fn last_moment(&mut self, client: ClientId) -> Option<Time> {
        let ClientMachine::Pinned(pinned) = &self.clients.get(&client)?.running.machine else {
            return None;
        };
        let node = self.servers.get(&pinned.server())?;
        let replicas = node.running.as_ref()?.worker.replicas().iter();
        let lease = self.settings.timing.lease;
        let end = replicas.filter_map(|it| it.leased_until(lease)).max()?;
        let end = node.host.clock.when(end);
        let ahead = self.delay() + self.rng.span(Span::ZERO, Span::from_micros(500));
        Some(end - ahead).filter(|at| *at > self.now())
    }
}
