//! The following side: secondaries and learners take what their primary sends, and acknowledge.
//!
//! An acknowledgement is a promise (see `lease`) and a statement: everything up to `accepted` was
//! accepted in this epoch and is in the log. One acknowledgement a batch of inputs and key set.

use std::rc::Rc;

use super::{Context, Replica, Role};
use crate::protocol::effect::{Copied, Lane, Note, WorkerEffect};
use crate::protocol::message::{DedupSnapshot, LeaseAsk, PeerMessage};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::space::Level;
use crate::protocol::types::{
    Changes, Configuration, Entry, Epoch, Expiry, Key, LinkId, Member, Op, Position, Record,
    Revision, RunId,
};

/// What both kinds of followers keep of the primary that they follow.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Following {
    pub link: Option<LinkId>,
    pub accepted: Op,
    /// The newest message that is to be acknowledged.
    pub due: Option<LeaseAsk>,
    /// How full this server is, as the primary was told since the epoch's first message or the
    /// run's start.
    pub level: Option<Level>,
}

impl Following {
    pub fn forget_link(&mut self, link: LinkId) {
        if self.link == Some(link) {
            self.link = None;
            self.due = None;
        }
    }
}

/// A secondary's state.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Secondary {
    /// It took this epoch's first message.
    pub joined: bool,
    pub following: Following,
}

/// What the chunks of a run covered so far, without gaps.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Covered {
    Nothing,
    /// The keys up to this one.
    Keys(Key),
    /// The changes above the base up to this op.
    Changes(Op),
}

/// A learner's state.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Learner {
    pub primary: Member,
    pub run: RunId,
    pub covered: Covered,
    pub complete: bool,
    /// The primary was told so.
    pub reported: bool,
    pub following: Following,
}

impl Covered {
    /// Whether a chunk of the keys after `after` goes on from here. One from the first key on is
    /// sent also where changes turned out not to be known.
    fn joins(&self, after: Option<&Key>) -> bool {
        match self {
            Covered::Nothing | Covered::Changes(_) => after.is_none(),
            Covered::Keys(covered) => after == Some(covered),
        }
    }
}

impl Replica {
    /// A primary's first message of an epoch (rule 6).
    pub(super) fn on_new_epoch(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        configuration: &Configuration,
        (committed, prepared): (Op, Op),
        ask: LeaseAsk,
    ) {
        if configuration.primary != peer {
            return ctx.misbehaved(
                peer,
                link,
                "first message of an epoch from another than its primary",
            );
        }
        if configuration.epoch < self.epoch() {
            // A run's feed goes on over its primary's own change of epoch, on a new link too.
            if let Role::Learner(learner) = &mut self.role
                && learner.primary == peer
                && learner.complete
            {
                learner.following.link = Some(link);
                learner.following.level = None;
            }
            return self.fence(ctx, link);
        }
        self.learn(ctx, configuration);
        if self.configuration.as_ref() != Some(configuration) {
            return ctx.misbehaved(peer, link, "two configurations of one epoch");
        }
        match &mut self.role {
            Role::Secondary(secondary) => {
                if self.log.prepared() < committed || prepared < self.log.committed() {
                    return ctx.misbehaved(peer, link, "points that contradict this member's log");
                }
                secondary.following.link = Some(link);
                secondary.following.level = None;
                secondary.following.due = Some(ask);
                if !secondary.joined || planted(Mutant::FirstMessageTwice) {
                    secondary.joined = true;
                    secondary.following.accepted = committed.max(self.log.committed());
                    let prepared = if planted(Mutant::CutsToCommitPoint) {
                        self.log.committed()
                    } else {
                        prepared
                    };
                    if !planted(Mutant::NeverCuts) && self.log.cut(prepared) {
                        ctx.effect(WorkerEffect::Cut { set: self.set, through: prepared });
                    }
                }
                self.follow_commit_point(ctx, committed);
                self.mark_dirty(ctx);
            }
            // A complete learner may be proposed already, and then goes on over a new link.
            Role::Learner(learner)
                if learner.primary == peer
                    && (learner.complete || learner.following.link == Some(link)) =>
            {
                learner.following.link = Some(link);
                learner.following.level = None;
                learner.following.due = Some(ask);
                self.mark_dirty(ctx);
            }
            Role::Learner(_) | Role::Outside => {}
            Role::Primary(_) => {
                ctx.misbehaved(peer, link, "first message of an epoch to its primary")
            }
        }
    }

