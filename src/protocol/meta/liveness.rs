//! Liveness: which servers are heard, and what their heartbeats say of each replica.
//!
//! Silence makes a suspicion, never a proof. A server is as silent as its most silent worker,
//! because each worker serves key sets of its own. Time in which the metaserver itself did not
//! run is not held against anyone.

use std::collections::{BTreeMap, BTreeSet};

use super::MetaServer;
use super::moves::Moved;
use crate::protocol::effect::{MetaEffect, MetaNote};
use crate::protocol::message::{Activity, SetReport, ToServer};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::space::{Level, Space};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{KeySet, LinkId, Member, ServerId, WorkerId};

/// Suspicions of this age still count as "vanished at once".
const VANISHED_WINDOW: Span = Span::from_millis(60_000);

/// What is heard of a server's latest incarnation.
#[derive(Clone, Debug, Hash)]
pub(super) struct Pulse {
    /// Its registration, or the metaserver's start.
    since: Time,
    /// The last heartbeat of each worker.
    heard: BTreeMap<WorkerId, Time>,
    /// The control link of each worker.
    pub(super) links: BTreeMap<WorkerId, LinkId>,
    /// By key set, as far as any was heard of.
    reports: Vec<Option<HeardReport>>,
    suspected_since: Option<Time>,
    /// How full it said that it is.
    pub(super) space: Option<Space>,
    /// What it was told of sets that belong elsewhere, and what it gave away.
    pub(super) moved: Moved,
    /// Workers that said that they serve nothing any more.
    pub(super) left: BTreeSet<WorkerId>,
}

/// A replica's last report.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct HeardReport {
    at: Time,
    link: LinkId,
    sequence: u64,
    pub(super) report: SetReport,
}

impl Pulse {
    pub(super) fn since(now: Time) -> Pulse {
        Pulse {
            since: now,
            heard: BTreeMap::new(),
            links: BTreeMap::new(),
            reports: Vec::new(),
            suspected_since: None,
            space: None,
            moved: Moved::default(),
            left: BTreeSet::new(),
        }
    }

    /// Whether every worker was heard in this life of the metaserver, lately enough.
    fn is_heard(&self, workers: usize) -> bool {
        self.suspected_since.is_none() && self.heard.len() >= workers
    }

    fn is_silent(&self, now: Time, workers: usize, suspect: Span, connect: Span) -> bool {
        (0..workers).any(|worker| {
            let worker = WorkerId(u16::try_from(worker).unwrap_or(u16::MAX));
            match self.heard.get(&worker) {
                Some(&at) => now.since(at) > suspect,
                None if planted(Mutant::SuspectsAtOnce) => true,
                None => now.since(self.since) > suspect + connect,
            }
        })
    }

    /// What was last heard of each replica.
    pub(super) fn reports(&self) -> impl Iterator<Item = &HeardReport> {
        self.reports.iter().flatten()
    }

    fn report_mut(&mut self, set: KeySet) -> &mut Option<HeardReport> {
        let place = usize::from(set.0);
        if self.reports.len() <= place {
            self.reports.resize(place + 1, None);
        }
        &mut self.reports[place]
    }

    fn forgive(&mut self, gap: Span, now: Time) {
        self.since = (self.since + gap).min(now);
        for at in self.heard.values_mut() {
            *at = (*at + gap).min(now);
        }
        for heard in self.reports.iter_mut().flatten() {
            heard.at = (heard.at + gap).min(now);
        }
    }
}

impl MetaServer {
    /// Takes time in which this process did not run off everyone's silence.
    pub(super) fn forgive_stall(&mut self, now: Time) {
        let gap = now.since(self.handled_at);
        self.handled_at = now;
        if gap > self.settings.timing.suspect.scaled(1, 2) {
            for pulse in self.pulses.values_mut() {
                pulse.forgive(gap, now);
            }
        }
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        link: LinkId,
        sequence: u64,
        sets: &[SetReport],
    ) -> bool {
        let Some(known) = self.links.get(&link) else { return false };
        let (member, worker) = (known.member, known.worker);
        let workers = self.ledger.server(member.server).map_or(0, |row| row.entry.workers.len());
        if usize::from(worker.0) >= workers {
            self.misbehaved(link, "heartbeats of a worker that it did not register");
            return false;
        }
        let message = ToServer::HeartbeatEcho { sequence };
        self.outbox.push_urgent(MetaEffect::SendDatagram { link, message });
        let Some(pulse) = self.pulses.get_mut(&member.server) else { return false };
        pulse.heard.insert(worker, now);
        let mut resigned = Vec::new();
        for &report in sets {
            if usize::from(report.set.0) >= self.watches.len() {
                continue;
            }
            let older = |it: &HeardReport| it.link == link && it.sequence > sequence;
            let last = pulse.report_mut(report.set);
            if last.as_ref().is_some_and(older) {
                continue;
            }
            *last = Some(HeardReport { at: now, link, sequence, report });
            if report.activity == Activity::Resigned {
                resigned.push(report);
            }
        }
        let mut acts = false;
        for report in resigned {
            acts |= self.on_resigned(report.set, report.epoch, member);
        }
        acts
    }

