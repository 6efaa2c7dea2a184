//! Changes of role: what a replica does when it learns a newer configuration.
//!
//! A replica obeys the newest configuration that it learned, however it came: in the metaserver's
//! update, in the answer to its own request, or in a new primary's first message.

use super::follow::Secondary;
use super::log::Log;
use super::primary::{Phase, Primary};
use super::{Context, Replica, Role};
use crate::protocol::dedup::Dedup;
use crate::protocol::effect::{Lane, Note, WorkerEffect};
use crate::protocol::expiries::Expiries;
use crate::protocol::message::{DedupSnapshot, PeerMessage};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::types::{Configuration, Epoch, Member, Op};

impl Replica {
    /// Takes in a configuration; older ones and repetitions change nothing.
    pub fn learn(&mut self, ctx: &mut Context<'_>, configuration: &Configuration) {
        if configuration.epoch <= self.epoch() {
            return;
        }
        let reopened = self
            .configuration
            .as_ref()
            .is_none_or(|known| known.loss_epoch < configuration.loss_epoch);
        let old_epoch = self.epoch();
        let heir = std::mem::take(&mut self.inherits) && self.is_whole();
        let role = std::mem::replace(&mut self.role, Role::Outside);
        let was_primary = matches!(role, Role::Primary(_));
        self.configuration = Some(configuration.clone());
        let me = ctx.me;
        if reopened {
            self.start_empty(ctx, configuration.contains(me));
        }
        if configuration.primary == me {
            self.become_primary(ctx, role, old_epoch, reopened);
        } else if configuration.secondaries.contains(&me) {
            self.become_secondary(ctx, role, old_epoch, reopened || heir);
        } else {
            self.become_outsider(ctx, role, old_epoch);
        }
        if was_primary || self.is_primary() {
            ctx.wishes.followers_changed = true;
        }
        let role = match self.role {
            Role::Outside => "outside",
            Role::Primary(_) => "primary",
            Role::Secondary(_) => "secondary",
            Role::Learner(_) => "learner",
        };
        self.tie_to_primary(ctx);
        self.remember(ctx);
        ctx.note(Note::Adopted { set: self.set, epoch: configuration.epoch, role });
        self.try_open(ctx);
    }

    /// A key set begins, or begins again after a loss: no replica holds anything, and nothing is
    /// all that its members have to hold.
    fn start_empty(&mut self, ctx: &mut Context<'_>, member: bool) {
        self.log = Log::default();
        self.dedup = Dedup::default();
        self.expiries = Expiries::default();
        self.whole_from = member.then_some(Op(0));
        self.base = None;
        self.settle_at = None;
        self.clear(ctx);
    }

    /// An outsider has its engine forget what is left of the copy that it was, if anything is.
    pub(super) fn drop_records(&mut self, ctx: &mut Context<'_>) {
        let fresh = self.log == Log::default() && self.whole_from.is_none();
        if !fresh || self.base.is_some() || self.settle_at.is_some() {
            // It is no copy any more before there is nothing in it.
            self.whole_from = None;
            self.remember(ctx);
            self.start_empty(ctx, false);
        }
    }

    /// Has the engine forget what it holds: log and duplicate records are the ones from here on.
    fn clear(&self, ctx: &mut Context<'_>) {
        let (at, dedup) = (self.log.committed(), self.dedup.snapshot());
        ctx.effect(WorkerEffect::Clear { set: self.set, at, dedup });
    }

    /// A follower is about to acknowledge its primary, which an heir of it has to know.
    fn tie_to_primary(&mut self, ctx: &Context<'_>) {
        let Some(configuration) = &self.configuration else { return };
        if matches!(self.role, Role::Secondary(_) | Role::Learner(_)) {
            let promise = ctx.timing.promise(ctx.timing.lease);
            self.bonds.tie(configuration.primary, configuration.epoch, promise);
        }
    }

    fn become_primary(
        &mut self,
        ctx: &mut Context<'_>,
        role: Role,
        old_epoch: Epoch,
        reopened: bool,
    ) {
        let epoch = self.epoch();
        let was_primary = matches!(role, Role::Primary(_));
        let missed_none = epoch == old_epoch.next() || planted(Mutant::MissedEpochGoesOn);
        let continues = was_primary && !reopened && missed_none;
        let mut primary = match role {
            Role::Primary(mut primary) => {
                if reopened {
                    self.refuse_everything(ctx, &mut primary);
                    Box::new(Primary::new(ctx.now))
                } else {
                    primary
                }
            }
            Role::Secondary(_) => Box::new(Primary::new(ctx.now)),
            // At birth; or a removed member that the metaserver calls back (rule 12).
            Role::Outside if self.is_whole() => Box::new(Primary::new(ctx.now)),
            Role::Learner(_) if planted(Mutant::LearnerPromoted) => Box::new(Primary::new(ctx.now)),
            // Never promoted (rule 5): what it holds is no copy.
            Role::Outside | Role::Learner(_) if !reopened => return,
            Role::Outside | Role::Learner(_) => Box::new(Primary::new(ctx.now)),
        };
        if !(continues && primary.phase != Phase::Resigned) {
            primary.phase = Phase::Reconciling;
            primary.followers.retain(|_, follower| follower.run.is_none());
            primary.reconcile_to = self.log.prepared();
        }
        primary.since = ctx.now;
        self.log.readopt(epoch);
        primary.appending = self.log.committed();
        self.role = Role::Primary(primary);
        self.begin_epoch(ctx);
        self.mark_dirty(ctx);
    }

