//! Histories: what clients of a cluster saw, and whether one order of it all explains it.
//!
//! A history is a file of JSON lines, one object an operation:
//!
//! | field | is |
//! |---|---|
//! | `process` | a number: a client that has at most one operation in flight; it is retired after an unknown outcome |
//! | `op` | `get`, `put`, `delete`, `cas`, `incr` |
//! | `key` | a string |
//! | `arg` | put: the value, a string; incr: a number; cas: `{"expect": E, "value": V or null}` with `E` one of `"absent"`, `{"value": V}`, `{"revision": [LOSS, OP]}`; else null |
//! | `result` | get: the value or null; put: true; delete: true, or false where the key was absent; cas: true, or false where the comparison failed; incr: the new number, or null where it was refused |
//! | `revision` | `[LOSS, OP]` of the value that was read or written, null where there is none |
//! | `position` | `[LOSS, EPOCH, OP]` at which the answer was computed, null where the store does not say |
//! | `invoke_ns` | stamped before the request is sent |
//! | `return_ns` | stamped after the answer is received, by the same clock; null where the outcome is unknown |
//! | `outcome` | `ok`; `fail` only where the server said that it was not done and never will be; `unknown` |
//!
//! `Recorder` writes one while clients run.

pub mod history;
pub mod line;
pub mod model;
pub mod operation;
pub mod recorder;

pub use history::{History, ReadError};
pub use operation::{Answer, Ending, Expect, Operation, Outcome, Reply, Text, What};
pub use recorder::{Begun, Recorder};
