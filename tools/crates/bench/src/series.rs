//! What measurements that do something to a cluster again and again have in common.

use clap::Args;
use tandem::config::KEY_SETS;
use tandem_local::Plan;

/// How often, and in what cluster.
#[derive(Args, Clone, Copy, Debug)]
pub struct Series {
    /// How often it is done; unless said, as often as the figures need to settle.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    #[arg(long, default_value_t = KEY_SETS, value_parser = clap::value_parser!(u16).range(1..))]
    pub key_sets: u16,
}

impl Series {
    /// So many rounds.
    #[must_use]
    pub fn of(rounds: u16, key_sets: u16) -> Series {
        Series { rounds: Some(rounds), key_sets }
    }

    /// The rounds, `usual` unless said otherwise.
    #[must_use]
    pub fn rounds(self, usual: u16) -> u16 {
        self.rounds.unwrap_or(usual)
    }

    /// A cluster whose servers the metaserver starts itself if it is to `spawn` them.
    #[must_use]
    pub fn plan(self, spawn: bool) -> Plan {
        Plan { name: "bench".to_owned(), key_sets: self.key_sets, spawn, ..Plan::default() }
    }
}
