//! `tandem::client`: the library with which programs use a Tandem cluster.
//!
//! A `Client` owns a thread with the runtime and the connections; its handles work from any
//! async runtime and from none (`block_on`). Many `Session`s share the connections,
//! one to each worker of a server unless `ClientOptions::connections` says otherwise. A session is
//! what the cluster knows a writer by: its writes are done exactly once, however often they have
//! to be sent.
//!
//! Every operation ends in one of three ways that are never blurred: a result, an error that is
//! surely not done, or an error whose outcome is unknown (`Error::is_surely_not_done`). Within
//! its timeout an operation outlives the death of a server: it waits for the new primary and is
//! sent again.
//!
//! A program that keeps many operations in flight from one task does so through a `Pipeline`,
//! for a fraction of the time that as many futures take.
//!
//! ```no_run
//! use tandem::client::{Client, ClientOptions, block_on};
//! use tandem::config::ClusterConfig;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = ClusterConfig::load("cluster.toml")?;
//!     let client = Client::connect(ClientOptions::from_config(&config, "app")?)?;
//!     let session = client.session();
//!     block_on(async {
//!         let written = session.put("greeting", "hello").await?;
//!         let read = session.get("greeting").await?;
//!         let item = read.item.expect("it was just stored");
//!         assert_eq!(item.value, "hello");
//!         assert_eq!(item.revision, written.revision());
//!         session.incr("visits", 1).await?;
//!         Ok::<(), tandem::client::Error>(())
//!     })?;
//!     Ok(())
//! }
//! ```

mod answers;
mod asks;
mod debts;
mod error;
mod finder;
mod handle;
mod mailbox;
mod options;
mod pipeline;
mod pool;
mod quic;
mod scan;
mod shell;
mod snapshot;
mod start;
#[cfg(test)]
mod tests;
mod transport;

pub use answers::{CasAnswer, Count, Deleted, Item, Read, Write};
pub use asks::AskError;
pub use error::{Error, Result};
pub use handle::{Client, Session, block_on};
pub use options::{CONNECTIONS_MAX, ClientOptions, ConnectError};
pub use pipeline::{Ended, Pipeline};
pub use scan::{Scan, ScanOptions};
pub use snapshot::{Piece, Snapshot};
pub use transport::{Endpoint, Event, Events, Transport};

pub use crate::protocol::message::{Answer, Expect, Operation};
pub use crate::protocol::session::{NotDone, Unknown};
