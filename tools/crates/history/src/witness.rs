//! The witness check: the servers name the order, and the order is checked.
//!
//! Every answer carries its position. A write stands at its op, a read after it. A history is
//! accepted if the replay in this order explains every answer, and if nothing stands before what
//! had ended before it began. That is an order of all operations which respects real time, so
//! that accepting is sound whether or not the positions are honest. Rejecting means a broken
//! history or a wrong position; a store must not give either.
//!
//! ```text
//!   op       4         5            6..8           9
//!   order    put a     (seen: b)    get b at 8     incr
//!                       ^-- an unknown write whose effect a reader named: it stands at 5
//! ```
//!
//! Unknown writes have no position. One whose value was read stands at the revision that the
//! reader named. Others are placed only where the replay can not go on without: just before the
//! answer that they explain, which loses nothing, since whatever lies between did not tell the
//! difference and a write forgets the state before it. Each is used at most once, never before it
//! was sent, and only where there are op numbers to spare. Where several would do, the replay
//! tries them one after the other.

use std::collections::{BTreeMap, BTreeSet};

use tandem::protocol::placement;
use tandem::protocol::types::{KeySet, LossEpoch, Op, Position, Revision};

use crate::model::State;
use crate::operation::{Answer, Named, Operation, Reply, Text, What};
use crate::verdict::{Judged, Violation};

/// Place in the order: a write stands at its op, a read after it.
type Place = (LossEpoch, Op, bool);

/// How many unknown writes in a row one answer may need.
const CHAIN_MAX: usize = 16;

/// An operation that was done, at its place.
#[derive(Clone, Copy)]
struct Placed<'a> {
    place: Place,
    operation: &'a Operation,
    answer: &'a Answer,
    return_ns: u64,
}

/// What the replay meets, one after the other.
#[derive(Clone)]
enum Item<'a> {
    Done(Placed<'a>),
    /// A reader named the revision of a write that nobody acknowledged, and perhaps its value.
    Seen {
        revision: Revision,
        value: Option<Text>,
        by: &'a Operation,
    },
}

impl Item<'_> {
    fn order(&self) -> (Place, u64) {
        match self {
            Item::Done(it) => (it.place, it.operation.invoke_ns),
            Item::Seen { revision, .. } => ((revision.loss_epoch, revision.op, false), 0),
        }
    }
}

/// Judges each key of a history, in the order of `keys`. With `key_sets`, what shares a key set
/// shares its order; without, each key is judged by itself.
#[must_use]
pub fn judge(
    keys: &BTreeMap<&str, Vec<&Operation>>,
    key_sets: Option<u16>,
    steps_max: u64,
    mut progress: impl FnMut(usize),
) -> Vec<Judged> {
    let mut broken = match key_sets {
        Some(count) => sets_in_order(keys, count),
        None => BTreeMap::new(),
    };
    keys.iter()
        .map(|(&key, operations)| {
            progress(operations.len());
            match broken.remove(key) {
                Some(violation) => Judged::Violated(violation),
                None => judge_key(operations, steps_max),
            }
        })
        .collect()
}

/// The order within key sets: the first thing that is wrong with each set, by key.
fn sets_in_order<'a>(
    keys: &BTreeMap<&'a str, Vec<&'a Operation>>,
    count: u16,
) -> BTreeMap<&'a str, Violation> {
    let mut sets: BTreeMap<KeySet, Vec<Placed<'a>>> = BTreeMap::new();
    for (key, operations) in keys {
        let set = placement::key_set(key.as_bytes(), count);
        sets.entry(set).or_default().extend(operations.iter().filter_map(|it| place(it)));
    }
    let mut broken = BTreeMap::new();
    for placed in sets.values_mut() {
        placed.sort_by_key(|it| (it.place, it.operation.invoke_ns));
        if let Err(violation) = in_order(placed) {
            let last = violation.operations.last().and_then(|line| {
                placed.iter().find(|it| it.operation.line == *line).map(|it| it.operation)
            });
            broken.extend(last.map(|it| (&*it.key, violation)));
        }
    }
    broken
}

