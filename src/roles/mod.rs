//! The roles of the one binary: metaserver, server, client.

// client joins
mod logs;
pub mod meta;
pub mod server;

pub use logs::start_logs;