    fn become_secondary(
        &mut self,
        ctx: &mut Context<'_>,
        role: Role,
        old_epoch: Epoch,
        entitled: bool,
    ) {
        match role {
            Role::Primary(mut primary) => {
                self.step_down(ctx, &mut primary, old_epoch);
                self.role = Role::Secondary(Secondary::default());
            }
            Role::Secondary(_) => self.role = Role::Secondary(Secondary::default()),
            Role::Learner(learner) => {
                // Named only after its run was complete: its log is whole from here on.
                if learner.complete || entitled {
                    self.role = Role::Secondary(Secondary::default());
                }
            }
            // At birth, after a loss, or as an heir.
            Role::Outside => {
                if entitled {
                    self.role = Role::Secondary(Secondary::default());
                }
            }
        }
    }

    fn become_outsider(&mut self, ctx: &mut Context<'_>, role: Role, old_epoch: Epoch) {
        match role {
            Role::Primary(mut primary) => self.step_down(ctx, &mut primary, old_epoch),
            Role::Learner(learner) => {
                let primary = self.configuration.as_ref().map(|it| it.primary);
                if primary == Some(learner.primary) {
                    self.role = Role::Learner(learner);
                } else {
                    // No copy, but one up to there, for the next run.
                    self.base = self.base_of_run();
                    self.whole_from = None;
                }
            }
            Role::Secondary(_) | Role::Outside => {}
        }
    }

    /// An old primary gives its word, and sends its requests to the new one.
    fn step_down(&mut self, ctx: &mut Context<'_>, primary: &mut Primary, old_epoch: Epoch) {
        self.tell_successor(ctx);
        self.refuse_everything(ctx, primary);
        let members: Vec<Member> = self
            .configuration
            .iter()
            .flat_map(|it| it.members())
            .filter(|&it| it != ctx.me)
            .collect();
        self.spread_resignation(ctx, old_epoch, members.into_iter());
    }

    /// The new primary hears of its role before any client that is sent on to it, also where the
    /// metaserver's word takes longer: it would send them back.
    fn tell_successor(&self, ctx: &mut Context<'_>) {
        let Some(configuration) = self.configuration.clone() else { return };
        let Some(&link) = ctx.dialled.get(&configuration.primary) else { return };
        let set = self.set;
        let message = PeerMessage::Fenced { set, configuration };
        ctx.effect(WorkerEffect::SendPeer { link, lane: Lane::Set(set), message });
    }

    /// Falls silent in this epoch: nothing is served, sent or asked for any more.
    pub fn resign(&mut self, ctx: &mut Context<'_>) {
        let epoch = self.epoch();
        let Role::Primary(primary) = &self.role else { return };
        if primary.phase == Phase::Resigned {
            return;
        }
        let followers: Vec<Member> = primary.followers.keys().copied().collect();
        if planted(Mutant::ReadsAfterResignation) {
            return self.spread_resignation(ctx, epoch, followers.into_iter());
        }
        let silent = Primary { phase: Phase::Resigned, ..Primary::new(ctx.now) };
        let role = std::mem::replace(&mut self.role, Role::Primary(Box::new(silent)));
        if let Role::Primary(mut primary) = role {
            self.refuse_everything(ctx, &mut primary);
        }
        self.spread_resignation(ctx, epoch, followers.into_iter());
        ctx.wishes.followers_changed = true;
    }

    /// The op up to which an outsider's old copy is one: what it has above its committed point
    /// may never have been committed.
    fn base_of_run(&self) -> Option<Op> {
        let committed = self.log.committed();
        if planted(Mutant::BaseFromPrepared) && self.is_whole() {
            return Some(self.log.prepared());
        }
        if self.whole_from.is_some_and(|from| from <= committed) {
            Some(committed)
        } else {
            self.base
        }
    }

    /// Makes room for a copy of what was committed up to there. Answers the op up to which what is
    /// here is a copy; if it is none, it is wiped.
    pub(super) fn start_as_learner(
        &mut self,
        ctx: &mut Context<'_>,
        committed: Op,
        dedup: DedupSnapshot,
    ) -> Option<Op> {
        self.base = self.base_of_run().filter(|&base| base <= committed);
        self.whole_from = None;
        self.log = Log::starting_at(committed);
        self.dedup = Dedup::from_snapshot(dedup);
        self.expiries = Expiries::default();
        // What runs before this one stored may be ahead of where this one begins.
        let ahead = self.settle_at.filter(|_| self.base.is_some());
        self.settle_at = ahead.max(Some(committed));
        self.remember(ctx);
        if self.base.is_some() {
            let (set, dedup) = (self.set, self.dedup.snapshot());
            ctx.effect(WorkerEffect::Rebase { set, at: committed, dedup });
        } else {
            self.clear(ctx);
        }
        self.base
    }
}
