//! Writes at the primary: duplicates are recognised, conditions evaluated, places given.
//!
//! `cas`, `incr` and `delete` are judged over the committed state plus the window. What they come
//! to is an effect with its result; replicas never evaluate anything.

use std::rc::Rc;

use bytes::Bytes;

use super::admission::{Read, Waiter, Waiting, refuse};
use super::{Context, Replica, Role};
use crate::protocol::dedup::Known;
use crate::protocol::effect::{ReadToken, Ticket, WorkerEffect};
use crate::protocol::message::{Answer, Expect, Operation, Refusal, Rejection, Request};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::types::{Change, Entry, Key, Op, Origin, Position, Revision, Value, Written};

/// What a write that changes nothing is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Verdict {
    Absent,
    Mismatch(Option<Revision>),
    Rejected(Rejection),
}

impl Verdict {
    pub fn answer(self, position: Position) -> Answer {
        match self {
            Verdict::Absent => Answer::Absent { position },
            Verdict::Mismatch(found) => Answer::Mismatch { position, found },
            Verdict::Rejected(reason) => Answer::Rejected { position, reason },
        }
    }
}

type Found = Option<(Value, Revision)>;

impl Replica {
    /// Takes up a write: a duplicate is answered, the rest gets its place or is evaluated first.
    pub(super) fn admit_write(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        let Some(configuration) = &self.configuration else { return };
        let (copies, floor) = (configuration.copies() as u16, ctx.limits.min_write_copies);
        if copies < floor {
            return refuse(ctx, waiting.ticket, Refusal::BelowWriteFloor { copies, floor });
        }
        let Some(origin) = waiting.request.origin else {
            return refuse(ctx, waiting.ticket, Refusal::Malformed);
        };
        let position = self.position();
        let Role::Primary(primary) = &mut self.role else { return };
        let place = primary.requests.place_of(&origin);
        if let Some(op) = place.filter(|_| !planted(Mutant::RetryTwice)) {
            return primary.requests.wait_for(op, Waiter::Write(waiting.ticket));
        }
        let ticket = waiting.ticket;
        match self.dedup.look_up(&origin, position.loss_epoch) {
            Known::New => self.place_or_evaluate(ctx, waiting),
            Known::Done(position, written) => {
                let answer = Answer::Written { position, written };
                ctx.effect(WorkerEffect::Reply { ticket, answer });
            }
            Known::Forgotten => {
                ctx.effect(WorkerEffect::Reply { ticket, answer: Answer::Forgotten { position } });
            }
            Known::NoBase => refuse(ctx, ticket, Refusal::BaseNeeded { base: position.revision() }),
        }
    }

    fn place_or_evaluate(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(key) = waiting.request.operation.key() else { return };
        if let Some(held) = primary.requests.holds.get_mut(key) {
            if held.len() < ctx.limits.queue_requests_max {
                held.push_back(waiting);
            } else {
                refuse(ctx, waiting.ticket, Refusal::Busy);
            }
            return;
        }
        let lifetime = waiting.request.operation.lifetime_ms();
        let full = primary.full(ctx.me, ctx.level).is_some();
        if lifetime.is_some()
            && let Err(refusal) = self.judge_lifetime(ctx, key)
        {
            return refuse(ctx, waiting.ticket, refusal);
        }
        // Whether a plain put grows matters only where there is no room.
        let waiting = match waiting {
            Waiting {
                ticket,
                request:
                    Request {
                        operation:
                            Operation::Put { key, value } | Operation::PutFor { key, value, .. },
                        origin,
                        ..
                    },
                ..
            } if !full => {
                let change = self.stored(ctx, value, lifetime);
                return self.place(ctx, (ticket, origin), key, change, Written::Stored);
            }
            waiting => waiting,
        };
        let Some(key) = waiting.request.operation.key().cloned() else { return };
        let loss_epoch = self.position().loss_epoch;
        let latest = self.log.window().rev().find(|entry| entry.key == key).map(|entry| {
            let revision = Revision { loss_epoch, op: entry.op };
            (entry.op, entry.change.value().map(|value| (value.clone(), revision)))
        });
        if let Some((op, found)) = latest {
            return self.judge(ctx, waiting, found, op);
        }
        let at = self.log.committed();
        ctx.numbers.token += 1;
        let token = ReadToken(ctx.numbers.token);
        let Role::Primary(primary) = &mut self.role else { return };
        primary.requests.holds.insert(key.clone(), Default::default());
        primary.requests.begin_read(token, Read::Evaluate { waiting, at });
        ctx.effect(WorkerEffect::Read { set: self.set, token, key });
    }

    /// The read that an evaluation waited for is done; the writes behind it go on.
    pub(super) fn evaluate_read(
        &mut self,
        ctx: &mut Context<'_>,
        waiting: Waiting,
        at: Op,
        found: Found,
    ) {
        let Some(key) = waiting.request.operation.key().cloned() else { return };
        let Role::Primary(primary) = &mut self.role else { return };
        let held = primary.requests.holds.remove(&key).unwrap_or_default();
        self.judge(ctx, waiting, found, at);
        for waiting in held {
            self.admit_write(ctx, waiting);
        }
        self.try_hand_over(ctx);
    }

