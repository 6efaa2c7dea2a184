//! Space: who is told how full a follower is, and what its primary makes of it (rule 16).
//!
//! A follower says so before its acknowledgements, once after each first message and then when it
//! changes; a write costs nothing for that. The primary looks at all whose acknowledgements it
//! needs. A full follower is not a failed one: what it accepts it acknowledges as ever.

use super::primary::Primary;
use super::{Context, Replica, Role};
use crate::protocol::effect::{Lane, WorkerEffect};
use crate::protocol::message::PeerMessage;
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::space::Level;
use crate::protocol::types::{Epoch, LinkId, Member, ServerId};

impl Primary {
    /// A server without room for more, among those that have to hold every write.
    pub(super) fn full(&self, me: Member, level: Option<Level>) -> Option<ServerId> {
        if planted(Mutant::FullIgnored) {
            return None;
        }
        if level >= Some(Level::Hard) {
            return Some(me.server);
        }
        let mut needed = self
            .followers
            .iter()
            .filter(|&(&member, it)| it.run.is_none() || self.proposed == Some(member));
        needed.find(|(_, it)| it.level >= Level::Hard).map(|(member, _)| member.server)
    }
}

impl Replica {
    /// As `Primary::full`; none at any other replica.
    pub(super) fn full(&self, ctx: &Context<'_>) -> Option<ServerId> {
        match &self.role {
            Role::Primary(primary) => primary.full(ctx.me, ctx.level),
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        }
    }

    /// This server's level changed.
    pub fn on_own_level(&mut self, ctx: &mut Context<'_>) {
        match &self.role {
            Role::Secondary(_) | Role::Learner(_) => self.mark_dirty(ctx),
            Role::Primary(_) | Role::Outside => {}
        }
    }

    /// Tells the primary how full this server is, if it does not know.
    pub(super) fn tell_level(&mut self, ctx: &mut Context<'_>) {
        let following = match &mut self.role {
            Role::Secondary(secondary) => &mut secondary.following,
            Role::Learner(learner) => &mut learner.following,
            Role::Primary(_) | Role::Outside => return,
        };
        let (Some(link), Some(level)) = (following.link, ctx.level) else { return };
        if following.level == Some(level) {
            return;
        }
        following.level = Some(level);
        let set = self.set;
        let message = PeerMessage::Space { set, level };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
    }

    /// The set belongs on other servers, which hold it as of `epoch`. A secondary asks to be let go
    /// of it, which is answered with true; who is no member drops what it holds.
    pub fn on_unplaced(&mut self, ctx: &mut Context<'_>, epoch: Epoch) -> bool {
        if epoch != self.epoch() || self.inherits {
            return false;
        }
        match &self.role {
            Role::Secondary(_) => true,
            Role::Outside => {
                let named = self.configuration.as_ref().is_some_and(|it| it.contains(ctx.me));
                if !named {
                    self.drop_records(ctx);
                }
                false
            }
            Role::Primary(_) | Role::Learner(_) => false,
        }
    }

    /// A follower says how full it is.
    pub(super) fn on_level(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        level: Level,
    ) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&peer) else { return };
        if follower.link != Some(link) {
            return;
        }
        let before = std::mem::replace(&mut follower.level, level);
        if level < Level::Hard && before >= Level::Hard {
            // What it did not do meanwhile is not held against it.
            follower.moved = ctx.now;
            self.resume_run(ctx, peer);
        }
    }
}
