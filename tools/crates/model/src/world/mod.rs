//! A small world in which everything that can happen next is listed, and any of it can happen.
//!
//! ```text
//!   World::enabled -> actions -> World::step -> another World
//!                                   |
//!          the production machines (`tandem::protocol::worker::Worker`), their store in memory,
//!          links and control links between them, a metaserver without a will, clients, a judge
//! ```
//!
//! Time is a count of ticks. Each server's clock runs at its own constant rate, so that a tick
//! moves it by a fixed span, and a state at one time looks like the same state at any other.
//! Nothing ever has to happen: a message may wait for ever, and a server may sleep for ever, which
//! is what a pause is.

mod act;
pub mod authority;
pub mod client;
mod faults;
pub mod judge;
pub mod link;
mod metaserver;
mod node;
mod requests;
pub mod words;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use tandem::protocol::effect::WorkerInput;
use tandem::protocol::message::{Answer, ToServer};
use tandem::protocol::time::Time;
use tandem::protocol::types::{Configuration, LinkId, Member};
use tandem::sim::Process;
use tandem::sim::estate::Estate;
use tandem::sim::truth::Fact;

pub use act::Action;

use crate::hash::{CLOCK_START, Clock, Fingerprint};
use crate::plan::{Budget, Plan};
use authority::Authority;
use client::Client;
use judge::{Judge, SET, Violation};
use link::Link;
use metaserver::Metaserver;
use node::Node;

/// A server's place: the process that runs there, if any, and what is on its way from the
/// metaserver.
#[derive(Clone, Debug, Default)]
struct Place {
    node: Option<Rc<Node>>,
    control: VecDeque<Rc<ToServer>>,
    /// The disk of the process that is gone.
    estate: Option<Rc<Estate>>,
    /// Of the node, at this time.
    fingerprint: u64,
    /// What a reader would be answered here, if anything.
    answer: Option<Rc<Answer>>,
    /// Fingerprint and answer are of an earlier state.
    stale: bool,
}

/// A state of a world.
#[derive(Clone, Debug)]
pub struct World {
    plan: Rc<Plan>,
    places: Vec<Place>,
    links: Vec<Link>,
    authority: Rc<Authority>,
    /// In its place, in worlds that have one.
    metaserver: Option<Rc<Metaserver>>,
    clients: Vec<Client>,
    slow_reads: u8,
    judge: Rc<Judge>,
    judge_fingerprint: u64,
    ticks: u64,
    budget: Budget,
    /// Processes are numbered over the whole run, links by the pair of their ends.
    processes: u32,
    links_made: Vec<u8>,
    violation: Option<Rc<Violation>>,
}

impl World {
    /// A world in which the first configuration is served: every member took it, and all its
    /// leases were given at the time that it is now.
    #[must_use]
    pub fn begin(plan: Rc<Plan>) -> World {
        let authority = Authority::new(plan.servers, plan.members, plan.mutant);
        let mut world = World {
            places: vec![Place::default(); plan.servers],
            links: Vec::new(),
            clients: plan.writes.iter().map(|&write| Client::new(write)).collect(),
            slow_reads: plan.slow_reads,
            judge: Rc::default(),
            judge_fingerprint: 0,
            ticks: 0,
            budget: plan.budget,
            processes: 0,
            links_made: vec![0; plan.servers * plan.servers],
            violation: None,
            authority: Rc::new(authority),
            metaserver: plan.metaserver.then(|| Rc::new(Metaserver::new(&plan))),
            plan,
        };
        if world.metaserver.is_some() {
            world.found();
            return world;
        }
        let configuration = world.authority.configuration.clone();
        world.learn(&Fact::Configured { set: SET, configuration: &configuration });
        for server in (0..world.places.len()).rev() {
            world.start(server, None);
        }
        world.settle_down();
        world.refresh();
        world
    }

