//! The search: any order of one key's operations that respects real time and explains every
//! answer, whatever positions say.
//!
//! Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe
//! ("Testing for linearizability", 2017): walk along the calls and returns in real time, let each
//! call take effect as soon as its answer fits, and step back at a return whose operation has not
//! taken effect. A set of operations done and a state that were met before lead nowhere new.
//!
//! An unknown write has a call and no return, and may be left out. Two prunings keep that from
//! exploding, both sound where a value has one writer alone: one that nobody observed is dropped,
//! and one that was read has returned by the end of the first such read. The search is bounded in
//! steps, so that its verdict does not depend on the machine.

use std::collections::{HashMap, HashSet};

use crate::model::State;
use crate::operation::{Answer, Expect, Operation, Reply, Text, What};
use crate::verdict::{Judged, Violation};

/// Bytes of memory of visited sets that one key may take.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// An operation as the search sees it.
struct Candidate<'a> {
    operation: &'a Operation,
    /// None where it is unknown.
    answer: Option<Answer>,
    /// None where it may be left out.
    return_ns: Option<u64>,
}

/// Judges the operations of one key.
#[must_use]
pub fn judge(operations: &[&Operation], steps_max: u64) -> Judged {
    let candidates = candidates(operations);
    Search::new(&candidates).run(steps_max)
}

/// What has to be, or may be, in the order, by the time of sending.
fn candidates<'a>(operations: &[&'a Operation]) -> Vec<Candidate<'a>> {
    let by_revision = operations.iter().any(|it| {
        let expect = match &it.what {
            What::Cas { expect, .. } => Some(expect),
            What::Get | What::Put { .. } | What::Delete | What::Incr { .. } => None,
        };
        matches!(expect, Some(Expect::Revision(_)))
    });
    // Revisions are the store's own word. They count only where an operation depends on them.
    let plain = |answer: &Answer| match by_revision {
        true => answer.clone(),
        false => Answer { reply: answer.reply.clone(), revision: None, position: None },
    };
    let observed = Observed::new(operations);
    operations
        .iter()
        .filter_map(|&operation| {
            let answer = operation.answer().map(plain);
            let return_ns = match &answer {
                Some(_) => operation.return_ns(),
                None if !operation.is_ambiguous() || observed.is_idle(operation) => return None,
                None => observed.returned(operation),
            };
            Some(Candidate { operation, answer, return_ns })
        })
        .collect()
}

/// What the operations of a key tell about single values.
struct Observed<'a> {
    /// How many writes may have made a value.
    writers: HashMap<&'a str, usize>,
    /// When the first read of a value had ended.
    read_by: HashMap<&'a str, u64>,
    /// Values that something depends on.
    named: HashSet<String>,
    /// An answer tells of a state that it was not some value: then any write may matter.
    vague: bool,
}

impl<'a> Observed<'a> {
    fn new(operations: &[&'a Operation]) -> Observed<'a> {
        let mut observed = Observed {
            writers: HashMap::new(),
            read_by: HashMap::new(),
            named: HashSet::new(),
            vague: false,
        };
        for operation in operations {
            if operation.answer().is_some() || operation.is_ambiguous() {
                observed.note_what(&operation.what);
            }
            let Some(answer) = operation.answer() else { continue };
            match (&operation.what, &answer.reply) {
                (_, Reply::Value(Some(value))) => {
                    observed.named.insert(value.to_string());
                    let ended = operation.return_ns().unwrap_or(u64::MAX);
                    let first = observed.read_by.entry(text_of(operation, value)).or_insert(ended);
                    *first = ended.min(*first);
                }
                (What::Incr { by }, Reply::Number(Some(number))) => {
                    let old = number.wrapping_sub(*by);
                    observed.named.insert(old.to_string());
                }
                (_, Reply::Swapped(false) | Reply::Existed(true) | Reply::Number(None)) => {
                    observed.vague = true;
                }
                (_, Reply::Value(None) | Reply::Stored | Reply::Existed(false)) => {}
                (_, Reply::Swapped(true) | Reply::Number(Some(_))) => {}
            }
        }
        observed
    }

    fn note_what(&mut self, what: &'a What) {
        match what {
            What::Put { value } => *self.writers.entry(value).or_default() += 1,
            What::Cas { expect, value } => {
                if let Some(value) = value {
                    *self.writers.entry(value).or_default() += 1;
                }
                match expect {
                    Expect::Value(value) => {
                        self.named.insert(value.to_string());
                    }
                    Expect::Revision(_) => self.vague = true,
                    Expect::Absent => {}
                }
            }
            // Its sums are values that other operations may write as well.
            What::Incr { .. } => self.vague = true,
            What::Get | What::Delete => {}
        }
    }

    /// The value that an unknown write makes, if no other write can make it.
    fn only_value(&self, operation: &'a Operation) -> Option<&'a str> {
        let value = match &operation.what {
            What::Put { value } => Some(value),
            What::Cas { value, .. } => value.as_ref(),
            What::Get | What::Delete | What::Incr { .. } => None,
        }?;
        (!self.vague && self.writers.get(&**value) == Some(&1)).then_some(&**value)
    }

    /// Whether an unknown write makes a value that nothing tells of.
    fn is_idle(&self, operation: &'a Operation) -> bool {
        self.only_value(operation).is_some_and(|value| !self.named.contains(value))
    }

    /// By when an unknown write has taken effect, since its value was read.
    fn returned(&self, operation: &'a Operation) -> Option<u64> {
        let value = self.only_value(operation)?;
        // A read that ended before the write was sent is for the search to refuse.
        self.read_by.get(value).map(|&ended| ended.max(operation.invoke_ns))
    }
}

/// The value that a read found, with the life of the operation.
fn text_of<'a>(operation: &'a Operation, value: &Text) -> &'a str {
    match operation.answer().map(|it| &it.reply) {
        Some(Reply::Value(Some(own))) => {
            debug_assert_eq!(own, value);
            own
        }
        _ => "",
    }
}

/// A call or a return in the list that is walked.
#[derive(Clone, Copy)]
struct Event {
    candidate: usize,
    is_call: bool,
    previous: usize,
    next: usize,
}

/// The search over one key. Events form a list through indexes, with a head at the end of `events`.
struct Search<'a> {
    candidates: &'a [Candidate<'a>],
    events: Vec<Event>,
    /// The return of each candidate; none where it may be left out.
    returns: Vec<Option<usize>>,
    done: Vec<u64>,
    /// Sets of done operations and states that were met.
    met: HashSet<(Box<[u64]>, State)>,
    met_bytes: usize,
}

