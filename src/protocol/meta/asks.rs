//! The questions and orders of one pass of `act`, gathered so that one message carries many key
//! sets.

use std::collections::BTreeMap;

use super::MetaServer;
use crate::protocol::message::ToServer;
use crate::protocol::types::{Epoch, KeySet, LinkId, Member, RecoveryId};
use crate::protocol::view::Update;

/// Key sets in one message: keeps every frame small.
const SETS_MAX: usize = 512;

type Sets = Vec<(KeySet, Epoch)>;

#[derive(Debug, Default)]
pub(super) struct Asks {
    pub(super) probes: BTreeMap<(LinkId, Member), Sets>,
    pub(super) removals: BTreeMap<(LinkId, Member), Sets>,
    pub(super) leaves: BTreeMap<(LinkId, Member), Sets>,
    pub(super) copies: BTreeMap<(LinkId, RecoveryId, Member), Sets>,
    pub(super) cancels: BTreeMap<(LinkId, Member), Vec<KeySet>>,
    pub(super) handovers: BTreeMap<(LinkId, Member), Sets>,
    pub(super) resigns: BTreeMap<LinkId, Sets>,
    pub(super) unplaced: BTreeMap<LinkId, Sets>,
    /// Configurations to send once more to their primaries.
    pub(super) entries: BTreeMap<LinkId, Vec<KeySet>>,
}

impl MetaServer {
    pub(super) fn send_asks(&mut self, asks: Asks) {
        let nonce = self.nonce;
        for (link, sets) in asks.entries {
            let update = Update {
                version: self.ledger.cluster().version,
                sets: sets.into_iter().map(|set| self.ledger.set_entry(set)).collect(),
                ..Update::default()
            };
            self.send(link, ToServer::Update(update));
        }
        for ((link, suspect), sets) in asks.probes {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::Probe { nonce, suspect, sets: sets.to_vec() });
            }
        }
        for ((link, member), sets) in asks.removals {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::ConfirmRemoval { nonce, member, sets: sets.to_vec() });
            }
        }
        for ((link, member), sets) in asks.leaves {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::ConfirmLeave { nonce, member, sets: sets.to_vec() });
            }
        }
        for ((link, learner), sets) in asks.cancels {
            self.send(link, ToServer::CancelCopy { learner, sets });
        }
        for ((link, recovery, learner), sets) in asks.copies {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::Copy { recovery, learner, sets: sets.to_vec() });
            }
        }
        for ((link, to), sets) in asks.handovers {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::HandOver { to, sets: sets.to_vec() });
            }
        }
        for (link, sets) in asks.resigns {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::Resign { sets: sets.to_vec() });
            }
        }
        for (link, sets) in asks.unplaced {
            for sets in sets.chunks(SETS_MAX) {
                self.send(link, ToServer::Unplaced { sets: sets.to_vec() });
            }
        }
    }
}
