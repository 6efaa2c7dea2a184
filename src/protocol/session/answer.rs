//! What a session makes of answers and of passed deadlines: retries, and the three outcomes.

use super::call::{Attempt, Call, Phase};
use super::{AttemptId, CallId, NotDone, Outcome, Session, SessionHost, Unknown};
use crate::protocol::message::{Answer, Operation, Refusal};
use crate::protocol::time::Time;
use crate::protocol::types::{
    Configuration, KeySet, LinkId, Member, RequestNumber, Revision, Written,
};

/// What a refusal means for its call.
enum Verdict {
    /// The operation can never be admitted as it is.
    Final,
    /// Another server, or a newer configuration.
    Elsewhere,
    /// Once more with this base.
    Base(Revision),
    /// The same again, later.
    Later,
}

impl Session {
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        link: LinkId,
        attempt: AttemptId,
        answer: Answer,
        host: &mut impl SessionHost,
    ) {
        if self.strays.contains_key(&attempt) {
            self.drop_strays(|id, on| id == attempt && on == link);
            return;
        }
        // An answer to nothing, or on the wrong link, is no answer.
        let Some(slot) = self.attempts.get(attempt.0) else { return };
        let (id, call) = self.calls.at(slot).expect("an open attempt belongs to a call");
        if call.open_on(link) != Some(attempt) {
            return;
        }
        if let Answer::Moved { configuration } = &answer {
            return self.on_moved(now, link, id, configuration.as_ref(), host);
        }
        let Some(Attempt { member, .. }) = call.close(attempt) else { return };
        self.attempts.remove(attempt.0);
        let was_current = call.phase == Phase::Sent { attempt };
        let set = call.key_set(self.roads.sets()).expect("a call that was sent is placed");
        if let Some(position) = answer.position() {
            self.learn_base(set, position.revision());
        }
        match answer {
            Answer::Refused(refusal) => {
                let mut news = false;
                if let Refusal::NotPrimary { configuration: Some(configuration) } = &refusal {
                    news = self.roads.learn_configuration(set, configuration);
                }
                // Where another attempt has taken over, this one is merely over.
                if was_current {
                    self.on_refused(now, id, set, member, refusal, host);
                }
                if news {
                    self.reroute_set(now, set, host);
                }
            }
            // Not executed for its old base; nor was any other attempt, so that it is a first
            // attempt again.
            Answer::Forgotten { position } if was_current && !self.calls[id].may_be_done() => {
                self.rebase(now, id, set, position.revision(), host);
            }
            answer => {
                let outcome = outcome_of(&self.calls[id], attempt, answer);
                self.complete(id, outcome, host);
            }
        }
    }

    /// A deposed primary had admitted the write: its attempt's fate stays open, and the new
    /// primary is asked with the same number.
    fn on_moved(
        &mut self,
        now: Time,
        link: LinkId,
        id: CallId,
        configuration: Option<&Configuration>,
        host: &mut impl SessionHost,
    ) {
        let call = self.calls.change(id).expect("an open attempt belongs to a call");
        let set = call.key_set(self.roads.sets()).expect("a call that was sent is placed");
        let by = call.open.iter().find(|it| it.link == Some(link)).map(|it| it.member);
        let Some(lost) = call.lose(link) else { return };
        call.depose(lost, AttemptId(self.attempt_last.0 + 1));
        let was_current = call.phase == Phase::Sent { attempt: lost };
        self.attempts.remove(lost.0);
        let news = configuration.is_some_and(|it| self.roads.learn_configuration(set, it));
        if was_current {
            self.back_off(now, id, by);
            self.want_view();
        }
        if news {
            self.reroute_set(now, set, host);
        }
    }

    fn on_refused(
        &mut self,
        now: Time,
        id: CallId,
        set: KeySet,
        by: Member,
        refusal: Refusal,
        host: &mut impl SessionHost,
    ) {
        let call = self.calls.change(id).expect("a refused call is in flight");
        match verdict_of(&refusal) {
            Verdict::Final => self.refuse(id, refusal, host),
            Verdict::Elsewhere => {
                call.refusal = Some(Box::new(refusal));
                self.back_off(now, id, Some(by));
                self.want_view();
            }
            Verdict::Later => {
                call.refusal = Some(Box::new(refusal));
                self.back_off(now, id, None);
            }
            Verdict::Base(base) if call.may_be_done() => {
                // An older attempt may have been done under the old base, and its record may
                // be gone: the new base would have it done twice.
                self.learn_base(set, base);
                self.complete(id, Outcome::Unknown(Unknown::Forgotten), host);
            }
            Verdict::Base(base) => {
                call.refusal = Some(Box::new(refusal));
                self.rebase(now, id, set, base, host);
            }
        }
    }

    /// Begins a write anew from a newer base, where no attempt can have been done. A server that
    /// names no newer base than it was given is asked again later.
    fn rebase(
        &mut self,
        now: Time,
        id: CallId,
        set: KeySet,
        base: Revision,
        host: &mut impl SessionHost,
    ) {
        self.learn_base(set, base);
        let call = self.calls.change(id).expect("a refused call is in flight");
        let known = call.request.origin.map(|it| it.base);
        if let Some(origin) = &mut call.request.origin {
            origin.base = base;
        }
        if known < Some(base) {
            self.dispatch(now, id, host);
        } else {
            self.back_off(now, id, None);
        }
    }

    /// Lets a call rest until its next turn, or until another primary than `from` is named.
    fn back_off(&mut self, now: Time, id: CallId, from: Option<Member>) {
        let call = self.calls.change(id).expect("a call in flight backs off");
        call.phase = Phase::BackingOff { from };
        let setbacks = call.setbacks;
        call.setbacks = setbacks.saturating_add(1);
        let until = now + self.backoff(setbacks);
        self.set_timer(id, until);
    }

    /// Ends a call by a refusal that is final.
    pub(super) fn refuse(&mut self, id: CallId, refusal: Refusal, host: &mut impl SessionHost) {
        let call = self.calls.get(id).expect("a refused call is in flight");
        let outcome = if call.may_be_done() {
            Outcome::Unknown(Unknown::Refused(refusal))
        } else {
            Outcome::NotDone(NotDone::Refused(refusal))
        };
        self.complete(id, outcome, host);
    }

    pub(super) fn on_deadline(&mut self, id: CallId, host: &mut impl SessionHost) {
        let call = self.calls.change(id).expect("a deadline belongs to a call in flight");
        let waiting = call.phase.waiting();
        let outcome = if call.may_be_done() {
            Outcome::Unknown(Unknown::Deadline { waiting })
        } else {
            let refusal = call.refusal.take().map(|refusal| *refusal);
            Outcome::NotDone(NotDone::Deadline { waiting, refusal })
        };
        self.complete(id, outcome, host);
    }

    /// Ends a call. A write with unanswered attempts on live links stays unanswered in the
    /// session's word to the servers, until those are answered or their links are gone.
    fn complete(&mut self, id: CallId, outcome: Outcome, host: &mut impl SessionHost) {
        let call = self.calls.get(id).expect("a call completes once");
        self.timers.drop(call.timer, id);
        let mut strays = false;
        for attempt in call.open.iter() {
            self.attempts.remove(attempt.id.0);
            if let (Some(link), Some(origin)) = (attempt.link, call.request.origin) {
                self.strays.insert(attempt.id, (link, origin.number));
                strays = true;
            }
        }
        if let Some(origin) = call.request.origin
            && !strays
        {
            self.unanswered.remove(origin.number);
        }
        host.complete(id, &call.request.operation, outcome);
        self.calls.remove(id);
    }

    /// Forgets the unanswered attempts of completed writes that `gone` names.
    pub(super) fn drop_strays(&mut self, gone: impl Fn(AttemptId, LinkId) -> bool) {
        let mut numbers: Vec<RequestNumber> = Vec::new();
        self.strays.retain(|&attempt, &mut (link, number)| {
            let is_gone = gone(attempt, link);
            if is_gone {
                numbers.push(number);
            }
            !is_gone
        });
        for number in numbers {
            if self.strays.values().all(|&(_, other)| other != number) {
                self.unanswered.remove(number);
            }
        }
    }
}

