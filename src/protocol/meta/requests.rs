//! Requests of clients and administrators.
//!
//! Answers go through the outbox like everything else: a query never shows what a restart could
//! take back.

use super::MetaServer;
use crate::protocol::effect::{MetaEffect, Ticket};
use crate::protocol::message::{MetaAnswer, MetaRefusal, MetaRequest};
use crate::protocol::time::Time;
use crate::protocol::types::{Incarnation, Member};

impl MetaServer {
    pub(super) fn on_request(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: MetaRequest,
        admin: bool,
    ) -> bool {
        if let MetaRequest::StopCluster { accept_loss } = request
            && admin
        {
            // It tells nothing of the durable state, and waits for no disk.
            let answer = self.stop_cluster(now, accept_loss);
            self.outbox.push_urgent(MetaEffect::Reply { ticket, answer });
            return true;
        }
        if self.full.is_some() {
            self.answer_while_full(now, ticket, &request);
            return false;
        }
        if self.outbox.is_full() {
            let reason = "the metaserver can not write its state: try again later";
            self.outbox.push_urgent(MetaEffect::CloseLink { link: ticket.link, reason });
            return false;
        }
        let (answer, acts) = match request {
            MetaRequest::View => (MetaAnswer::View(self.ledger.view()), false),
            MetaRequest::Status => (MetaAnswer::Status(Box::new(self.status(now))), false),
            MetaRequest::Space => (MetaAnswer::Space(self.spaces()), false),
            // Whoever runs this machine knows its disk.
            MetaRequest::OwnSpace => (MetaAnswer::Refused(MetaRefusal::NotMetaserver), false),
            MetaRequest::Revive { .. } | MetaRequest::Fence { .. } if !admin => {
                (MetaAnswer::Refused(MetaRefusal::NotAdministrator), false)
            }
            MetaRequest::StopCluster { .. } => {
                (MetaAnswer::Refused(MetaRefusal::NotAdministrator), false)
            }
            MetaRequest::Revive { .. } | MetaRequest::Fence { .. } if self.stop.is_some() => {
                (MetaAnswer::Refused(MetaRefusal::Stopping), false)
            }
            MetaRequest::Revive { sets } => (self.revive(sets), true),
            MetaRequest::Fence { member } => (self.fence(member), true),
        };
        self.outbox.push(MetaEffect::Reply { ticket, answer });
        acts
    }

    /// An administrator's word that an incarnation is dead.
    fn fence(&mut self, member: Member) -> MetaAnswer {
        let latest = self.ledger.server(member.server).map(|row| row.entry.member());
        match latest {
            Some(latest) if latest == member => self.mark_dead(member, true),
            // Superseded ones are dead already.
            Some(latest)
                if member.incarnation < latest.incarnation
                    && member.incarnation > Incarnation(0) => {}
            Some(_) | None => return MetaAnswer::Refused(MetaRefusal::UnknownMember(member)),
        }
        MetaAnswer::Fenced
    }
}
