//! Goal: calls find their primary, through refusals, broken links and changes of the view.
//! Method: as in the parent module; failures are inputs, time goes from timer to timer.

use super::*;

#[test]
fn without_a_view_it_is_asked_for_ever_more_slowly() {
    let mut bench = Bench::new();
    let start = bench.now;
    let (_, effects) = bench.submit(get());
    assert!(asks_for_view(&effects));
    let mut delays = Vec::new();
    for _ in 0..8 {
        let before = bench.now;
        // An answer that knows nothing yet.
        bench.input(SessionInput::ViewLearned(Rc::new(View::default())));
        assert!(asks_for_view(&bench.tick_until(|it| *it == SessionEffect::FetchView)));
        delays.push(bench.now.since(before));
    }
    assert!(bench.now.since(start) < Span::from_millis(5_000));
    assert!(delays[0] <= Span::from_millis(11) && delays[0] >= Span::from_millis(5));
    assert!(delays.iter().all(|&delay| delay <= Span::from_millis(201)));
    assert!(delays[7] >= Span::from_millis(100));
}

#[test]
fn one_dial_serves_all_calls_to_a_worker() {
    let mut bench = Bench::new();
    bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[S1, S2]))));
    let (_, first) = bench.submit(get());
    let (_, second) = bench.submit(put());
    assert_eq!(dials(&first), vec![S1]);
    assert!(dials(&second).is_empty());
    assert_eq!(bench.link_up(S1, 1).len(), 2);
}

#[test]
fn a_failed_dial_is_tried_again_later_and_the_view_is_asked_for() {
    let mut bench = Bench::new();
    bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[S1, S2]))));
    bench.submit(get());
    let effects = bench.input(SessionInput::ConnectFailed { peer: S1, worker: W0 });
    assert!(asks_for_view(&effects) && dials(&effects).is_empty());
    let before = bench.now;
    let effects = bench.tick_until(|it| matches!(it, SessionEffect::Connect { .. }));
    assert_eq!(dials(&effects), vec![S1]);
    assert!(bench.now > before);
}

#[test]
fn a_refusal_with_a_newer_configuration_leads_to_its_primary_at_once() {
    let mut bench = Bench::connected();
    let (_, sent) = bench.send(put());
    let configuration = Some(configuration(2, S2));
    let effects = bench.refuse(&sent, Refusal::NotPrimary { configuration });
    assert_eq!(dials(&effects), vec![S2]);
    let retry = only(bench.link_up(S2, 2));
    assert_eq!(retry.origin(), sent.origin());
}

#[test]
fn a_refusal_without_news_waits_and_asks_for_the_view() {
    let mut bench = Bench::connected();
    let (_, sent) = bench.send(put());
    let effects = bench.refuse(&sent, Refusal::NotPrimary { configuration: None });
    assert!(asks_for_view(&effects) && sends(effects).is_empty());
    assert_eq!(dials(&bench.learn_failover()), vec![S2], "the view wakes it");
}

#[test]
fn busy_waits_for_its_turn() {
    let mut bench = Bench::connected();
    let (_, sent) = bench.send(put());
    assert!(sends(bench.refuse(&sent, Refusal::Busy)).is_empty());
    let before = bench.now;
    assert_eq!(bench.tick_until_sent().origin(), sent.origin());
    assert!(bench.now.since(before) >= Span::from_millis(5));
}

#[test]
fn a_replaced_primary_s_calls_go_to_the_new_one_at_once_and_either_may_answer() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    assert_eq!(dials(&bench.learn_failover()), vec![S2]);
    let retry = only(bench.link_up(S2, 2));
    assert_eq!(retry.origin(), first.origin());
    let effects = bench.answer(&first, stored(1, 6));
    assert_eq!(outcomes(&effects), vec![Outcome::Done(stored(1, 6))]);
    assert!(bench.answer(&retry, stored(1, 6)).is_empty());
}

#[test]
fn a_role_that_comes_back_does_not_send_twice_on_one_link() {
    let mut bench = Bench::connected();
    bench.send(put());
    bench.learn_failover();
    let back = bench.input(SessionInput::ViewLearned(Rc::new(view(3, S1, &[S1, S2]))));
    assert!(sends(back).is_empty(), "the attempt on link 1 is still unanswered");
    assert!(bench.link_up(S2, 2).is_empty());
}

#[test]
fn impatience_asks_for_the_view_and_sends_nothing_twice() {
    let mut bench = Bench::connected();
    bench.send(put());
    let before = bench.now;
    let effects = bench.tick_until(|it| *it == SessionEffect::FetchView);
    assert_eq!(bench.now.since(before), Span::from_millis(100));
    assert!(sends(effects).is_empty());
}

#[test]
fn a_superseded_incarnation_is_not_dialled() {
    let mut bench = Bench::new();
    let reborn = Member { incarnation: Incarnation(9), ..S1 };
    let effects = {
        bench.submit(get());
        bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[reborn, S2]))))
    };
    assert!(dials(&effects).is_empty());
    assert_eq!(bench.session.waiting(CallId(1)), Some(Waiting::Primary));
}

#[test]
fn a_set_that_the_view_calls_lost_refuses_its_calls() {
    let mut bench = Bench::new();
    bench.submit(put());
    let mut lost = view(1, S1, &[S1, S2]);
    lost.sets[0].state = SetState::Lost;
    lost.dead = vec![S1, S2];
    let effects = bench.input(SessionInput::ViewLearned(Rc::new(lost)));
    let expected = Outcome::NotDone(NotDone::Refused(Refusal::Lost));
    assert_eq!(outcomes(&effects), vec![expected]);
}

#[test]
fn a_scan_of_no_key_set_is_refused() {
    let mut bench = Bench::new();
    let (set, prefix) = (KeySet(5), Bytes::new());
    bench.submit(Operation::Scan { set, prefix, after: None, items_max: 1, bytes_max: 1 });
    let effects = bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[S1, S2]))));
    let expected = Outcome::NotDone(NotDone::Refused(Refusal::UnknownSet));
    assert_eq!(outcomes(&effects), vec![expected]);
}

#[test]
fn a_link_that_was_replaced_still_loses_its_attempts() {
    let mut bench = Bench::connected();
    let (_, first) = bench.send(put());
    bench.link_up(S1, 2);
    let retry = only(sends(bench.input(SessionInput::LinkDown { link: LinkId(1) })));
    assert_eq!((retry.link, retry.origin()), (LinkId(2), first.origin()));
}

#[test]
fn equal_inputs_give_equal_sessions() {
    let (mut left, mut right) = (Bench::connected(), Bench::connected());
    for bench in [&mut left, &mut right] {
        let (_, sent) = bench.send(put());
        bench.refuse(&sent, Refusal::Busy);
    }
    assert!(left.session == right.session);
}
