//! Requests at the primary: admitted, queued within limits, or refused.
//!
//! A request waits in the queue only before admission: whatever is refused from there is surely
//! not done. Once a write has its op number, only its commit answers it.

use std::collections::{BTreeMap, VecDeque};

use super::evaluate::Verdict;
use super::places::Places;
use super::primary::{Phase, Primary};
use super::{Context, Replica, Role};
use crate::protocol::effect::{ReadToken, Ticket, WorkerEffect};
use crate::protocol::message::{Answer, Operation, Refusal, Rejection, Request};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::types::{
    Changes, Entry, Key, LinkId, Member, Op, Origin, Position, Record, Revision, RunId, Value,
};

/// A request that is not admitted yet.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Waiting {
    pub ticket: Ticket,
    pub request: Request,
    /// When its patience ends.
    pub until: Time,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let value = self.request.operation.value().map_or(0, Value::len);
        64 + value + self.request.operation.key().map_or(0, Key::len)
    }
}

/// Who is answered when an op commits.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Waiter {
    /// The write itself, or a duplicate of it.
    Write(Ticket),
    /// A write that came to nothing because of what that op does: in effect a read.
    Judged(Box<Waiting>, Verdict),
}

/// Why a read is under way.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Read {
    /// A client's `get`; `at` is the committed point when it was asked of the store.
    Get { ticket: Ticket, until: Time, at: Op },
    /// A client's `scan`, or its question for changes.
    Scan { waiting: Waiting, at: Op },
    /// To evaluate a write.
    Evaluate { waiting: Waiting, at: Op },
    /// For a copy run.
    Copy { learner: Member, run: RunId, after: Option<Key>, at: Op },
    /// For a copy run to a learner with a base.
    Changes { learner: Member, run: RunId, after: Op, at: Op },
}

/// All requests at one primary.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Requests {
    reads_waiting: VecDeque<Waiting>,
    writes_waiting: VecDeque<Waiting>,
    bytes_waiting: usize,
    /// Failed conditions that wait for what they saw to commit; they count as queued.
    judged_waiting: usize,
    /// Who waits for which op, by op.
    waiters: VecDeque<(Op, Waiter)>,
    /// Writes in the window.
    places: Places,
    /// Keys whose evaluation waits for a read, with the writes behind it.
    pub holds: BTreeMap<Key, VecDeque<Waiting>>,
    /// Reads under way, by token. An engine in memory never has two of them.
    reads: VecDeque<(ReadToken, Read)>,
}

impl Requests {
    pub fn queued(&self) -> usize {
        self.reads_waiting.len() + self.writes_waiting.len() + self.judged_waiting
    }

    /// Whether there is no room for `waiting`, or no patience left.
    fn turns_away(&self, ctx: &Context<'_>, waiting: &Waiting) -> bool {
        self.queued() >= ctx.limits.queue_requests_max
            || self.bytes_waiting + waiting.bytes() > ctx.limits.queue_bytes_max
            || waiting.until <= ctx.now
    }

    /// Queues a request, or answers that there is no room.
    pub fn enqueue(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        if self.turns_away(ctx, &waiting) {
            return refuse(ctx, waiting.ticket, Refusal::Busy);
        }
        self.bytes_waiting += waiting.bytes();
        if waiting.request.operation.is_write() {
            self.writes_waiting.push_back(waiting);
        } else {
            self.reads_waiting.push_back(waiting);
        }
    }

    fn next_read(&mut self) -> Option<Waiting> {
        let waiting = self.reads_waiting.pop_front()?;
        self.bytes_waiting -= waiting.bytes();
        Some(waiting)
    }

    fn next_write(&mut self) -> Option<Waiting> {
        let waiting = self.writes_waiting.pop_front()?;
        self.bytes_waiting -= waiting.bytes();
        Some(waiting)
    }

    /// Takes out the queued requests that `leaves` says have to go.
    fn take_queued(&mut self, leaves: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut gone = Vec::new();
        for queue in [&mut self.reads_waiting, &mut self.writes_waiting] {
            if queue.iter().any(&leaves) {
                let (out, keep): (Vec<_>, Vec<_>) = queue.drain(..).partition(&leaves);
                gone.extend(out);
                queue.extend(keep);
            }
        }
        let is_gone = |it: &Waiter| matches!(it, Waiter::Judged(it, _) if leaves(it));
        if self.waiters.iter().any(|(_, it)| is_gone(it)) {
            for (op, waiter) in std::mem::take(&mut self.waiters) {
                match waiter {
                    Waiter::Judged(waiting, _) if leaves(&waiting) => {
                        self.judged_waiting -= 1;
                        gone.push(*waiting);
                    }
                    Waiter::Judged(..) | Waiter::Write(_) => self.waiters.push_back((op, waiter)),
                }
            }
        }
        self.bytes_waiting -= gone.iter().map(Waiting::bytes).sum::<usize>();
        gone
    }

