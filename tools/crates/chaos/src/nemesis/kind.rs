//! The kinds of faults, by the names that people use for them.

use std::fmt;

use clap::ValueEnum;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, ValueEnum)]
pub enum Kind {
    /// A link between two nodes cut, one way or both.
    Cut,
    /// A link that comes and goes.
    Flap,
    /// A node cut off from all others.
    Isolate,
    /// 1 to 30 % of the packets of a node, or of all nodes, lost.
    Loss,
    /// Packets late, each by its own measure, so that they overtake each other.
    Delay,
    /// Packets that arrive twice.
    Duplicate,
    /// Packets with wrong bytes, which QUIC must discard.
    Corrupt,
    /// A slow line that drops what it can not carry.
    Rate,
    /// `kill -9` of a server, which comes back at once or a little later.
    Kill,
    /// SIGSTOP of a server beyond lease and grace, and SIGCONT.
    Pause,
    /// `kill -9` of the metaserver, which comes back a little later.
    KillMeta,
    /// SIGSTOP of the metaserver, and SIGCONT.
    PauseMeta,
    /// SIGTERM of every server, one after the other.
    Restart,
    /// A killed server, a paused one, a dead metaserver and a bad network, all at once.
    Storm,
    /// `kill -9` of every process at once, again and again; servers are durable. Goes alone.
    Power,
}

impl Kind {
    /// Those that go together: the power goes alone, because its servers are durable.
    pub const ALL: [Kind; 14] = [
        Kind::Cut,
        Kind::Flap,
        Kind::Isolate,
        Kind::Loss,
        Kind::Delay,
        Kind::Duplicate,
        Kind::Corrupt,
        Kind::Rate,
        Kind::Kill,
        Kind::Pause,
        Kind::KillMeta,
        Kind::PauseMeta,
        Kind::Restart,
        Kind::Storm,
    ];

    /// Whether the rules stop a key set that it strikes. Lost, late, doubled, corrupt and few
    /// packets slow it down, an orderly stop and an absent metaserver do not even that.
    pub fn blocks(self) -> bool {
        match self {
            Kind::Cut | Kind::Flap | Kind::Isolate | Kind::Kill | Kind::Pause | Kind::Storm => true,
            Kind::Power => true,
            Kind::Loss
            | Kind::Delay
            | Kind::Duplicate
            | Kind::Corrupt
            | Kind::Rate
            | Kind::KillMeta
            | Kind::PauseMeta
            | Kind::Restart => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Cut => "cut",
            Kind::Flap => "flap",
            Kind::Isolate => "isolate",
            Kind::Loss => "loss",
            Kind::Delay => "delay",
            Kind::Duplicate => "duplicate",
            Kind::Corrupt => "corrupt",
            Kind::Rate => "rate",
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::KillMeta => "kill-meta",
            Kind::PauseMeta => "pause-meta",
            Kind::Restart => "restart",
            Kind::Storm => "storm",
            Kind::Power => "power",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
