//! What a primary asks of the metaserver: to add a learner, to hand over, to withdraw.
//!
//! An outcome is known only from the answer to that very request or from a higher epoch. Until
//! then the primary obeys both outcomes: a proposed learner's acknowledgements and leases are
//! needed beside the secondaries'.

use super::primary::Phase;
use super::{Context, Replica, Role};
use crate::protocol::effect::WorkerEffect;
use crate::protocol::message::{ChangeId, ChangeKind, ChangeRefusal, ReplicaTestimony, ToMeta};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::timing::Timing;
use crate::protocol::types::{Configuration, Epoch, Member, RecoveryId};

/// A request to the metaserver that is not answered yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Pending {
    pub id: ChangeId,
    pub epoch: Epoch,
    pub kind: ChangeKind,
    pub first_sent: Time,
    pub sent: Time,
    /// The request whose outcome a reaffirmation withdraws; its refusal still counts.
    pub withdraws: Option<ChangeId>,
}

/// A handover under way: writes wait until the window is empty and the outcome is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Drain {
    pub to: Member,
    pub since: Time,
}

impl Replica {
    fn ask_change(&mut self, ctx: &mut Context<'_>, kind: ChangeKind, withdraws: Option<ChangeId>) {
        ctx.numbers.change += 1;
        let id = ChangeId { member: ctx.me, number: ctx.numbers.change };
        let (set, epoch) = (self.set, self.epoch());
        let Role::Primary(primary) = &mut self.role else { return };
        let now = ctx.now;
        primary.pending = Some(Pending { id, epoch, kind, first_sent: now, sent: now, withdraws });
        ctx.effect(WorkerEffect::SendMeta { message: ToMeta::Change { id, set, epoch, kind } });
    }

    /// Proposes a learner that holds everything (rule 5).
    pub(super) fn try_propose(&mut self, ctx: &mut Context<'_>) {
        let prepared = self.log.prepared();
        let now = ctx.now;
        let Role::Primary(primary) = &mut self.role else { return };
        let free = primary.pending.is_none() && primary.drain.is_none();
        if primary.phase != Phase::Open || !free || !ctx.meta_up {
            return;
        }
        let ready = primary.followers.iter().find_map(|(&member, it)| {
            let early = planted(Mutant::ProposedTooEarly);
            let run = it.run.as_ref().filter(|run| run.is_complete() || early)?;
            let whole = it.link.is_some()
                && (it.accepted == prepared || early)
                && it.leased(now, ctx.timing.lease);
            whole.then_some((member, run.recovery))
        });
        if let Some((learner, recovery)) = ready {
            primary.proposed = Some(learner);
            primary.barrier = None;
            self.ask_change(ctx, ChangeKind::Add { learner, recovery }, None);
            self.pump(ctx);
        }
    }

    /// Asks for the handover once nothing is prepared that is not committed (rule 9).
    pub(super) fn try_hand_over(&mut self, ctx: &mut Context<'_>) {
        let drained = self.log.window_ops() == 0;
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(drain) = primary.drain else { return };
        if drained && primary.pending.is_none() && !primary.requests.evaluating() {
            self.ask_change(ctx, ChangeKind::HandOver { to: drain.to }, None);
        }
    }

    /// The metaserver orders a handover.
    pub fn on_hand_over(&mut self, ctx: &mut Context<'_>, epoch: Epoch, to: Member) {
        if epoch != self.epoch() {
            return;
        }
        let Role::Primary(primary) = &mut self.role else { return };
        let known = primary.followers.get(&to).is_some_and(|it| it.run.is_none() && it.greeted);
        let free = primary.pending.is_none() && primary.drain.is_none();
        if primary.phase == Phase::Open && known && free {
            primary.drain = Some(Drain { to, since: ctx.now });
            self.try_hand_over(ctx);
        }
    }

    /// The metaserver's answer to a request of this replica.
    pub fn on_changed(
        &mut self,
        ctx: &mut Context<'_>,
        id: ChangeId,
        outcome: &Result<Configuration, ChangeRefusal>,
    ) {
        match outcome {
            Ok(configuration) => self.learn(ctx, configuration),
            Err(refusal) => self.on_change_refused(ctx, id, *refusal),
        }
    }

