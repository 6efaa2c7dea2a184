//! Nodes: where a process runs, with its clock, its pauses, and what outlives the process.
//!
//! A process is a machine and what its driver keeps for it: links that it wants, requests that it
//! has not answered, completions that it is owed. All of that is gone with the process.

use std::collections::{BTreeMap, VecDeque};

use super::agenda::Entered;
use super::clients::ClientProcess;
use super::clock::NodeClock;
use super::disk::{MetaDisk, StateDirectory};
use super::estate::Estate;
use super::{Process, ServerId};
use crate::protocol::effect::{MetaInput, Ticket, WorkerInput};
use crate::protocol::message::{MetaAnswer, Request};
use crate::protocol::meta::MetaServer;
use crate::protocol::session::SessionInput;
use crate::protocol::time::Time;
use crate::protocol::types::{LinkId, Member};
use crate::protocol::view::View;
use crate::protocol::worker::Worker;
use crate::store::MemoryEngine;

/// An input for whichever machine runs at a node.
#[derive(Clone, Debug, Hash)]
pub enum Input {
    Worker(WorkerInput),
    Meta(MetaInput),
    Client(SessionInput),
}

/// Whom a process wants to be connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Target {
    Meta,
    Peer(Member),
    /// As a client; incarnation 0 = whichever runs there.
    Server(Member),
}

/// Links that a process wants, with the attempt or connection that serves each at the moment.
pub type Wanted = BTreeMap<Target, Option<LinkId>>;

/// What every node has, whatever runs there.
#[derive(Clone, Debug)]
pub struct Host {
    pub clock: NodeClock,
    /// Frozen until then: inputs wait in `deferred`.
    pub frozen_until: Option<Time>,
    pub deferred: VecDeque<(Process, Input)>,
}

impl Host {
    #[must_use]
    pub fn new(clock: NodeClock) -> Host {
        Host { clock, frozen_until: None, deferred: VecDeque::new() }
    }
}

/// A tick that is entered, and the deadline that it was entered for.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    pub deadline: Time,
    pub entered: Entered,
}

/// The timer and the crash that a process is heading for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    pub wake: Option<Wake>,
    /// The process dies after performing that many more effects.
    pub fuse: Option<u32>,
}

/// A running server.
#[derive(Clone, Debug)]
pub struct ServerProcess {
    pub number: Process,
    pub worker: Worker,
    pub engine: MemoryEngine,
    pub member: Option<Member>,
    pub view: View,
    pub wanted: Wanted,
    pub unanswered: BTreeMap<Ticket, Request>,
    /// Completions that are due before anything else.
    pub completions: VecDeque<WorkerInput>,
    /// When the last delayed completion comes: they keep their order.
    pub completed_last: Time,
    /// What each delayed completion syncs on the server's disk.
    pub syncs: VecDeque<u64>,
    pub fate: Fate,
}

/// A server's place.
#[derive(Clone, Debug)]
pub struct ServerNode {
    pub id: ServerId,
    pub host: Host,
    pub directory: StateDirectory,
    /// Its log and store, where they outlive a process.
    pub estate: Option<Estate>,
    pub running: Option<ServerProcess>,
}

impl ServerNode {
    /// The member that runs here.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        self.running.as_ref()?.member
    }
}

/// A running metaserver.
#[derive(Clone, Debug)]
pub struct MetaProcess {
    pub number: Process,
    pub machine: MetaServer,
    pub view: View,
    pub persisted_last: Time,
    pub fate: Fate,
}

/// The metaserver's place.
#[derive(Clone, Debug)]
pub struct MetaNode {
    pub host: Host,
    pub disk: MetaDisk,
    pub running: Option<MetaProcess>,
    /// Answers to the questions that the world itself asked, by number.
    pub answers: BTreeMap<u64, MetaAnswer>,
}

/// A client's place; clients live as long as the run.
#[derive(Clone, Debug)]
pub struct ClientNode {
    pub host: Host,
    pub running: ClientProcess,
}
