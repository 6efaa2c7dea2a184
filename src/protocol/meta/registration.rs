//! Registration: links, identities and proofs of death (rules 11 and 15).
//!
//! The sender of a message is fixed by its link: the server by its certificate, the incarnation
//! by this metaserver's word. A link whose incarnation is superseded or proven dead is not heard.

use super::MetaServer;
use super::durable::{ServerRow, SetRow};
use super::install::Greeting;
use super::liveness::Pulse;
use crate::protocol::effect::{MetaEffect, MetaNote};
use crate::protocol::message::{Registration, RegistrationRefusal, ToServer};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, Incarnation, KeySet, LinkId, Member, ServerId, WorkerId};
use crate::protocol::view::{Resignation, ServerEntry, SetState};

/// Incarnations in a row, at most, of which it is kept that they had the same memory.
const SIBLINGS_MAX: usize = 16;

/// A control link.
#[derive(Clone, Debug, Hash)]
pub(super) struct Link {
    /// Incarnation 0 before registration.
    pub(super) member: Member,
    pub(super) worker: WorkerId,
}

/// Whether a process with the memory of `inherits` has all that the latest incarnation ever
/// acknowledged. It has, too, with the memory that the latest one itself began with: a process
/// remembers its incarnation before it acknowledges anything, so the latest one did nothing.
fn is_proven(latest: &ServerRow, inherits: Option<Incarnation>) -> bool {
    let same = |it| latest.entry.incarnation == it || latest.inherits.contains(&it);
    inherits.is_some_and(same) && !latest.fenced
}

/// The memories that are as good as that of the heir of `inherits`, which is proven.
fn as_good(latest: &ServerRow, inherits: Option<Incarnation>) -> Vec<Incarnation> {
    let own = latest.entry.incarnation;
    if inherits == Some(own) {
        return vec![own];
    }
    let mut all = latest.inherits.clone();
    if all.len() < SIBLINGS_MAX {
        all.push(own);
    }
    all
}

impl MetaServer {
    /// Who speaks on `link`; none before registration and after death.
    pub(super) fn speaker(&self, link: LinkId) -> Option<Member> {
        let member = self.links.get(&link)?.member;
        (self.ledger.live_member(member.server) == Some(member)).then_some(member)
    }