impl<'a> Search<'a> {
    fn new(candidates: &'a [Candidate<'a>]) -> Search<'a> {
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (index, candidate) in candidates.iter().enumerate() {
            // At one instant calls come first: operations that touch overlap.
            order.push((candidate.operation.invoke_ns, false, index));
            order.extend(candidate.return_ns.map(|at| (at, true, index)));
        }
        order.sort_unstable();
        let head = order.len();
        let mut events: Vec<Event> = order
            .iter()
            .enumerate()
            .map(|(at, &(_, is_return, candidate))| Event {
                candidate,
                is_call: !is_return,
                previous: at.checked_sub(1).unwrap_or(head),
                next: at + 1,
            })
            .collect();
        events.push(Event {
            candidate: usize::MAX,
            is_call: false,
            previous: head.checked_sub(1).unwrap_or(head),
            next: 0,
        });
        let mut returns = vec![None; candidates.len()];
        for (at, event) in events.iter().enumerate().take(head) {
            if !event.is_call {
                returns[event.candidate] = Some(at);
            }
        }
        Search {
            candidates,
            events,
            returns,
            done: vec![0; candidates.len().div_ceil(64)],
            met: HashSet::new(),
            met_bytes: 0,
        }
    }

    fn run(mut self, steps_max: u64) -> Judged {
        let head = self.events.len() - 1;
        let mut open = self.returns.iter().flatten().count();
        let mut state = State::default();
        let mut taken: Vec<(usize, State)> = Vec::new();
        // The longest order found so far, and the operation that would not follow.
        let mut longest: (usize, Option<usize>) = (0, None);
        let mut at = self.events[head].next;
        let mut steps = 0;
        while open > 0 {
            steps += 1;
            if steps > steps_max || self.met_bytes > MEMORY_BYTES_MAX {
                return Judged::Undecided(format!(
                    "gave up after {steps} steps and {} MB; `--steps` allows more",
                    self.met_bytes >> 20
                ));
            }
            let event = self.events[at];
            if at != head && event.is_call {
                match self.take(event.candidate, &state) {
                    Some(next) => {
                        taken.push((at, std::mem::replace(&mut state, next)));
                        open -= usize::from(self.returns[event.candidate].is_some());
                        self.lift(at);
                        at = self.events[head].next;
                    }
                    None => at = event.next,
                }
                continue;
            }
            if at != head && (taken.len() >= longest.0 || longest.1.is_none()) {
                longest = (taken.len(), Some(event.candidate));
            }
            let Some((call, before)) = taken.pop() else {
                return Judged::Violated(self.told(longest.1));
            };
            let candidate = self.events[call].candidate;
            state = before;
            open += usize::from(self.returns[candidate].is_some());
            self.done[candidate / 64] &= !(1 << (candidate % 64));
            self.put_back(call);
            at = self.events[call].next;
        }
        Judged::Accepted
    }

    /// The state after a candidate, if it may be next and leads somewhere new.
    fn take(&mut self, candidate: usize, state: &State) -> Option<State> {
        let it = &self.candidates[candidate];
        let next = match &it.answer {
            Some(answer) => state.after(&it.operation.what, answer)?,
            None => state.changed_by(&it.operation.what)?,
        };
        self.done[candidate / 64] |= 1 << (candidate % 64);
        let key = (self.shortened(), next.clone());
        let bytes = 64 + key.0.len() * 8;
        if self.met.insert(key) {
            self.met_bytes += bytes;
            return Some(next);
        }
        self.done[candidate / 64] &= !(1 << (candidate % 64));
        None
    }

    /// The set of done operations, without the full words in front: their number stands there.
    fn shortened(&self) -> Box<[u64]> {
        let full = self.done.iter().take_while(|&&word| word == u64::MAX).count();
        let rest = &self.done[full..];
        let end = rest.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        std::iter::once(full as u64).chain(rest[..end].iter().copied()).collect()
    }

    /// Takes a call, and its return, out of the list.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if let Some(at) = self.returns[self.events[call].candidate] {
            self.unlink(at);
        }
    }

    /// Undoes the latest `lift`.
    fn put_back(&mut self, call: usize) {
        if let Some(at) = self.returns[self.events[call].candidate] {
            self.relink(at);
        }
        self.relink(call);
    }

    fn unlink(&mut self, at: usize) {
        let Event { previous, next, .. } = self.events[at];
        self.events[previous].next = next;
        self.events[next].previous = previous;
    }

    fn relink(&mut self, at: usize) {
        let Event { previous, next, .. } = self.events[at];
        self.events[previous].next = at;
        self.events[next].previous = at;
    }

    fn told(&self, stuck: Option<usize>) -> Violation {
        let words = "no order explains the answers; the longest one found ends before this one";
        let operations: Vec<&Operation> =
            stuck.map(|index| self.candidates[index].operation).into_iter().collect();
        Violation::of(words, &operations)
    }
}