    /// A failed condition waits until what it saw has committed.
    pub fn wait_judged(
        &mut self,
        ctx: &mut Context<'_>,
        op: Op,
        waiting: Waiting,
        verdict: Verdict,
    ) {
        if self.turns_away(ctx, &waiting) {
            return refuse(ctx, waiting.ticket, Refusal::Busy);
        }
        self.bytes_waiting += waiting.bytes();
        self.judged_waiting += 1;
        self.wait_for(op, Waiter::Judged(Box::new(waiting), verdict));
    }

    /// Nobody on `link` can be answered any more.
    fn forget_link(&mut self, link: LinkId) {
        self.take_queued(|it| it.ticket.link == link);
        self.waiters.retain(|(_, it)| !matches!(it, Waiter::Write(ticket) if ticket.link == link));
    }

    /// A read was asked of the store; tokens grow.
    pub fn begin_read(&mut self, token: ReadToken, read: Read) {
        self.reads.push_back((token, read));
    }

    /// The store answered a read.
    fn end_read(&mut self, token: ReadToken) -> Option<Read> {
        let index = self.reads.binary_search_by_key(&token, |&(it, _)| it).ok()?;
        self.reads.remove(index).map(|(_, read)| read)
    }

    pub fn is_reading(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Lets somebody wait for an op that is not committed yet.
    pub fn wait_for(&mut self, op: Op, waiter: Waiter) {
        let newest = self.waiters.back().is_none_or(|&(it, _)| it <= op);
        let behind = |waiters: &VecDeque<_>| waiters.partition_point(|&(it, _)| it <= op);
        let place = if newest { self.waiters.len() } else { behind(&self.waiters) };
        self.waiters.insert(place, (op, waiter));
    }

    /// A write was given its place.
    pub fn placed(&mut self, entry: &Entry, ticket: Ticket) {
        self.places.insert(entry);
        self.wait_for(entry.op, Waiter::Write(ticket));
    }

    /// The op of a write that is in the window, by who asked.
    pub fn place_of(&self, origin: &Origin) -> Option<Op> {
        self.places.find(origin.session, origin.number)
    }

    /// An entry committed: whoever waited for it is `next_waiter`.
    pub fn committed(&mut self, entry: &Entry) {
        self.places.remove(entry);
    }

    /// The next of those who waited for `op`, which committed.
    pub fn next_waiter(&mut self, op: Op) -> Option<Waiter> {
        self.waiters.front().filter(|&&(it, _)| it <= op)?;
        let (_, waiter) = self.waiters.pop_front()?;
        if let Waiter::Judged(waiting, _) = &waiter {
            self.judged_waiting -= 1;
            self.bytes_waiting -= waiting.bytes();
        }
        Some(waiter)
    }

    /// Whether writes of this key wait for the evaluation of one before them.
    pub fn is_held(&self, key: &Key) -> bool {
        self.holds.contains_key(key)
    }

    /// Whether anything is under way that a handover has to wait for.
    pub fn evaluating(&self) -> bool {
        !self.holds.is_empty()
    }
}

pub(super) fn refuse(ctx: &mut Context<'_>, ticket: Ticket, refusal: Refusal) {
    ctx.effect(WorkerEffect::Reply { ticket, answer: Answer::Refused(refusal) });
}

impl Replica {
    /// A client's request, already checked against the limits.
    pub fn on_request(&mut self, ctx: &mut Context<'_>, ticket: Ticket, request: Request) {
        let resigned = match &self.role {
            Role::Primary(primary) => primary.phase == Phase::Resigned,
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => true,
        };
        if resigned {
            let configuration = self.configuration.clone();
            return refuse(ctx, ticket, Refusal::NotPrimary { configuration });
        }
        let until = ctx.now + ctx.timing.queue;
        self.admit(ctx, Waiting { ticket, request, until });
    }

    /// Starts a request, or queues it while this primary pauses.
    fn admit(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        if waiting.request.operation.is_write() {
            if self.may_write(ctx) {
                self.admit_write(ctx, waiting);
            } else if let Role::Primary(primary) = &mut self.role {
                primary.requests.enqueue(ctx, waiting);
            }
        } else if self.serves_reads(ctx.now, ctx.timing) {
            self.read_for_client(ctx, waiting);
        } else if let Role::Primary(primary) = &mut self.role {
            primary.requests.enqueue(ctx, waiting);
        }
    }

