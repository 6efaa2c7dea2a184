//! What one turn of a link brought: looked over first, then handled in order.
//!
//! Replicas and records are larger than the processor's caches. Handled one after the other, each
//! input would wait for memory several times over; looked over together, they all wait at once.

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
            driver.with(|machine, shell| look_over(machine, shell, &self.inputs));
        }
        for input in self.inputs.drain(..) {
            driver.input(input);
        }
        driver.settle();
    }
}

/// Touches what the inputs are going to touch, and changes nothing.
fn look_over(machine: &Worker, shell: &ServerShell, inputs: &[WorkerInput]) {
    let sets = machine.view().sets.len();
    let Some(count) = u16::try_from(sets).ok().filter(|&count| count > 0) else { return };
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