    /// Writes of the primary, or its commit point alone (rule 1).
    pub(super) fn on_prepare(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        epoch: Epoch,
        entries: Vec<Rc<Entry>>,
        commit: Op,
        ask: LeaseAsk,
    ) {
        let current = epoch == self.epoch() || planted(Mutant::OldEpochAccepted);
        // A run's feed goes on over its primary's own change of epoch.
        let feeds = matches!(&self.role, Role::Learner(it) if it.primary == peer);
        if epoch < self.epoch() {
            self.fence(ctx, link);
        }
        let feeds_on = feeds && epoch < self.epoch();
        if !(current || feeds_on) {
            return;
        }
        let following = match &mut self.role {
            Role::Secondary(secondary) if secondary.joined => &mut secondary.following,
            Role::Learner(learner) => &mut learner.following,
            Role::Secondary(_) | Role::Primary(_) | Role::Outside => return,
        };
        if following.link != Some(link) && !planted(Mutant::OldEpochAccepted) {
            return;
        }
        let mut fresh = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.op <= following.accepted {
                continue;
            }
            if entry.op != following.accepted.next() || !self.log.place(entry.clone()) {
                return ctx.misbehaved(peer, link, "a gap in the writes");
            }
            following.accepted = entry.op;
            fresh.push(entry);
        }
        if current {
            following.due = Some(ask);
        }
        if !fresh.is_empty() {
            ctx.effect(WorkerEffect::Append { set: self.set, entries: fresh });
        }
        self.follow_commit_point(ctx, commit);
        self.mark_dirty(ctx);
    }

    /// Applies what the primary committed, as far as it was accepted in this epoch.
    fn follow_commit_point(&mut self, ctx: &mut Context<'_>, commit: Op) {
        let accepted = match &self.role {
            Role::Secondary(secondary) => secondary.following.accepted,
            Role::Learner(learner) => learner.following.accepted,
            Role::Primary(_) | Role::Outside => return,
        };
        while self.log.committed() < commit.min(accepted) {
            if self.commit_one(ctx).is_none() {
                break;
            }
        }
        self.settle(ctx);
    }

    /// Drops a finished copy's tombstones once nothing older than its chunks can be applied.
    pub(super) fn settle(&mut self, ctx: &mut Context<'_>) {
        let copying = matches!(&self.role, Role::Learner(learner) if !learner.complete);
        if !copying && self.settle_at.is_some_and(|at| at <= self.log.committed()) {
            self.settle_at = None;
            ctx.effect(WorkerEffect::DropTombstones { set: self.set });
        }
    }

    /// Answers a message of an older epoch with the newest configuration.
    pub(super) fn fence(&mut self, ctx: &mut Context<'_>, link: LinkId) {
        if let Some(configuration) = self.configuration.clone() {
            let set = self.set;
            let message = PeerMessage::Fenced { set, configuration };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        }
    }

    /// Sends the acknowledgement that is due.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context<'_>) {
        let (set, epoch) = (self.set, self.epoch());
        let Some(primary) = self.configuration.as_ref().map(|it| it.primary) else { return };
        let following = match &self.role {
            Role::Secondary(secondary) => &secondary.following,
            Role::Learner(learner) => &learner.following,
            Role::Primary(_) | Role::Outside => return,
        };
        let Some(link) = following.link else { return };
        let Some(ask) = following.due else { return };
        if !self.may_promise(ctx, primary, ask) {
            return;
        }
        let following = match &mut self.role {
            Role::Secondary(secondary) => &mut secondary.following,
            Role::Learner(learner) => &mut learner.following,
            Role::Primary(_) | Role::Outside => return,
        };
        following.due = None;
        let accepted = following.accepted.min(self.log.appended());
        if accepted < following.accepted {
            // The log is still at it: this much now, the rest when it is appended.
            following.due = Some(ask);
        }
        self.promise(ctx, primary, ask);
        let message = PeerMessage::Ack { set, epoch, accepted, sent: ask.sent };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
    }

    /// Grants the lease that a beacon asks for, if this replica follows that primary in that
    /// epoch; the accepted point goes along as progress.
    pub fn grant(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        epoch: Epoch,
        ask: LeaseAsk,
    ) -> Option<Op> {
        if epoch < self.epoch() {
            self.fence(ctx, link);
            return None;
        }
        let primary = self.configuration.as_ref()?.primary;
        let following = match &self.role {
            Role::Secondary(secondary) if secondary.joined => &secondary.following,
            Role::Learner(learner) => &learner.following,
            Role::Secondary(_) | Role::Primary(_) | Role::Outside => return None,
        };
        if epoch != self.epoch() || primary != peer || following.link != Some(link) {
            return None;
        }
        let accepted = following.accepted;
        if !self.may_promise(ctx, peer, ask) {
            return None;
        }
        self.promise(ctx, peer, ask);
        Some(accepted)
    }

    /// Whether an heir would know of the promise that a message of `primary` asks for. If not, the
    /// engine is asked to remember it, and an acknowledgement that is due waits for that.
    fn may_promise(&mut self, ctx: &mut Context<'_>, primary: Member, ask: LeaseAsk) -> bool {
        let promise = ctx.timing.promise(ask.lease);
        if self.bonds.tie(primary, self.epoch(), promise) {
            self.remember(ctx);
        }
        self.is_remembered()
    }

    /// Promises what a message of `primary` asks for.
    fn promise(&mut self, ctx: &Context<'_>, primary: Member, ask: LeaseAsk) {
        let learner = matches!(self.role, Role::Learner(_));
        if learner && planted(Mutant::LearnerPromisesNothing) {
            return;
        }
        let promise = ctx.timing.promise(ask.lease);
        self.bonds.promise(primary, self.epoch(), ctx.now, ask.lease, promise);
    }

    /// A primary starts copying this set to this server (rule 5).
    pub(super) fn on_run_start(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        run: RunId,
        configuration: &Configuration,
        (committed, dedup): (Op, DedupSnapshot),
        ask: LeaseAsk,
    ) {
        if configuration.primary != peer || configuration.contains(ctx.me) {
            return ctx.misbehaved(peer, link, "a copy run that is not its sender's to start");
        }
        let takes_any = planted(Mutant::HeirWiped);
        if configuration.epoch < self.epoch() && !takes_any {
            self.end_run_of(ctx, peer, run);
            let message = PeerMessage::RunLost { set: self.set, run };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(self.set), message });
            return self.fence(ctx, link);
        }
        self.learn(ctx, configuration);
        let known = self.configuration.as_ref() == Some(configuration);
        let member = matches!(self.role, Role::Primary(_) | Role::Secondary(_));
        if (!known || member) && !takes_any {
            return ctx.misbehaved(peer, link, "a copy run to a member");
        }
        let base = self.start_as_learner(ctx, committed, dedup);
        if let Some(base) = base {
            let message = PeerMessage::RunBase { set: self.set, run, base };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(self.set), message });
        }
        self.role = Role::Learner(Learner {
            primary: peer,
            run,
            covered: Covered::Nothing,
            complete: false,
            reported: false,
            following: Following {
                link: Some(link),
                accepted: committed,
                due: Some(ask),
                level: None,
            },
        });
        ctx.note(Note::RunStarted { set: self.set, learner: ctx.me });
        self.mark_dirty(ctx);
    }

    /// The primary of this learner's run began another one: what it sends from now on is not the
    /// feed of this run, also where the other one is refused.
    fn end_run_of(&mut self, ctx: &mut Context<'_>, primary: Member, next: RunId) {
        let ends = match &self.role {
            Role::Learner(learner) => learner.primary == primary && learner.run != next,
            Role::Primary(_) | Role::Secondary(_) | Role::Outside => false,
        };
        if ends {
            self.role = Role::Outside;
            self.whole_from = None;
            self.remember(ctx);
        }
    }

    /// A chunk of the set as it stood at `read_at`.
    pub(super) fn on_copy_chunk(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        run: RunId,
        (after, through): (Option<Key>, Option<Key>),
        read_at: Op,
        records: Vec<Record>,
    ) {
        let set = self.set;
        let loss_epoch = self.position().loss_epoch;
        let known = match &mut self.role {
            Role::Learner(learner) => {
                let known = (learner.run == run || planted(Mutant::StaleChunk))
                    && learner.primary == peer
                    && !learner.complete
                    && (learner.covered.joins(after.as_ref()) || planted(Mutant::StaleChunk));
                if let Some(through) = through.as_ref().filter(|_| known) {
                    learner.covered = Covered::Keys(through.clone());
                }
                known
            }
            Role::Primary(_) | Role::Secondary(_) | Role::Outside => false,
        };
        if !known {
            return self.lose_run(ctx, link, run);
        }
        self.settle_at = self.settle_at.max(Some(read_at));
        let read_at = if planted(Mutant::CopyOverwrites) { Op(u64::MAX) } else { read_at };
        let read_at = Revision { loss_epoch, op: read_at };
        ctx.effect(WorkerEffect::StoreChunk { set, run, after, through, read_at, records });
    }

    /// What the keys are that writes changed, as of `read_at`: those above the base of this run, or
    /// above what came so far.
    pub(super) fn on_copy_changes(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        run: RunId,
        (after, through): (Op, Option<Key>),
        read_at: Op,
        changes: Changes,
    ) {
        let (set, base) = (self.set, self.base);
        let Position { loss_epoch, .. } = self.position();
        let Changes { records, deleted, through: ends } = changes;
        let known = match &mut self.role {
            Role::Learner(it) if it.run == run && it.primary == peer && !it.complete => {
                let joins = match it.covered {
                    Covered::Nothing => base == Some(after),
                    Covered::Changes(covered) => covered == after,
                    Covered::Keys(_) => false,
                };
                if joins {
                    it.covered = Covered::Changes(ends);
                }
                joins
            }
            Role::Learner(_) | Role::Primary(_) | Role::Secondary(_) | Role::Outside => false,
        };
        if !known {
            return self.lose_run(ctx, link, run);
        }
        self.settle_at = self.settle_at.max(Some(read_at));
        let read_at = Revision { loss_epoch, op: read_at };
        let effect = WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted };
        ctx.effect(effect);
    }

    /// A part of what the primary knew of expiries when the run started; the feed has the rest.
    pub(super) fn on_run_expiries(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        run: RunId,
        keys: Vec<(Key, Expiry)>,
    ) {
        let set = self.set;
        match &self.role {
            Role::Learner(it) if it.run == run && it.primary == peer => {}
            Role::Learner(_) | Role::Primary(_) | Role::Secondary(_) | Role::Outside => return,
        }
        if self.expiries.bytes() > 2 * ctx.limits.expiries_bytes_max as usize {
            return ctx.misbehaved(peer, link, "more expiries than there may be");
        }
        self.expiries.extend(&keys);
        ctx.effect(WorkerEffect::Expire { set, keys });
    }

    fn lose_run(&self, ctx: &mut Context<'_>, link: LinkId, run: RunId) {
        let set = self.set;
        let message = PeerMessage::RunLost { set, run };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
    }

    /// The engine stored a chunk.
    pub fn on_chunk_stored(&mut self, ctx: &mut Context<'_>, run: RunId, through: Option<Key>) {
        let set = self.set;
        let Role::Learner(learner) = &mut self.role else { return };
        if learner.run != run {
            return;
        }
        if through.is_none() {
            learner.complete = true;
            self.whole_from = self.settle_at.or(Some(self.log.committed()));
            let copied = Copied::default();
            ctx.note(Note::RunEnded { set, learner: ctx.me, complete: true, copied });
            self.remember(ctx);
            self.report_complete(ctx);
        } else if let Some(link) = learner.following.link {
            let message = PeerMessage::ChunkStored { set, run, through };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        }
        self.settle(ctx);
    }
}
