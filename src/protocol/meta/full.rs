//! A metaserver whose disk is full: it takes no step, and says what is durable.
//!
//! Whatever was decided before waits in the outbox until there is room; questions are answered
//! from the rows that are on the disk, with what is heard of the servers; what would change
//! anything is refused, and so is surely not done.

use super::MetaServer;
use super::ledger::Ledger;
use crate::protocol::effect::{MetaEffect, Ticket};
use crate::protocol::message::{MetaAnswer, MetaRefusal, MetaRequest};
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::time::Time;

impl MetaServer {
    /// The disk takes nothing more; `durable` is what it has.
    pub(super) fn on_disk_full(&mut self, durable: Vec<MetaRecord>) {
        self.full = Some(Box::new(Ledger::load(&self.settings, durable)));
    }

    /// The disk took what waited for it.
    pub(super) fn on_disk_roomy(&mut self) {
        self.full = None;
    }

    /// Answers from what is durable.
    pub(super) fn answer_while_full(&mut self, now: Time, ticket: Ticket, request: &MetaRequest) {
        let answer = match request {
            MetaRequest::View => MetaAnswer::View(self.as_durable(|it| it.ledger.view())),
            MetaRequest::Status => {
                MetaAnswer::Status(Box::new(self.as_durable(|it| it.status(now))))
            }
            MetaRequest::Space => MetaAnswer::Space(self.spaces()),
            MetaRequest::Revive { .. }
            | MetaRequest::Fence { .. }
            | MetaRequest::StopCluster { .. }
            | MetaRequest::OwnSpace => MetaAnswer::Refused(MetaRefusal::DiskFull),
        };
        self.outbox.push_urgent(MetaEffect::Reply { ticket, answer });
    }

    /// What `look` makes of this metaserver if it had decided nothing that is not durable.
    fn as_durable<R>(&mut self, look: impl FnOnce(&MetaServer) -> R) -> R {
        let Some(mut durable) = self.full.take() else { return look(self) };
        std::mem::swap(&mut self.ledger, &mut durable);
        let seen = look(self);
        std::mem::swap(&mut self.ledger, &mut durable);
        self.full = Some(durable);
        seen
    }
}
