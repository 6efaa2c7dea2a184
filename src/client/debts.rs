//! Whom a session owes the outcomes of its calls.
//!
//! A call's id is a count and, in its lower bits, the place where its debt lies, so that the
//! debt is found without a search.

use tokio::sync::oneshot;

use super::pipeline::PipePlace;
use crate::protocol::session::{CallId, Outcome};

/// Bits of a call's id that hold the place of its debt.
const PLACE_BITS: u32 = 24;

/// Who waits for an outcome.
#[derive(Debug)]
pub(super) enum Debt {
    One(oneshot::Sender<Outcome>),
    /// A pipeline, and its name for the operation.
    Piped {
        pipe: PipePlace,
        tag: u64,
    },
}

/// The debts of a session.
#[derive(Debug, Default)]
pub(super) struct Debts {
    places: Vec<Option<(CallId, Debt)>>,
    free: Vec<u32>,
    count: u64,
}

impl Debts {
    /// Notes who waits for a new call.
    pub(super) fn owe(&mut self, debt: Debt) -> CallId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("a session has fewer calls in flight")
        });
        self.count += 1;
        assert!(place >> PLACE_BITS == 0, "a session has fewer calls in flight");
        assert!(self.count >> (64 - PLACE_BITS) == 0, "a session has fewer calls in its life");
        let call = CallId(self.count << PLACE_BITS | u64::from(place));
        self.places[place as usize] = Some((call, debt));
        call
    }

    /// Takes who waited for a call that ended.
    pub(super) fn settle(&mut self, call: CallId) -> Option<Debt> {
        let place = (call.0 & ((1 << PLACE_BITS) - 1)) as u32;
        let (owed, debt) = self.places.get_mut(place as usize)?.take()?;
        assert!(owed == call, "a place is used again only once its call has ended");
        self.free.push(place);
        Some(debt)
    }

    /// All who still wait.
    pub(super) fn into_all(self) -> impl Iterator<Item = (CallId, Debt)> {
        self.places.into_iter().flatten()
    }
}
