//! The switchboard: which faults are in force, and what they do together to each edge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::edge::Impairment;
use crate::nodes::Edge;

/// A fault that was put in force; gives it up again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct FaultId(u64);

/// What happened to packets so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    pub passed: u64,
    pub dropped: u64,
    pub late: u64,
    pub duplicated: u64,
    pub corrupted: u64,
}

/// Shared by the relay, which obeys, and the nemesis, which rules.
#[derive(Clone, Debug, Default)]
pub struct Board {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    faults: BTreeMap<FaultId, BTreeMap<Edge, Impairment>>,
    /// All faults together; only impaired edges.
    edges: BTreeMap<Edge, Impairment>,
    last: u64,
    traffic: Traffic,
}

impl Board {
    /// From now on every one of `edges` is impaired by `what`.
    pub fn impose(&self, edges: &[Edge], what: Impairment) -> FaultId {
        let mut state = self.lock();
        state.last += 1;
        let id = FaultId(state.last);
        state.faults.insert(id, edges.iter().map(|&edge| (edge, what)).collect());
        state.merge();
        id
    }

    /// `fault` is over.
    pub fn lift(&self, fault: FaultId) {
        let mut state = self.lock();
        state.faults.remove(&fault);
        state.merge();
    }

    /// All faults are over.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.merge();
    }

    /// What `edge` does to packets now.
    pub fn impairment(&self, edge: Edge) -> Impairment {
        self.lock().edges.get(&edge).copied().unwrap_or_default()
    }

    pub fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Traffic)) {
        count(&mut self.lock().traffic);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn merge(&mut self) {
        self.edges.clear();
        for (&edge, &what) in self.faults.values().flatten() {
            let known = self.edges.entry(edge).or_default();
            *known = known.and(what);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: overlapping faults add up, and lifting one leaves the others in force.
    //! Method: two faults that share an edge, lifted one after the other.

    use super::*;
    use crate::nodes::Node;

    #[test]
    fn faults_overlap_and_end_by_themselves() {
        let board = Board::default();
        let [there, back] = Edge::both(Node::Server(1), Node::Meta);
        let loss = Impairment { loss_ppm: 10, ..Impairment::default() };
        let cut = board.impose(&[there], Impairment::CUT);
        let lossy = board.impose(&[there, back], loss);
        assert_eq!(board.impairment(there), Impairment::CUT.and(loss));
        assert_eq!(board.impairment(back), loss);
        board.lift(cut);
        assert_eq!(board.impairment(there), loss);
        board.lift(lossy);
        assert_eq!(board.impairment(back), Impairment::default());
        board.impose(&[there], Impairment::CUT);
        board.heal();
        assert_eq!(board.impairment(there), Impairment::default());
    }
}