    /// Whether a write can have its place now: open, not draining, and room in the window.
    pub(super) fn may_write(&self, ctx: &Context<'_>) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        primary.phase == Phase::Open
            && primary.drain.is_none()
            && primary.barrier.is_none()
            && self.log.window_ops() < ctx.limits.window_ops_max
            && self.log.window_bytes() < ctx.limits.window_bytes_max
            && ctx.window_bytes < ctx.limits.worker_window_bytes_max
    }

    fn read_for_client(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        let at = self.log.committed();
        let (set, position) = (self.set, self.position());
        let Role::Primary(primary) = &mut self.role else { return };
        ctx.numbers.token += 1;
        let token = ReadToken(ctx.numbers.token);
        if let Operation::Get { key } = waiting.request.operation {
            let Waiting { ticket, until, .. } = waiting;
            primary.requests.begin_read(token, Read::Get { ticket, until, at });
            return ctx.effect(WorkerEffect::Read { set, token, key });
        }
        let effect = match &waiting.request.operation {
            Operation::Scan { prefix, after, items_max, bytes_max, .. } => {
                WorkerEffect::ReadRange {
                    set,
                    token,
                    prefix: prefix.clone(),
                    after: after.clone(),
                    items_max: (*items_max).clamp(1, ctx.limits.page_items_max),
                    bytes_max: (*bytes_max).clamp(1, ctx.limits.page_bytes_max),
                }
            }
            Operation::Changes { after, items_max, bytes_max, .. } => {
                if after.loss_epoch != position.loss_epoch || after.op > at {
                    return reject_changes(ctx, waiting.ticket, position);
                }
                WorkerEffect::ReadChanges {
                    set,
                    token,
                    span: (after.op, at),
                    items_max: (*items_max).clamp(1, ctx.limits.changes_items_max),
                    bytes_max: (*bytes_max).clamp(1, ctx.limits.page_bytes_max),
                }
            }
            Operation::Get { .. }
            | Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::Cas { .. }
            | Operation::PutFor { .. }
            | Operation::CasFor { .. }
            | Operation::Incr { .. } => return,
        };
        primary.requests.begin_read(token, Read::Scan { waiting, at });
        ctx.effect(effect);
    }

    /// A point read is done. Role and leases are judged now, after the value was read.
    pub fn on_read_done(
        &mut self,
        ctx: &mut Context<'_>,
        token: ReadToken,
        key: Key,
        found: Option<(Value, Revision)>,
    ) {
        let serves = self.serves_reads(ctx.now, ctx.timing) || planted(Mutant::LeaseCheckedFirst);
        let mut position = self.position();
        let Role::Primary(primary) = &mut self.role else { return };
        match primary.requests.end_read(token) {
            Some(Read::Get { ticket, at, .. }) if serves => {
                position.op = at;
                let answer = match found {
                    Some((value, revision)) => Answer::Found { position, revision, value },
                    None => Answer::Absent { position },
                };
                ctx.effect(WorkerEffect::Reply { ticket, answer });
            }
            Some(Read::Get { ticket, until, .. }) => {
                let request = Request::read(Operation::Get { key });
                primary.requests.enqueue(ctx, Waiting { ticket, request, until });
            }
            Some(Read::Evaluate { waiting, at }) => self.evaluate_read(ctx, waiting, at, found),
            Some(Read::Scan { .. } | Read::Copy { .. } | Read::Changes { .. }) | None => {}
        }
    }

    /// A range read is done.
    pub fn on_range_done(
        &mut self,
        ctx: &mut Context<'_>,
        token: ReadToken,
        records: Vec<Record>,
        more: bool,
    ) {
        let serves = self.serves_reads(ctx.now, ctx.timing) || planted(Mutant::LeaseCheckedFirst);
        let mut position = self.position();
        let Role::Primary(primary) = &mut self.role else { return };
        match primary.requests.end_read(token) {
            Some(Read::Scan { waiting, at }) if serves => {
                position.op = at;
                let answer = Answer::Page { position, records, more };
                ctx.effect(WorkerEffect::Reply { ticket: waiting.ticket, answer });
            }
            Some(Read::Scan { waiting, .. }) => primary.requests.enqueue(ctx, waiting),
            Some(Read::Copy { learner, run, after, at }) => {
                self.send_chunk(ctx, (learner, run), after, at, records, more);
            }
            Some(Read::Get { .. } | Read::Evaluate { .. } | Read::Changes { .. }) | None => {}
        }
    }

