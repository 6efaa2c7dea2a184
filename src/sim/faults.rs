//! Faults: what may go wrong with nodes and with what is between them.

use super::Node;
use super::node::Fate;
use super::world::{Event, World};
use crate::protocol::time::Span;
use crate::protocol::types::ServerId;

/// One thing that goes wrong, or ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The process is gone, with its memory; what a durable server had synced stays.
    Kill(Node),
    /// The process is gone, and so is the server's disk.
    Wipe(ServerId),
    /// It dies after performing that many more effects, in the middle of a step.
    KillSoon(Node, u32),
    Start(Node),
    Freeze(Node, Span),
    /// One direction.
    Cut(Node, Node),
    /// Both directions.
    CutBoth(Node, Node),
    /// From all other servers and the metaserver, both directions.
    Isolate(Node),
    Mend(Node, Node),
    MendAll,
}

impl Fault {
    /// The kind, for counting.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill(Node::Meta) => "kill meta",
            Fault::Kill(_) => "kill server",
            Fault::Wipe(_) => "wipe server",
            Fault::KillSoon(Node::Meta, _) => "crash meta",
            Fault::KillSoon(..) => "crash server",
            Fault::Start(_) => "start",
            Fault::Freeze(Node::Meta, _) => "freeze meta",
            Fault::Freeze(..) => "freeze server",
            Fault::Cut(..) => "cut one way",
            Fault::CutBoth(..) => "cut both ways",
            Fault::Isolate(_) => "isolate",
            Fault::Mend(..) | Fault::MendAll => "mend",
        }
    }
}

impl World {
    /// Enters a fault.
    pub fn plan(&mut self, after: Span, fault: Fault) {
        self.agenda.enter(self.now() + after, Event::Fault(fault));
    }

    /// Lets a fault strike now.
    pub fn strike(&mut self, fault: Fault) {
        let now = self.now();
        self.trace.say(now, || format!("*** {fault:?}"));
        match fault {
            Fault::Kill(node) => self.kill(node),
            Fault::Wipe(server) => self.wipe(server),
            Fault::KillSoon(node, effects) => {
                if let Some(process) = self.alive_at(node)
                    && let Some(fate) = self.fate_mut(node, process)
                {
                    *fate = Fate { fuse: Some(effects), ..*fate };
                }
            }
            Fault::Start(node) => self.start(node),
            Fault::Freeze(node, span) => self.freeze(node, span),
            Fault::Cut(from, to) => self.cut(from, to),
            Fault::CutBoth(one, other) => {
                self.cut(one, other);
                self.cut(other, one);
            }
            Fault::Isolate(node) => {
                let servers = self.servers.keys().copied().map(Node::Server);
                let others: Vec<_> = servers.chain([Node::Meta]).collect();
                for other in others.into_iter().filter(|&it| it != node) {
                    self.cut(node, other);
                    self.cut(other, node);
                }
            }
            Fault::Mend(one, other) => {
                self.mend(one, other);
                self.mend(other, one);
            }
            Fault::MendAll => self.mend_all(),
        }
    }
}
