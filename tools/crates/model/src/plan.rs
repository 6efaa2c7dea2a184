//! What a world is made of, and how much may happen in it.
//!
//! Everything that costs nothing is unlimited: time passes, messages wait for ever, datagrams are
//! lost or overtake. Everything else is counted down from a budget, so that a world is finite.

use tandem::protocol::mutants::Mutant;
use tandem::protocol::time::Span;
use tandem::protocol::timing::Timing;
use tandem::protocol::types::Member;

/// One tick of the world on an exact clock, in nanoseconds.
pub const TICK: u64 = 1_000_000;

/// A span that no world lives to see the end of.
const NEVER: Span = Span((1 << 40) + 1);

/// How often each kind of event may still happen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Budget {
    /// Configurations that the metaserver installs of its own accord: any of the members, with
    /// any of them as primary.
    pub installs: u8,
    /// Requests that it refuses for no reason.
    pub refusals: u8,
    /// Orders to copy, to hand over, to resign, to stop copying.
    pub copies: u8,
    pub handovers: u8,
    pub resigns: u8,
    pub cancels: u8,
    /// It restarts: all control links break, what was said and not heard is lost.
    pub meta_restarts: u8,
    /// One control link breaks.
    pub control_breaks: u8,
    /// Links between servers that break.
    pub breaks: u8,
    /// Servers that lose their memory, and servers that start again.
    pub crashes: u8,
    pub restarts: u8,
    /// Servers that start again with what their predecessor's disk holds.
    pub returns: u8,
    /// Ticks of the clock; none = as many as it likes.
    pub ticks: Option<u8>,
}

/// What a client writes, and how often it tries.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub what: What,
    pub attempts: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    Put,
    Delete,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub about: &'static str,
    pub servers: usize,
    /// The first so many servers are members at the beginning, the very first the primary.
    pub members: usize,
    /// The production metaserver, in place of one that may do anything at any time.
    pub metaserver: bool,
    /// In ticks.
    pub lease: u64,
    /// Each server's clock, in parts per million of the exact rate.
    pub rates: &'static [u64],
    /// After so many ticks a learner that is silent is given up; none = never.
    pub complain: Option<u64>,
    /// After so many ticks an unanswered request is sent again; none = never.
    pub retry: Option<u64>,
    /// After so many ticks a run that ended without success starts again; none = never.
    pub rerun: Option<u64>,
    pub writes: &'static [Write],
    /// Reads that wait for their store, beside the reads that are tried in every state.
    pub slow_reads: u8,
    pub budget: Budget,
    /// The only configurations that the metaserver may install of its own accord, in this order,
    /// each by the servers' indices, the primary first; empty = any.
    pub only: &'static [&'static [usize]],
    /// Servers, by index, that the metaserver's news never reach: they wait for ever.
    pub deaf: &'static [usize],
    /// Duplicate records that a key set keeps.
    pub dedup_records_max: usize,
    /// Too large for every day.
    pub deep: bool,
    /// The bug that is planted, for the rules that the world itself keeps.
    pub mutant: Option<Mutant>,
}

/// Spans are a little shorter than their ticks, each by another amount: a deadline is never taken
/// for a reading of the clock (see `hash`), and drift decides what would be a draw.
fn ticks(count: u64, less: u64) -> Span {
    Span(count * TICK - less)
}

impl Plan {
    /// The timing that all machines of this world run by. The promise is the shortest that the
    /// protocol allows for the lease.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let lease = ticks(self.lease, 7);
        let span = |count: Option<u64>, less| count.map_or(NEVER, |it| ticks(it, less));
        Timing {
            heartbeat: span(self.rerun, 11),
            lease,
            grace: Timing::grace_floor(lease),
            suspect: if self.metaserver { ticks(2, 19) } else { NEVER },
            complain: span(self.complain, 13),
            resign: NEVER,
            retry: span(self.retry, 17),
            queue: NEVER,
            reconnect: if self.metaserver { ticks(1, 23) } else { NEVER },
            stop: NEVER,
        }
    }

    /// Whether the metaserver may install these members of its own accord, as it may do so `left`
    /// more times.
    #[must_use]
    pub fn allows(&self, left: u8, (primary, secondaries): &(Member, Vec<Member>)) -> bool {
        let named = |it: &Member| usize::from(it.server.0) - 1;
        let members = std::iter::once(primary).chain(secondaries).map(named);
        let next = usize::from(self.budget.installs - left);
        self.only.is_empty() || self.only.get(next).is_some_and(|it| members.eq(it.iter().copied()))
    }

    /// The rate of a server's clock, in nanoseconds a tick.
    #[must_use]
    pub fn unit(&self, server: usize) -> u64 {
        TICK * self.rates.get(server).copied().unwrap_or(1_000_000) / 1_000_000
    }

    /// Readings older than this many ticks are never told apart.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        // A handover is given up after two retries, a silent learner's run after two complaints.
        let longest = [
            Some(self.lease + 1),
            self.complain.map(|it| 2 * it + 1),
            self.retry.map(|it| 2 * it + 1),
            self.rerun.map(|it| it + 1),
        ];
        longest.into_iter().flatten().max().unwrap_or(1)
    }
}