fn verdict_of(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::NotPrimary { .. } => Verdict::Elsewhere,
        Refusal::BaseNeeded { base } => Verdict::Base(*base),
        Refusal::Busy | Refusal::BelowWriteFloor { .. } | Refusal::Unborn => Verdict::Later,
        Refusal::KeyTooLarge { .. }
        | Refusal::ValueTooLarge { .. }
        | Refusal::EmptyKey
        | Refusal::Lost
        | Refusal::UnknownSet
        | Refusal::Unsupported
        | Refusal::Malformed
        | Refusal::TooManyExpire { .. }
        | Refusal::Full { .. } => Verdict::Final,
    }
}

/// The outcome of an answer that is no refusal, after its attempt was closed.
fn outcome_of(call: &Call, attempt: AttemptId, answer: Answer) -> Outcome {
    let is_write = call.is_write();
    if let Answer::Forgotten { .. } = answer
        && is_write
    {
        return Outcome::Unknown(Unknown::Forgotten);
    }
    if !fits(&call.request.operation, &answer) {
        return if is_write {
            Outcome::Unknown(Unknown::Misfit)
        } else {
            Outcome::NotDone(NotDone::Misfit)
        };
    }
    let wrote_nothing = !matches!(answer, Answer::Written { .. });
    if is_write && wrote_nothing && !call.is_last_word(attempt) {
        return Outcome::Unknown(Unknown::Earlier(answer));
    }
    Outcome::Done(answer)
}

