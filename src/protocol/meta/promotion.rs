//! Promotion: a successor for a primary that is dead, silent, resigned or idle (rule 7).
//!
//! The members are asked, again and again, whether they still hear the primary and how far their
//! log reaches. No promotion starts while the primary's own heartbeats name it as serving or a
//! member that answers still hears it. The one with the highest `(epoch, op)` is preferred; any
//! member is safe, because every member has every acknowledged write.

use super::MetaServer;
use super::asks::Asks;
use super::watch::due;
use crate::protocol::effect::MetaNote;
use crate::protocol::message::{Activity, ProbeReport};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Configuration, Epoch, KeySet, LinkId, Member, Op, ServerId};

/// A primary that gave its role up while its server was up gets it back no sooner than this.
const HANDOVER_REST: Span = Span::from_millis(10_000);

/// How often the patience with idle primaries may double.
const IDLE_ROUNDS_MAX: u32 = 5;

/// Why a set needs another primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    /// Proven dead.
    Dead,
    /// It said so itself.
    Resigned,
    /// Suspected, and not naming itself as serving.
    Silent,
    /// Its server is up, and does not name it as serving.
    Idle,
}

impl MetaServer {
    /// Looks after the primary of `set`.
    pub(super) fn tend_primary(&mut self, now: Time, set: KeySet, asks: &mut Asks) {
        let Some(configuration) = self.ledger.configuration(set).cloned() else { return };
        let Some(trouble) = self.trouble(now, set, &configuration, asks) else {
            let round = &mut self.watches[usize::from(set.0)].round;
            round.troubled_since = None;
            round.probes.clear();
            return;
        };
        self.watches[usize::from(set.0)].round.troubled_since.get_or_insert(now);
        let live = |member: &Member| !self.ledger.is_dead(*member);
        let candidates: Vec<_> = configuration.secondaries.iter().copied().filter(live).collect();
        if trouble == Trouble::Silent {
            self.ask_to_resign(now, set, &configuration, asks);
        }
        if candidates.is_empty() {
            self.without_candidates(now, set, trouble, &configuration, asks);
        } else {
            self.seek_successor(now, set, trouble, &configuration, &candidates, asks);
        }
    }

    fn trouble(
        &mut self,
        now: Time,
        set: KeySet,
        configuration: &Configuration,
        asks: &mut Asks,
    ) -> Option<Trouble> {
        let primary = configuration.primary;
        let serving = self.is_serving(now, set);
        let open = self.is_open(now, set);
        let suspected = self.is_suspected(primary);
        let heard = self.is_heard(primary);
        let link = self.link_to(primary, set);
        let timing = self.settings.timing;
        let dead = self.ledger.is_dead(primary);
        if dead && self.waits_for_heir(now, primary) {
            return None;
        }
        let watch = &mut self.watches[usize::from(set.0)];
        if dead {
            return Some(Trouble::Dead);
        }
        if watch.round.resigned {
            return Some(Trouble::Resigned);
        }
        if serving {
            watch.round.idle_since = None;
            watch.idle_rounds = 0;
            watch.round.opened |= open;
            return None;
        }
        if suspected {
            return Some(Trouble::Silent);
        }
        if !heard {
            watch.round.idle_since = None;
            return None;
        }
        let since = *watch.round.idle_since.get_or_insert(now);
        let patience = timing.resign.scaled(1 << watch.idle_rounds.min(IDLE_ROUNDS_MAX), 1);
        if now.since(since) > patience {
            return Some(Trouble::Idle);
        }
        if let Some(link) = link.filter(|_| now.since(since) > timing.suspect)
            && due(&mut watch.round.entry_sent, now, timing.retry)
        {
            asks.entries.entry(link).or_default().push(set);
        }
        None
    }

