//! Goal: done, surely not done and unknown are never blurred.
//! Method: one history of attempts a test, ended by an answer, a refusal or the deadline.

use super::*;

const LOST: SessionInput = SessionInput::LinkDown { link: LinkId(1) };

#[test]
fn an_answer_completes_its_call_once() {
    let mut bench = Bench::connected();
    let (_, sent) = bench.send(put());
    let effects = bench.answer(&sent, stored(1, 6));
    assert_eq!(outcomes(&effects), vec![Outcome::Done(stored(1, 6))]);
    assert!(bench.answer(&sent, stored(1, 6)).is_empty(), "a second answer is ignored");
    assert_eq!(bench.session.outstanding(), 0);
}

#[test]
fn an_answer_on_another_link_is_ignored() {
    let mut bench = Bench::connected();
    let (_, mut sent) = bench.send(put());
    sent.link = LinkId(9);
    assert!(bench.answer(&sent, stored(1, 6)).is_empty());
    sent.link = LinkId(1);
    assert_eq!(outcomes(&bench.answer(&sent, stored(1, 6))).len(), 1);
}

#[test]
fn a_write_that_was_never_sent_is_surely_not_done() {
    let mut bench = Bench::new();
    bench.submit(put());
    let waiting = Waiting::Primary;
    let expected = NotDone::Deadline { waiting, refusal: None };
    assert_eq!(bench.tick_until_complete(), Outcome::NotDone(expected));
}

#[test]
fn a_write_that_was_only_refused_is_surely_not_done() {
    let mut bench = Bench::connected();
    let (_, mut sent) = bench.send(put());
    let floor = Refusal::BelowWriteFloor { copies: 1, floor: 2 };
    let outcome = loop {
        bench.refuse(&sent, floor.clone());
        let effects = bench.tick_until(|it| {
            matches!(it, SessionEffect::Send { .. } | SessionEffect::Complete { .. })
        });
        if let Some(outcome) = outcomes(&effects).pop() {
            break outcome;
        }
        sent = only(sends(effects));
    };
    let expected = NotDone::Deadline { waiting: Waiting::Turn, refusal: Some(floor) };
    assert_eq!(outcome, Outcome::NotDone(expected));
}

#[test]
fn an_unanswered_write_is_unknown_at_its_deadline_and_a_read_is_not_done() {
    let mut bench = Bench::connected();
    bench.send(put());
    let waiting = Waiting::Answer;
    assert_eq!(bench.tick_until_complete(), Outcome::Unknown(Unknown::Deadline { waiting }));
    bench.send(get());
    let expected = NotDone::Deadline { waiting, refusal: None };
    assert_eq!(bench.tick_until_complete(), Outcome::NotDone(expected));
}

#[test]
fn a_write_whose_link_broke_stays_unknown_although_its_retry_is_refused() {
    let mut bench = Bench::connected();
    bench.send(put());
    bench.input(LOST);
    bench.tick_until(|it| matches!(it, SessionEffect::Connect { .. }));
    let retry = only(bench.link_up(S1, 2));
    let effects = bench.refuse(&retry, Refusal::Lost);
    assert_eq!(outcomes(&effects), vec![Outcome::Unknown(Unknown::Refused(Refusal::Lost))]);
}

#[test]
fn final_refusals_end_a_call_at_once() {
    for refusal in [
        Refusal::KeyTooLarge { bytes_max: 1 },
        Refusal::ValueTooLarge { bytes_max: 1 },
        Refusal::EmptyKey,
        Refusal::Lost,
        Refusal::UnknownSet,
        Refusal::Unsupported,
        Refusal::Malformed,
        Refusal::Full { server: ServerId(2) },
    ] {
        let mut bench = Bench::connected();
        let (_, sent) = bench.send(put());
        let effects = bench.refuse(&sent, refusal.clone());
        assert_eq!(outcomes(&effects), vec![Outcome::NotDone(NotDone::Refused(refusal))]);
    }
}

#[test]
fn a_retry_keeps_number_and_base() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    assert_eq!(first.origin().number, RequestNumber(1));
    assert_eq!(first.origin().base, revision(5), "the newest answer's position");
    let (_, read) = bench.send(get());
    bench.answer(&read, absent(1, 9));
    bench.input(LOST);
    bench.tick_until(|it| matches!(it, SessionEffect::Connect { .. }));
    let retry = only(bench.link_up(S1, 2));
    assert_eq!(retry.origin(), first.origin());
    assert_ne!(retry.attempt, first.attempt);
    let (_, next) = bench.send(put());
    assert_eq!(next.origin().number, RequestNumber(2));
    assert_eq!(next.origin().base, revision(9));
    assert_eq!(next.origin().answered_below, RequestNumber(1));
}

#[test]
fn the_first_base_comes_with_the_link() {
    let mut bench = Bench::new();
    bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[S1, S2]))));
    bench.submit(put());
    let sent = only(bench.link_up(S1, 1));
    assert_eq!(sent.origin().base, revision(3));
    assert_eq!(sent.origin().session, SessionId(7));
}

#[test]
fn answered_below_is_the_lowest_unanswered_number() {
    let mut bench = Bench::connected();
    let (_, one) = bench.send(put());
    let (_, two) = bench.send(put());
    bench.answer(&two, stored(1, 6));
    let (_, three) = bench.send(put());
    assert_eq!(three.origin().answered_below, RequestNumber(1));
    bench.answer(&one, stored(1, 7));
    let (_, four) = bench.send(put());
    assert_eq!(four.origin().answered_below, RequestNumber(3));
}

