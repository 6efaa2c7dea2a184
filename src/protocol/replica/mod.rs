//! One replica of one key set, in whatever role the newest configuration gives it.
//!
//! ```text
//!                 named at birth                    named secondary (rule 5)
//!   Outside --------------------> Secondary <------------------------------- Learner
//!      ^  |                        |     ^                                      ^
//!      |  +-- named at birth --+   |     | another is named: resigns            | a run starts
//!      |                       v   v     |                                      |
//!      +---- not named ------- Primary --+                                   Outside
//! ```
//! An heir begins Outside with its predecessor's log, and has the role that the newest
//! configuration gives it (see `heir`).
//!
//! The newest configuration that a replica learned fences it from all older ones. State that is
//! valid in one role lives inside that role's variant; the log, the duplicate records and the
//! bonds outlive roles and epochs.
//!
//! Sources: PacificA (MSR-TR-2008-25) sections 2 and 4; DESIGN rules 1 to 9.

mod admission;
mod changes;
mod commit;
mod copy;
mod evaluate;
mod expire;
pub mod explore;
mod follow;
pub mod heir;
pub mod log;
mod places;
mod primary;
mod roles;
mod space;

use super::effect::{Note, WorkerEffect};
use super::lease::Bonds;
use super::limits::Limits;
use super::message::{Activity, LeaseAsk, PeerMessage, ProbeReport, SetReport, ToMeta};
use super::mutants::{Mutant, planted};
use super::space::Level;
use super::time::{Span, Time};
use super::timing::Timing;
use super::types::{
    Changes, Configuration, Epoch, Expiry, KeySet, LinkId, Member, Op, Position, Revision,
};
use super::view::View;
use crate::protocol::dedup::Dedup;
use crate::protocol::expiries::Expiries;
use follow::{Learner, Secondary};
use heir::Memory;
use log::Log;
use primary::{Phase, Primary};

/// What a replica may look at and act through while it handles one input.
pub struct Context<'a> {
    pub now: Time,
    pub me: Member,
    pub timing: &'a Timing,
    pub limits: &'a Limits,
    pub view: &'a View,
    /// Replication links that this worker dialled, by the follower at their other end.
    pub dialled: &'a std::collections::BTreeMap<Member, LinkId>,
    /// When the metaserver was last heard, and whether its link is up.
    pub meta_heard: Time,
    pub meta_up: bool,
    /// Bytes in the windows of all key sets of this worker.
    pub window_bytes: usize,
    /// The wall clock, once it is known.
    pub wall: Option<Expiry>,
    /// How full this server is; none where nothing is measured.
    pub level: Option<Level>,
    pub numbers: &'a mut Numbers,
    pub wishes: &'a mut Wishes,
    pub effects: &'a mut Vec<WorkerEffect>,
}

/// Numbers that a worker gives out, each once.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Numbers {
    pub token: u64,
    pub run: u64,
    pub change: u64,
}

/// What replicas ask of their worker.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Wishes {
    /// Replicas with something to send at the end of this batch of inputs.
    pub dirty: Vec<KeySet>,
    /// Look at the barred primaries again at this time.
    pub wake: Option<Time>,
    /// Some primary's followers changed: links may be needed or needless.
    pub followers_changed: bool,
}

impl Context<'_> {
    pub(crate) fn ask(&self) -> LeaseAsk {
        LeaseAsk { sent: self.now, lease: self.timing.lease }
    }

    /// Whether a message may ask for this lease: a promise must end some day.
    pub(crate) fn allows(&self, ask: LeaseAsk) -> bool {
        ask.lease <= Span::from_millis(self.limits.lease_ms_max)
    }

    pub(crate) fn effect(&mut self, effect: WorkerEffect) {
        self.effects.push(effect);
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.effects.push(WorkerEffect::Note { note });
    }

    pub(crate) fn wake_at(&mut self, time: Time) {
        self.wishes.wake = Some(self.wishes.wake.map_or(time, |wake| wake.min(time)));
    }

    /// The peer broke the protocol: its link is closed with the reason.
    pub(crate) fn misbehaved(&mut self, peer: Member, link: LinkId, reason: &'static str) {
        self.note(Note::Misbehaved { peer, reason });
        self.effect(WorkerEffect::CloseLink { link, reason });
    }
}

