//! The metaserver: the authority on configurations.
//!
//! ```text
//!   inputs --> handlers --> ledger (rows, dirty ones noted)   --> Persist --+
//!                 |         news, asks, answers --> outbox (held) <---------+ Persisted
//!   tick ---------+-- act: compare rows with liveness, ask or install, for every key set
//! ```
//!
//! Two ideas carry it. First, nothing is said before it is durable: whatever a handler sends
//! waits in the `outbox` for the rows that it rests on (rule 4). Second, nothing is a script:
//! `act` compares each key set's durable configuration and target with what is heard of the
//! servers, and takes the next step; every question is repeated until the state says that it is
//! done. What one turn's inputs made possible is done at the next `Tick`, which the deadline asks
//! for at once. So a restart in any step resumes by itself, and a lost message costs only time.
//!
//! Safety rests on the compare-and-set of epochs and on proofs of death alone; suspicion, which
//! rests on clocks, decides only when to ask.

mod asks;
mod birth;
mod changes;
mod copying;
pub mod durable;
mod full;
mod handover;
mod heirs;
mod install;
mod ledger;
mod liveness;
mod moves;
mod outbox;
mod promotion;
pub mod rebuild;
mod recovery;
mod registration;
mod removal;
mod requests;
mod spawning;
mod status;
mod stop;
mod targets;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use status::{ServerState, ServerStatus, SetStatus, Status};

use super::Machine;
use super::effect::{MetaEffect, MetaInput, MetaNote};
use super::message::{ToMeta, ToServer};
use super::mutants::{Mutant, planted};
use super::space::Thresholds;
use super::time::{Span, Time};
use super::timing::Timing;
use super::types::{ClusterId, KeySet, LinkId, Member, RecoveryId, ServerId};
use super::view::View;
use asks::Asks;
use durable::MetaRecord;
use install::News;
use ledger::Ledger;
use liveness::Pulse;
use outbox::Outbox;
use registration::Link;
use spawning::Spawning;
use stop::Stop;
use watch::Watch;

/// What a metaserver is started with.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct MetaSettings {
    pub timing: Timing,
    /// The servers of `cluster.toml`, and whether the metaserver starts them itself.
    pub servers: Vec<(ServerId, bool)>,
    /// Key sets and copies: used at the cluster's creation, afterwards the durable row counts.
    pub key_sets: u16,
    pub copies: u16,
    /// Members below which a set refuses writes.
    pub min_write_copies: u16,
    /// Servers keep what they hold over a restart: of a dead one an heir may come.
    pub durable: bool,
    /// From where on a server is full, to see ahead what a move makes of one.
    pub thresholds: Thresholds,
    /// A server that is not spawned and stays away for this long is replaced by a spare.
    pub replace_after: Span,
    /// Identity of the cluster if the durable state is empty; drawn by the caller.
    pub new_cluster: ClusterId,
}

/// The metaserver's machine.
///
/// Its driver promises: before the first `Tick` it hands in `ProcessStarted` for every spawned
/// process that still runs and `ProcessExited` for every one that is proven gone, as named by the
/// durable server rows and its own notes; each `Spawn` is answered by `ProcessStarted`, or by
/// `ProcessExited` of process 0 where no process could be started.
#[derive(Clone, Debug, Hash)]
pub struct MetaServer {
    settings: MetaSettings,
    ledger: Ledger,
    outbox: Outbox,
    /// What this handler changed in the view, for everyone.
    news: News,
    links: BTreeMap<LinkId, Link>,
    pulses: BTreeMap<ServerId, Pulse>,
    /// By key set.
    watches: Vec<Watch>,
    spawning: BTreeMap<ServerId, Spawning>,
    /// When each open recovery began, in this life of the metaserver.
    recoveries_since: BTreeMap<RecoveryId, Time>,
    /// The durable state was empty at the start.
    fresh: bool,
    started: Time,
    registered_first: Option<Time>,
    /// The whole cluster is being stopped.
    stop: Option<Stop>,
    /// The disk is full: what is durable.
    full: Option<Box<Ledger>>,
    /// Who was found dead before anyone is suspected, where heirs may come.
    found_dead: BTreeSet<Member>,
    handled_at: Time,
    acted_at: Option<Time>,
    /// Something was taken in that may have made a step possible. One pass looks at every key
    /// set, and is taken once for all that came in a turn.
    due: bool,
    /// Names the questions of one pass of `act`; with the link it is unique.
    nonce: u64,
}