    fn ask_to_resign(
        &mut self,
        now: Time,
        set: KeySet,
        configuration: &Configuration,
        asks: &mut Asks,
    ) {
        let Some(link) = self.link_to(configuration.primary, set) else { return };
        let retry = self.settings.timing.retry;
        if due(&mut self.watches[usize::from(set.0)].round.resign_sent, now, retry) {
            asks.resigns.entry(link).or_default().push((set, configuration.epoch));
        }
    }

    /// No secondary could take over: the primary itself does, if it lives; if it is dead only an
    /// ex-member that holds everything saves the set.
    fn without_candidates(
        &mut self,
        now: Time,
        set: KeySet,
        trouble: Trouble,
        configuration: &Configuration,
        asks: &mut Asks,
    ) {
        match trouble {
            Trouble::Resigned | Trouble::Idle => {
                if self.is_up(configuration.primary) {
                    self.promote(now, set, trouble, configuration, configuration.primary);
                }
            }
            Trouble::Silent => {}
            Trouble::Dead if self.promotes_learner(now, set) => {}
            Trouble::Dead if configuration.members().any(|it| self.may_have_heir(it)) => {}
            Trouble::Dead => {
                let ex_member = self.ledger.set(set).and_then(|row| row.ex_member);
                match ex_member.filter(|&(member, _)| !self.ledger.is_dead(member)) {
                    Some((member, op)) => {
                        self.use_ex_member(now, set, configuration, member, op, asks);
                    }
                    None => self.lose(set),
                }
            }
        }
    }

    /// Never, but in a build with mutants: a learner's copy counts for nothing.
    fn promotes_learner(&mut self, now: Time, set: KeySet) -> bool {
        if !planted(Mutant::LearnerPromoted) {
            return false;
        }
        let members = self.ledger.servers().map(|row| row.entry.member());
        let learner = members.filter(|&it| self.available(it.server) == Some(it)).find(|&it| {
            let report = self.report(now, it, set);
            report.is_some_and(|it| matches!(it.activity, Activity::Learner { .. }))
        });
        if let Some(primary) = learner {
            self.install(set, primary, Vec::new());
        }
        learner.is_some()
    }

    fn use_ex_member(
        &mut self,
        now: Time,
        set: KeySet,
        configuration: &Configuration,
        member: Member,
        op: Op,
        asks: &mut Asks,
    ) {
        self.probe(now, set, configuration, member, asks);
        let Some(answer) = self.probe_answer(now, set, member) else { return };
        if answer.last_op >= op {
            let failed = configuration.primary;
            self.cover(failed, set, true);
            let epoch = self.install(set, member, Vec::new()).epoch;
            self.note(MetaNote::Promoted { set, epoch, primary: member });
        }
    }

    fn seek_successor(
        &mut self,
        now: Time,
        set: KeySet,
        trouble: Trouble,
        configuration: &Configuration,
        candidates: &[Member],
        asks: &mut Asks,
    ) {
        for &member in candidates {
            self.probe(now, set, configuration, member, asks);
        }
        let answers: Vec<_> = candidates
            .iter()
            .filter_map(|&member| Some((member, self.probe_answer(now, set, member)?)))
            .collect();
        let heard = answers.iter().any(|(_, report)| report.hears);
        let awaited = candidates.iter().filter(|&&member| !self.is_suspected(member)).count();
        let answered = answers.iter().filter(|&&(member, _)| !self.is_suspected(member)).count();
        let round = &self.watches[usize::from(set.0)].round;
        let waited = round
            .troubled_since
            .is_some_and(|since| now.since(since) >= self.settings.timing.suspect);
        match trouble {
            Trouble::Silent | Trouble::Idle if heard => return,
            Trouble::Silent | Trouble::Idle | Trouble::Dead | Trouble::Resigned => {}
        }
        if !waited && (awaited == 0 || answered < awaited) {
            return;
        }
        let target = self.ledger.set(set).map(|row| row.target.clone()).unwrap_or_default();
        let best = answers
            .iter()
            .max_by_key(|(member, report)| rank(configuration.epoch, &target, *member, report));
        match best {
            Some(&(member, _)) => self.promote(now, set, trouble, configuration, member),
            None => self.promote_again(now, set, trouble, configuration),
        }
    }