    /// Lets everything arrive that is on its way.
    fn settle_down(&mut self) {
        while let Some(action) = self.enabled().into_iter().find(Action::is_delivery) {
            let Some(next) = self.step(&action) else { return };
            *self = next;
        }
    }

    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_deref()
    }

    /// The reading of a server's clock.
    fn now(&self, server: usize) -> Time {
        Time(CLOCK_START + self.ticks * self.plan.unit(server))
    }

    fn clock(&self, server: usize) -> Clock {
        let (now, unit) = (self.now(server).0, self.plan.unit(server));
        Clock { now, unit, horizon: self.plan.horizon() }
    }

    fn node(&self, server: usize) -> Option<&Node> {
        self.places[server].node.as_deref()
    }

    fn node_mut(&mut self, server: usize) -> Option<&mut Node> {
        self.places[server].stale = true;
        self.places[server].node.as_mut().map(Rc::make_mut)
    }

    /// The server on which this very incarnation runs.
    fn server_of(&self, member: Member) -> Option<usize> {
        let server = authority::index_of(member.server);
        self.node(server).filter(|it| it.member == member).map(|_| server)
    }

    fn learn(&mut self, fact: &Fact<'_>) {
        let judged = Rc::make_mut(&mut self.judge).learn(fact);
        self.judge_fingerprint = 0;
        if let Err(violation) = judged {
            self.violated(violation);
        }
    }

    fn violated(&mut self, violation: Violation) {
        if self.violation.is_none() {
            self.violation = Some(Rc::new(violation));
        }
    }

    fn next_process(&mut self) -> Process {
        self.processes += 1;
        Process(self.processes)
    }

    /// Says something to a server over its control link.
    fn tell(&mut self, server: usize, message: ToServer) {
        let place = &mut self.places[server];
        if place.node.is_some() {
            place.control.push_back(Rc::new(message));
        }
    }

    /// Says something to every server that is to hear it.
    fn tell_all(&mut self, message: &ToServer) {
        for server in 0..self.places.len() {
            if !self.plan.deaf.contains(&server) {
                self.tell(server, message.clone());
            }
        }
    }

    /// The metaserver's disk holds the next configuration, and everyone is told.
    fn install(&mut self, primary: Member, secondaries: Vec<Member>) {
        let authority = Rc::make_mut(&mut self.authority);
        authority.install(primary, secondaries);
        let news = ToServer::Update(authority.news());
        let configuration: Configuration = authority.configuration.clone();
        self.learn(&Fact::Configured { set: SET, configuration: &configuration });
        self.tell_all(&news);
    }

    /// Connects `server` to the peer that it wants a link to.
    fn connect(&mut self, server: usize, peer: Member) -> Option<WorkerInput> {
        let acceptor = self.server_of(peer)?;
        let dialler = self.node(server)?.member;
        let pair = server * self.places.len() + acceptor;
        let made = &mut self.links_made[pair];
        *made += 1;
        let link = LinkId(u64::from(*made) * 100 + pair as u64);
        self.links.push(Link::new(link, server, acceptor, peer));
        self.links.sort_by_key(|it| it.id);
        self.feed(acceptor, WorkerInput::PeerAccepted { peer: dialler, link });
        Some(WorkerInput::PeerUp { peer, link })
    }

    /// After a step: what readers would see everywhere, and what changed about fingerprints.
    fn refresh(&mut self) {
        for server in 0..self.places.len() {
            if !std::mem::take(&mut self.places[server].stale) {
                continue;
            }
            let (clock, now) = (self.clock(server), self.now(server));
            let place = &mut self.places[server];
            place.fingerprint = match (&place.node, &place.estate) {
                (Some(node), _) => node.fingerprint(clock),
                (None, Some(estate)) => of_estate(estate),
                (None, None) => 0,
            };
            place.answer = place.node.as_ref().and_then(|it| it.answer(now)).map(Rc::new);
            let judge = &self.judge;
            let judged = place
                .node
                .as_ref()
                .map_or(Ok(()), |it| judge.judge_role(it).and_then(|()| judge.judge_store(it)));
            if let Err(violation) = judged {
                self.violated(violation);
            }
        }
        self.judge_logs();
        self.judge_readers();
        if self.judge_fingerprint == 0 {
            let mut fingerprint = Fingerprint::timeless();
            self.judge.hash(&mut fingerprint);
            self.judge_fingerprint = fingerprint.finish();
        }
    }

    /// No secondary has what its primary never had.
    fn judge_logs(&mut self) {
        let nodes = || self.places.iter().filter_map(|it| it.node.as_deref());
        let pairs = nodes().flat_map(|one| nodes().map(move |other| (one, other)));
        let judged = pairs.map(|(one, other)| self.judge.judge_log(one, other));
        if let Some(violation) = judged.filter_map(Result::err).next() {
            self.violated(violation);
        }
    }

    /// One server at a time answers readers, and only with what is right.
    fn judge_readers(&mut self) {
        let mut serving = None;
        for server in 0..self.places.len() {
            let Some(answer) = self.places[server].answer.clone() else { continue };
            if let Err(violation) = self.judge.judge_read(server, &answer) {
                self.violated(violation);
            }
            if let Some(other) = serving.replace(server) {
                self.violated(both_answer(other, server));
            }
        }
    }

    /// The same for two states that can never be told apart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut sum = Fingerprint::timeless();
        for place in &self.places {
            place.fingerprint.hash(&mut sum);
            place.control.hash(&mut sum);
        }
        for link in &self.links {
            let mut fingerprint = Fingerprint::at(self.clock(link.dialler));
            link.fingerprint(&mut fingerprint);
            fingerprint.finish().hash(&mut sum);
        }
        self.authority.hash(&mut sum);
        let metaserver = self.metaserver.as_ref().map(|it| it.fingerprint(self.meta_clock()));
        metaserver.hash(&mut sum);
        self.clients.hash(&mut sum);
        self.slow_reads.hash(&mut sum);
        self.judge_fingerprint.hash(&mut sum);
        self.budget.hash(&mut sum);
        (self.processes, &self.links_made, self.violation.is_some()).hash(&mut sum);
        sum.finish()
    }
}

/// Two servers answer reads at once.
fn both_answer(one: usize, other: usize) -> Violation {
    let words = format!("s{} and s{} answer reads at the same moment", one + 1, other + 1);
    Violation { property: "disjoint-leases", words }
}

fn of_estate(estate: &Estate) -> u64 {
    let mut fingerprint = Fingerprint::timeless();
    estate.inheritance().hash(&mut fingerprint);
    estate.store().hash(&mut fingerprint);
    fingerprint.finish()
}
