//! The operations in flight: each in a slot that is used again, and found by its id.

use std::hash::{Hash, Hasher};

use super::CallId;
use super::call::Call;
use super::window::Window;

/// Where a call lies until it completes.
pub(super) type Slot = u32;

/// Slots whose memory is taken together. No call is moved when more are needed: a session that has
/// fallen behind would spend its time copying what it waits for.
const CHUNK_SLOTS: usize = 16;

/// The operations in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    slots: Slots,
    free: Vec<Slot>,
    by_id: Window,
}

/// Calls by slot; every chunk but the last is full.
#[derive(Clone, Debug, Default)]
struct Slots {
    chunks: Vec<Vec<Option<(CallId, Call)>>>,
}

impl Slots {
    fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK_SLOTS + last
    }

    fn push(&mut self, held: (CallId, Call)) -> Slot {
        let slot = Slot::try_from(self.len()).expect("a session has fewer calls in flight");
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_SLOTS) {
            self.chunks.push(Vec::with_capacity(CHUNK_SLOTS));
        }
        self.chunks.last_mut().expect("there is one now").push(Some(held));
        slot
    }

    #[inline]
    fn get(&self, slot: Slot) -> Option<&(CallId, Call)> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK_SLOTS)?.get(slot % CHUNK_SLOTS)?.as_ref()
    }

    /// What a slot holds that was given out.
    #[inline]
    fn at(&mut self, slot: Slot) -> Option<&mut Option<(CallId, Call)>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK_SLOTS)?.get_mut(slot % CHUNK_SLOTS)
    }

    fn iter(&self) -> impl Iterator<Item = &(CallId, Call)> {
        self.chunks.iter().flatten().flatten()
    }
}

impl Calls {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a call.
    ///
    /// # Panics
    /// If its id is in use.
    pub(super) fn insert(&mut self, id: CallId, call: Call) {
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.slots.at(slot).expect("a free slot was given out once") = Some((id, call));
                slot
            }
            None => self.slots.push((id, call)),
        };
        self.by_id.insert(id.0, slot);
    }

    #[inline]
    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        self.slots.get(self.by_id.get(id.0)?).map(|(_, call)| call)
    }

    #[inline]
    pub(super) fn change(&mut self, id: CallId) -> Option<&mut Call> {
        self.with_slot(id).map(|(_, call)| call)
    }

    /// A call, and the slot in which it lies.
    #[inline]
    pub(super) fn with_slot(&mut self, id: CallId) -> Option<(Slot, &mut Call)> {
        let slot = self.by_id.get(id.0)?;
        self.slots.at(slot)?.as_mut().map(|(_, call)| (slot, call))
    }

    /// The call that lies in `slot`.
    #[inline]
    pub(super) fn at(&mut self, slot: Slot) -> Option<(CallId, &mut Call)> {
        self.slots.at(slot)?.as_mut().map(|(id, call)| (*id, call))
    }

    #[inline]
    pub(super) fn remove(&mut self, id: CallId) {
        let slot = self.by_id.remove(id.0).expect("a call completes once");
        *self.slots.at(slot).expect("a call lies in a slot") = None;
        self.free.push(slot);
    }

    /// The calls that `wanted` picks, by id.
    pub(super) fn ids_where(&self, mut wanted: impl FnMut(&Call) -> bool) -> Vec<CallId> {
        let found = self.slots.iter().filter(|(_, call)| wanted(call));
        let mut ids: Vec<CallId> = found.map(|&(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn ascending(&self) -> Vec<&(CallId, Call)> {
        let mut all: Vec<&(CallId, Call)> = self.slots.iter().collect();
        all.sort_unstable_by_key(|&&(id, _)| id);
        all
    }
}

/// Equal calls are equal, wherever they lie.
impl PartialEq for Calls {
    fn eq(&self, other: &Calls) -> bool {
        self.len() == other.len() && self.ascending() == other.ascending()
    }
}

impl Eq for Calls {}

impl Hash for Calls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ascending().hash(state);
    }
}

impl std::ops::Index<CallId> for Calls {
    type Output = Call;

    fn index(&self, id: CallId) -> &Call {
        self.get(id).expect("only calls in flight are looked at")
    }
}

#[cfg(test)]
mod tests {
    //! Goal: calls are found by id and by slot, and none is moved, however many more come.
    //! Method: the place of one in memory, before and after hundreds of others come and go.

    use bytes::Bytes;

    use super::*;
    use crate::protocol::message::Operation;
    use crate::protocol::time::Time;

    fn call(number: u64) -> Call {
        let key = Bytes::from(number.to_string());
        Call::new(Operation::Get { key }, Time(number))
    }

    #[test]
    fn calls_stay_where_they_are() {
        let mut calls = Calls::default();
        calls.insert(CallId(0), call(0));
        let place = std::ptr::from_ref(&calls[CallId(0)]);
        for number in 1..500 {
            calls.insert(CallId(number), call(number));
            if number % 3 == 0 {
                calls.remove(CallId(number));
            }
        }
        assert_eq!(std::ptr::from_ref(&calls[CallId(0)]), place);
        for number in 0..500 {
            let there = number == 0 || number % 3 != 0;
            let (slot, found) = match calls.with_slot(CallId(number)) {
                Some((slot, found)) => (slot, found.deadline),
                None if there => panic!("call {number} is gone"),
                None => continue,
            };
            assert!(there && found == Time(number), "call {number}: {found:?}");
            let (id, _) = calls.at(slot).expect("the slot holds it");
            assert_eq!(id, CallId(number));
        }
        assert_eq!(calls.len(), calls.ids_where(|_| true).len());
    }
}