impl MetaServer {
    /// A metaserver that starts, at `now`, from `records`: everything that was ever persisted,
    /// in order, or nothing for a new cluster.
    ///
    /// # Panics
    /// If the settings name no servers, no key sets or no copies.
    #[must_use]
    pub fn new(settings: MetaSettings, records: Vec<MetaRecord>, now: Time) -> MetaServer {
        assert!(!settings.servers.is_empty(), "a cluster has at least one server");
        assert!(settings.key_sets > 0 && settings.copies > 0, "a cluster has sets and copies");
        let fresh = records.is_empty();
        let ledger = Ledger::load(&settings, records);
        let watches = (0..ledger.cluster().sets).map(|_| Watch::default()).collect();
        let pulses = ledger
            .servers()
            .map(|row| (row.entry.id, Pulse::since(now)))
            .collect::<BTreeMap<_, _>>();
        let dead = ledger.servers().filter(|row| settings.durable && row.dead);
        let found_dead = dead.map(|row| row.entry.member()).collect();
        let registered_first = (!pulses.is_empty()).then_some(now);
        let spawning = settings
            .servers
            .iter()
            .filter(|(_, spawn)| *spawn)
            .map(|&(server, _)| (server, Spawning::default()))
            .collect();
        MetaServer {
            settings,
            ledger,
            outbox: Outbox::default(),
            news: News::default(),
            links: BTreeMap::new(),
            pulses,
            watches,
            spawning,
            recoveries_since: BTreeMap::new(),
            fresh,
            started: now,
            registered_first,
            stop: None,
            full: None,
            found_dead,
            handled_at: now,
            acted_at: None,
            due: false,
            nonce: 0,
        }
    }

    /// Who holds what, as far as it is decided.
    #[must_use]
    pub fn view(&self) -> View {
        self.ledger.view()
    }