/// Judges the operations of one key.
fn judge_key(operations: &[&Operation], steps_max: u64) -> Judged {
    let answered = |it: &&&Operation| it.answer().is_some();
    let lacks = operations.iter().filter(answered).find(|it| place(it).is_none());
    if let Some(operation) = lacks {
        return Judged::NotJudged(format!("{operation} names no position"));
    }
    let mut placed: Vec<Placed<'_>> = operations.iter().filter_map(|it| place(it)).collect();
    placed.sort_by_key(|it| (it.place, it.operation.invoke_ns));
    if let Err(violation) = in_order(&placed) {
        return Judged::Violated(violation);
    }
    let mut items: Vec<Item<'_>> = seen_only(&placed);
    items.extend(placed.into_iter().map(Item::Done));
    items.sort_by_key(Item::order);
    let unknown = operations.iter().copied().filter(|it| it.is_ambiguous()).collect();
    Replay::new(items, unknown, steps_max).run(operations)
}

fn place(operation: &Operation) -> Option<Placed<'_>> {
    let answer = operation.answer()?;
    let Position { loss_epoch, op, .. } = answer.position?;
    let place = (loss_epoch, op, !answer.has_effect());
    Some(Placed { place, operation, answer, return_ns: operation.return_ns()? })
}

/// No two writes share a place, and nothing stands before what had ended before it began.
fn in_order(placed: &[Placed<'_>]) -> Result<(), Violation> {
    let mut latest: Option<&Placed<'_>> = None;
    for pair in placed.windows(2) {
        let [one, two] = pair else { continue };
        if one.place == two.place && one.answer.has_effect() {
            let words = "two writes were acknowledged at the same place";
            return Err(Violation::of(words, &[one.operation, two.operation]));
        }
    }
    for it in placed {
        if let Some(earlier) = latest.filter(|earlier| it.return_ns < earlier.operation.invoke_ns) {
            let words = "the first stands before the second, which had ended before it began";
            return Err(Violation::of(words, &[earlier.operation, it.operation]));
        }
        if latest.is_none_or(|latest| latest.operation.invoke_ns < it.operation.invoke_ns) {
            latest = Some(it);
        }
    }
    Ok(())
}

/// Revisions that readers named and nobody acknowledged.
fn seen_only<'a>(placed: &[Placed<'a>]) -> Vec<Item<'a>> {
    let written: BTreeSet<(LossEpoch, Op)> = placed
        .iter()
        .filter(|it| it.answer.has_effect())
        .map(|it| (it.place.0, it.place.1))
        .collect();
    let mut seen: BTreeMap<Revision, (Option<Text>, &'a Operation)> = BTreeMap::new();
    for it in placed.iter().filter(|it| !it.answer.has_effect()) {
        let Some(revision) = it.answer.revision else { continue };
        if written.contains(&(revision.loss_epoch, revision.op)) {
            continue;
        }
        let value = match &it.answer.reply {
            Reply::Value(value) => value.clone(),
            _ => None,
        };
        let known = seen.entry(revision).or_insert((None, it.operation));
        if known.0.is_none() && value.is_some() {
            *known = (value, it.operation);
        }
    }
    seen.into_iter().map(|(revision, (value, by))| Item::Seen { revision, value, by }).collect()
}

/// The replay of one key.
struct Replay<'a> {
    items: Vec<Item<'a>>,
    unknown: Vec<&'a Operation>,
    /// The earliest return from each item on: nothing that was sent later stands before it.
    return_min: Vec<u64>,
    steps: u64,
    steps_max: u64,
}

/// Where the replay stands.
#[derive(Clone)]
struct Stand {
    item: usize,
    state: State,
    /// Which of the unknown writes took effect.
    used: Vec<bool>,
    /// The last place that pins the state down: unknown writes stand after it.
    pinned: (LossEpoch, Op),
    /// The last write that was replayed, for messages: an item, or an unknown write.
    writer: Option<usize>,
}

