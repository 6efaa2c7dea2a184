//! The operations in flight: each in a slot that is used again, and found by its id.

use std::hash::{Hash, Hasher};

use super::CallId;
use super::call::Call;
use super::window::Window;

/// Where a call lies until it completes.
pub(super) type Slot = u32;

/// The operations in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Option<(CallId, Call)>>,
    free: Vec<Slot>,
    by_id: Window,
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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("a session has fewer calls in flight")
        });
        self.by_id.insert(id.0, slot);
        self.slots[slot as usize] = Some((id, call));
    }

    #[inline]
    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        self.slots[self.by_id.get(id.0)? as usize].as_ref().map(|(_, call)| call)
    }

    #[inline]
    pub(super) fn change(&mut self, id: CallId) -> Option<&mut Call> {
        self.with_slot(id).map(|(_, call)| call)
    }

    /// A call, and the slot in which it lies.
    #[inline]
    pub(super) fn with_slot(&mut self, id: CallId) -> Option<(Slot, &mut Call)> {
        let slot = self.by_id.get(id.0)?;
        self.slots[slot as usize].as_mut().map(|(_, call)| (slot, call))
    }

    /// The call that lies in `slot`.
    #[inline]
    pub(super) fn at(&mut self, slot: Slot) -> Option<(CallId, &mut Call)> {
        self.slots.get_mut(slot as usize)?.as_mut().map(|(id, call)| (*id, call))
    }

    #[inline]
    pub(super) fn remove(&mut self, id: CallId) {
        let slot = self.by_id.remove(id.0).expect("a call completes once");
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    /// The calls that `wanted` picks, by id.
    pub(super) fn ids_where(&self, mut wanted: impl FnMut(&Call) -> bool) -> Vec<CallId> {
        let all = self.slots.iter().flatten();
        let mut ids: Vec<CallId> =
            all.filter(|(_, call)| wanted(call)).map(|&(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn ascending(&self) -> Vec<&(CallId, Call)> {
        let mut all: Vec<&(CallId, Call)> = self.slots.iter().flatten().collect();
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
