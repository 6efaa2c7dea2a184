//! Copy runs at the primary (rule 5).
//!
//! ```text
//!   Idle --link up--> Starting --first ack--> Scanning --last chunk stored--> Complete
//!    ^                    |                      |                               |
//!    +---- link down, run lost, or fell behind --+-------------------------------+
//! ```
//!
//! The live feed starts with the whole window before the scan begins, so that every write is
//! either in a chunk or in the feed, and mostly in both.
//!
//! A learner that was a copy up to some op says so (its base): then it is sent what the keys that
//! changed since are now, if the engine still knows which they are, and otherwise everything.

use super::admission::Read;
use super::expire::parts;
use super::log::Log;
use super::primary::{Follower, Phase, Primary};
use super::{Context, Replica, Role};
use crate::protocol::effect::{Copied, Lane, Note, ReadToken, WorkerEffect};
use crate::protocol::message::PeerMessage;
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::space::Level;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Changes, Epoch, Key, LinkId, Member, Op, Record, RecoveryId, RunId};

/// A complete learner that is at most this many writes behind is worth holding writes up for.
const BARRIER_LAG_MAX: u64 = 256;

/// What a run has read.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
enum Cursor {
    /// Records up to this key; none at the start.
    Records(Option<Key>),
    /// The changes above the learner's base up to this op.
    Changes(Op),
}

/// Where a run stands.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
enum Stage {
    /// No run: the next one starts when the link is up, not before the time.
    Idle {
        not_before: Time,
    },
    /// The learner was told.
    Starting,
    Scanning {
        cursor: Cursor,
        reading: bool,
        /// The scan reached the end.
        read_all: bool,
        in_flight: u32,
    },
    Complete {
        since: Time,
    },
}

/// The copy of one key set to one learner.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Run {
    pub recovery: RecoveryId,
    id: RunId,
    /// When the learner was told; older acknowledgements belong to earlier runs.
    pub started: Time,
    /// Writes above this op are in the live feed.
    fed_from: Op,
    /// The learner holds the set as it was at this op.
    base: Option<Op>,
    stage: Stage,
    /// When the last chunk was stored, or the scan began.
    moved: Time,
    copied: Copied,
}

impl Run {
    fn idle(recovery: RecoveryId, not_before: Time) -> Run {
        let stage = Stage::Idle { not_before };
        let (started, moved) = (not_before, not_before);
        let (fed_from, base) = (Op(0), None);
        let copied = Copied::default();
        Run { recovery, id: RunId(0), started, fed_from, base, stage, moved, copied }
    }

    /// The learner was told, so that the live feed may go to it.
    pub fn is_started(&self) -> bool {
        !matches!(self.stage, Stage::Idle { .. })
    }

    /// The learner holds the whole set, and may be proposed.
    pub fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Complete { .. })
    }

    /// For explorers: when a chunk was last stored does not count, nor what was sent.
    pub fn forget_moved(&mut self) {
        self.moved = super::explore::NO_TIME;
        self.copied = Copied::default();
    }

    fn count(&mut self, records: &[Record], deleted: &[Key]) {
        let bytes = |it: &Record| (it.key.len() + it.value.len()) as u64;
        self.copied.keys += (records.len() + deleted.len()) as u64;
        self.copied.bytes += records.iter().map(bytes).sum::<u64>();
        self.copied.bytes += deleted.iter().map(|key| key.len() as u64).sum::<u64>();
    }

    /// For explorers: how long it has been complete does not count.
    pub fn forget_since(&mut self) {
        if let Stage::Complete { since } = &mut self.stage {
            *since = super::explore::NO_TIME;
        }
    }

    /// For how long it has been complete; none if it is not.
    fn complete_for(&self, now: Time) -> Option<Span> {
        match self.stage {
            Stage::Complete { since } => Some(now.since(since)),
            Stage::Idle { .. } | Stage::Starting | Stage::Scanning { .. } => None,
        }
    }
}

impl Replica {
    /// The metaserver orders a copy. Repeating the order is harmless.
    pub fn on_copy_order(
        &mut self,
        ctx: &mut Context<'_>,
        epoch: Epoch,
        learner: Member,
        recovery: RecoveryId,
    ) {
        if epoch != self.epoch() || learner == ctx.me {
            return;
        }
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        if let Some(follower) = primary.followers.entry(&learner) {
            if let Some(run) = &mut follower.run {
                run.recovery = recovery;
            }
            return;
        }
        let link = ctx.dialled.get(&learner).copied();
        let run = Run::idle(recovery, ctx.now);
        primary.followers.insert(learner, Follower::new(ctx.now, link, Some(run)));
        ctx.wishes.followers_changed = true;
        self.start_run(ctx, learner);
    }

