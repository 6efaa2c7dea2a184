//! What one turn of a link brought: looked over first, then handled key set by key set.
//!
//! Replicas and records are larger than the processor's caches. Handled one after the other, each
//! input would wait for memory several times over; looked over together, they all wait at once, and
//! those of one key set are handled in a row. Between key sets there is no order to keep.

use std::hint::black_box;

use super::shell::ServerShell;
use super::worker::Driver;
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::{Operation, PeerMessage};
use crate::protocol::types::{KeySet, Op};
use crate::protocol::worker::Worker;

/// Writes that one message may commit and that are looked over; beyond them it is a long batch
/// anyway.
const WRITES_MAX: usize = 8;

/// The inputs of a turn.
#[derive(Default)]
pub struct Turn {
    /// As they came; none once it was handed over.
    inputs: Vec<Option<WorkerInput>>,
    /// The order in which they are handed over.
    places: Vec<Place>,
}

/// Where an input stands in the order of its turn: its row, its key set and its index, in one
/// number because that is sorted faster.
///
/// The inputs of each key set are brought together and keep their order. What is of no key set
/// stays where it is, and nothing passes it: it is a row of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct Place(u64);

impl Place {
    const INDEX_BITS: u32 = 23;
    const SET_BITS: u32 = 17;

    fn new(row: usize, set: Option<KeySet>, index: usize) -> Place {
        let set = set.map_or(0, |set| u64::from(set.0) + 1);
        assert!(index >> Place::INDEX_BITS == 0, "a turn has fewer inputs");
        let row = (row as u64) << (Place::SET_BITS + Place::INDEX_BITS);
        Place(row | set << Place::INDEX_BITS | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & ((1 << Place::INDEX_BITS) - 1)) as usize
    }

    fn set(self) -> Option<KeySet> {
        let set = self.0 >> Place::INDEX_BITS & ((1 << Place::SET_BITS) - 1);
        u16::try_from(set.checked_sub(1)?).ok().map(KeySet)
    }
}

impl Turn {
    pub fn push(&mut self, input: WorkerInput) {
        self.inputs.push(Some(input));
    }

    /// Hands everything to the driver.
    pub fn hand_over(&mut self, driver: &Driver) {
        driver.with(|machine, shell| {
            self.sort(u16::try_from(machine.view().sets.len()).unwrap_or(0));
            if self.inputs.len() > 1 {
                look_over(machine, shell, self.in_order());
            }
        });
        for place in self.places.drain(..) {
            if let Some(input) = self.inputs[place.index()].take() {
                driver.input(input);
            }
        }
        self.inputs.clear();
        driver.settle();
    }

    fn sort(&mut self, sets: u16) {
        self.places.clear();
        let mut row = 0;
        for (index, input) in self.inputs.iter().flatten().enumerate() {
            let set = key_set(input, sets);
            row += usize::from(set.is_none());
            self.places.push(Place::new(row, set, index));
            row += usize::from(set.is_none());
        }
        self.places.sort_unstable();
    }

    fn in_order(&self) -> impl Iterator<Item = (Option<KeySet>, &WorkerInput)> {
        let at = |it: &Place| Some((it.set(), self.inputs[it.index()].as_ref()?));
        self.places.iter().filter_map(at)
    }
}

fn key_set(input: &WorkerInput, sets: u16) -> Option<KeySet> {
    match input {
        WorkerInput::Request { .. } if sets == 0 => None,
        WorkerInput::Request { request, .. } => Some(request.operation.key_set(sets)),
        WorkerInput::FromPeer { message, .. } => message.set(),
        _ => None,
    }
}

/// Touches what the inputs are going to touch, and changes nothing.
fn look_over<'a>(
    machine: &'a Worker,
    shell: &ServerShell,
    inputs: impl Iterator<Item = (Option<KeySet>, &'a WorkerInput)>,
) {
    let mut wanted: Vec<(KeySet, &[u8])> = Vec::with_capacity(inputs.size_hint().1.unwrap_or(0));
    let mut committing: Vec<(KeySet, Op)> = Vec::new();
    let mut plain: Vec<KeySet> = Vec::new();
    for (set, input) in inputs {
        match (set, input) {
            // A plain write looks at no record before it commits.
            (Some(set), WorkerInput::Request { request, .. }) => match &request.operation {
                Operation::Put { .. } | Operation::PutFor { .. } => plain.push(set),
                other => wanted.extend(other.key().map(|key| (set, &key[..]))),
            },
            (
                Some(set),
                WorkerInput::FromPeer {
                    message:
                        PeerMessage::Prepare { commit: through, .. }
                        | PeerMessage::Ack { accepted: through, .. },
                    ..
                },
            ) => committing.push((set, *through)),
            _ => {}
        }
    }
    let asked = wanted.iter().map(|&(set, _)| set).chain(plain);
    let all = asked.chain(committing.iter().map(|&(set, _)| set));
    // In their order those of a key set are neighbours: its replica is looked at once.
    let mut last = None;
    let once = all.filter(|&set| last.replace(set) != Some(set));
    let points = once.filter_map(|set| machine.replica(set)).map(|it| it.points());
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
        let mut turn = Turn::default();
        for input in [ack(9, 1), ack(2, 7), ack(9, 2), grant(), ack(5, 1), ack(2, 8)] {
            turn.push(input);
        }
        turn.sort(256);
        let sorted: Vec<WorkerInput> = turn.in_order().map(|(_, input)| input.clone()).collect();
        assert_eq!(sorted, [ack(2, 7), ack(9, 1), ack(9, 2), grant(), ack(2, 8), ack(5, 1)]);
    }
}
