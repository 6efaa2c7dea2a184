//! Histories made by hand: bad ones are rejected by every checker that can see it, good ones
//! accepted.
//!
//! Goal: no checker lets a known kind of fault pass, and none rejects what is right.
//! Method: one small history a kind of fault, with what each checker has to say of it.

use tandem_history::{Checker, Conclusion, Judged, Options, check};

use self::Say::{No, Nothing, Yes};
use super::story::*;

/// What a checker has to say: it accepts, it rejects, or the key is not of its kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Say {
    Yes,
    No,
    Nothing,
}

/// Of witness, zones and wgl, in this order.
fn judged(name: &str, stories: &[Story], said: [Say; 3]) {
    let verdicts = check(&history(stories), &Options::default());
    for (verdict, said) in verdicts.verdicts.iter().zip(said) {
        let (checker, judged) = (verdict.checker, &verdict.keys);
        let found: Vec<Say> = judged
            .iter()
            .map(|it| match it {
                Judged::Accepted => Yes,
                Judged::Violated(_) => No,
                Judged::NotJudged(_) => Nothing,
                Judged::Undecided(why) => panic!("{name}: {checker:?} gave up: {why}"),
            })
            .collect();
        assert_eq!(found, [said], "{name}, by {checker:?}: {judged:?}");
    }
    let conclusion =
        if said.contains(&No) { Conclusion::Violated } else { Conclusion::Linearizable };
    assert_eq!(verdicts.conclusion(), conclusion, "{name}");
}

#[test]
fn bad_registers_are_rejected() {
    let a = || put("a").at(0, 10).op(1);
    let b = || put("b").at(20, 30).op(2);
    let all = [No, No, No];
    judged("a stale read", &[a(), b(), get("a").at(40, 50).saw(1, 1)], all);
    judged("a stale read at the newest position", &[a(), b(), get("a").at(40, 50).saw(1, 2)], all);
    judged("a lost write", &[a(), absent().at(20, 30).saw_nothing(0)], all);
    judged("a lost write, honestly placed", &[a(), absent().at(20, 30).saw_nothing(1)], all);
    judged("a value from nowhere", &[a(), get("z").at(20, 30).saw(2, 2)], all);
    judged("a value of another write's revision", &[a(), get("z").at(20, 30).saw(1, 1)], all);
    let concurrent = put("b").at(0, 100).op(2);
    let (new, old) = (get("b").at(20, 30).saw(2, 2), get("a").at(40, 50).saw(1, 1));
    judged("reads that go back", &[a(), concurrent, new.clone(), old.clone()], all);
    let dirty = put("b").at(0, 0);
    judged("a read of what then vanishes", &[a(), dirty, new, old], all);
    let seen = get("f").at(20, 30).saw(2, 2);
    judged("a failed write that was seen", &[a(), put("f").at(0, 10).fails(), seen], all);
    let early = get("a").at(0, 5).saw(1, 1);
    judged("a read of the future", &[early, put("a").at(20, 30).op(1)], all);
    let twice =
        [put("a").at(0, 0), get("a").at(10, 15).saw(1, 1), b(), get("a").at(40, 50).saw(3, 3)];
    judged("an unknown write that is done twice", &twice, all);
    let unsent = [get("a").at(0, 10).saw(1, 1), put("a").at(20, 0)];
    judged("an unknown write seen before it was sent", &unsent, all);
}

#[test]
fn what_only_positions_show_is_rejected_by_the_witness() {
    let here = |value: &str| put(value).at(0, 10).op(1);
    judged("two writes at one place", &[here("a"), here("b")], [No, Yes, Yes]);
    let crossed = [put("a").at(0, 10).op(2), put("b").at(20, 30).op(1)];
    judged("writes against real time", &crossed, [No, Yes, Yes]);
    let (a, b) = (put("a").at(0, 100).op(1), put("b").at(0, 100).op(2));
    let wrong = get("a").at(0, 100).saw(2, 2);
    judged("a value with another one's revision", &[a, b, wrong], [No, Yes, Yes]);
}

