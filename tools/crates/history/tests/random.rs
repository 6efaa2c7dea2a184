//! Random small histories: the checkers agree with one another and with the definition.
//!
//! Goal: no checker accepts what no order explains, or rejects what some order does.
//! Method: seeded random histories of a few operations, right and wrong ones, judged by all
//! checkers and by trying every order; then longer ones that are right, and right but for one
//! answer.

use tandem::sim::rng::Rng;
use tandem_history::generate::{Settings, generate};
use tandem_history::{
    Answer, Checker, Conclusion, Ending, Expect, History, Judged, Operation, Options, Reply, Text,
    What, check,
};

use super::brute;

/// A history of one key whose answers are drawn at random.
fn scramble(rng: &mut Rng, registers_only: bool) -> History {
    let count = rng.between(2, 6) as usize;
    let value = |rng: &mut Rng| Text::from(rng.between(1, 3).to_string());
    let operations = (0..count)
        .map(|index| {
            let what = match rng.below(if registers_only { 2 } else { 5 }) {
                0 => What::Get,
                // Registers have each value put once.
                1 if registers_only => What::Put { value: Text::from((index + 1).to_string()) },
                1 => What::Put { value: value(rng) },
                2 => What::Delete,
                3 => What::Incr { by: rng.between(1, 2) as i64 },
                _ => {
                    let expect = match rng.below(2) {
                        0 => Expect::Absent,
                        _ => Expect::Value(value(rng)),
                    };
                    What::Cas { expect, value: rng.chance(700_000).then(|| value(rng)) }
                }
            };
            let reply = match &what {
                What::Get if rng.chance(250_000) => Reply::Value(None),
                What::Get => {
                    let most = if registers_only { count as u64 } else { 4 };
                    Reply::Value(Some(Text::from(rng.between(1, most).to_string())))
                }
                What::Put { .. } => Reply::Stored,
                What::Delete => Reply::Existed(rng.chance(600_000)),
                What::Cas { .. } => Reply::Swapped(rng.chance(500_000)),
                What::Incr { .. } => Reply::Number(Some(rng.between(1, 4) as i64)),
            };
            let invoke_ns = rng.below(30);
            let return_ns = invoke_ns + rng.below(20);
            let ending = match rng.below(8) {
                0 => Ending::Unknown,
                1 if rng.chance(300_000) => Ending::Fail { return_ns },
                _ => Ending::Ok {
                    return_ns,
                    answer: Answer { reply, revision: None, position: None },
                },
            };
            let key = Text::from("k");
            Operation { line: index + 1, process: index as u64, key, what, invoke_ns, ending }
        })
        .collect::<Vec<_>>();
    let mut history = History { operations };
    history.operations.sort_by_key(|it| it.invoke_ns);
    history
}

fn judge(history: &History, checker: Checker) -> Judged {
    let options = Options { checkers: vec![checker], ..Options::default() };
    check(history, &options).verdicts.remove(0).keys.remove(0)
}

/// Judges `rounds` scrambled histories by `checkers` and by the definition.
fn agree(seed: u64, rounds: usize, registers_only: bool, checkers: &[Checker]) {
    let mut rng = Rng::new(seed);
    let mut accepted = 0;
    for round in 0..rounds {
        let history = scramble(&mut rng, registers_only);
        let operations: Vec<&Operation> = history.operations.iter().collect();
        let right = brute::is_linearizable(&operations);
        accepted += usize::from(right);
        for &checker in checkers {
            let judged = judge(&history, checker);
            let agrees = match judged {
                Judged::Accepted => right,
                Judged::Violated(_) => !right,
                Judged::Undecided(_) | Judged::NotJudged(_) => false,
            };
            assert!(agrees, "round {round}, {checker:?}: {judged:?}, but {right}: {history:#?}");
        }
    }
    // Neither side of the question is left out.
    assert!(accepted * 20 > rounds && accepted * 20 < rounds * 19, "{accepted} of {rounds}");
}

#[test]
fn zones_search_and_definition_agree_on_registers() {
    agree(1, 20_000, true, &[Checker::Zones, Checker::Wgl]);
}

#[test]
fn search_and_definition_agree_on_all_operations() {
    agree(2, 20_000, false, &[Checker::Wgl]);
}

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        operations: 120,
        keys: 4,
        clients: 5,
        key_sets: 2,
        unknown_ppm: 100_000,
        stale_read: false,
    }
}

#[test]
fn histories_of_a_right_store_are_accepted_by_every_checker() {
    let options = Options { key_sets: Some(2), ..Options::default() };
    for seed in 0..300 {
        let verdicts = check(&generate(&settings(seed)), &options);
        assert_eq!(verdicts.conclusion(), Conclusion::Linearizable, "seed {seed}: {verdicts}");
        let witness = verdicts.verdicts[0].tally();
        assert_eq!(witness.accepted, 4, "seed {seed}: {verdicts}");
    }
}

#[test]
fn a_stale_read_in_a_long_history_is_found_by_every_checker() {
    let mut planted = 0;
    for seed in 0..100 {
        let history = generate(&Settings { stale_read: true, ..settings(seed) });
        let is_planted = history != generate(&settings(seed));
        planted += usize::from(is_planted);
        let verdicts = check(&history, &Options::default());
        for verdict in &verdicts.verdicts {
            let found = verdict.violations().next().is_some();
            assert_eq!(found, is_planted, "seed {seed}, {:?}: {verdicts}", verdict.checker);
        }
    }
    assert!(planted > 80, "planted only {planted}");
}

/// Changes one answer.
fn bend(rng: &mut Rng, history: &mut History) {
    let index = rng.below(history.operations.len() as u64) as usize;
    let Ending::Ok { answer, .. } = &mut history.operations[index].ending else { return };
    match &mut answer.reply {
        Reply::Value(value) => *value = Some(Text::from(rng.between(1, 99).to_string())),
        Reply::Existed(is) | Reply::Swapped(is) => *is = !*is,
        Reply::Number(Some(number)) => *number += 1,
        Reply::Stored | Reply::Number(None) => answer.position = None,
    }
}

#[test]
fn what_the_witness_accepts_the_search_accepts() {
    let mut rng = Rng::new(3);
    let mut rejected = 0;
    for seed in 0..300 {
        let mut history = generate(&Settings { operations: 60, ..settings(seed) });
        bend(&mut rng, &mut history);
        let verdicts = check(&history, &Options::default());
        let (witness, search) = (&verdicts.verdicts[0].keys, &verdicts.verdicts[2].keys);
        for (witness, search) in witness.iter().zip(search) {
            if *witness == Judged::Accepted {
                let told = format!("seed {seed}: {verdicts}");
                assert!(!matches!(search, Judged::Violated(_)), "{told}");
            }
            rejected += usize::from(matches!(search, Judged::Violated(_)));
        }
    }
    assert!(rejected > 50, "only {rejected} bent histories were wrong");
}
