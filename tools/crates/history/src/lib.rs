//! Histories: what clients of a cluster saw, and whether one order of it all explains it.
//!
//! A history is a file of JSON lines, one object an operation:
//!
//! - `process`: a number; a client that has at most one operation in flight, and none any more
//!   after an unknown outcome
//! - `op`: `get`, `put`, `delete`, `cas` or `incr`
//! - `key`: a string
//! - `arg`: for put the value, a string; for incr a number; for cas
//!   `{"expect": E, "value": V or null}` with `E` one of `"absent"`, `{"value": V}` and
//!   `{"revision": [LOSS, OP]}`; else null
//! - `result`: of get the value or null; of put true; of delete true, or false where the key was
//!   absent; of cas true, or false where the comparison failed; of incr the new number, or null
//!   where it was refused
//! - `revision`: `[LOSS, OP]` of the value that was read or written, null where there is none
//! - `position`: `[LOSS, EPOCH, OP]` at which the answer was computed, null where the store does
//!   not say
//! - `invoke_ns`: stamped before the request is sent
//! - `return_ns`: stamped after the answer is received, by the same clock; null where the outcome
//!   is unknown
//! - `outcome`: `ok`; `fail` only where the server said that it was not done and never will be;
//!   `unknown`
//!
//! `Recorder` writes one while clients run, and `check` judges it by up to three checkers. They
//! judge key by key, which suffices: a history is linearizable exactly if those of its keys are
//! (Herlihy and Wing, 1990).
//!
//! - `witness` replays the order that the servers named: every operation with a position; a sort
//! - `zones` looks at the stretches of time in which values must have been there: keys that are
//!   only put and read, each value put once; a sort
//! - `wgl` searches for an order: everything; costly where many operations overlap, and bounded
//!
//! An accepted key is a proof, by whichever checker. A key is undecided if no checker accepted it.

pub mod check;
pub mod generate;
pub mod history;
pub mod line;
pub mod model;
pub mod operation;
pub mod recorder;
pub mod verdict;
pub mod wgl;
pub mod witness;
pub mod zones;

pub use check::{Options, check, check_with};
pub use history::{History, ReadError};
pub use operation::{Answer, Ending, Expect, Operation, Outcome, Reply, Text, What};
pub use recorder::{Begun, Recorder};
pub use verdict::{Checker, Conclusion, Judged, Tally, Verdict, Verdicts, Violation};