#[test]
fn bad_histories_of_all_operations_are_rejected() {
    let seen = [No, Nothing, No];
    let a = || put("a").at(0, 10).op(1);
    let swap = |to: &str, op: u64| cas(Some("a"), Some(to), true).at(20, 40).op(op);
    judged("a lost update", &[a(), swap("b", 2), swap("c", 3)], seen);
    let take = |op: u64| cas(None, Some("mine"), true).at(0, 10).op(op);
    judged("a lock that two hold", &[take(1), take(2)], seen);
    let at_revision = |to: &str, op: u64| cas_revision(1, to, true).at(20, 40).op(op);
    judged("one revision swapped twice", &[a(), at_revision("b", 2), at_revision("c", 3)], seen);
    let one = || incr(1, Some(1)).at(0, 10).op(1);
    judged("a double increment", &[one(), get("2").at(20, 30).saw(2, 2)], seen);
    judged("a lost increment", &[one(), incr(1, Some(1)).at(20, 30).op(2)], seen);
    let unknown = [incr(1, None).at(0, 0), get("2").at(20, 30).saw(2, 2)];
    judged("an unknown increment done twice", &unknown, seen);
    let gone = || delete(true).at(20, 30).op(2);
    judged("a resurrected key", &[a(), gone(), get("a").at(40, 50).saw(1, 2)], seen);
    judged("a key deleted twice", &[a(), gone(), delete(true).at(40, 50).op(3)], seen);
    let blind = delete(false).at(20, 30).saw_nothing(1);
    judged("a delete that does not see the key", &[a(), blind], seen);
    let refused = cas(Some("a"), Some("b"), false).at(20, 30).saw(1, 1);
    judged("a comparison that should have held", &[a(), refused], seen);
    let swapped = cas(Some("z"), Some("b"), true).at(20, 30).op(2);
    judged("a comparison that should have failed", &[a(), swapped], seen);
    let number = [one(), incr(1, None).at(20, 30).saw_nothing(1)];
    judged("a sum refused without reason", &number, seen);
    let failed = [a(), delete(true).at(20, 30).fails(), absent().at(40, 50).saw_nothing(2)];
    judged("a failed delete that was seen", &failed, seen);
    // Each value is put more than once, so that zones say nothing.
    let again =
        [a(), put("b").at(20, 30).op(2), get("a").at(40, 50).saw(1, 1), put("a").at(60, 70).op(3)];
    judged("a stale read of a value put again later", &again, seen);
}

#[test]
fn good_registers_are_accepted() {
    let all = [Yes, Yes, Yes];
    let a = || put("a").at(0, 10).op(1);
    judged("nothing", &[absent().at(0, 10).saw_nothing(0)], all);
    let both = [
        a(),
        put("b").at(5, 100).op(2),
        get("a").at(20, 30).saw(1, 1),
        get("b").at(40, 50).saw(2, 2),
    ];
    judged("a read on each side of a write", &both, all);
    let unseen = [a(), put("b").at(15, 0), get("a").at(20, 30).saw(1, 1)];
    judged("an unknown write that is never seen", &unseen, all);
    let late = [
        a(),
        put("b").at(15, 0),
        get("a").at(20, 30).saw(1, 1),
        put("c").at(40, 50).op(2),
        get("b").at(60, 70).saw(3, 3),
    ];
    judged("an unknown write that takes effect late", &late, all);
    let passed =
        [a(), put("b").at(15, 0), put("c").at(40, 50).op(3), get("c").at(60, 70).saw(3, 3)];
    judged("an unknown write that was overwritten unseen", &passed, all);
    let failed = [a(), put("f").at(15, 20).fails(), get("a").at(30, 40).saw(1, 1)];
    judged("a failed write that is not seen", &failed, all);
    let touching = [a(), absent().at(10, 20).saw_nothing(0)];
    judged("operations that touch at one instant overlap", &touching, all);
    let reads = [a(), get("a").at(30, 40).saw(1, 7), get("a").at(50, 60).saw(1, 7)];
    judged("reads at one position", &reads, all);
}

