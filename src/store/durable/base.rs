//! The store behind the log, as the engine sees it: the records as of the last checkpoint.

use std::fmt;
use std::ops::Bound;

use super::overlay::Overlay;
use crate::protocol::types::{Incarnation, KeySet, Record, Revision, Value};

/// Why the store can not be read or written.
#[derive(Debug)]
pub enum BaseError {
    /// It is not what was written.
    Damaged(String),
    /// Another version of the program wrote it.
    Foreign(String),
    /// Another process has it open.
    InUse,
    /// The disk or the system refused.
    Io(String),
    /// There is no room. What was there before still is.
    Full(String),
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseError::Damaged(detail) => write!(f, "the store is damaged: {detail}"),
            BaseError::Foreign(found) => write!(
                f,
                "the store has format {found}: start the version of the program that wrote it"
            ),
            BaseError::InUse => f.write_str("the store is in use by another process"),
            BaseError::Io(detail) => write!(f, "the store can not be read or written: {detail}"),
            BaseError::Full(detail) => write!(f, "there is no room for the store: {detail}"),
        }
    }
}

impl std::error::Error for BaseError {}

/// What a checkpoint says beside the records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// The log's file from which on everything comes after this checkpoint; 0 = all of it.
    pub log_from: u64,
    /// Whose memory it is.
    pub identity: Option<Incarnation>,
    /// What was kept of key sets, encoded.
    pub sets: Vec<(KeySet, Vec<u8>)>,
}

/// The records as of the last checkpoint.
pub trait Base: Send + Sync {
    /// The record of `key`.
    fn get(&self, set: KeySet, key: &[u8]) -> Result<Option<(Value, Revision)>, BaseError>;

    /// The first `items_max` records of `set` from a bound on, in the order of their keys.
    fn range(
        &self,
        set: KeySet,
        from: Bound<&[u8]>,
        items_max: usize,
    ) -> Result<Vec<Record>, BaseError>;

    /// What the last checkpoint said beside the records.
    fn meta(&self) -> Result<Meta, BaseError>;

    /// Makes changes and meta durable, in full or not at all. Where there is no room it may be
    /// asked again.
    fn checkpoint(&self, changes: &Overlay, meta: &Meta) -> Result<(), BaseError>;

    /// How many records there are, about.
    fn count(&self) -> u64;

    /// Gives the disk back what deleted and replaced records take, where there is room enough to
    /// do that. This takes long, and nothing waits for it.
    fn reclaim(&self) -> Result<(), BaseError>;
}
