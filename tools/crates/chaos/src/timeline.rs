//! What was done to the cluster, and when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem::protocol::time::{Span, Time};

use crate::nemesis::Kind;
use crate::nodes::{Edge, Node};

/// A fault that struck.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    pub kind: Kind,
    pub label: String,
    pub begin: Time,
    /// None while it lasts.
    pub end: Option<Time>,
    /// Links that it impairs.
    pub edges: Vec<Edge>,
    /// Processes that it stops, one way or another.
    pub nodes: Vec<Node>,
    /// Whether it belongs to a storm.
    pub storm: bool,
}

impl Record {
    /// Whether it is in force at `at`, or was within `before`.
    pub fn is_felt(&self, at: Time, before: Span) -> bool {
        self.begin <= at && self.end.is_none_or(|end| end + before >= at)
    }

    /// Whether it is in force at some time from `from` to `to`.
    pub fn overlaps(&self, from: Time, to: Time) -> bool {
        self.begin <= to && self.end.is_none_or(|end| end >= from)
    }
}

/// All faults of a run; shared.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    records: Arc<Mutex<Vec<Record>>>,
}

impl Timeline {
    /// A fault strikes; the number by which `end` knows it.
    pub fn begin(&self, record: Record) -> usize {
        let mut records = self.lock();
        records.push(record);
        records.len() - 1
    }

    pub fn end(&self, number: usize, at: Time) {
        if let Some(record) = self.lock().get_mut(number) {
            record.end = Some(at);
        }
    }

    pub fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