/// A stand from which several ways lead on, and the ways not tried yet.
struct Fork {
    stand: Stand,
    ways: Vec<Vec<usize>>,
    /// The length of the ways tried last.
    length: usize,
}

impl<'a> Replay<'a> {
    fn new(items: Vec<Item<'a>>, unknown: Vec<&'a Operation>, steps_max: u64) -> Replay<'a> {
        let mut return_min = vec![u64::MAX; items.len()];
        let mut least = u64::MAX;
        for (index, item) in items.iter().enumerate().rev() {
            if let Item::Done(it) = item {
                least = least.min(it.return_ns);
            }
            return_min[index] = least;
        }
        Replay { items, unknown, return_min, steps: 0, steps_max }
    }

    fn run(mut self, operations: &[&'a Operation]) -> Judged {
        let mut stand = Stand {
            item: 0,
            state: State::default(),
            used: vec![false; self.unknown.len()],
            pinned: (LossEpoch(0), Op(0)),
            writer: None,
        };
        let mut forks: Vec<Fork> = Vec::new();
        let mut furthest: Option<Stand> = None;
        while stand.item < self.items.len() {
            self.steps += 1;
            if self.steps > self.steps_max {
                return Judged::Undecided(format!("gave up after {} steps", self.steps_max));
            }
            if let Some(next) = self.step(&stand, &[]) {
                stand = next;
                continue;
            }
            if furthest.as_ref().is_none_or(|furthest| furthest.item < stand.item) {
                furthest = Some(stand.clone());
            }
            forks.push(Fork { stand, ways: Vec::new(), length: 0 });
            match self.next_way(&mut forks) {
                Some(next) => stand = next,
                None if self.steps > self.steps_max => {
                    return Judged::Undecided(format!("gave up after {} steps", self.steps_max));
                }
                None => {
                    let furthest = furthest.expect("the replay stood before it had no way");
                    return Judged::Violated(self.told(&furthest, operations));
                }
            }
        }
        Judged::Accepted
    }

    /// Goes on from the newest fork that has a way left.
    fn next_way(&mut self, forks: &mut Vec<Fork>) -> Option<Stand> {
        while let Some(fork) = forks.last_mut() {
            while fork.ways.is_empty() && fork.length < CHAIN_MAX && self.steps <= self.steps_max {
                fork.length += 1;
                let mut chain = Vec::new();
                let more = self.chains(&fork.stand, &mut chain, fork.length, &mut fork.ways);
                if !more {
                    fork.length = CHAIN_MAX;
                }
            }
            if let Some(way) = fork.ways.pop() {
                return self.step(&fork.stand, &way);
            }
            forks.pop();
        }
        None
    }

    /// Collects the chains of exactly `length` unknown writes that let the next item follow.
    /// Tells whether there was any chain of that length at all.
    fn chains(
        &mut self,
        stand: &Stand,
        chain: &mut Vec<usize>,
        length: usize,
        found: &mut Vec<Vec<usize>>,
    ) -> bool {
        self.steps += 1;
        if self.steps > self.steps_max {
            return false;
        }
        if chain.len() == length {
            if self.step(stand, chain).is_some() {
                found.push(chain.clone());
            }
            return true;
        }
        let mut any = false;
        let mut tried: Vec<&What> = Vec::new();
        for index in 0..self.unknown.len() {
            let operation = self.unknown[index];
            let late = operation.invoke_ns > self.return_min[stand.item];
            // A put forgets what was before: it begins a chain or stands in none.
            let idle = matches!(operation.what, What::Put { .. }) && !chain.is_empty();
            let taken = stand.used[index] || chain.contains(&index);
            if late || idle || taken || tried.contains(&&operation.what) {
                continue;
            }
            tried.push(&operation.what);
            chain.push(index);
            if self.changed(&stand.state, chain).is_some() {
                any |= self.chains(stand, chain, length, found);
            }
            chain.pop();
        }
        any
    }

    /// The state after a chain of unknown writes that all change something.
    fn changed(&self, state: &State, chain: &[usize]) -> Option<State> {
        chain
            .iter()
            .try_fold(state.clone(), |state, &index| state.changed_by(&self.unknown[index].what))
    }

    /// The next item after a chain of unknown writes; none if it does not follow.
    fn step(&self, stand: &Stand, chain: &[usize]) -> Option<Stand> {
        let state = self.changed(&stand.state, chain)?;
        let item = self.items.get(stand.item)?;
        let (before, last) = match item {
            Item::Done(it) if it.answer.has_effect() => ((it.place.0, it.place.1), 1),
            Item::Done(it) => ((it.place.0, it.place.1), 0),
            // The last of the chain is the write that was seen.
            Item::Seen { revision, .. } => ((revision.loss_epoch, revision.op), 0),
        };
        let room = before.1.0.saturating_sub(stand.pinned.1.0).saturating_sub(last);
        if before.0 == stand.pinned.0 && (chain.len() as u64) > room {
            return None;
        }
        let (state, pins) = match item {
            Item::Seen { .. } if chain.is_empty() => return None,
            Item::Seen { value, revision, .. } => {
                let fits = state.value.is_some() && (value.is_none() || *value == state.value);
                let state = State { revision: Some(*revision), ..state };
                (fits.then_some(state)?, true)
            }
            Item::Done(it) => {
                let pins = match it.answer.reply {
                    Reply::Number(None) => false,
                    Reply::Value(_)
                    | Reply::Stored
                    | Reply::Existed(_)
                    | Reply::Swapped(_)
                    | Reply::Number(Some(_)) => true,
                };
                (state.after(&it.operation.what, it.answer)?, pins)
            }
        };
        let mut used = stand.used.clone();
        for &index in chain {
            used[index] = true;
        }
        let writes = match item {
            Item::Seen { .. } => true,
            Item::Done(it) => it.answer.has_effect(),
        };
        Some(Stand {
            item: stand.item + 1,
            state,
            used,
            pinned: if pins { before } else { stand.pinned },
            writer: if writes { Some(stand.item) } else { stand.writer },
        })
    }

    /// Why the replay can not go on, in words.
    fn told(&self, stand: &Stand, operations: &[&Operation]) -> Violation {
        let mut involved: Vec<&Operation> = Vec::new();
        let held = match &stand.state.value {
            Some(value) => format!("{value:?}"),
            None => "nothing".to_owned(),
        };
        let mut words = match &self.items[stand.item] {
            Item::Done(it) => {
                involved.push(it.operation);
                format!("the key held {held} then, and no unknown write explains the answer")
            }
            Item::Seen { revision, value, by } => {
                involved.push(by);
                let revision = Named(*revision);
                let failed = operations.iter().find(|it| {
                    it.return_ns().is_some() && it.answer().is_none() && makes(it, value.as_ref())
                });
                match failed {
                    Some(failed) => {
                        involved.push(failed);
                        "it found what a write made that was said to be surely not done".to_owned()
                    }
                    None => format!(
                        "nobody wrote what it found at revision {revision}; the key held {held} \
                         before"
                    ),
                }
            }
        };
        if let Some(Item::Done(writer)) = stand.writer.map(|index| &self.items[index]) {
            words.push_str("; the last write before is the other one named");
            involved.push(writer.operation);
        }
        Violation::of(&words, &involved)
    }
}

/// Whether an operation stores `value`.
fn makes(operation: &Operation, value: Option<&Text>) -> bool {
    match &operation.what {
        What::Put { value: made } => Some(made) == value,
        What::Cas { value: made, .. } => made.is_some() && made.as_ref() == value,
        What::Get | What::Delete | What::Incr { .. } => false,
    }
}