#[test]
fn an_abandoned_write_counts_as_unanswered_until_its_answer_or_its_links_end() {
    let mut bench = Bench::connected();
    let (_, abandoned) = bench.send(put());
    bench.tick_until_complete();
    let (_, next) = bench.send(put());
    assert_eq!(next.origin().answered_below, RequestNumber(1));
    assert!(outcomes(&bench.answer(&abandoned, stored(1, 6))).is_empty());
    let (_, last) = bench.send(put());
    assert_eq!(last.origin().answered_below, RequestNumber(2));
}

#[test]
fn a_missing_base_is_supplied_at_once() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    let base = revision(40);
    let retry = only(sends(bench.refuse(&first, Refusal::BaseNeeded { base })));
    assert_eq!(retry.origin(), Origin { base, ..first.origin() });
    let again = bench.refuse(&retry, Refusal::BaseNeeded { base });
    assert!(sends(again).is_empty(), "the same base again waits for its turn");
    assert_eq!(bench.tick_until_sent().origin().base, base);
}

#[test]
fn a_newer_base_is_never_given_to_a_write_that_may_be_done() {
    let mut bench = Bench::connected();
    bench.send(put());
    bench.input(LOST);
    bench.tick_until(|it| matches!(it, SessionEffect::Connect { .. }));
    let retry = only(bench.link_up(S1, 2));
    let effects = bench.refuse(&retry, Refusal::BaseNeeded { base: revision(40) });
    assert_eq!(outcomes(&effects), vec![Outcome::Unknown(Unknown::Forgotten)]);
}

#[test]
fn a_forgotten_retry_is_unknown_and_a_forgotten_first_attempt_begins_anew() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    let forgotten = Answer::Forgotten { position: position(1, 50) };
    let anew = only(sends(bench.answer(&first, forgotten.clone())));
    assert_eq!(anew.origin().base, revision(50));
    bench.input(LOST);
    bench.tick_until(|it| matches!(it, SessionEffect::Connect { .. }));
    let retry = only(bench.link_up(S1, 2));
    let effects = bench.answer(&retry, forgotten);
    assert_eq!(outcomes(&effects), vec![Outcome::Unknown(Unknown::Forgotten)]);
}

/// A cas is lost with its link, and its retry at S2 finds a mismatch; `dead` tells whether S1
/// was proven dead before the retry was sent.
fn mismatch_after_lost_attempt(dead: bool) -> Vec<Outcome> {
    let mut bench = Bench::connected();
    bench.send(cas());
    bench.input(LOST);
    let mut news = view(2, S2, &[S1, S2]);
    if dead {
        news.dead.push(S1);
    }
    assert_eq!(dials(&bench.input(SessionInput::ViewLearned(Rc::new(news)))), vec![S2]);
    let retry = only(bench.link_up(S2, 2));
    outcomes(&bench.answer(&retry, mismatch(2, 8)))
}

#[test]
fn a_mismatch_is_the_last_word_only_if_no_older_attempt_can_come_later() {
    let done = Outcome::Done(mismatch(2, 8));
    let unknown = Outcome::Unknown(Unknown::Earlier(mismatch(2, 8)));
    assert_eq!(mismatch_after_lost_attempt(true), vec![done]);
    assert_eq!(mismatch_after_lost_attempt(false), vec![unknown]);
}

#[test]
fn a_write_that_a_deposed_primary_admitted_is_told_by_the_new_one() {
    for told in [stored(2, 8), mismatch(2, 8)] {
        let mut bench = Bench::connected();
        let (_, first) = bench.send(cas());
        let configuration = Some(configuration(2, S2));
        let effects = bench.answer(&first, Answer::Moved { configuration });
        assert_eq!((outcomes(&effects).len(), dials(&effects)), (0, vec![S2]));
        let retry = only(bench.link_up(S2, 2));
        assert_eq!(retry.origin(), first.origin());
        // The new primary opened with all that the old one's followers had, so that nothing of
        // the first attempt comes later.
        assert_eq!(outcomes(&bench.answer(&retry, told.clone())), vec![Outcome::Done(told)]);
    }
}

#[test]
fn a_write_that_a_deposed_primary_admitted_stays_unknown_where_nobody_tells_more() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    bench.answer(&first, Answer::Moved { configuration: None });
    bench.input(LOST);
    assert!(matches!(bench.tick_until_complete(), Outcome::Unknown(Unknown::Deadline { .. })));
}

#[test]
fn an_answer_that_does_not_fit_is_no_success() {
    let mut bench = Bench::connected();
    let (_, write) = bench.send(put());
    let effects = bench.answer(&write, mismatch(1, 6));
    assert_eq!(outcomes(&effects), vec![Outcome::Unknown(Unknown::Misfit)]);
    let (_, read) = bench.send(get());
    let effects = bench.answer(&read, stored(1, 6));
    assert_eq!(outcomes(&effects), vec![Outcome::NotDone(NotDone::Misfit)]);
}

#[test]
fn outstanding_operations_are_bounded() {
    let mut bench = Bench::connected();
    for _ in 0..4 {
        bench.send(put());
    }
    let (_, effects) = bench.submit(put());
    let expected = Outcome::NotDone(NotDone::TooMany { outstanding_max: 4 });
    assert_eq!(outcomes(&effects), vec![expected]);
}

#[test]
fn a_call_past_its_deadline_is_never_sent() {
    let mut bench = Bench::connected();
    let (call, deadline) = (CallId(99), bench.now);
    let effects = bench.input(SessionInput::Submit { call, operation: put(), deadline });
    assert_eq!((sends(effects).len(), bench.session.outstanding()), (0, 0));
}
