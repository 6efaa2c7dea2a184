//! Replication at the primary: prepares out, acknowledgements in, commit, answers.

use std::rc::Rc;

use super::admission::Waiter;
use super::primary::Phase;
use super::{Context, Replica, Role};
use crate::protocol::effect::{Lane, WorkerEffect};
use crate::protocol::message::{Answer, PeerMessage};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::types::{Entry, Epoch, LinkId, Member, Op, Position, Revision};

impl Replica {
    /// Sends what each follower has not been sent yet, and hands it to the own log.
    pub(super) fn replicate(&mut self, ctx: &mut Context<'_>) {
        let (set, commit, prepared) = (self.set, self.log.committed(), self.log.prepared());
        let Role::Primary(primary) = &self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        let followers: Vec<Member> = primary.followers.keys().copied().collect();
        for member in followers {
            self.feed(ctx, member);
        }
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.appending < prepared {
            let start = primary.appending.max(commit);
            let entries: Vec<Rc<Entry>> = self.log.window_after(start).cloned().collect();
            primary.appending = prepared;
            ctx.effect(WorkerEffect::Append { set, entries });
        }
    }

    /// Sends one follower what it has not been sent yet.
    pub(super) fn feed(&mut self, ctx: &mut Context<'_>, member: Member) {
        let (set, epoch, commit) = (self.set, self.epoch(), self.log.committed());
        let prepared = self.log.prepared();
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&member) else { return };
        let Some(link) = follower.link else { return };
        if follower.run.as_ref().is_some_and(|run| !run.is_started()) {
            return;
        }
        if follower.accepted >= follower.sent {
            follower.moved = ctx.now;
        }
        while follower.sent < prepared {
            let start = follower.sent.max(commit);
            let entries = batch(self.log.window_after(start), ctx.limits.prepare_bytes_max);
            let bytes = entries.iter().map(|it| super::log::entry_bytes(it)).sum();
            follower.on_sent(entries.last().map_or(prepared, |entry| entry.op), bytes);
            follower.commit_sent = commit;
            let ask = ctx.ask();
            let message = PeerMessage::Prepare { set, epoch, entries, commit, ask };
            ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        }
    }

    /// Tells followers of commits that no write carried along.
    pub(super) fn tell_commit_point(&mut self, ctx: &mut Context<'_>) {
        let (set, epoch, commit) = (self.set, self.epoch(), self.log.committed());
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        for follower in primary.followers.values_mut() {
            let Some(link) = follower.link else { continue };
            let started = follower.run.as_ref().is_none_or(|run| run.is_started());
            if follower.commit_sent < commit && started {
                follower.commit_sent = commit;
                let (entries, ask) = (Vec::new(), ctx.ask());
                let message = PeerMessage::Prepare { set, epoch, entries, commit, ask };
                ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
            }
        }
    }

    /// A follower has everything up to `accepted`, and promised what the message sent at `sent`
    /// asked for.
    pub(super) fn on_ack(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        epoch: Epoch,
        accepted: Op,
        sent: Time,
    ) {
        if epoch != self.epoch() && !planted(Mutant::AcksOfAnyEpoch) {
            return;
        }
        let prepared = self.log.prepared();
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&peer) else { return };
        if follower.link != Some(link) || follower.is_of_earlier_run(sent) {
            return;
        }
        if accepted > prepared || sent > ctx.now {
            return ctx.misbehaved(peer, link, "an acknowledgement of what was never sent");
        }
        follower.greeted = true;
        follower.heard = ctx.now;
        follower.lease_from(sent, ctx.now);
        if accepted > follower.accepted || accepted >= follower.sent {
            follower.moved = ctx.now;
        }
        follower.on_accepted(accepted);
        // Who acknowledges this epoch serves nothing in an older one.
        self.bonds.resign(peer, Epoch(epoch.0.saturating_sub(1)));
        self.on_run_progress(ctx, peer);
        self.advance(ctx);
    }

    /// A follower granted a beacon.
    pub fn on_grant(
        &mut self,
        ctx: &mut Context<'_>,
        (peer, link): (Member, LinkId),
        epoch: Epoch,
        sent: Time,
    ) {
        let current = epoch == self.epoch() || planted(Mutant::AcksOfAnyEpoch);
        if !current || sent > ctx.now {
            return;
        }
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&peer) else { return };
        if follower.link != Some(link) || follower.is_of_earlier_run(sent) {
            return;
        }
        follower.heard = ctx.now;
        follower.lease_from(sent, ctx.now);
        let phase = primary.phase;
        if phase == Phase::Open {
            self.pump(ctx);
        }
    }

    /// Commits what every needed follower and the own log have, answers it, and goes on with
    /// whatever waited for that.
    pub(super) fn advance(&mut self, ctx: &mut Context<'_>) {
        let Role::Primary(primary) = &self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        let copies = self.configuration.as_ref().map_or(0, |it| it.copies());
        let mut through = self.log.appended();
        if let Some(cap) = primary.promised
            && copies < usize::from(ctx.limits.min_write_copies)
            && primary.phase == Phase::Open
        {
            through = through.min(cap);
        }
        for follower in primary.needed_to_commit() {
            if !follower.greeted {
                return;
            }
            through = through.min(follower.accepted);
        }
        let before = self.log.committed();
        while self.log.committed() < through {
            let Some(entry) = self.commit_one(ctx) else { break };
            self.answer_waiters(ctx, &entry);
        }
        self.try_open(ctx);
        if self.log.committed() > before {
            self.settle(ctx);
            self.pump(ctx);
        }
        self.try_propose(ctx);
        self.try_hand_over(ctx);
    }

    /// Moves the committed point by one: applies and records the entry.
    pub(super) fn commit_one(&mut self, ctx: &mut Context<'_>) -> Option<Rc<Entry>> {
        let loss_epoch = self.position().loss_epoch;
        let entry = self.log.commit_next()?;
        self.dedup.record(&entry, loss_epoch, ctx.limits.dedup_records_max);
        self.expiries.record(&entry);
        ctx.effect(WorkerEffect::Apply {
            set: self.set,
            revision: Revision { loss_epoch, op: entry.op },
            entry: entry.clone(),
            keep_tombstone: self.settle_at.is_some() && !planted(Mutant::CopyResurrects),
        });
        Some(entry)
    }

    fn answer_waiters(&mut self, ctx: &mut Context<'_>, entry: &Entry) {
        let Position { loss_epoch, epoch, .. } = self.position();
        let Role::Primary(primary) = &mut self.role else { return };
        let position = Position { loss_epoch, epoch: entry.born, op: entry.op };
        primary.requests.committed(entry);
        while let Some(waiter) = primary.requests.next_waiter(entry.op) {
            match waiter {
                Waiter::Write(ticket) => {
                    let answer = Answer::Written { position, written: entry.written };
                    ctx.effect(WorkerEffect::Reply { ticket, answer });
                }
                Waiter::Judged(waiting, verdict) => {
                    let now = ctx.now;
                    if primary.phase == Phase::Open && primary.leased(now, ctx.timing.lease) {
                        // It is a read: its position names the epoch in which it was judged.
                        let answer = verdict.answer(Position { epoch, ..position });
                        ctx.effect(WorkerEffect::Reply { ticket: waiting.ticket, answer });
                    } else {
                        primary.requests.enqueue(ctx, *waiting);
                    }
                }
            }
        }
    }
}

/// Entries from the front of `window`, at least one if there is any, up to a number of bytes.
fn batch<'a>(window: impl Iterator<Item = &'a Rc<Entry>>, bytes_max: usize) -> Vec<Rc<Entry>> {
    let mut bytes = 0;
    let mut entries = Vec::new();
    for entry in window {
        bytes += super::log::entry_bytes(entry);
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(entry.clone());
    }
    entries
}
