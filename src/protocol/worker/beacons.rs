//! What a worker sends unasked: beacons that renew leases, and heartbeats to the metaserver.
//!
//! Both are datagrams. A beacon goes out for a set whenever the newest acknowledged sending is
//! older than a third of the lease; it lists many sets of a pair of workers.

use std::collections::BTreeMap;

use super::Worker;
use crate::protocol::effect::{Lane, WorkerEffect};
use crate::protocol::message::{LeaseAsk, PeerMessage, SetReport, ToMeta};
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet, LinkId, Member, Op};

impl Worker {
    /// Asks to renew the leases that are a third used up.
    pub(super) fn send_beacons(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        let old = self.timing.lease.scaled(1, 3);
        let mut due: BTreeMap<LinkId, Vec<(KeySet, Epoch)>> = BTreeMap::new();
        for replica in &self.replicas {
            for link in replica.leases_due(now, old) {
                due.entry(link).or_default().push((replica.set(), replica.epoch()));
            }
        }
        let ask = LeaseAsk { sent: now, lease: self.timing.lease };
        for (link, sets) in due {
            for sets in sets.chunks(self.limits.datagram_sets_max) {
                self.beacon_number += 1;
                let (number, sets) = (self.beacon_number, sets.to_vec());
                let message = PeerMessage::Beacon { number, ask, sets };
                effects.push(WorkerEffect::SendPeer { link, lane: Lane::Datagram, message });
            }
        }
    }

    /// Grants what a beacon asks for, set by set.
    pub(super) fn on_beacon(
        &mut self,
        now: Time,
        (peer, link): (Member, LinkId),
        number: u64,
        ask: LeaseAsk,
        sets: &[(KeySet, Epoch)],
        effects: &mut Vec<WorkerEffect>,
    ) {
        let mut granted: Vec<(KeySet, Epoch, Op)> = Vec::with_capacity(sets.len());
        for &(set, epoch) in sets {
            let accepted = self
                .with(set, now, effects, |it, ctx| it.grant(ctx, (peer, link), epoch, ask))
                .flatten();
            if let Some(accepted) = accepted {
                granted.push((set, epoch, accepted));
            }
        }
        if !granted.is_empty() {
            let message = PeerMessage::Grant { number, sent: ask.sent, sets: granted };
            effects.push(WorkerEffect::SendPeer { link, lane: Lane::Datagram, message });
        }
    }

    /// Tells the metaserver that this worker lives, and what its replicas do.
    pub(super) fn send_heartbeat(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if self.me.is_none() || !self.meta_up {
            return;
        }
        let reports: Vec<SetReport> =
            self.replicas.iter().filter_map(|it| it.report(now, &self.timing)).collect();
        let mut parts: Vec<Vec<SetReport>> =
            reports.chunks(self.limits.datagram_sets_max).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for sets in parts {
            self.heartbeat_sequence += 1;
            let message = ToMeta::Heartbeat { sequence: self.heartbeat_sequence, sets };
            effects.push(WorkerEffect::SendMetaDatagram { message });
        }
    }
}
