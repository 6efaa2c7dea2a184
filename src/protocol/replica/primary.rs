//! The primary's state, its followers and its leases.
//!
//! ```text
//!   Reconciling --- free of every earlier primary, every secondary greeted,
//!        |          c+1..p committed ---> Open ---> (lease ran out: paused) ---> Open
//!        |                                 |
//!        +---------------------------------+--- told to, or paused too long ---> Resigned
//! ```

use std::collections::VecDeque;

use super::admission::Requests;
use super::changes::{Drain, Pending};
use super::copy::Run;
use super::{Context, Replica, Role};
use crate::protocol::effect::{Lane, Note, WorkerEffect};
use crate::protocol::members::Members;
use crate::protocol::message::{PeerMessage, ToMeta};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::space::Level;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Epoch, LinkId, Member, Op};

/// Where a primary stands in its epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Phase {
    Reconciling,
    Open,
    Resigned,
}

/// What a primary knows of one secondary or learner.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Follower {
    pub link: Option<LinkId>,
    /// It acknowledged this epoch's first message.
    pub greeted: bool,
    /// The last op, and the commit point, that were sent to it on this link.
    pub sent: Op,
    pub commit_sent: Op,
    /// The last op that it accepted in this epoch (a learner: in this run).
    pub accepted: Op,
    /// When the newest message that it acknowledged was sent.
    pub leased_from: Option<Time>,
    /// When anything was last heard from it, or it became a follower.
    pub heard: Time,
    /// To a learner: the messages that it has not accepted yet, by last op, and their bytes.
    pub in_flight: VecDeque<(Op, usize)>,
    pub in_flight_bytes: usize,
    /// When it last moved, or had nothing to do.
    pub moved: Time,
    /// How full it said that it is.
    pub level: Level,
    /// A learner's copy; none for a secondary.
    pub run: Option<Run>,
}

impl Follower {
    pub fn new(now: Time, link: Option<LinkId>, run: Option<Run>) -> Follower {
        Follower {
            link,
            greeted: false,
            sent: Op(0),
            commit_sent: Op(0),
            accepted: Op(0),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            leased_from: None,
            heard: now,
            moved: now,
            level: Level::Ok,
            run,
        }
    }

    /// Notes a message on its way to a learner.
    pub fn on_sent(&mut self, through: Op, bytes: usize) {
        self.sent = through;
        if self.run.is_some() {
            self.in_flight.push_back((through, bytes));
            self.in_flight_bytes += bytes;
        }
    }

    /// Notes what it accepted.
    pub fn on_accepted(&mut self, accepted: Op) {
        self.accepted = self.accepted.max(accepted);
        while let Some(&(through, bytes)) = self.in_flight.front() {
            if through > self.accepted {
                break;
            }
            self.in_flight.pop_front();
            self.in_flight_bytes -= bytes;
        }
    }

    /// Whether an acknowledgement of a message sent at `sent` belongs to an earlier run.
    pub fn is_of_earlier_run(&self, sent: Time) -> bool {
        self.run.as_ref().is_some_and(|run| sent < run.started)
    }

    /// A promise that a message sent at `sent` asked for was given.
    pub fn lease_from(&mut self, sent: Time, now: Time) {
        let from = if planted(Mutant::LeaseFromReceipt) { now } else { sent };
        self.leased_from = self.leased_from.max(Some(from));
    }

    pub fn leased(&self, now: Time, lease: Span) -> bool {
        self.leased_from.is_some_and(|from| now < from + lease)
    }
}

/// The primary's state.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Primary {
    pub phase: Phase,
    /// When this epoch began here.
    pub since: Time,
    /// What must be committed before this primary opens.
    pub reconcile_to: Op,
    pub followers: Members<Follower>,
    /// Entries up to here were handed to the engine in this epoch.
    pub appending: Op,
    /// A learner whose addition was asked for and not refused: its acknowledgements and leases
    /// are needed until the outcome is known.
    pub proposed: Option<Member>,
    /// The change that the metaserver was asked for and has not answered.
    pub pending: Option<Pending>,
    /// A handover under way: writes wait.
    pub drain: Option<Drain>,
    /// Writes wait until this time for a learner to have everything prepared.
    pub barrier: Option<Time>,
    pub barrier_not_before: Time,
    /// The prepared point that it confirmed for a removal that goes below the write floor: until
    /// the floor is restored it commits nothing above (rule 12).
    pub promised: Option<Op>,
    pub paused_since: Option<Time>,
    pub complained: Time,
    pub requests: Requests,
}

impl Primary {
    pub fn new(now: Time) -> Primary {
        Primary {
            phase: Phase::Reconciling,
            since: now,
            reconcile_to: Op(0),
            followers: Members::default(),
            appending: Op(0),
            proposed: None,
            pending: None,
            drain: None,
            barrier: None,
            barrier_not_before: now,
            promised: None,
            paused_since: None,
            complained: now,
            requests: Requests::default(),
        }
    }

