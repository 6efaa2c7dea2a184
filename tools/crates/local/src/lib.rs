//! A cluster of real processes on this machine: made, started, killed and cleared away.
//!
//! The quick start and the cluster tests drive the released binary exactly as a person would:
//! through `cluster.toml`, certificates on disk and signals. A process belongs to a cluster if
//! its command line names the cluster's `cluster.toml`; so those that the metaserver started are
//! found as well, and stopping ends with the proof that none is left.
//!
//! ```text
//!   Plan -> Cluster::create (cluster.toml, certificates) -> start_* -> processes -> stop
//! ```
//!
//! A `Load` uses such a cluster from many clients, and its ledger judges every read. A `Stage` is a
//! whole cluster for one run of a tool, which `supervise` bounds in time and ends in any case.

mod cluster;
mod kill;
pub mod ledger;
mod load;
mod plan;
pub mod ports;
mod process;
pub mod stage;
pub mod status;
mod supervise;
pub mod wait;

pub use cluster::Cluster;
pub use kill::{Kill, kill};
pub use load::{Load, Slowest, Tally};
pub use plan::{ADMIN, CLIENT, Hosts, Plan};
pub use process::{Process, Role};
pub use stage::{Place, Stage};
pub use supervise::supervise;
