//! The harness: a metaserver with its disk, and fake servers around it.
//!
//! Time moves in steps of half a heartbeat. In every step each server that is up heartbeats what
//! its own merged view says of it, and answers what it was sent. Whatever a test wants otherwise
//! is a field of `Fake`, or a message that the test sends by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::protocol::Machine;
use crate::protocol::effect::{MetaEffect, MetaInput, MetaNote, Ticket};
use crate::protocol::message::{
    Activity, ChangeId, ChangeKind, ChangeRefusal, MetaAnswer, MetaRequest, ProbeReport,
    Registration, SetReport, ToMeta, ToServer,
};
use crate::protocol::meta::durable::{MetaRecord, Recovery, Step};
use crate::protocol::meta::{MetaServer, MetaSettings, Status};
use crate::protocol::space::Thresholds;
use crate::protocol::time::{Span, Time};
use crate::protocol::timing::Timing;
use crate::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, KeySet, LinkId, Member, Op, ServerId, WorkerId,
};
use crate::protocol::view::View;

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Steps after which a condition that a test waits for will not come any more.
const STEPS_MAX: usize = 2_000;

/// A server as the metaserver meets it.
pub(super) struct Fake {
    pub(super) member: Member,
    pub(super) link: LinkId,
    pub(super) view: View,
    /// Heartbeats, and answers what it is asked.
    pub(super) up: bool,
    /// Suspects that it still hears.
    pub(super) hears: BTreeSet<ServerId>,
    /// Followers that it gets nothing from.
    pub(super) misses: BTreeSet<ServerId>,
    /// Its last prepared op, in every set.
    pub(super) last_op: Op,
    /// As primary it reports its sets as open.
    pub(super) serves: bool,
    /// It obeys copy and handover orders.
    pub(super) obeys: bool,
    /// It asks to be let go where it is not needed.
    pub(super) departs: bool,
    process: u32,
    sequence: u64,
    number: u64,
}

pub(super) struct Cluster {
    pub(super) settings: MetaSettings,
    pub(super) meta: MetaServer,
    pub(super) now: Time,
    /// Everything persisted, in order.
    pub(super) disk: Vec<MetaRecord>,
    /// Persists that are issued and not durable, while `slow_disk`.
    pub(super) writing: Vec<(u64, Vec<MetaRecord>)>,
    pub(super) slow_disk: bool,
    pub(super) servers: BTreeMap<ServerId, Fake>,
    /// Everything sent since the test last cleared it.
    pub(super) sent: Vec<(LinkId, ToServer)>,
    pub(super) notes: Vec<MetaNote>,
    pub(super) spawned: Vec<ServerId>,
    pub(super) replies: Vec<MetaAnswer>,
    /// The metaserver may end; servers that may run still.
    pub(super) ended: Option<Vec<ServerId>>,
    pub(super) link_last: u64,
    process_last: u32,
}

pub(super) fn settings(servers: u16, key_sets: u16, copies: u16) -> MetaSettings {
    MetaSettings {
        durable: false,
        thresholds: Thresholds::default(),
        timing: Timing::default(),
        servers: (1..=servers).map(|id| (ServerId(id), false)).collect(),
        key_sets,
        copies,
        min_write_copies: 1,
        replace_after: Span::from_millis(10_000),
        new_cluster: CLUSTER,
    }
}

impl Cluster {
    /// A metaserver on empty state, without servers.
    pub(super) fn empty(settings: MetaSettings) -> Cluster {
        let now = Time(1_000_000_000);
        Cluster {
            meta: MetaServer::new(settings.clone(), Vec::new(), now),
            settings,
            now,
            disk: Vec::new(),
            writing: Vec::new(),
            slow_disk: false,
            servers: BTreeMap::new(),
            sent: Vec::new(),
            notes: Vec::new(),
            spawned: Vec::new(),
            replies: Vec::new(),
            ended: None,
            link_last: 0,
            process_last: 100,
        }
    }

    /// A born cluster whose servers are all up and whose preferred primaries are open.
    pub(super) fn born(settings: MetaSettings) -> Cluster {
        let mut cluster = Cluster::empty(settings);
        for (server, _) in cluster.settings.servers.clone() {
            cluster.start(server);
        }
        cluster.until("all sets are open", |it| it.status().sets.iter().all(|set| set.open));
        cluster
    }

