//! The roles of the one binary: metaserver, server, client.

// client joins
mod logs;
// meta joins
pub mod server;

pub use logs::start_logs;