/// The role of a replica, with the state that is valid in it.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
enum Role {
    /// Not a member, and no copy is under way.
    Outside,
    Primary(Box<Primary>),
    Secondary(Secondary),
    Learner(Learner),
}

/// One replica.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Replica {
    set: KeySet,
    /// The newest configuration learned; older ones are fenced.
    configuration: Option<Configuration>,
    log: Log,
    dedup: Dedup,
    expiries: Expiries,
    bonds: Bonds,
    /// What it holds is a copy once its log reaches this op: it was a member from the set's
    /// beginning, or its copy run was complete. What a run wiped and did not finish is none.
    whole_from: Option<Op>,
    /// Its records are those of the set at this op, or newer: what copy runs that did not end
    /// brought. None where `whole_from` says more.
    base: Option<Op>,
    /// It came back with its predecessor's log, and has not learned what became of it.
    inherits: bool,
    memory: Memory,
    /// A copy's tombstones are kept until the committed point reaches the last chunk's op.
    settle_at: Option<Op>,
    role: Role,
    dirty: bool,
}

impl Replica {
    #[must_use]
    pub fn new(set: KeySet) -> Replica {
        Replica {
            set,
            configuration: None,
            log: Log::default(),
            dedup: Dedup::default(),
            expiries: Expiries::default(),
            bonds: Bonds::default(),
            whole_from: None,
            base: None,
            inherits: false,
            memory: Memory::default(),
            settle_at: None,
            role: Role::Outside,
            dirty: false,
        }
    }