    pub(super) fn input(&mut self, input: MetaInput) {
        let mut effects = Vec::new();
        self.meta.handle(self.now, input, &mut effects);
        if self.meta.deadline() == Some(Time(0)) {
            self.meta.handle(self.now, MetaInput::Tick, &mut effects);
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: MetaEffect) {
        match effect {
            MetaEffect::Persist { number, records } => {
                self.writing.push((number, records));
                if !self.slow_disk {
                    self.finish_writing();
                }
            }
            MetaEffect::Send { link, message } => {
                if let Some(fake) = self.servers.values_mut().find(|it| it.link == link) {
                    fake.take(&message);
                }
                self.sent.push((link, message));
            }
            MetaEffect::SendDatagram { .. } | MetaEffect::ViewChanged { .. } => {}
            MetaEffect::CloseLink { link, reason } => {
                self.notes.push(MetaNote::Misbehaved { link, reason });
            }
            MetaEffect::Reply { ticket: _, answer } => self.replies.push(answer),
            MetaEffect::Spawn { server } => self.spawned.push(server),
            MetaEffect::MayExit { left } => self.ended = Some(left),
            MetaEffect::Note { note } => self.notes.push(note),
        }
    }

    /// The disk is done with everything that it was given.
    pub(super) fn finish_writing(&mut self) {
        for (number, records) in std::mem::take(&mut self.writing) {
            self.disk.extend(records);
            self.input(MetaInput::Persisted { number });
        }
    }

    pub(super) fn say(&mut self, server: u16, message: ToMeta) {
        let link = self.fake(server).link;
        self.input(MetaInput::FromServer { link, message });
    }

    pub(super) fn fake(&mut self, server: u16) -> &mut Fake {
        self.servers.get_mut(&ServerId(server)).expect("the test started this server")
    }

    pub(super) fn member(&self, server: u16) -> Member {
        self.servers[&ServerId(server)].member
    }

    pub(super) fn registration(&self, server: ServerId, process: u32) -> Registration {
        let port = 4_000 + server.0;
        Registration {
            server,
            workers: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)],
            cluster: None,
            highest_epoch: Epoch(0),
            inherits: None,
            process,
        }
    }

    /// Starts a process of `server`, which registers over a new link.
    pub(super) fn start(&mut self, server: ServerId) {
        self.process_last += 1;
        let process = self.process_last;
        let registration = self.registration(server, process);
        self.start_as(server, registration);
    }

    pub(super) fn start_as(&mut self, server: ServerId, registration: Registration) {
        let member = Member { server, incarnation: Incarnation(0) };
        let (link, process) = (self.new_link(), registration.process);
        let fake = Fake {
            member,
            link,
            view: View::unborn(CLUSTER, self.settings.key_sets),
            up: true,
            hears: BTreeSet::new(),
            misses: BTreeSet::new(),
            last_op: Op(0),
            serves: true,
            obeys: true,
            departs: true,
            process,
            sequence: 0,
            number: 0,
        };
        self.servers.insert(server, fake);
        self.input(MetaInput::ServerUp { link, member, worker: WorkerId(0) });
        let message = ToMeta::Register(registration);
        self.input(MetaInput::FromServer { link, message });
    }

    pub(super) fn new_link(&mut self) -> LinkId {
        self.link_last += 1;
        LinkId(self.link_last)
    }

    pub(super) fn process(&self, server: u16) -> u32 {
        self.servers[&ServerId(server)].process
    }

    /// The metaserver dies and starts again from its disk; the servers dial it again.
    pub(super) fn restart_meta(&mut self) {
        self.writing.clear();
        self.meta = MetaServer::new(self.settings.clone(), self.disk.clone(), self.now);
        self.sent.clear();
        let up: Vec<_> = self.servers.values().filter(|it| it.up).map(|it| it.member).collect();
        for member in up {
            let link = self.new_link();
            self.fake(member.server.0).link = link;
            self.input(MetaInput::ServerUp { link, member, worker: WorkerId(0) });
        }
    }

    /// Half a heartbeat passes.
    pub(super) fn step(&mut self) {
        self.now += self.settings.timing.heartbeat.scaled(1, 2);
        let mut said = Vec::new();
        let sent = std::mem::take(&mut self.sent);
        for fake in self.servers.values_mut().filter(|it| it.up) {
            fake.heartbeat(&mut said);
            let own = fake.link;
            for (_, message) in sent.iter().filter(|(link, _)| *link == own) {
                fake.answer(message, &mut said);
            }
        }
        for (link, message) in said {
            self.input(MetaInput::FromServer { link, message });
        }
        self.input(MetaInput::Tick);
    }

    pub(super) fn run(&mut self, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&mut Cluster) -> bool) {
        for _ in 0..STEPS_MAX {
            if condition(self) {
                return;
            }
            self.step();
        }
        panic!("waited in vain until {what}: {:#?}", self.status());
    }

    pub(super) fn ask(&mut self, request: MetaRequest) -> MetaAnswer {
        let ticket = Ticket { link: LinkId(9_999), request: 1 };
        self.input(MetaInput::Request { ticket, request, admin: true });
        self.replies.pop().expect("a request is answered at once while nothing is being written")
    }

    pub(super) fn status(&mut self) -> Status {
        match self.ask(MetaRequest::Status) {
            MetaAnswer::Status(status) => *status,
            other => panic!("a status was asked for, this came: {other:?}"),
        }
    }

    pub(super) fn configuration(&mut self, set: u16) -> Configuration {
        let status = self.status().sets.remove(usize::from(set));
        status.configuration.expect("the set was created")
    }

    /// The newest recovery.
    pub(super) fn recovery(&mut self) -> Recovery {
        self.status().recoveries.pop().expect("a recovery was written down")
    }

    /// The step that the newest recovery stands at, if there is one.
    pub(super) fn stands_at(&mut self) -> Option<Step> {
        self.status().recoveries.last().map(|it| it.step)
    }

    /// Asks for a change in `server`'s name, in the current epoch, and gives the outcome.
    pub(super) fn change(
        &mut self,
        server: u16,
        set: u16,
        number: u64,
        kind: ChangeKind,
    ) -> Result<Configuration, ChangeRefusal> {
        let epoch = self.configuration(set).epoch;
        let id = ChangeId { member: self.member(server), number };
        self.sent.clear();
        self.say(server, ToMeta::Change { id, set: KeySet(set), epoch, kind });
        let mut outcomes = self.sent.iter().filter_map(|(_, message)| match message {
            ToServer::Changed { id: answered, outcome, .. } if *answered == id => Some(outcome),
            _ => None,
        });
        outcomes.next_back().expect("a change is answered").clone()
    }
}