    /// A server that speaks on a link without having registered there learned its identity after
    /// it had dialled, over an older link: dialling anew, it says who it is.
    pub(super) fn close_unregistered(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|it| it.member.incarnation == Incarnation(0)) {
            self.links.remove(&link);
            let reason = "the server has not registered on this link; it has to dial anew";
            self.outbox.push(MetaEffect::CloseLink { link, reason });
        }
    }

    pub(super) fn on_server_up(
        &mut self,
        _now: Time,
        link: LinkId,
        member: Member,
        worker: WorkerId,
    ) -> bool {
        self.links.insert(link, Link { member, worker });
        if member.incarnation == Incarnation(0) {
            return false;
        }
        if self.ledger.live_member(member.server) != Some(member) {
            let known = self.ledger.cluster().born || self.ledger.server(member.server).is_some();
            let refusal = if !known {
                RegistrationRefusal::MetaserverEmpty
            } else if member.incarnation > self.ledger.cluster().incarnation_last {
                RegistrationRefusal::MetaserverOutdated
            } else {
                RegistrationRefusal::Superseded
            };
            self.refuse(link, member.server, refusal);
            return false;
        }
        self.join_link(link, member, worker);
        self.news.joined.insert(link, Greeting::Update);
        true
    }

    fn refuse(&mut self, link: LinkId, server: ServerId, reason: RegistrationRefusal) {
        match reason {
            RegistrationRefusal::MetaserverEmpty | RegistrationRefusal::MetaserverOutdated => {
                self.note(MetaNote::Unfit { server, reason });
            }
            RegistrationRefusal::UnknownServer
            | RegistrationRefusal::OtherCluster { .. }
            | RegistrationRefusal::Superseded => {}
        }
        self.send(link, ToServer::RegistrationRefused(reason));
    }

    /// Makes `link` the one to this worker; an older one is closed.
    fn join_link(&mut self, link: LinkId, member: Member, worker: WorkerId) {
        let Some(pulse) = self.pulses.get_mut(&member.server) else { return };
        if let Some(older) = pulse.links.insert(worker, link).filter(|&older| older != link) {
            self.links.remove(&older);
            let reason = "a newer link of this worker took its place";
            self.outbox.push(MetaEffect::CloseLink { link: older, reason });
        }
    }

    pub(super) fn on_server_down(&mut self, link: LinkId) -> bool {
        let Some(gone) = self.links.remove(&link) else { return false };
        if let Some(pulse) = self.pulses.get_mut(&gone.member.server)
            && pulse.links.get(&gone.worker) == Some(&link)
        {
            pulse.links.remove(&gone.worker);
        }
        false
    }

    pub(super) fn on_register(
        &mut self,
        now: Time,
        link: LinkId,
        registration: Registration,
    ) -> bool {
        let Some(known) = self.links.get(&link).cloned() else { return false };
        let own = known.member.server == registration.server && known.worker == WorkerId(0);
        if !own || registration.workers.is_empty() {
            self.misbehaved(
                link,
                "registers another server, without workers, or not from worker 0",
            );
            return false;
        }
        if self.spawning.get(&registration.server).is_some_and(|it| it.is_gone(&registration)) {
            return false;
        }
        if let Some(refusal) = self.refusal(&registration) {
            self.refuse(link, registration.server, refusal);
            return false;
        }
        // The same process asks again on the same link: its memory is the same. One that was
        // superseded does not come back by asking again.
        let before = known.member.incarnation;
        let member = match self.speaker(link) {
            Some(member) => member,
            None if before == Incarnation(0) => self.issue_incarnation(now, link, registration),
            None => {
                let refusal = RegistrationRefusal::Superseded;
                self.send(link, ToServer::RegistrationRefused(refusal));
                return false;
            }
        };
        self.news.joined.insert(link, Greeting::Registered(member));
        true
    }

    fn refusal(&self, registration: &Registration) -> Option<RegistrationRefusal> {
        let cluster = self.ledger.cluster();
        let foreign = registration.cluster.is_some_and(|it| it != cluster.cluster);
        if !self.settings.servers.iter().any(|&(id, _)| id == registration.server) {
            Some(RegistrationRefusal::UnknownServer)
        } else if !cluster.born && (foreign || registration.highest_epoch > Epoch(0)) {
            Some(RegistrationRefusal::MetaserverEmpty)
        } else if foreign {
            Some(RegistrationRefusal::OtherCluster { ours: cluster.cluster })
        } else if registration.inherits > Some(cluster.incarnation_last) {
            // Every incarnation of this cluster was written down before it was heard of.
            Some(RegistrationRefusal::MetaserverOutdated)
        } else {
            None
        }
    }

    /// Gives the process its identity; whoever had the server's latest before is dead, or has
    /// found its heir.
    fn issue_incarnation(&mut self, now: Time, link: LinkId, registration: Registration) -> Member {
        let cluster = self.ledger.cluster_mut();
        cluster.incarnation_last.0 += 1;
        let incarnation = cluster.incarnation_last;
        let server = registration.server;
        let member = Member { server, incarnation };
        let before = self.ledger.server(server).cloned();
        let proven = before.as_ref().is_some_and(|row| is_proven(row, registration.inherits));
        let entry = ServerEntry { id: server, incarnation, workers: registration.workers };
        self.news.servers.push(entry.clone());
        let process = registration.process;
        self.ledger.put_server(ServerRow {
            entry,
            dead: false,
            fenced: false,
            leaving: false,
            process,
            inherits: before
                .as_ref()
                .filter(|_| proven)
                .map_or_else(Vec::new, |latest| as_good(latest, registration.inherits)),
        });
        let older = self.pulses.insert(server, Pulse::since(now));
        if let Some(predecessor) = before.map(|row| row.entry.member()) {
            if proven || planted(Mutant::EmptyHeir) {
                self.install_heir(predecessor, member);
            } else {
                self.news.dead.push(predecessor);
                self.note(MetaNote::Dead { member: predecessor });
            }
        }
        for stale in older.into_iter().flat_map(|it| it.links.into_values()) {
            if stale != link {
                self.send(stale, ToServer::RegistrationRefused(RegistrationRefusal::Superseded));
            }
        }
        if let Some(known) = self.links.get_mut(&link) {
            known.member = member;
        }
        self.join_link(link, member, WorkerId(0));
        self.registered_first.get_or_insert(now);
        self.note(MetaNote::Registered { member });
        member
    }

    /// The heir stands for its predecessor in every configuration that names it, an epoch later.
    fn install_heir(&mut self, predecessor: Member, heir: Member) {
        for set in (0..self.ledger.cluster().sets).map(KeySet) {
            let Some(row) = self.ledger.set(set) else { continue };
            let Some(mut configuration) = row.configuration.clone() else { continue };
            let ex_member = row.ex_member;
            if configuration.contains(predecessor) {
                for member in std::iter::once(&mut configuration.primary)
                    .chain(configuration.secondaries.iter_mut())
                {
                    if *member == predecessor {
                        *member = heir;
                    }
                }
                self.install(set, configuration.primary, configuration.secondaries);
            }
            if ex_member.is_some_and(|(member, _)| member == predecessor)
                && let Some(row) = self.ledger.set_mut(set)
            {
                row.ex_member = row.ex_member.map(|(_, op)| (heir, op));
            }
        }
    }

    /// Writes down that `member` is dead and tells everyone; its links are not heard any more.
    pub(super) fn mark_dead(&mut self, member: Member, fenced: bool) {
        let Some(row) = self.ledger.server_mut(member.server) else { return };
        assert!(row.entry.member() == member, "only the latest incarnation can be marked");
        let known = row.dead;
        row.dead = true;
        row.fenced |= fenced;
        if known {
            return;
        }
        self.note_death(member);
        self.news.dead.push(member);
        self.note(MetaNote::Dead { member });
        let Some(pulse) = self.pulses.get_mut(&member.server) else { return };
        // Who exited or left needs no word; a fenced process may still run, and must not.
        for link in std::mem::take(&mut pulse.links).into_values().filter(|_| fenced) {
            self.send(link, ToServer::RegistrationRefused(RegistrationRefusal::Superseded));
        }
    }

    /// A server wants to stop; its sets are given to others as `order_handovers` finds them.
    pub(super) fn on_leaving(&mut self, link: LinkId, member: Member) -> bool {
        if let Some(row) = self.ledger.server(member.server).filter(|row| !row.leaving).cloned() {
            self.ledger.put_server(ServerRow { leaving: true, ..row });
        }
        let names = |row: &SetRow| row.configuration.as_ref().is_some_and(|it| it.contains(member));
        if !self.ledger.sets().any(names) {
            self.send(link, ToServer::Released);
        }
        true
    }

    /// A worker serves nothing any more; once all of them said so the incarnation is over.
    pub(super) fn on_left(&mut self, _now: Time, link: LinkId) -> bool {
        let Some(member) = self.speaker(link) else { return false };
        let Some(worker) = self.links.get(&link).map(|it| it.worker) else { return false };
        let Some(row) = self.ledger.server(member.server) else { return false };
        let workers = row.entry.workers.len();
        let Some(pulse) = self.pulses.get_mut(&member.server) else { return false };
        pulse.left.insert(worker);
        if pulse.left.len() >= workers {
            self.mark_dead(member, false);
        }
        true
    }

    /// A primary's own word that it serves nothing more in `epoch`, whoever brings it.
    pub(super) fn on_resigned(&mut self, set: KeySet, epoch: Epoch, member: Member) -> bool {
        let Some(row) = self.ledger.set(set) else { return false };
        let Some(configuration) = &row.configuration else { return false };
        let resignation = Resignation { set, epoch, member };
        let watch = &mut self.watches[usize::from(set.0)];
        if row.state == SetState::Lost
            || epoch > configuration.epoch
            || watch.resignations.contains(&resignation)
        {
            return false;
        }
        let current = configuration.epoch == epoch && configuration.primary == member;
        if configuration.epoch == epoch && !current {
            return false;
        }
        watch.round.resigned |= current;
        if watch.resignations.len() >= super::watch::RESIGNATIONS_MAX {
            watch.resignations.remove(0);
        }
        watch.resignations.push(resignation);
        self.news.resigned.push(resignation);
        current
    }
}