    /// Suspects who is silent, and takes back the suspicion of who is heard again.
    pub(super) fn judge_liveness(&mut self, now: Time) {
        if now < self.settled_at() {
            return;
        }
        let timing = self.settings.timing;
        let mut notes = Vec::new();
        for (&server, pulse) in &mut self.pulses {
            let Some(row) = self.ledger.server(server).filter(|row| !row.dead) else { continue };
            let workers = row.entry.workers.len();
            let member = row.entry.member();
            let silent = pulse.is_silent(now, workers, timing.suspect, timing.reconnect);
            if silent && pulse.suspected_since.is_none() {
                pulse.suspected_since = Some(now);
                notes.push(MetaNote::Suspected { member });
            } else if !silent && pulse.suspected_since.is_some() {
                pulse.suspected_since = None;
                notes.push(MetaNote::Heard { member });
            }
        }
        for note in notes {
            self.note(note);
        }
    }

    /// Whether `member` is silent; the proven dead are not suspected, they are dead.
    pub(super) fn is_suspected(&self, member: Member) -> bool {
        self.ledger.live_member(member.server) == Some(member)
            && self.pulses.get(&member.server).is_some_and(|it| it.suspected_since.is_some())
    }

    /// Neither dead nor suspected.
    pub(super) fn is_up(&self, member: Member) -> bool {
        !self.ledger.is_dead(member) && !self.is_suspected(member)
    }

    /// Every worker of `member` was heard since this metaserver started, and none is silent.
    pub(super) fn is_heard(&self, member: Member) -> bool {
        let Some(row) = self.ledger.server(member.server) else { return false };
        row.entry.member() == member
            && !row.dead
            && self
                .pulses
                .get(&member.server)
                .is_some_and(|it| it.is_heard(row.entry.workers.len()))
    }

    /// The latest incarnation of a server that is up and means to stay.
    pub(super) fn available(&self, server: ServerId) -> Option<Member> {
        let member = self.ledger.live_member(server)?;
        let leaving = self.ledger.server(server).is_some_and(|row| row.leaving);
        (!leaving && self.is_up(member)).then_some(member)
    }

    /// A server says how full it is. True = that may make a step possible.
    pub(super) fn on_space(&mut self, member: Member, space: Space) -> bool {
        let Some(pulse) = self.pulses.get_mut(&member.server) else { return false };
        let before = pulse.space.replace(space);
        before.map(|it| it.level) != Some(space.level)
    }

    /// How full a server said that it is, in this life of the metaserver.
    pub(super) fn level(&self, server: ServerId) -> Level {
        let space = self.pulses.get(&server).and_then(|pulse| pulse.space);
        space.map_or(Level::Ok, |space| space.level)
    }

    /// What the servers that measure it said of their space.
    pub(super) fn spaces(&self) -> Vec<(ServerId, Space)> {
        let known = |(&server, pulse): (&ServerId, &Pulse)| Some((server, pulse.space?));
        self.pulses.iter().filter_map(known).collect()
    }

    /// The live incarnation of `server`, if it is up and has room for copies that are new to it.
    pub(super) fn roomy(&self, server: ServerId) -> Option<Member> {
        self.available(server).filter(|_| self.level(server) < Level::High)
    }

    /// What `member` said lately of its replica of `set`.
    pub(super) fn report(&self, now: Time, member: Member, set: KeySet) -> Option<SetReport> {
        if self.ledger.live_member(member.server) != Some(member) {
            return None;
        }
        let reports = &self.pulses.get(&member.server)?.reports;
        let heard = reports.get(usize::from(set.0))?.as_ref()?;
        (now.since(heard.at) <= self.settings.timing.suspect).then_some(heard.report)
    }

    /// Whether the primary's own heartbeats name it as serving `set` in its epoch.
    pub(super) fn is_serving(&self, now: Time, set: KeySet) -> bool {
        let Some(configuration) = self.ledger.configuration(set) else { return false };
        self.report(now, configuration.primary, set).is_some_and(|report| {
            report.epoch == configuration.epoch
                && match report.activity {
                    Activity::Open | Activity::Paused | Activity::Reconciling => true,
                    Activity::Resigned | Activity::Secondary | Activity::Learner { .. } => false,
                }
        })
    }

    /// Whether the primary's own heartbeats say that it answers.
    pub(super) fn is_open(&self, now: Time, set: KeySet) -> bool {
        self.is_serving(now, set)
            && self.ledger.configuration(set).is_some_and(|it| {
                let report = self.report(now, it.primary, set);
                report.is_some_and(|report| report.activity == Activity::Open)
            })
    }

    /// More than half of the live servers fell silent within a short time: more likely the
    /// metaserver is cut off than that they are gone.
    pub(super) fn most_vanished(&self, now: Time) -> bool {
        let live = self.ledger.servers().filter(|row| !row.dead);
        let (mut count, mut silent) = (0, 0);
        for row in live {
            count += 1;
            let since = self.pulses.get(&row.entry.id).and_then(|it| it.suspected_since);
            silent += usize::from(since.is_some_and(|at| now.since(at) < VANISHED_WINDOW));
        }
        silent >= 2 && silent * 2 > count
    }

    /// How long no incarnation of `server` is up, as far as is known.
    pub(super) fn away_for(&self, now: Time, server: ServerId) -> Span {
        match self.pulses.get(&server) {
            None => now.since(self.started),
            Some(pulse) if self.ledger.live_member(server).is_some() => {
                pulse.suspected_since.map_or(Span::ZERO, |at| now.since(at))
            }
            Some(pulse) => {
                let heard = pulse.heard.values().copied().max().unwrap_or(pulse.since);
                now.since(heard)
            }
        }
    }
}
