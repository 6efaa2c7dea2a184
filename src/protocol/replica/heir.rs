//! Restart with an intact log (rules 7, 10 and 11): what a replica has the engine remember, and
//! the heir that begins with it.
//!
//! ```text
//!   Standing changes -> Remember -> Remembered -> acknowledgements, grants, "the copy is complete"
//!                          |
//!                        restart -> Inheritance -> Replica::heir -> the newest configuration
//! ```
//!
//! Nothing that rests on a standing is said before it is durable. An heir keeps its whole prepared
//! log: what its predecessor acknowledged may have been acknowledged to a client. Its role comes
//! from the configurations in the answer to its registration, which it adopts before anything
//! else, and which are of a later epoch wherever its predecessor was a member.

use super::log::Log;
use super::{Context, Replica, Role};
use crate::protocol::dedup::Dedup;
use crate::protocol::effect::{Lane, WorkerEffect};
use crate::protocol::expiries::Expiries;
use crate::protocol::inheritance::{Inheritance, Standing};
use crate::protocol::lease::{Bonds, Tie};
use crate::protocol::message::PeerMessage;
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;

/// What was handed to the engine to remember, and how much of it is durable.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub(super) struct Memory {
    asked: u64,
    done: u64,
    last: Standing,
}

impl Memory {
    fn is_durable(&self) -> bool {
        self.done == self.asked
    }

    /// For explorers: numbers start again where nothing is under way.
    pub(super) fn forget_numbers(&mut self) {
        if self.is_durable() {
            (self.asked, self.done) = (0, 0);
        }
    }
}

impl Replica {
    /// The replica of an incarnation that starts with its predecessor's log.
    #[must_use]
    pub fn heir(inheritance: Inheritance, now: Time) -> Replica {
        let Inheritance { set, standing, committed, committed_epoch, dedup, window, expiries } =
            inheritance;
        let mut log = Log::inherited(committed, committed_epoch, window);
        if planted(Mutant::HeirCut) {
            log.cut(committed);
        }
        let ties: &[Tie] = if planted(Mutant::BondsLost) { &[] } else { &standing.ties };
        Replica {
            configuration: standing.configuration.clone(),
            log,
            dedup: Dedup::from_snapshot(dedup),
            expiries: Expiries::from_snapshot(&expiries),
            bonds: Bonds::inherited(ties, now),
            whole_from: standing.whole_from,
            inherits: true,
            memory: Memory { last: standing, ..Memory::default() },
            ..Replica::new(set)
        }
    }

    /// What an heir would begin with, if everything that was handed to the engine were durable.
    #[must_use]
    pub fn inheritance(&self) -> Inheritance {
        Inheritance {
            set: self.set,
            standing: self.memory.last.clone(),
            committed: self.log.committed(),
            committed_epoch: self.log.committed_epoch(),
            dedup: self.dedup.snapshot(),
            window: self.log.window().cloned().collect(),
            expiries: self.expiries.snapshot(),
        }
    }

    /// The configurations of the registration were adopted: who is not named is an outsider.
    pub fn end_inheritance(&mut self) {
        self.inherits = false;
    }

    /// Whether what it holds is a copy.
    pub(super) fn is_whole(&self) -> bool {
        self.whole_from.is_some_and(|from| from <= self.log.prepared())
    }

    /// Has the engine remember this replica's standing, if it changed.
    pub(super) fn remember(&mut self, ctx: &mut Context<'_>) {
        let standing = Standing {
            configuration: self.configuration.clone(),
            ties: self.bonds.ties(),
            whole_from: self.whole_from,
        };
        if standing == self.memory.last {
            return;
        }
        self.memory.asked += 1;
        self.memory.last = standing.clone();
        let (set, number) = (self.set, self.memory.asked);
        ctx.effect(WorkerEffect::Remember { set, number, standing });
    }

    /// Whether everything that an acknowledgement rests on is durable; if not, it is under way.
    pub(super) fn is_remembered(&self) -> bool {
        self.memory.is_durable()
    }

    /// The engine remembers: what waited for that goes on.
    pub fn on_remembered(&mut self, ctx: &mut Context<'_>, number: u64) {
        self.memory.done = self.memory.done.max(number.min(self.memory.asked));
        if !self.is_remembered() {
            return;
        }
        self.report_complete(ctx);
        self.mark_dirty(ctx);
    }

    /// Tells the primary, once, that the last chunk is stored and will not be forgotten.
    pub(super) fn report_complete(&mut self, ctx: &mut Context<'_>) {
        let (set, remembered) = (self.set, self.is_remembered());
        let Role::Learner(learner) = &mut self.role else { return };
        if !learner.complete || learner.reported || !remembered {
            return;
        }
        learner.reported = true;
        if let Some(link) = learner.following.link {
            let message = PeerMessage::ChunkStored { set, run: learner.run, through: None };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        }
    }
}