impl Fake {
    fn take(&mut self, message: &ToServer) {
        match message {
            ToServer::Registered { member, view, .. } => {
                self.member = *member;
                self.view = view.clone();
            }
            ToServer::Update(update) => self.view.merge(update),
            _ => {}
        }
    }

    fn reports(&self) -> Vec<SetReport> {
        let report = |set, epoch, activity| SetReport {
            set,
            epoch,
            activity,
            committed: self.last_op,
            prepared: self.last_op,
        };
        let mut reports = Vec::new();
        for entry in &self.view.sets {
            let Some(configuration) = &entry.configuration else { continue };
            if configuration.primary == self.member && self.serves {
                reports.push(report(entry.set, configuration.epoch, Activity::Open));
            } else if configuration.secondaries.contains(&self.member) {
                reports.push(report(entry.set, configuration.epoch, Activity::Secondary));
            }
        }
        reports
    }

    fn heartbeat(&mut self, said: &mut Vec<(LinkId, ToMeta)>) {
        self.sequence += 1;
        if self.member.incarnation > Incarnation(0) {
            let message = ToMeta::Heartbeat { sequence: self.sequence, sets: self.reports() };
            said.push((self.link, message));
        }
    }

    fn answer(&mut self, message: &ToServer, said: &mut Vec<(LinkId, ToMeta)>) {
        let answer = match message {
            ToServer::Probe { nonce, suspect, sets } => {
                let report = |&(set, epoch): &(KeySet, Epoch)| ProbeReport {
                    set,
                    epoch,
                    hears: self.hears.contains(&suspect.server),
                    last_epoch: Epoch(1),
                    last_op: self.last_op,
                };
                let reports = sets.iter().map(report).collect();
                Some(ToMeta::ProbeAnswer { nonce: *nonce, reports })
            }
            ToServer::ConfirmRemoval { nonce, member, sets }
                if self.misses.contains(&member.server) =>
            {
                let sets = sets.iter().map(|&(set, epoch)| (set, epoch, self.last_op)).collect();
                Some(ToMeta::RemovalConfirmed { nonce: *nonce, member: *member, sets })
            }
            ToServer::ConfirmLeave { nonce, member, sets } => {
                let sets = sets.iter().map(|&(set, epoch)| (set, epoch, self.last_op)).collect();
                Some(ToMeta::RemovalConfirmed { nonce: *nonce, member: *member, sets })
            }
            ToServer::Unplaced { sets } if self.departs => {
                let follows = |&&(set, epoch): &&(KeySet, Epoch)| {
                    let known = self.view.configuration(set);
                    known.is_some_and(|it| {
                        it.epoch == epoch && it.secondaries.contains(&self.member)
                    })
                };
                let sets: Vec<_> = sets.iter().filter(follows).copied().collect();
                (!sets.is_empty()).then_some(ToMeta::Depart { sets })
            }
            _ => None,
        };
        said.extend(answer.map(|message| (self.link, message)));
        if !self.obeys {
            return;
        }
        let (sets, kind) = match message {
            ToServer::Copy { recovery, learner, sets } => {
                (sets, ChangeKind::Add { learner: *learner, recovery: *recovery })
            }
            ToServer::HandOver { to, sets } => (sets, ChangeKind::HandOver { to: *to }),
            _ => return,
        };
        for &(set, epoch) in sets {
            self.number += 1;
            let id = ChangeId { member: self.member, number: self.number };
            said.push((self.link, ToMeta::Change { id, set, epoch, kind }));
        }
    }
}
