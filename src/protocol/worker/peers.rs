//! Links between workers: who is at their other end, and which replica a message is for.

use std::collections::BTreeMap;

use super::Worker;
use crate::protocol::effect::{Note, WorkerEffect};
use crate::protocol::message::PeerMessage;
use crate::protocol::placement;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{LinkId, Member};

impl Worker {
    pub(super) fn on_peer_up(
        &mut self,
        now: Time,
        peer: Member,
        link: LinkId,
        effects: &mut Vec<WorkerEffect>,
    ) {
        self.dialled.insert(peer, link);
        self.links.insert(link, peer);
        self.with_all(now, effects, |replica, ctx| replica.on_peer_up(ctx, peer, link));
    }

    pub(super) fn on_peer_down(
        &mut self,
        now: Time,
        link: LinkId,
        effects: &mut Vec<WorkerEffect>,
    ) {
        if let Some(peer) = self.links.remove(&link) {
            for newest in [&mut self.dialled, &mut self.accepted] {
                if newest.get(&peer) == Some(&link) {
                    newest.remove(&peer);
                }
            }
        }
        self.with_all(now, effects, |replica, ctx| replica.on_peer_down(ctx, link));
    }

    /// Asks for links to all followers of all primaries, and lets go of the others.
    pub(super) fn want_links(&mut self, effects: &mut Vec<WorkerEffect>) {
        if !std::mem::take(&mut self.wishes.followers_changed) {
            return;
        }
        let mut wanted: Vec<Member> =
            self.replicas.iter().flat_map(|replica| replica.followers()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for &peer in wanted.iter().filter(|peer| !self.wanted.contains(peer)) {
            effects.push(WorkerEffect::Connect { peer, worker: self.worker });
        }
        for &peer in self.wanted.iter().filter(|peer| !wanted.contains(peer)) {
            effects.push(WorkerEffect::Disconnect { peer });
        }
        self.wanted = wanted;
    }

    pub(super) fn on_peer_message(
        &mut self,
        now: Time,
        link: LinkId,
        message: PeerMessage,
        effects: &mut Vec<WorkerEffect>,
    ) {
        let Some(&peer) = self.links.get(&link) else { return };
        let is_newest = |newest: &BTreeMap<Member, LinkId>| newest.get(&peer) == Some(&link);
        if !is_newest(&self.dialled) && !is_newest(&self.accepted) {
            // A connection that its dialler has given up may be read late: a first message of an
            // epoch, or the start of a copy run, must not undo what came on the newer one.
            return;
        }
        match message {
            PeerMessage::Beacon { ask, .. }
                if ask.lease > Span::from_millis(self.limits.lease_ms_max) =>
            {
                let reason = "a beacon for a lease longer than any";
                effects.push(WorkerEffect::Note { note: Note::Misbehaved { peer, reason } });
                effects.push(WorkerEffect::CloseLink { link, reason });
            }
            PeerMessage::Beacon { number, ask, sets } => {
                self.on_beacon(now, (peer, link), number, ask, &sets, effects);
            }
            PeerMessage::Grant { sent, sets, .. } => {
                for (set, epoch, _) in sets {
                    self.with(set, now, effects, |it, ctx| {
                        it.on_grant(ctx, (peer, link), epoch, sent);
                    });
                }
            }
            other => {
                let Some(set) = other.set() else { return };
                let sender = (peer, link);
                let known = self.with(set, now, effects, |replica, ctx| {
                    replica.on_message(ctx, sender, other);
                });
                let ours = placement::worker(set, self.workers) == self.worker;
                if known.is_none() && self.me.is_some() && !ours {
                    let reason = "a message about a key set of another worker";
                    effects.push(WorkerEffect::Note { note: Note::Misbehaved { peer, reason } });
                    effects.push(WorkerEffect::CloseLink { link, reason });
                }
            }
        }
    }
}