    /// A refusal is final for its id. A wrong epoch is no outcome by itself: the higher epoch
    /// that it speaks of is, and is on its way.
    fn on_change_refused(&mut self, ctx: &mut Context<'_>, id: ChangeId, refusal: ChangeRefusal) {
        if refusal == ChangeRefusal::WrongEpoch {
            return;
        }
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(pending) = primary.pending else { return };
        if pending.withdraws == Some(id) {
            primary.proposed = None;
        }
        if pending.id == id {
            primary.pending = None;
            match pending.kind {
                ChangeKind::Add { .. } => {
                    // Whoever is wanted is ordered again.
                    if let Some(learner) = primary.proposed.take() {
                        self.on_cancel_copy(ctx, learner);
                    }
                }
                ChangeKind::HandOver { .. } => primary.drain = None,
                ChangeKind::Reaffirm => {}
            }
        }
        self.advance(ctx);
        self.pump(ctx);
    }

    /// Sends unanswered requests again, resumes after an unanswered handover, and withdraws the
    /// proposal of a learner that fell silent.
    pub(super) fn repeat_changes(&mut self, ctx: &mut Context<'_>) {
        let (set, now, retry) = (self.set, ctx.now, ctx.timing.retry);
        let complain = ctx.timing.complain;
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.drain.is_some_and(|drain| now.since(drain.since) >= retry + retry) {
            primary.drain = None;
        }
        if primary.barrier.is_some_and(|until| until <= now) {
            primary.barrier = None;
        }
        if planted(Mutant::OldEpochIsOutcome) {
            let unanswered = primary.pending.is_some_and(|it| now.since(it.sent) >= retry);
            let known = ctx.view.configuration(set).map(|it| it.epoch);
            if unanswered && known == primary.pending.map(|it| it.epoch) {
                primary.pending = None;
                primary.proposed = None;
            }
        }
        let mut withdraw = None;
        if let Some(pending) = &mut primary.pending {
            if ctx.meta_up && now.since(pending.sent) >= retry {
                pending.sent = now;
                let (id, epoch, kind) = (pending.id, pending.epoch, pending.kind);
                let message = ToMeta::Change { id, set, epoch, kind };
                ctx.effect(WorkerEffect::SendMeta { message });
            }
            let silent = |member| {
                let heard = primary.followers.get(&member).map(|it| it.heard);
                heard.is_none_or(|heard| now.since(heard) >= complain)
            };
            if let ChangeKind::Add { learner, .. } = pending.kind
                && silent(learner)
                && now.since(pending.first_sent) >= complain
            {
                withdraw = Some(pending.id);
            }
        }
        if let Some(id) = withdraw {
            if planted(Mutant::ForgetsOnWithdrawal) {
                primary.proposed = None;
            }
            self.ask_change(ctx, ChangeKind::Reaffirm, Some(id));
        }
    }

    /// The link to the metaserver is up again: what was not answered is sent again, same id.
    pub fn on_meta_up(&mut self, ctx: &mut Context<'_>) {
        let set = self.set;
        let Role::Primary(primary) = &mut self.role else { return };
        if let Some(pending) = &mut primary.pending {
            pending.sent = ctx.now;
            let (id, epoch, kind) = (pending.id, pending.epoch, pending.kind);
            ctx.effect(WorkerEffect::SendMeta { message: ToMeta::Change { id, set, epoch, kind } });
        }
    }

    /// What this replica is and holds, for a metaserver that lost its state.
    #[must_use]
    pub fn testimony(&self, now: Time, timing: &Timing) -> ReplicaTestimony {
        let activity = self.report(now, timing).map(|it| it.activity);
        let (set, whole, proposed) = (self.set, self.is_whole(), self.proposed());
        ReplicaTestimony { set, activity, whole, proposed }
    }

    /// The learner that this primary proposed, while the outcome is open.
    #[must_use]
    pub fn proposed(&self) -> Option<Member> {
        match &self.role {
            Role::Primary(primary) => primary.proposed,
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        }
    }

    /// Which recovery a learner's copy belongs to.
    #[must_use]
    pub fn copying_for(&self, learner: Member) -> Option<RecoveryId> {
        match &self.role {
            Role::Primary(primary) => Some(primary.followers.get(&learner)?.run.as_ref()?.recovery),
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => None,
        }
    }
}