    /// Changes were looked up.
    pub fn on_changes_done(
        &mut self,
        ctx: &mut Context<'_>,
        token: ReadToken,
        found: Option<Changes>,
    ) {
        let serves = self.serves_reads(ctx.now, ctx.timing) || planted(Mutant::LeaseCheckedFirst);
        let mut position = self.position();
        let Role::Primary(primary) = &mut self.role else { return };
        match primary.requests.end_read(token) {
            Some(Read::Changes { learner, run, after, at }) => {
                self.send_changes(ctx, (learner, run), after, at, found);
            }
            Some(Read::Scan { waiting, at }) if serves => {
                position.op = at;
                let ticket = waiting.ticket;
                let Some(Changes { records, deleted, through: ends }) = found else {
                    return reject_changes(ctx, ticket, position);
                };
                let answer = Answer::Changes { position, ends, records, deleted };
                ctx.effect(WorkerEffect::Reply { ticket, answer });
            }
            Some(Read::Scan { waiting, .. }) => primary.requests.enqueue(ctx, waiting),
            Some(Read::Get { .. } | Read::Evaluate { .. } | Read::Copy { .. }) | None => {}
        }
    }

    /// Admits what waits, as far as it can be served now.
    pub(super) fn pump(&mut self, ctx: &mut Context<'_>) {
        while self.serves_reads(ctx.now, ctx.timing) {
            let Role::Primary(primary) = &mut self.role else { return };
            let Some(waiting) = primary.requests.next_read() else { break };
            self.read_for_client(ctx, waiting);
        }
        while self.may_write(ctx) {
            let Role::Primary(primary) = &mut self.role else { return };
            let Some(waiting) = primary.requests.next_write() else { break };
            self.admit_write(ctx, waiting);
        }
    }

    /// Refuses requests whose patience ended in the queue.
    pub(super) fn expire_requests(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.requests.queued() == 0 {
            return;
        }
        for waiting in primary.requests.take_queued(|it| it.until <= now) {
            refuse(ctx, waiting.ticket, Refusal::Busy);
        }
    }

    /// A client's link is gone: nobody waits for its queued requests any more.
    pub fn on_client_gone(&mut self, link: LinkId) {
        if let Role::Primary(primary) = &mut self.role {
            primary.requests.forget_link(link);
        }
    }

    /// Refuses everything that is not admitted yet: nothing is any more.
    pub fn turn_queue_away(&mut self, ctx: &mut Context<'_>) {
        let Role::Primary(primary) = &mut self.role else { return };
        for waiting in primary.requests.take_queued(|_| true) {
            refuse(ctx, waiting.ticket, Refusal::Busy);
        }
    }

    /// Whether every request was answered.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        let Role::Primary(primary) = &self.role else { return true };
        let requests = &primary.requests;
        let is_copy = |it: &Read| matches!(it, Read::Copy { .. } | Read::Changes { .. });
        requests.queued() == 0
            && requests.waiters.is_empty()
            && requests.holds.is_empty()
            && requests.reads.iter().all(|(_, read)| is_copy(read))
    }

    /// Sends every request elsewhere. Those that were not admitted are surely not done; of the
    /// admitted ones this replica can not tell.
    pub(super) fn refuse_everything(&self, ctx: &mut Context<'_>, primary: &mut Primary) {
        let requests = std::mem::take(&mut primary.requests);
        let configuration = self.configuration.clone();
        let reads = requests.reads.into_iter().filter_map(|(_, read)| match read {
            Read::Get { ticket, .. } => Some(ticket),
            Read::Scan { waiting, .. } | Read::Evaluate { waiting, .. } => Some(waiting.ticket),
            Read::Copy { .. } | Read::Changes { .. } => None,
        });
        let held = requests.holds.into_values().flatten();
        let queued = requests.reads_waiting.into_iter().chain(requests.writes_waiting);
        for ticket in reads.chain(held.chain(queued).map(|it| it.ticket)) {
            let configuration = configuration.clone();
            refuse(ctx, ticket, Refusal::NotPrimary { configuration });
        }
        for (_, waiter) in requests.waiters {
            let configuration = configuration.clone();
            match waiter {
                Waiter::Write(ticket) => {
                    let answer = Answer::Moved { configuration };
                    ctx.effect(WorkerEffect::Reply { ticket, answer });
                }
                Waiter::Judged(waiting, _) => {
                    refuse(ctx, waiting.ticket, Refusal::NotPrimary { configuration });
                }
            }
        }
    }
}

/// Not all changes that were asked for are known.
fn reject_changes(ctx: &mut Context<'_>, ticket: Ticket, position: Position) {
    let answer = Answer::Rejected { position, reason: Rejection::ChangesForgotten };
    ctx.effect(WorkerEffect::Reply { ticket, answer });
}