    /// The metaserver takes the order back; a proposed learner stays until the outcome is known.
    pub fn on_cancel_copy(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let Role::Primary(primary) = &mut self.role else { return };
        let is_learner = primary.followers.get(&learner).is_some_and(|it| it.run.is_some());
        if is_learner && primary.proposed != Some(learner) {
            primary.followers.remove(&learner);
            ctx.wishes.followers_changed = true;
        }
    }

    /// Starts a run if the link is up and the time has come.
    pub(super) fn start_run(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let Some(configuration) = self.configuration.clone() else { return };
        let (set, mut committed) = (self.set, self.log.committed());
        if planted(Mutant::FeedFromPrepared) {
            committed = self.log.prepared();
        }
        let copied = !planted(Mutant::DedupNotCopied);
        let dedup = if copied { self.dedup.snapshot() } else { Default::default() };
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        let (Some(link), Some(run)) = (follower.link, &mut follower.run) else { return };
        let Stage::Idle { not_before } = run.stage else { return };
        if not_before > ctx.now {
            return;
        }
        ctx.numbers.run += 1;
        // Unlike that of any other primary: a store that is late confirms chunks of the run
        // before this one, to a learner that knows runs by their number alone.
        run.id = RunId(ctx.me.incarnation.0 << 32 | ctx.numbers.run);
        run.stage = Stage::Starting;
        run.started = ctx.now;
        (run.fed_from, run.base, run.copied) = (committed, None, Copied::default());
        follower.in_flight.clear();
        follower.in_flight_bytes = 0;
        follower.greeted = false;
        follower.sent = committed;
        follower.commit_sent = committed;
        follower.accepted = committed;
        follower.leased_from = None;
        follower.heard = ctx.now;
        let (run, ask) = (run.id, ctx.ask());
        let message = PeerMessage::RunStart { set, run, configuration, committed, dedup, ask };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        for keys in parts(self.expiries.snapshot(), ctx.limits.chunk_bytes_max as usize) {
            let message = PeerMessage::RunExpiries { set, run, keys };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        }
        ctx.note(Note::RunStarted { set, learner });
        // At once: nothing waits for a learner, so that what is in the window now may be committed
        // and out of it before the batch ends.
        self.feed(ctx, learner);
    }