    /// Nobody else answered: a primary that gave up and lives may try again.
    fn promote_again(
        &mut self,
        now: Time,
        set: KeySet,
        trouble: Trouble,
        configuration: &Configuration,
    ) {
        match trouble {
            Trouble::Resigned | Trouble::Idle if self.is_up(configuration.primary) => {
                self.promote(now, set, trouble, configuration, configuration.primary);
            }
            Trouble::Resigned | Trouble::Idle | Trouble::Dead | Trouble::Silent => {}
        }
    }

    /// Installs `primary`; the old one stays as secondary if it gave up and its server is up.
    fn promote(
        &mut self,
        now: Time,
        set: KeySet,
        trouble: Trouble,
        configuration: &Configuration,
        primary: Member,
    ) {
        let old = configuration.primary;
        let gave_up = match trouble {
            // Its own word is a sign of life, also where its heartbeats do not get through.
            Trouble::Resigned => self.is_up(old) || self.link_to(old, set).is_some(),
            Trouble::Idle => self.is_up(old),
            Trouble::Dead | Trouble::Silent => false,
        };
        let mut secondaries = Vec::new();
        for member in configuration.members().filter(|&member| member != primary) {
            let stays = if member == old { gave_up } else { !self.ledger.is_dead(member) };
            if stays {
                secondaries.push(member);
            } else {
                self.cover(member, set, member == old);
            }
        }
        let epoch = self.install(set, primary, secondaries).epoch;
        let watch = &mut self.watches[usize::from(set.0)];
        if trouble == Trouble::Idle {
            watch.idle_rounds = (watch.idle_rounds + 1).min(IDLE_ROUNDS_MAX);
        }
        if gave_up {
            watch.handover_after = now + HANDOVER_REST;
        }
        self.note(MetaNote::Promoted { set, epoch, primary });
    }

    fn probe(
        &mut self,
        now: Time,
        set: KeySet,
        configuration: &Configuration,
        member: Member,
        asks: &mut Asks,
    ) {
        let Some(link) = self.link_to(member, set) else { return };
        let (timing, nonce) = (self.settings.timing, self.nonce);
        let question = self.watches[usize::from(set.0)].round.probes.entry(member).or_default();
        if question.ask(now, link, nonce, timing.heartbeat, timing.retry) {
            let sets = asks.probes.entry((link, configuration.primary)).or_default();
            sets.push((set, configuration.epoch));
        }
    }

    fn probe_answer(&self, now: Time, set: KeySet, member: Member) -> Option<ProbeReport> {
        let question = self.watches[usize::from(set.0)].round.probes.get(&member)?;
        question.answer(now, self.settings.timing.retry)
    }

    pub(super) fn on_probe_answer(
        &mut self,
        now: Time,
        link: LinkId,
        nonce: u64,
        reports: &[ProbeReport],
    ) -> bool {
        let Some(member) = self.speaker(link) else { return false };
        let bound = self.settings.timing.retry;
        let mut taken = false;
        for &report in reports {
            let Some(watch) = self.watches.get_mut(usize::from(report.set.0)) else { continue };
            let Some(question) = watch.round.probes.get_mut(&member) else { continue };
            if question.expects(now, link, nonce, bound) {
                question.set_answer(now, report);
                taken = true;
            }
        }
        taken
    }
}

/// The order of preference among members: the longest log, then the target's order.
fn rank(
    epoch: Epoch,
    target: &[ServerId],
    member: Member,
    report: &ProbeReport,
) -> (bool, Epoch, Op, usize) {
    let place = target.iter().position(|&server| server == member.server).unwrap_or(target.len());
    (report.epoch == epoch, report.last_epoch, report.last_op, usize::MAX - place)
}
