//! What the one binary does in each of its roles.

use std::process::ExitCode;

pub mod client;
mod logs;
pub mod meta;
pub mod server;

pub use logs::start_logs;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// The key is absent, or a `cas` found something else.
    NotFound = 1,
    Usage = 2,
    /// The cluster could not be reached in time; surely not done.
    Unavailable = 3,
    /// It may or may not have been done.
    Unknown = 4,
    /// The cluster will not do it.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
