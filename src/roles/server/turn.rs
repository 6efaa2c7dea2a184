//! What one turn of a link brought: looked over first, then handled key set by key set.
//!
//! Replicas and records are larger than the processor's caches. Handled one after the other, each
//! input would wait for memory several times over; looked over together, they all wait at once, and
//! those of one key set are handled in a row. Between key sets there is no order to keep.

use std::hint::black_box;

use super::shell::ServerShell;
use super::worker::Driver;
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::PeerMessage;
use crate::protocol::types::{KeySet, Op};
use crate::protocol::worker::Worker;

/// Writes that one message may commit and that are looked over; beyond them it is a long batch
/// anyway.
const WRITES_MAX: usize = 8;

/// The inputs of a turn.
#[derive(Default)]
pub struct Turn {
    inputs: Vec<WorkerInput>,
}

impl Turn {
    pub fn push(&mut self, input: WorkerInput) {
        self.inputs.push(input);
    }

    /// Hands everything to the driver.
    pub fn hand_over(&mut self, driver: &Driver) {
        if self.inputs.len() > 1 {
            driver.with(|machine, shell| {
                let sets = u16::try_from(machine.view().sets.len()).unwrap_or(0);
                if sets > 0 {
                    sort(&mut self.inputs, sets);
                    look_over(machine, shell, &self.inputs);
                }
            });
        }
        for input in self.inputs.drain(..) {
            driver.input(input);
        }
        driver.settle();
    }
}

/// Brings together the inputs of each key set, which keep their order. What is of no key set stays
/// where it is, and nothing passes it.
fn sort(inputs: &mut [WorkerInput], sets: u16) {
    let rows = inputs.split_mut(|input| key_set(input, sets).is_none());
    for row in rows.filter(|row| row.len() > 1) {
        row.sort_by_cached_key(|input| key_set(input, sets));
    }
}

fn key_set(input: &WorkerInput, sets: u16) -> Option<KeySet> {
    match input {
        WorkerInput::Request { request, .. } => Some(request.operation.key_set(sets)),
        WorkerInput::FromPeer { message, .. } => message.set(),
        _ => None,
    }
}

/// Touches what the inputs are going to touch, and changes nothing.
fn look_over(machine: &Worker, shell: &ServerShell, inputs: &[WorkerInput]) {
    let count = machine.view().sets.len() as u16;
    let mut wanted: Vec<(KeySet, &[u8])> = Vec::with_capacity(inputs.len());
    let mut committing: Vec<(KeySet, Op)> = Vec::new();
    for input in inputs {
        match input {
            WorkerInput::Request { request, .. } => {
                if let Some(key) = request.operation.key() {
                    wanted.push((request.operation.key_set(count), key));
                }
            }
            WorkerInput::FromPeer {
                message:
                    PeerMessage::Prepare { set, commit: through, .. }
                    | PeerMessage::Ack { set, accepted: through, .. },
                ..
            } => committing.push((*set, *through)),
            _ => {}
        }
    }
    let asked = wanted.iter().map(|&(set, _)| set);
    let all = asked.chain(committing.iter().map(|&(set, _)| set));
    let points = all.filter_map(|set| machine.replica(set)).map(|it| it.points());
    black_box(points.fold(0, u64::wrapping_add));
    for (set, through) in committing {
        let Some(replica) = machine.replica(set) else { continue };
        let writes = replica.log().window().take(WRITES_MAX);
        wanted.extend(writes.take_while(|it| it.op <= through).map(|it| (set, &it.key[..])));
    }
    shell.look_over(&wanted);
}

#[cfg(test)]
mod tests {
    //! Goal: inputs of one key set stay in their order, and nothing passes what is of many sets.
    //! Method: acknowledgements of several sets around a grant, sorted.

    use super::*;
    use crate::protocol::time::Time;
    use crate::protocol::types::{Epoch, LinkId};

    fn ack(set: u16, op: u64) -> WorkerInput {
        let (set, accepted) = (KeySet(set), Op(op));
        let message = PeerMessage::Ack { set, epoch: Epoch(1), accepted, sent: Time(0) };
        WorkerInput::FromPeer { link: LinkId(1), message }
    }

    fn grant() -> WorkerInput {
        let message = PeerMessage::Grant { number: 1, sent: Time(0), sets: Vec::new() };
        WorkerInput::FromPeer { link: LinkId(1), message }
    }

    #[test]
    fn key_sets_are_brought_together_and_keep_their_order() {
        let mut inputs = vec![ack(9, 1), ack(2, 7), ack(9, 2), grant(), ack(5, 1), ack(2, 8)];
        sort(&mut inputs, 256);
        assert_eq!(inputs, [ack(2, 7), ack(9, 1), ack(9, 2), grant(), ack(2, 8), ack(5, 1)]);
    }
}
