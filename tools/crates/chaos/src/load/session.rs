//! A session: one process of the history after the other, each until an outcome is unknown.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem::client::{Client, Error, Session, block_on};
use tandem::clock;
use tandem::protocol::message;
use tandem::protocol::time::Span;
use tandem::protocol::types::{KeySet, Revision};
use tandem::sim::rng::Rng;
use tandem_history::{Expect, Outcome, Reply, Text, What};

use super::keys::{SLOTS, Use};
use super::{Ending, Sample, Shared};
use crate::nodes::Node;

/// Between two operations of a session.
const THINK_MIN: Span = Span::from_millis(8);
const THINK_MAX: Span = Span::from_millis(24);

/// How long an operation may wait: short ones give up during a fault, long ones outlive it.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(700), Duration::from_secs(3), Duration::from_secs(10)];

/// What a session last saw at a slot.
struct Seen {
    key: Text,
    value: Option<Text>,
    revision: Option<Revision>,
}

/// Reads and writes keys of `set` until the load ends.
///
/// # Errors
/// The history can not be written.
pub fn run(node: Node, client: &Client, set: KeySet, shared: &Shared) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
    while shared.goes_on() {
        let process = shared.new_process();
        let session = client.session();
        let mut rng = Rng::new(shared.seed ^ process.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut number = 0;
        while shared.goes_on() {
            number += 1;
            let slot = rng.below(SLOTS as u64) as usize;
            let key = shared.keys.take(set, slot);
            let known = seen.get(&slot).filter(|it| it.key == key);
            let what = choose(slot, known, &format!("{process}-{number}"), &mut rng);
            let patience = PATIENCE[rng.below(PATIENCE.len() as u64) as usize];
            let sent = clock::now();
            let outcome = operate(shared, &session.with_timeout(patience), process, &key, &what)?;
            let ending = match &outcome {
                Outcome::Ok(_) => Ending::Ok,
                Outcome::Fail => Ending::Fail,
                Outcome::Unknown => Ending::Unknown,
            };
            let is_write = what != What::Get;
            if is_write && ending == Ending::Ok {
                shared.acknowledged[usize::from(set.0)].fetch_add(1, Ordering::Relaxed);
            }
            samples.push(Sample {
                client: node,
                set,
                is_write,
                sent,
                answered: clock::now(),
                ending,
            });
            remember(&mut seen, slot, key, &what, &outcome);
            std::thread::sleep(Duration::from(rng.span(THINK_MIN, THINK_MAX)));
            if outcome == Outcome::Unknown {
                break;
            }
        }
    }
    Ok(samples)
}

/// Does one operation, on file before it is sent.
///
/// # Errors
/// The history can not be written.
pub fn operate(
    shared: &Shared,
    session: &Session,
    process: u64,
    key: &Text,
    what: &What,
) -> Result<Outcome> {
    let begun = shared.recorder.begin(process, key, what).context("writing the history")?;
    let outcome = match block_on(session.begin(what.request(key))) {
        Ok(answer) => Outcome::of(what, &answer),
        Err(Error::Rejected { position, why, .. }) => {
            Outcome::of(what, &message::Answer::Rejected { position, reason: why })
        }
        Err(error) if error.is_surely_not_done() => Outcome::Fail,
        Err(_) => Outcome::Unknown,
    };
    shared.recorder.end(begun, &outcome).context("writing the history")?;
    if matches!(outcome, Outcome::Ok(_)) {
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(outcome)
}

/// The next operation on a key of `slot`; `value` is unique.
fn choose(slot: usize, known: Option<&Seen>, value: &str, rng: &mut Rng) -> What {
    let value = Text::from(value);
    let draw = rng.below(100);
    match (Use::of(slot), draw) {
        (_, 0..40) => What::Get,
        (Use::Counter, _) => What::Incr { by: rng.between(1, 9) as i64 },
        (Use::Plain, _) | (Use::Mixed, 40..60) => What::Put { value },
        (Use::Mixed, 60..68) => What::Delete,
        (Use::Mixed, _) => {
            let expect = match known {
                Some(Seen { revision: Some(revision), .. }) if draw.is_multiple_of(2) => {
                    Expect::Revision(*revision)
                }
                Some(Seen { value: Some(value), .. }) => Expect::Value(value.clone()),
                _ => Expect::Absent,
            };
            What::Cas { expect, value: (draw < 96).then_some(value) }
        }
    }
}

/// Keeps what an answer says of the key, for the next `cas`.
fn remember(
    seen: &mut BTreeMap<usize, Seen>,
    slot: usize,
    key: Text,
    what: &What,
    outcome: &Outcome,
) {
    let Outcome::Ok(answer) = outcome else { return };
    let value = match (&answer.reply, what) {
        (Reply::Value(value), _) => value.clone(),
        (Reply::Stored, What::Put { value }) => Some(value.clone()),
        (Reply::Swapped(true), What::Cas { value, .. }) => value.clone(),
        _ => None,
    };
    let revision = answer.revision.filter(|_| value.is_some());
    seen.insert(slot, Seen { key, value, revision });
}

#[cfg(test)]
mod tests {
    //! Goal: all operations come, and a `cas` builds on what was seen.
    //! Method: draw many and look at them.

    use super::*;

    #[test]
    fn all_operations_come() {
        let mut rng = Rng::new(7);
        let seen = Seen { key: Text::from("k"), value: Some(Text::from("v")), revision: None };
        let drawn: Vec<What> =
            (0..1_000).map(|_| choose(1, Some(&seen), "new", &mut rng)).collect();
        let count = |wanted: fn(&What) -> bool| drawn.iter().filter(|it| wanted(it)).count();
        assert!(count(|it| *it == What::Get) > 300);
        assert!(count(|it| matches!(it, What::Put { .. })) > 150);
        assert!(count(|it| *it == What::Delete) > 40);
        let cas_from_seen = |it: &What| {
            let What::Cas { expect: Expect::Value(value), .. } = it else { return false };
            &**value == "v"
        };
        assert!(count(cas_from_seen) > 150);
        assert!(count(|it| matches!(it, What::Cas { value: None, .. })) > 10);
        let numbers = (0..100).map(|_| choose(2, None, "new", &mut rng));
        let fits = |it: &What| matches!(it, What::Get | What::Incr { by: 1..=9 });
        assert!(numbers.into_iter().all(|it| fits(&it)));
        let plain = (0..100).map(|_| choose(0, None, "new", &mut rng));
        let fits = |it: &What| matches!(it, What::Get | What::Put { .. });
        assert!(plain.into_iter().all(|it| fits(&it)));
    }
}