    /// Decides a conditional write over what it found, as of op `seen`.
    fn judge(&mut self, ctx: &mut Context<'_>, waiting: Waiting, found: Found, seen: Op) {
        let length = found.as_ref().map(|(value, _)| value.len());
        match verdict(&waiting.request.operation, found) {
            Ok((change, written)) => {
                let full = self.full(ctx).filter(|_| grows(&change, written, length));
                if let Some(server) = full {
                    return refuse(ctx, waiting.ticket, Refusal::Full { server });
                }
                let Some(key) = waiting.request.operation.key().cloned() else { return };
                let change = match change {
                    // A counter keeps its time.
                    Change::Put(value) if matches!(written, Written::Counter(_)) => {
                        match self.expiry_of(&key) {
                            Some(expiry) => Change::Expiring(value, expiry),
                            None => Change::Put(value),
                        }
                    }
                    Change::Put(value) => {
                        self.stored(ctx, value, waiting.request.operation.lifetime_ms())
                    }
                    Change::Delete | Change::Expiring(..) => change,
                };
                let asker = (waiting.ticket, waiting.request.origin);
                self.place(ctx, asker, key, change, written);
            }
            Err(verdict) => self.answer_failed(ctx, waiting, verdict, seen),
        }
    }

    /// A failed condition is a read: it is answered once what it saw has committed, under the
    /// same check as any read.
    fn answer_failed(
        &mut self,
        ctx: &mut Context<'_>,
        waiting: Waiting,
        verdict: Verdict,
        seen: Op,
    ) {
        let serves = self.serves_reads(ctx.now, ctx.timing);
        let mut position = self.position();
        let committed = self.log.committed();
        let Role::Primary(primary) = &mut self.role else { return };
        if seen > committed && !planted(Mutant::ConditionOnUncommitted) {
            primary.requests.wait_judged(ctx, seen, waiting, verdict);
        } else if serves {
            position.op = seen.max(position.op);
            let answer = verdict.answer(position);
            ctx.effect(WorkerEffect::Reply { ticket: waiting.ticket, answer });
        } else {
            primary.requests.enqueue(ctx, waiting);
        }
    }

    /// Gives a write the next op number.
    fn place(
        &mut self,
        ctx: &mut Context<'_>,
        (ticket, origin): (Ticket, Option<Origin>),
        key: Key,
        change: Change,
        written: Written,
    ) {
        let epoch = self.epoch();
        let entry = Entry {
            epoch,
            born: epoch,
            op: self.log.prepared().next(),
            origin,
            key,
            change,
            written,
        };
        let Role::Primary(primary) = &mut self.role else { return };
        primary.requests.placed(&entry, ticket);
        self.log.push(Rc::new(entry));
        self.mark_dirty(ctx);
    }
}

/// Whether a write makes the store larger, where a value of `length` bytes is now. A counter that
/// is there stays within its few digits.
fn grows(change: &Change, written: Written, length: Option<usize>) -> bool {
    match (change.value(), length) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some(_)) if matches!(written, Written::Counter(_)) => false,
        (Some(value), Some(length)) => value.len() > length,
    }
}

/// What a conditional write comes to: a change and its result, or nothing.
fn verdict(operation: &Operation, found: Found) -> Result<(Change, Written), Verdict> {
    let revision = found.as_ref().map(|(_, revision)| *revision);
    match operation {
        Operation::Delete { .. } => match found {
            Some(_) => Ok((Change::Delete, Written::Deleted)),
            None => Err(Verdict::Absent),
        },
        Operation::Cas { expect, .. } | Operation::CasFor { expect, .. } => {
            let holds = match (expect, &found) {
                (Expect::Absent, None) => true,
                (Expect::Value(expected), Some((value, _))) => expected == value,
                (Expect::Revision(expected), Some((_, revision))) => expected == revision,
                (Expect::Absent, Some(_)) | (Expect::Value(_) | Expect::Revision(_), None) => false,
            };
            if !holds {
                return Err(Verdict::Mismatch(revision));
            }
            Ok(match operation.value() {
                Some(value) => (Change::Put(value.clone()), Written::Stored),
                None => (Change::Delete, Written::Deleted),
            })
        }
        Operation::Incr { by, .. } => {
            let old = match &found {
                None => 0,
                Some((value, _)) => std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .ok_or(Verdict::Rejected(Rejection::NotANumber))?,
            };
            let new = old.checked_add(*by).ok_or(Verdict::Rejected(Rejection::Overflow))?;
            Ok((Change::Put(Bytes::from(new.to_string())), Written::Counter(new)))
        }
        Operation::Put { value, .. } | Operation::PutFor { value, .. } => {
            Ok((Change::Put(value.clone()), Written::Stored))
        }
        Operation::Get { .. } | Operation::Scan { .. } | Operation::Changes { .. } => {
            Err(Verdict::Absent)
        }
    }
}