    /// The learner was a copy up to `base`.
    pub(super) fn on_run_base(
        &mut self,
        (learner, link): (Member, LinkId),
        run_id: RunId,
        base: Op,
    ) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        let known = follower.link == Some(link);
        let Some(run) = &mut follower.run else { return };
        if known && run.id == run_id && run.stage == Stage::Starting && base <= run.fed_from {
            run.base = Some(base);
        }
    }

    /// An acknowledgement came: a starting run scans, a lagging learner loses its run.
    pub(super) fn on_run_progress(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(run) = primary.followers.entry(&learner).and_then(|it| it.run.as_mut()) else {
            return;
        };
        if run.stage == Stage::Starting {
            run.moved = ctx.now;
            let cursor = run.base.map_or(Cursor::Records(None), Cursor::Changes);
            run.stage = Stage::Scanning { cursor, reading: false, read_all: false, in_flight: 0 };
            self.read_next_chunk(ctx, learner);
        }
    }

    fn read_next_chunk(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let (set, at) = (self.set, self.log.committed());
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        if follower.level >= Level::Hard {
            // It goes on when the learner has room again.
            return;
        }
        let Some(run) = &mut follower.run else { return };
        let Stage::Scanning { cursor, reading, read_all, in_flight } = &mut run.stage else {
            return;
        };
        if *reading || *read_all || *in_flight >= ctx.limits.chunks_in_flight_max {
            return;
        }
        *reading = true;
        ctx.numbers.token += 1;
        let token = ReadToken(ctx.numbers.token);
        let run_id = run.id;
        let (items_max, bytes_max) = (ctx.limits.chunk_items_max, ctx.limits.chunk_bytes_max);
        match cursor.clone() {
            Cursor::Records(after) => {
                let read = Read::Copy { learner, run: run_id, after: after.clone(), at };
                primary.requests.begin_read(token, read);
                let prefix = Key::new();
                let effect =
                    WorkerEffect::ReadRange { set, token, prefix, after, items_max, bytes_max };
                ctx.effect(effect);
            }
            Cursor::Changes(after) => {
                let span = (after, run.fed_from);
                let read = Read::Changes { learner, run: run_id, after, at };
                primary.requests.begin_read(token, read);
                let items_max = items_max.min(ctx.limits.changes_items_max);
                let effect = WorkerEffect::ReadChanges { set, token, span, items_max, bytes_max };
                ctx.effect(effect);
            }
        }
    }

    /// A learner that was full has room again.
    pub(super) fn resume_run(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        if let Some(run) = &mut follower.run {
            run.moved = ctx.now;
            self.read_next_chunk(ctx, learner);
        }
    }

    /// A chunk was read: off it goes.
    pub(super) fn send_chunk(
        &mut self,
        ctx: &mut Context<'_>,
        (learner, run_id): (Member, RunId),
        after: Option<Key>,
        read_at: Op,
        records: Vec<Record>,
        more: bool,
    ) {
        let set = self.set;
        let Role::Primary(primary) = &mut self.role else { return };
        let Some((link, run)) = run_to(primary, learner, run_id) else { return };
        let Stage::Scanning { cursor, reading, read_all, in_flight } = &mut run.stage else {
            return;
        };
        let through = if more { records.last().map(|it| it.key.clone()) } else { None };
        *reading = false;
        *read_all = through.is_none();
        *in_flight += 1;
        *cursor = Cursor::Records(through.clone());
        run.count(&records, &[]);
        run.copied.base = None;
        let message = PeerMessage::CopyChunk { set, run: run_id, after, through, read_at, records };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Bulk(set), message });
        self.read_next_chunk(ctx, learner);
    }

    /// Changes were looked up: off they go, or everything if they are not known any more.
    pub(super) fn send_changes(
        &mut self,
        ctx: &mut Context<'_>,
        (learner, run_id): (Member, RunId),
        after: Op,
        read_at: Op,
        found: Option<Changes>,
    ) {
        let set = self.set;
        let Role::Primary(primary) = &mut self.role else { return };
        let Some((link, run)) = run_to(primary, learner, run_id) else { return };
        let Stage::Scanning { cursor, reading, read_all, in_flight } = &mut run.stage else {
            return;
        };
        *reading = false;
        let Some(Changes { records, mut deleted, through: ends }) = found else {
            *cursor = Cursor::Records(None);
            return self.read_next_chunk(ctx, learner);
        };
        if planted(Mutant::ChangesWithoutDeletes) {
            deleted.clear();
        }
        let last = records.last().map(|it| &it.key).or(deleted.last()).cloned();
        let through = if ends < run.fed_from { last } else { None };
        *read_all = through.is_none();
        *in_flight += 1;
        *cursor = Cursor::Changes(ends);
        run.count(&records, &deleted);
        run.copied.base = run.base;
        let run = run_id;
        let message =
            PeerMessage::CopyChanges { set, run, after, ends, through, read_at, records, deleted };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Bulk(set), message });
        self.read_next_chunk(ctx, learner);
    }

    /// The learner stored a chunk.
    pub(super) fn on_chunk_acknowledged(
        &mut self,
        ctx: &mut Context<'_>,
        (learner, link): (Member, LinkId),
        run_id: RunId,
        through: Option<&Key>,
    ) {
        let set = self.set;
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        let Some(run) = &mut follower.run else { return };
        if run.id != run_id || follower.link != Some(link) {
            return;
        }
        let Stage::Scanning { in_flight, .. } = &mut run.stage else { return };
        *in_flight = in_flight.saturating_sub(1);
        follower.heard = ctx.now;
        run.moved = ctx.now;
        if through.is_some() {
            return self.read_next_chunk(ctx, learner);
        }
        run.stage = Stage::Complete { since: ctx.now };
        let copied = run.copied;
        ctx.note(Note::RunEnded { set, learner, complete: true, copied });
        self.try_propose(ctx);
    }

    /// The learner does not know this run.
    pub(super) fn on_run_lost(&mut self, ctx: &mut Context<'_>, learner: Member, run_id: RunId) {
        let Role::Primary(primary) = &mut self.role else { return };
        let run = primary.followers.get(&learner).and_then(|it| it.run.as_ref());
        let lost = run.is_some_and(|run| run.id == run_id && run.is_started());
        if lost && primary.proposed != Some(learner) {
            self.abort_run(ctx, learner);
        }
    }

    /// Chunks on their way are lost: a run that is scanning starts over.
    pub fn on_bulk_down(&mut self, ctx: &mut Context<'_>, link: LinkId) {
        let Role::Primary(primary) = &mut self.role else { return };
        let broken = primary.followers.iter().find_map(|(&member, it)| {
            let scanning = matches!(it.run.as_ref()?.stage, Stage::Scanning { .. });
            (scanning && it.link == Some(link)).then_some(member)
        });
        if let Some(learner) = broken {
            self.abort_run(ctx, learner);
        }
    }

    /// Ends a run without success; the next one starts after a while. A proposed learner stays
    /// needed until the outcome of its proposal is known.
    pub(super) fn abort_run(&mut self, ctx: &mut Context<'_>, learner: Member) {
        let (set, not_before) = (self.set, ctx.now + ctx.timing.heartbeat);
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&learner) else { return };
        let Some(run) = &mut follower.run else { return };
        if run.is_started() {
            let copied = run.copied;
            *run = Run::idle(run.recovery, not_before);
            follower.greeted = false;
            primary.barrier = None;
            ctx.note(Note::RunEnded { set, learner, complete: false, copied });
        }
    }

    /// Starts runs whose time has come, drops those that fell behind, and holds writes up for a
    /// moment where only a steady stream of them keeps a complete learner from being proposed.
    pub(super) fn tend_runs(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        let prepared = self.log.prepared();
        let Role::Primary(primary) = &mut self.role else { return };
        let mut start = Vec::new();
        let mut abort = Vec::new();
        for (&learner, follower) in primary.followers.iter() {
            let Some(run) = &follower.run else { continue };
            if ctx.view.is_dead(learner) && primary.proposed != Some(learner) {
                abort.push((learner, true));
            } else if !run.is_started() {
                start.push(learner);
            } else if lost(follower, &self.log, ctx) && primary.proposed != Some(learner) {
                abort.push((learner, false));
            }
            let waited = run.complete_for(now) >= Some(ctx.timing.heartbeat);
            let behind = prepared.0.saturating_sub(follower.accepted.0);
            let near = run.is_complete() && (1..=BARRIER_LAG_MAX).contains(&behind);
            let may = ctx.meta_up && primary.pending.is_none() && primary.barrier_not_before <= now;
            if waited && near && may {
                primary.barrier = Some(now + ctx.timing.heartbeat);
                primary.barrier_not_before = now + ctx.timing.heartbeat.scaled(20, 1);
            }
        }
        for (learner, dead) in abort {
            self.abort_run(ctx, learner);
            if dead {
                self.on_cancel_copy(ctx, learner);
            }
        }
        for learner in start {
            self.start_run(ctx, learner);
        }
        self.try_propose(ctx);
    }
}