/// Whether `answer` can be the answer to `operation`.
fn fits(operation: &Operation, answer: &Answer) -> bool {
    match (operation, answer) {
        (Operation::Get { .. }, Answer::Found { .. } | Answer::Absent { .. })
        | (Operation::Scan { .. }, Answer::Page { .. })
        | (Operation::Changes { .. }, Answer::Changes { .. } | Answer::Rejected { .. })
        | (Operation::Delete { .. }, Answer::Absent { .. })
        | (Operation::Cas { .. } | Operation::CasFor { .. }, Answer::Mismatch { .. })
        | (Operation::Incr { .. }, Answer::Rejected { .. }) => true,
        (
            Operation::Put { .. } | Operation::PutFor { .. } | Operation::CasFor { .. },
            Answer::Written { written, .. },
        ) => *written == Written::Stored,
        (Operation::Delete { .. }, Answer::Written { written, .. }) => *written == Written::Deleted,
        // A cas without a value deletes.
        (Operation::Cas { .. }, Answer::Written { written, .. }) => {
            matches!(written, Written::Stored | Written::Deleted)
        }
        (Operation::Incr { .. }, Answer::Written { written, .. }) => {
            matches!(written, Written::Counter(_))
        }
        (
            Operation::Get { .. }
            | Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::Cas { .. }
            | Operation::Incr { .. }
            | Operation::Scan { .. }
            | Operation::Changes { .. }
            | Operation::PutFor { .. }
            | Operation::CasFor { .. },
            Answer::Found { .. }
            | Answer::Absent { .. }
            | Answer::Written { .. }
            | Answer::Mismatch { .. }
            | Answer::Rejected { .. }
            | Answer::Page { .. }
            | Answer::Changes { .. }
            | Answer::Refused(_)
            | Answer::Forgotten { .. }
            | Answer::Moved { .. },
        ) => false,
    }
}