    /// The followers whose acknowledgements and leases are needed: every secondary, and the
    /// proposed learner.
    pub fn needed(&self) -> impl Iterator<Item = &Follower> {
        self.followers
            .iter()
            .filter(|&(&member, it)| it.run.is_none() || self.proposed == Some(member))
            .map(|(_, it)| it)
    }

    /// The followers that a commit waits for.
    pub fn needed_to_commit(&self) -> impl Iterator<Item = &Follower> {
        let members_only = planted(Mutant::NoUnionOfAcks);
        self.needed()
            .filter(move |it| !(members_only && it.run.is_some()))
            .filter(|_| !planted(Mutant::AckBeforeSecondary))
    }

    /// Whether every lease that is needed holds at `now`. A sole member needs none.
    pub fn leased(&self, now: Time, lease: Span) -> bool {
        let alone = self.followers.values().all(|it| it.run.is_some());
        if planted(Mutant::SoleNeedsNoLease) && alone {
            return true;
        }
        let members_only = planted(Mutant::NoUnionOfLeases);
        let mut needed = self.needed().filter(|it| !(members_only && it.run.is_some()));
        needed.all(|it| it.leased(now, lease))
    }

    /// When the first of the needed leases ends; none if one was never given, or none is needed.
    pub fn leased_until(&self, lease: Span) -> Option<Time> {
        self.needed().map(|it| it.leased_from.map(|from| from + lease)).min().flatten()
    }
}

impl Replica {
    /// Lines the followers up with the newest configuration and greets them.
    pub(super) fn begin_epoch(&mut self, ctx: &mut Context<'_>) {
        let committed = self.log.committed();
        let Some(configuration) = self.configuration.clone() else { return };
        let Role::Primary(primary) = &mut self.role else { return };
        primary.pending = None;
        primary.proposed = None;
        primary.drain = None;
        primary.barrier = None;
        primary.paused_since = None;
        if configuration.copies() >= usize::from(ctx.limits.min_write_copies) {
            primary.promised = None;
        }
        primary.followers.retain(|member, follower| {
            configuration.secondaries.contains(member) || follower.run.is_some()
        });
        let unlinked: Vec<Member> = primary
            .followers
            .iter()
            .filter(|(_, it)| it.run.is_some() && it.link.is_none())
            .map(|(&member, _)| member)
            .collect();
        for &member in &configuration.secondaries {
            let link = ctx.dialled.get(&member).copied();
            let follower =
                primary.followers.entry_or(member, || Follower::new(ctx.now, link, None));
            follower.run = None;
            follower.greeted = false;
            follower.accepted = committed;
            follower.heard = ctx.now;
            follower.moved = ctx.now;
        }
        let members: Vec<Member> = primary.followers.keys().copied().collect();
        for member in unlinked {
            self.abort_run(ctx, member);
        }
        for member in members {
            self.greet(ctx, member);
        }
    }

