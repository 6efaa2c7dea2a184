//! The roles of the one binary: metaserver, server, client.

pub mod client;
mod logs;
pub mod meta;
pub mod server;

pub use logs::start_logs;