#[test]
fn good_histories_of_all_operations_are_accepted() {
    let seen = [Yes, Nothing, Yes];
    let a = || put("a").at(0, 10).op(1);
    let each = [
        a(),
        cas(Some("a"), Some("5"), true).at(20, 30).op(2),
        incr(2, Some(7)).at(40, 50).op(3),
        cas(None, Some("x"), false).at(60, 70).saw(3, 3),
        cas_revision(3, "y", true).at(80, 90).op(4),
        incr(1, None).at(100, 110).saw_nothing(4),
        delete(true).at(120, 130).op(5),
        delete(false).at(140, 150).saw_nothing(5),
        absent().at(160, 170).saw_nothing(6),
    ];
    judged("each kind of operation", &each, seen);
    let unknown = || incr(1, None).at(0, 0);
    judged(
        "unknown increments, all done",
        &[unknown(), unknown(), get("2").at(9, 10).saw(2, 2)],
        seen,
    );
    let one =
        [unknown(), unknown(), incr(1, Some(2)).at(9, 10).op(2), get("3").at(20, 30).saw(3, 3)];
    judged("an unknown increment that only a sum shows", &one, seen);
    let gone = [a(), delete(true).at(15, 0), absent().at(20, 30).saw_nothing(2)];
    judged("an unknown delete that was seen", &gone, seen);
    let taken = [a(), delete(true).at(15, 0), cas(None, Some("b"), true).at(20, 30).op(3)];
    judged("an unknown delete that a comparison shows", &taken, seen);
    let there = [put("a").at(0, 0), delete(true).at(20, 30).op(2)];
    judged("an unknown write that a delete shows", &there, seen);
    let swapped = [a(), cas(Some("a"), Some("b"), true).at(15, 0), get("b").at(20, 30).saw(2, 2)];
    judged("an unknown comparison that was seen", &swapped, seen);
    let chain = [
        cas(Some("a"), Some("b"), true).at(0, 0),
        put("a").at(0, 0),
        get("b").at(20, 30).saw(2, 2),
        cas_revision(2, "c", true).at(40, 50).op(3),
    ];
    judged("an unknown write on top of another", &chain, seen);
    // Whichever unknown write explains the first read, the other must be left for the second.
    let either = [
        put("x").at(0, 10).op(1),
        put("b").at(15, 0),
        cas(Some("x"), Some("b"), true).at(15, 0),
        get("b").at(20, 30).saw(2, 2),
        put("y").at(40, 50).op(3),
        get("b").at(60, 70).saw(4, 4),
    ];
    judged("two unknown writes of one value", &either, seen);
}

#[test]
fn the_order_of_positions_is_demanded_of_whole_key_sets_where_they_are_known() {
    let stories = [put("a").of("k").at(0, 10).op(5), put("b").of("l").at(20, 30).op(3)];
    let options = |key_sets| Options { key_sets, ..Options::default() };
    let verdict = |key_sets| check(&history(&stories), &options(key_sets)).conclusion();
    assert_eq!(verdict(None), Conclusion::Linearizable);
    assert_eq!(verdict(Some(1)), Conclusion::Violated);
    let same = [put("a").of("k").at(0, 10).op(5), put("b").of("l").at(0, 10).op(5)];
    assert_eq!(check(&history(&same), &options(Some(1))).conclusion(), Conclusion::Violated);
    assert_eq!(check(&history(&same), &options(None)).conclusion(), Conclusion::Linearizable);
}

#[test]
fn a_search_that_gives_up_leaves_the_history_undecided() {
    let stories: Vec<Story> = (0..30)
        .map(|number| put(&format!("v{number}")).at(0, 100).op(number + 1))
        .chain([get("z").at(0, 100).saw(1, 1), cas(Some("v1"), Some("z"), true).at(200, 0)])
        .collect();
    let options = Options { checkers: vec![Checker::Wgl], steps_max: 1_000, ..Options::default() };
    let verdicts = check(&history(&stories), &options);
    assert_eq!(verdicts.conclusion(), Conclusion::Undecided);
    assert!(verdicts.open_keys().contains_key("k"));
    assert!(verdicts.to_string().contains("UNDECIDED for 1 keys"), "{verdicts}");
}

#[test]
fn a_fault_is_told_with_the_operations_that_show_it() {
    let stories =
        [put("a").at(0, 10).op(1), put("b").at(20, 30).op(2), get("a").at(40, 50).saw(1, 1)];
    let verdicts = check(&history(&stories), &Options::default());
    let told = verdicts.to_string();
    assert!(told.contains("get k (0.000040 to 0.000050 ms): found \"a\""), "{told}");
    assert!(told.contains("put k = \"b\""), "{told}");
    assert!(told.ends_with("NOT linearizable: 3 operations over 1 keys"), "{told}");
}