    /// Sends this epoch's first message to a follower, and lets the window follow it.
    pub(super) fn greet(&mut self, ctx: &mut Context<'_>, member: Member) {
        let Some(configuration) = self.configuration.clone() else { return };
        let (set, committed, prepared) = (self.set, self.log.committed(), self.log.prepared());
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&member) else { return };
        let Some(link) = follower.link else { return };
        match &follower.run {
            None => {
                follower.sent = committed;
                follower.commit_sent = committed;
            }
            Some(run) if run.is_started() => {}
            Some(_) => return,
        }
        let ask = ctx.ask();
        let message = PeerMessage::NewEpoch { set, configuration, committed, prepared, ask };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
        self.mark_dirty(ctx);
    }

    /// A replication link to `peer` is up.
    pub fn on_peer_up(&mut self, ctx: &mut Context<'_>, peer: Member, link: LinkId) {
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(follower) = primary.followers.entry(&peer) else { return };
        follower.link = Some(link);
        match &follower.run {
            Some(run) if !run.is_started() => self.start_run(ctx, peer),
            // A proposed learner keeps its run over a new link: it goes on where it stood.
            Some(_) if primary.proposed == Some(peer) => {
                follower.sent = follower.accepted;
                self.greet(ctx, peer);
            }
            Some(_) => self.abort_run(ctx, peer),
            None => self.greet(ctx, peer),
        }
    }

    /// Links whose followers' leases are at least `old`, to be renewed by a beacon.
    pub fn leases_due(&self, now: Time, old: Span) -> impl Iterator<Item = LinkId> + '_ {
        let followers = match &self.role {
            Role::Primary(primary) if primary.phase != Phase::Resigned => Some(&primary.followers),
            Role::Primary(_) | Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        };
        followers
            .into_iter()
            .flat_map(|it| it.values())
            .filter(|it| it.greeted)
            .filter(move |it| it.leased_from.is_none_or(|from| now.since(from) >= old))
            .filter_map(|it| it.link)
    }

    /// A link is gone, whoever dialled it.
    pub fn on_peer_down(&mut self, ctx: &mut Context<'_>, link: LinkId) {
        match &mut self.role {
            Role::Primary(primary) => {
                let lost = primary.followers.iter_mut().find(|(_, it)| it.link == Some(link));
                if let Some((&member, follower)) = lost {
                    follower.link = None;
                    if primary.proposed != Some(member) {
                        self.abort_run(ctx, member);
                    }
                }
            }
            Role::Secondary(secondary) => secondary.following.forget_link(link),
            Role::Learner(learner) => learner.following.forget_link(link),
            Role::Outside => {}
        }
    }

    /// Opens if nothing stands against it any more (rules 6 and 7).
    pub(super) fn try_open(&mut self, ctx: &mut Context<'_>) {
        let committed = self.log.committed();
        let (set, epoch) = (self.set, self.epoch());
        let Role::Primary(primary) = &mut self.role else { return };
        let greeted = primary.followers.values().all(|it| it.greeted || it.run.is_some());
        let reconciled = greeted && committed >= primary.reconcile_to;
        let ready = reconciled || planted(Mutant::OpensUnreconciled);
        if primary.phase != Phase::Reconciling || !ready {
            return;
        }
        let (me, view) = (ctx.me, ctx.view);
        self.bonds.release(ctx.now, |member| member != me && view.is_dead(member));
        let bound = self.bonds.bound_until(me, ctx.now);
        if let Some(until) = bound.filter(|_| !planted(Mutant::OpensAtOnce)) {
            ctx.wake_at(until);
            return;
        }
        primary.phase = Phase::Open;
        ctx.note(Note::Opened { set, epoch });
        self.pump(ctx);
    }

    /// Complains of followers that do not answer, notices pauses, and resigns after a long one
    /// in which the metaserver is silent too (rule 7).
    pub(super) fn judge_pause(&mut self, ctx: &mut Context<'_>) {
        let (set, epoch) = (self.set, self.epoch());
        let (now, timing) = (ctx.now, *ctx.timing);
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        if now.since(primary.complained) >= timing.complain {
            primary.complained = now;
            let silent: Vec<Member> = primary
                .followers
                .iter()
                .filter(|(_, it)| it.run.is_none())
                .filter(|(_, it)| does_not_answer(it, now, timing.complain))
                .map(|(&member, _)| member)
                .collect();
            for member in silent {
                let message = ToMeta::Complaint { member, sets: vec![(set, epoch)] };
                ctx.effect(WorkerEffect::SendMeta { message });
            }
        }
        if planted(Mutant::RemovesByItself) {
            primary.followers.retain(|_, it| !does_not_answer(it, now, timing.complain));
        }
        let serving = primary.phase == Phase::Open && primary.leased(now, timing.lease);
        if planted(Mutant::ForgetsOnPause) && !serving {
            primary.proposed = None;
        }
        if serving {
            primary.paused_since = None;
            return;
        }
        let since = *primary.paused_since.get_or_insert_with(|| {
            if primary.phase == Phase::Open {
                ctx.note(Note::Paused { set, epoch });
            }
            now
        });
        let alone = now.since(ctx.meta_heard) >= timing.resign;
        if alone && now.since(since) >= timing.resign {
            self.resign(ctx);
        }
    }

    /// Whether this primary confirms, to a fresh question, that `member` does not answer it or
    /// does not move; with its prepared point.
    #[must_use]
    pub fn confirms_removal(
        &mut self,
        ctx: &Context<'_>,
        member: Member,
        epoch: Epoch,
    ) -> Option<Op> {
        let Role::Primary(primary) = &self.role else { return None };
        let follower = primary.followers.get(&member)?;
        if !does_not_answer(follower, ctx.now, ctx.timing.lease) {
            return None;
        }
        self.lets_go(ctx, member, epoch)
    }

    /// Whether this primary could go on without `member`; with its prepared point. The answer is
    /// a sign of life of the copy that stays.
    #[must_use]
    pub fn lets_go(&mut self, ctx: &Context<'_>, member: Member, epoch: Epoch) -> Option<Op> {
        let (known, prepared) = (self.epoch(), self.log.prepared());
        let copies = self.configuration.as_ref().map_or(0, |it| it.copies());
        let Role::Primary(primary) = &mut self.role else { return None };
        if epoch != known || primary.phase == Phase::Resigned {
            return None;
        }
        primary.followers.get(&member).filter(|it| it.run.is_none())?;
        if copies <= usize::from(ctx.limits.min_write_copies) {
            return Some(*primary.promised.get_or_insert(prepared));
        }
        Some(prepared)
    }
}

/// Nothing was heard of a follower for `patience`, or it has work and did not move for twice
/// that although it has room.
fn does_not_answer(follower: &Follower, now: Time, patience: Span) -> bool {
    let silent = now.since(follower.heard) >= patience;
    let waits = follower.accepted < follower.sent && follower.level < Level::Hard;
    silent || waits && now.since(follower.moved) >= patience + patience
}