    #[must_use]
    pub fn set(&self) -> KeySet {
        self.set
    }

    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        self.configuration.as_ref()
    }

    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    #[must_use]
    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// The epoch of the newest configuration learned.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.configuration.as_ref().map_or(Epoch(0), |it| it.epoch)
    }

    /// The position of the committed point.
    #[must_use]
    pub fn position(&self) -> Position {
        let (loss_epoch, epoch) = self
            .configuration
            .as_ref()
            .map_or_else(Default::default, |it| (it.loss_epoch, it.epoch));
        Position { loss_epoch, epoch, op: self.log.committed() }
    }

    /// The committed point as a base for a client's first write; only at an open primary.
    #[must_use]
    pub fn base(&self) -> Option<Revision> {
        match &self.role {
            Role::Primary(primary) if primary.phase == Phase::Open => {
                Some(self.position().revision())
            }
            Role::Primary(_) | Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        }
    }

    /// Whether this replica is primary of its newest configuration.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary(_))
    }

    /// Whether this replica is secondary of its newest configuration.
    #[must_use]
    pub fn is_secondary(&self) -> bool {
        matches!(self.role, Role::Secondary(_))
    }

    /// Whether a copy to this replica is under way.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        matches!(self.role, Role::Learner(_))
    }

    /// Whether this replica would answer a read at `now`: open, and under every lease.
    #[must_use]
    pub fn serves_reads(&self, now: Time, timing: &Timing) -> bool {
        match &self.role {
            Role::Primary(primary) => {
                let reads = match primary.phase {
                    Phase::Open => true,
                    Phase::Reconciling => planted(Mutant::ReadsUnreconciled),
                    Phase::Resigned => false,
                };
                reads && primary.leased(now, timing.lease)
            }
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => false,
        }
    }

    /// The end of the last lease that this primary holds, if it holds any.
    #[must_use]
    pub fn leased_until(&self, lease: Span) -> Option<Time> {
        match &self.role {
            Role::Primary(primary) => primary.leased_until(lease),
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        }
    }

    /// Requests waiting to be admitted.
    #[must_use]
    pub fn queued(&self) -> usize {
        match &self.role {
            Role::Primary(primary) => primary.requests.queued(),
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => 0,
        }
    }

    /// A sum of points that most inputs look at; for those who only want them looked at.
    #[must_use]
    pub fn points(&self) -> u64 {
        let role = match &self.role {
            Role::Outside | Role::Learner(_) => 0,
            Role::Primary(primary) => {
                let accepted = primary.followers.values().map(|it| it.accepted.0);
                accepted.fold(0, u64::wrapping_add)
            }
            Role::Secondary(secondary) => secondary.following.accepted.0,
        };
        let first = self.log.window().next().map_or(0, |entry| entry.op.0);
        role.wrapping_add(first).wrapping_add(self.log.committed().0)
    }

    /// Followers that this primary wants links to.
    pub fn followers(&self) -> impl Iterator<Item = Member> + '_ {
        let followers = match &self.role {
            Role::Primary(primary) if primary.phase != Phase::Resigned => Some(&primary.followers),
            Role::Primary(_) | Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        };
        followers.into_iter().flat_map(|it| it.keys().copied())
    }

    /// What this replica is doing, for the heartbeat; none if it holds nothing.
    #[must_use]
    pub fn report(&self, now: Time, timing: &Timing) -> Option<SetReport> {
        let activity = match &self.role {
            Role::Outside => return None,
            Role::Primary(primary) => match primary.phase {
                Phase::Reconciling => Activity::Reconciling,
                Phase::Resigned => Activity::Resigned,
                Phase::Open if primary.leased(now, timing.lease) => Activity::Open,
                Phase::Open => Activity::Paused,
            },
            Role::Secondary(_) => Activity::Secondary,
            Role::Learner(learner) => Activity::Learner { complete: learner.complete },
        };
        Some(SetReport {
            set: self.set,
            epoch: self.epoch(),
            activity,
            committed: self.log.committed(),
            prepared: self.log.prepared(),
        })
    }

    /// The answer to the metaserver's question whether this member still hears `suspect`.
    #[must_use]
    pub fn probe(&self, now: Time, suspect: Member) -> ProbeReport {
        let (last_epoch, last_op) = if self.is_whole() {
            (self.log.last_epoch(), self.log.prepared())
        } else {
            Default::default()
        };
        let hears = self.bonds.hears(suspect, now);
        ProbeReport { set: self.set, epoch: self.epoch(), hears, last_epoch, last_op }
    }

    /// A message of a peer worker about this set, from the member at the other end of `link`.
    pub fn on_message(
        &mut self,
        ctx: &mut Context<'_>,
        sender: (Member, LinkId),
        message: PeerMessage,
    ) {
        let (peer, link) = sender;
        if message.ask().is_some_and(|ask| !ctx.allows(ask)) {
            return ctx.misbehaved(peer, link, "a lease longer than any");
        }
        match message {
            PeerMessage::NewEpoch { configuration, committed, prepared, ask, .. } => {
                self.on_new_epoch(ctx, sender, &configuration, (committed, prepared), ask);
            }
            PeerMessage::Prepare { epoch, entries, commit, ask, .. } => {
                self.on_prepare(ctx, sender, epoch, entries, commit, ask);
            }
            PeerMessage::Ack { epoch, accepted, sent, .. } => {
                self.on_ack(ctx, sender, epoch, accepted, sent);
            }
            PeerMessage::Fenced { configuration, .. } => self.learn(ctx, &configuration),
            PeerMessage::Resigned { epoch, member, .. } => self.on_resignation(ctx, epoch, member),
            PeerMessage::RunStart { run, configuration, committed, dedup, ask, .. } => {
                self.on_run_start(ctx, sender, run, &configuration, (committed, dedup), ask);
            }
            PeerMessage::CopyChunk { run, after, through, read_at, records, .. } => {
                self.on_copy_chunk(ctx, sender, run, (after, through), read_at, records);
            }
            PeerMessage::ChunkStored { run, through, .. } => {
                self.on_chunk_acknowledged(ctx, sender, run, through.as_ref());
            }
            PeerMessage::RunBase { run, base, .. } => self.on_run_base(sender, run, base),
            PeerMessage::RunExpiries { run, keys, .. } => {
                self.on_run_expiries(ctx, sender, run, keys);
            }
            PeerMessage::CopyChanges {
                run,
                after,
                ends,
                through,
                read_at,
                records,
                deleted,
                ..
            } => {
                let changes = Changes { records, deleted, through: ends };
                self.on_copy_changes(ctx, sender, run, (after, through), read_at, changes);
            }
            PeerMessage::RunLost { run, .. } => self.on_run_lost(ctx, peer, run),
            PeerMessage::Space { level, .. } => self.on_level(ctx, sender, level),
            PeerMessage::Beacon { .. } | PeerMessage::Grant { .. } => {
                ctx.misbehaved(peer, link, "a datagram's message on a lane");
            }
        }
    }

    /// Takes a primary's word, however it came, that it serves nothing more in `epoch`.
    pub fn on_resignation(&mut self, ctx: &mut Context<'_>, epoch: Epoch, member: Member) {
        self.bonds.resign(member, epoch);
        self.try_open(ctx);
    }

    /// Some incarnation was proven dead: bonds to it are void.
    pub fn on_deaths(&mut self, ctx: &mut Context<'_>) {
        self.try_open(ctx);
    }

    /// The entries up to `through` are in the log, as the engine confirms.
    pub fn on_appended(&mut self, ctx: &mut Context<'_>, through: Op) {
        self.log.confirm_appended(through);
        match &self.role {
            Role::Primary(_) => self.advance(ctx),
            Role::Secondary(_) | Role::Learner(_) => self.mark_dirty(ctx),
            Role::Outside => {}
        }
    }

    /// Sends what this batch of inputs left to send.
    pub fn flush(&mut self, ctx: &mut Context<'_>) {
        self.dirty = false;
        match &self.role {
            Role::Primary(_) => self.replicate(ctx),
            Role::Secondary(_) | Role::Learner(_) => {
                self.tell_level(ctx);
                self.acknowledge(ctx);
            }
            Role::Outside => {}
        }
    }

    /// What time brings: expired requests, repeated asks, complaints, resignation.
    pub fn on_housekeeping(&mut self, ctx: &mut Context<'_>) {
        let me = ctx.me;
        let view = ctx.view;
        self.bonds.release(ctx.now, |member| member != me && view.is_dead(member));
        if self.is_primary() {
            self.expire_requests(ctx);
            self.try_open(ctx);
            self.repeat_changes(ctx);
            self.tend_runs(ctx);
            self.judge_pause(ctx);
            self.tell_commit_point(ctx);
            self.expire_keys(ctx);
            self.pump(ctx);
        }
    }

    pub(crate) fn mark_dirty(&mut self, ctx: &mut Context<'_>) {
        if !self.dirty {
            self.dirty = true;
            ctx.wishes.dirty.push(self.set);
        }
    }

    /// Tells everyone who is bound by it, and the metaserver, that this primary serves nothing
    /// more in `epoch`.
    pub(crate) fn spread_resignation(
        &self,
        ctx: &mut Context<'_>,
        epoch: Epoch,
        to: impl Iterator<Item = Member>,
    ) {
        let (set, member) = (self.set, ctx.me);
        for peer in to {
            if let Some(&link) = ctx.dialled.get(&peer) {
                ctx.effect(WorkerEffect::SendPeer {
                    link,
                    lane: super::effect::Lane::Set(set),
                    message: PeerMessage::Resigned { set, epoch, member },
                });
            }
        }
        ctx.effect(WorkerEffect::SendMeta { message: ToMeta::Resigned { set, epoch, member } });
        ctx.note(Note::Resigned { set, epoch });
    }
}