    /// The cluster that this metaserver is the authority of.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.ledger.cluster().cluster
    }

    /// Before this nobody is suspected: servers need time to find a restarted metaserver.
    fn settled_at(&self) -> Time {
        if planted(Mutant::SuspectsAtOnce) {
            return self.started;
        }
        self.started + self.settings.timing.grace + self.settings.timing.reconnect
    }

    /// Takes in one input; tells whether it may have made a step possible.
    fn take_in(&mut self, now: Time, input: MetaInput) -> bool {
        if self.stop.is_some() {
            return self.take_in_stopping(now, input);
        }
        match input {
            MetaInput::Tick => true,
            MetaInput::ServerUp { link, member, worker } => {
                self.on_server_up(now, link, member, worker)
            }
            MetaInput::ServerDown { link } => self.on_server_down(link),
            MetaInput::FromServer { link, message } => self.on_message(now, link, message),
            MetaInput::Request { ticket, request, admin } => {
                self.on_request(now, ticket, request, admin)
            }
            MetaInput::Persisted { number } => {
                self.outbox.on_persisted(number);
                false
            }
            MetaInput::DiskFull { durable } => {
                self.on_disk_full(durable);
                false
            }
            MetaInput::DiskRoomy => {
                self.on_disk_roomy();
                true
            }
            MetaInput::ProcessExited { server, process } => {
                self.on_exited(now, server, process);
                true
            }
            MetaInput::ProcessStarted { server, process } => {
                self.on_started(now, server, process);
                false
            }
        }
    }

    fn on_message(&mut self, now: Time, link: LinkId, message: ToMeta) -> bool {
        if let ToMeta::Register(registration) = message {
            return self.on_register(now, link, registration);
        }
        let Some(member) = self.speaker(link) else {
            self.close_unregistered(link);
            return false;
        };
        match message {
            ToMeta::Register(_) => false,
            ToMeta::Heartbeat { sequence, sets } => self.on_heartbeat(now, link, sequence, &sets),
            ToMeta::ProbeAnswer { nonce, reports } => {
                self.on_probe_answer(now, link, nonce, &reports)
            }
            ToMeta::RemovalConfirmed { nonce, member, sets } => {
                self.on_removal_confirmed(now, link, nonce, member, &sets)
            }
            ToMeta::Complaint { member: follower, sets } => {
                self.on_complaint(now, member, follower, &sets)
            }
            ToMeta::Change { id, set, epoch, kind } => {
                self.on_change(now, link, id, set, epoch, kind)
            }
            ToMeta::Resigned { set, epoch, member } => self.on_resigned(set, epoch, member),
            ToMeta::Leaving => self.on_leaving(link, member),
            ToMeta::Left => self.on_left(now, link),
            ToMeta::Space(space) => self.on_space(member, space),
            ToMeta::Depart { sets } => self.on_depart(member, &sets),
            ToMeta::Testimony(_) => {
                self.misbehaved(link, "testifies unasked");
                false
            }
            // The stop that it speaks of was another metaserver's.
            ToMeta::Quiet | ToMeta::Halted => false,
        }
    }

    /// Compares what is durable with what is heard, and takes every step that is due.
    fn act(&mut self, now: Time) {
        self.acted_at = Some(now);
        if self.stop.is_some() {
            return self.tend_stop(now);
        }
        if self.outbox.is_full() || self.full.is_some() {
            return;
        }
        self.judge_liveness(now);
        self.give_birth(now);
        self.spawn_servers(now);
        if !self.ledger.cluster().born {
            return;
        }
        self.nonce += 1;
        self.choose_targets(now);
        self.write_intents(now);
        let mut asks = Asks::default();
        for set in (0..self.ledger.cluster().sets).map(KeySet) {
            self.tend_primary(now, set, &mut asks);
            self.tend_secondaries(now, set, &mut asks);
        }
        if !self.most_vanished(now) {
            self.order_copies(now, &mut asks);
        }
        self.order_handovers(now, &mut asks);
        self.tell_unplaced(now, &mut asks);
        self.send_asks(asks);
        self.advance_recoveries(now);
    }

    /// Sends `message` on `link` once everything before it is durable.
    fn send(&mut self, link: LinkId, message: ToServer) {
        self.outbox.push(MetaEffect::Send { link, message });
    }

    fn note(&mut self, note: MetaNote) {
        self.outbox.push(MetaEffect::Note { note });
    }

    /// Closes a link whose server broke the protocol.
    fn misbehaved(&mut self, link: LinkId, reason: &'static str) {
        self.note(MetaNote::Misbehaved { link, reason });
        self.outbox.push(MetaEffect::CloseLink { link, reason });
    }

    /// The link to the worker of `member` that `set` belongs to, if it is up.
    fn link_to(&self, member: Member, set: KeySet) -> Option<LinkId> {
        let row = self.ledger.server(member.server)?;
        if row.dead || row.entry.member() != member {
            return None;
        }
        let (worker, _) = row.entry.address(set)?;
        self.pulses.get(&member.server)?.links.get(&worker).copied()
    }
}

impl Machine for MetaServer {
    type Input = MetaInput;
    type Effect = MetaEffect;

    fn handle(&mut self, now: Time, input: MetaInput, effects: &mut Vec<MetaEffect>) {
        self.forgive_stall(now);
        let ticks = matches!(input, MetaInput::Tick);
        self.due |= self.take_in(now, input);
        if ticks && std::mem::take(&mut self.due) {
            self.act(now);
        }
        self.announce();
        self.outbox.flush(&mut self.ledger, effects);
    }

    fn deadline(&self) -> Option<Time> {
        if self.due {
            return Some(Time(0));
        }
        let step = self.settings.timing.heartbeat.scaled(1, 2);
        Some(self.acted_at.map_or(self.started, |at| at + step))
    }
}
