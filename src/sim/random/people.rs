//! The clients of a random run: who they are, and how many operations they begin.
//!
//! Every failover gives them operations to begin, so that their number follows the failures and
//! quiet time costs little.

use super::driver::Driver;
use crate::protocol::message::Operation;
use crate::protocol::time::Span;
use crate::protocol::types::ServerId;
use crate::sim::workload::{Workload, keys_for};
use crate::sim::world::World;

/// Keys of each key set: few, so that operations meet each other.
const KEYS: usize = 2;

/// How long a last operation on a healed cluster may take.
const LAST_WORD: Span = Span::from_millis(10_000);

impl Driver<'_> {
    /// Adds clients that follow the view, and one for each server that never does.
    pub(super) fn invite(&mut self) {
        let key_sets = self.world.settings.key_sets;
        let workload = Workload {
            keys: keys_for(key_sets, KEYS),
            key_sets,
            think_min: Span::from_micros(100),
            think_max: self.swarm.think_max,
            patience: self.swarm.patience,
            outstanding_max: self.rng.between(1, 4) as usize,
            left: 0,
            reads_ppm: self.swarm.reads_ppm,
            scans_ppm: 30_000,
            last_moment: self.rng.chance(500_000),
            wishing: false,
        };
        for _ in 0..self.rng.between(1, 3) {
            self.clients.push(self.world.add_client(None, Some(workload.clone())));
        }
        for server in 1..=self.world.settings.servers {
            let pinned = Some(ServerId(server));
            self.clients.push(self.world.add_client(pinned, Some(workload.clone())));
        }
        if self.rng.chance(700_000) {
            self.clients.push(self.world.add_repeater(Some(workload)));
        }
        self.pay(2);
    }

    /// Gives clients the operations that go with `failovers`.
    pub(super) fn pay(&mut self, failovers: u64) {
        if self.clients.is_empty() {
            return;
        }
        let each = (failovers * self.swarm.operations).div_ceil(self.clients.len() as u64);
        for &client in &self.clients {
            let node = self.world.clients.get_mut(&client);
            if let Some(workload) = node.and_then(|it| it.running.workload.as_mut()) {
                workload.left += each;
            }
            self.world.wish_later(client);
        }
    }

    /// A last read and write of every key, by a client that was never in trouble.
    pub(super) fn ask_everywhere(&mut self) {
        let client = self.world.add_client(None, None);
        let mut asked = Vec::new();
        for key in keys_for(self.world.settings.key_sets, KEYS) {
            let get = Operation::Get { key: key.clone() };
            asked.push(self.world.submit(client, get, LAST_WORD.scaled(2, 1)));
            let value = self.world.next_operation().to_string().into_bytes().into();
            let put = Operation::Put { key, value };
            asked.push(self.world.submit(client, put, LAST_WORD.scaled(2, 1)));
        }
        let unanswered = |world: &World| {
            let outcomes = world.clients.get(&client).map(|it| &it.running.outcomes)?;
            let waits = asked.iter().any(|it| !outcomes.contains_key(it));
            waits.then(|| "a client is not answered although all is healed".to_owned())
        };
        self.wait(LAST_WORD, unanswered);
    }
}