/// The run with this number to a learner, and the link that it has.
fn run_to(primary: &mut Primary, learner: Member, id: RunId) -> Option<(LinkId, &mut Run)> {
    let follower = primary.followers.entry(&learner)?;
    let run = follower.run.as_mut().filter(|run| run.id == id)?;
    Some((follower.link?, run))
}

/// Whether a learner fell silent, or so far behind that its run is not worth its memory.
fn lost(follower: &Follower, log: &Log, ctx: &Context<'_>) -> bool {
    let behind = log.prepared().0.saturating_sub(follower.accepted.0);
    let patience = ctx.timing.complain + ctx.timing.complain;
    let silent = ctx.now.since(follower.heard) >= patience;
    let full = follower.level >= Level::Hard;
    // Its bulk link may be cut where its replication link is not.
    let starved = follower.run.as_ref().is_some_and(|run| {
        let waits = matches!(run.stage, Stage::Scanning { in_flight, .. } if in_flight > 0);
        waits && ctx.now.since(run.moved) >= patience + patience
    });
    // Accepting nothing of what was sent: something on its way to it was lost.
    let stuck = follower.accepted < follower.sent && ctx.now.since(follower.moved) >= patience;
    let heavy = follower.in_flight_bytes > ctx.limits.learner_lag_bytes_max;
    silent || (starved || stuck) && !full || heavy || behind > ctx.limits.learner_lag_ops_max
}
