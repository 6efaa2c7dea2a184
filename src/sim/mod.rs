//! The simulator: the production machines in a world of seeded clocks, links, disks and faults.
//!
//! ```text
//!            agenda (true time)
//!               | event
//!               v
//!   World::step -> a machine's handle -> effects -> more events
//!                        |                  |
//!                        +---- facts -------+--> Truth, and the invariants that judge it
//! ```
//!
//! One seed gives one run, input by input. `simulate` draws a whole world and its faults from a
//! seed; the transcripts of `tests/scenarios` script a quiet world by hand; a model checker can
//! pick among `World::enabled` instead of going by time.

pub mod agenda;
pub mod clients;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod estate;
pub mod faults;
pub mod invariants;
mod links;
mod looks;
mod moments;
pub mod network;
pub mod node;
mod perform;
mod processes;
pub mod random;
pub mod repeater;
pub mod rng;
pub mod trace;
pub mod truth;
pub mod workload;
pub mod world;

pub use random::{Options, Report, simulate, simulate_with};
pub use world::World;

use std::fmt;

use crate::protocol::limits::Limits;
use crate::protocol::time::Span;
use crate::protocol::timing::Timing;
use crate::protocol::types::ServerId;
use clock::Rates;
use network::NetworkSettings;

/// A process that runs a machine, numbered over the whole run: a restart is another process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Process(pub u32);

/// What servers know of the latest changes of a key set: so little that some copies are by
/// difference and some are not.
pub(crate) const TRAIL_BYTES_MAX: usize = 512;

/// A client of the world, from 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ClientId(pub u16);

/// A place where processes run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Node {
    Meta,
    Server(ServerId),
    Client(ClientId),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Meta => f.write_str("meta"),
            Node::Server(server) => write!(f, "{server}"),
            Node::Client(client) => write!(f, "c{}", client.0),
        }
    }
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    pub servers: u16,
    pub copies: u16,
    pub key_sets: u16,
    pub min_write_copies: u16,
    pub timing: Timing,
    /// Those of servers, but for the write floor.
    pub limits: Limits,
    /// The metaserver starts servers itself and knows when a process is gone.
    pub spawn: bool,
    /// Servers keep log and store over a restart, and come back as heirs.
    pub durable: bool,
    pub network: NetworkSettings,
    /// How long the metaserver's disk takes to make records durable.
    pub disk_min: Span,
    pub disk_max: Span,
    /// How long a store takes at most; zero = it completes before anything else happens.
    pub store_max: Span,
    pub rates: Rates,
    /// Timers fire up to this late.
    pub tick_late: Span,
    /// A server that is not spawned and stays away for this long is replaced by a spare.
    pub replace_after: Span,
    /// A process that the metaserver will not have starts again after this.
    pub restart_after: Span,
}

impl Settings {
    /// A quiet world: exact clocks, a steady network, stores that complete at once.
    #[must_use]
    pub fn quiet(servers: u16, copies: u16, key_sets: u16) -> Settings {
        Settings {
            servers,
            copies,
            key_sets,
            min_write_copies: 1,
            timing: Timing::default(),
            limits: Limits::default(),
            spawn: false,
            durable: false,
            network: NetworkSettings::quiet(),
            disk_min: Span::from_micros(500),
            disk_max: Span::from_micros(500),
            store_max: Span::ZERO,
            rates: Rates::Exact,
            tick_late: Span::ZERO,
            replace_after: Span::from_millis(2_000),
            restart_after: Span::from_millis(300),
        }
    }
}
