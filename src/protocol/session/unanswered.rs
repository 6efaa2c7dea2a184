//! The numbers of writes that are not finally answered, of which every write tells the lowest.
//!
//! Numbers are added in ascending order, and mostly removed in that order. One that was removed
//! out of turn stays as a gap until it gets to the front.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use crate::protocol::types::RequestNumber;

/// Gaps that may be kept beyond as many as there are numbers.
const GAPS_MAX: usize = 64;

/// Numbers, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Unanswered {
    /// The first is no gap.
    numbers: VecDeque<Entry>,
    gaps: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: RequestNumber,
    is_gap: bool,
}

impl Unanswered {
    pub(super) fn lowest(&self) -> Option<RequestNumber> {
        self.numbers.front().map(|first| first.number)
    }

    /// Adds a number above all that were ever added.
    pub(super) fn add(&mut self, number: RequestNumber) {
        let last = self.numbers.back().map(|last| last.number);
        assert!(last < Some(number), "numbers of writes grow");
        self.numbers.push_back(Entry { number, is_gap: false });
    }

    /// Removes a number, if it is there.
    pub(super) fn remove(&mut self, number: RequestNumber) {
        let Some(index) = self.index(number) else { return };
        if self.numbers[index].is_gap {
            return;
        }
        self.numbers[index].is_gap = true;
        self.gaps += 1;
        while self.numbers.front().is_some_and(|first| first.is_gap) {
            self.numbers.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > self.numbers.len() - self.gaps + GAPS_MAX {
            self.numbers.retain(|entry| !entry.is_gap);
            self.gaps = 0;
        }
    }

    /// Where a number lies: by its distance to the first, unless gaps were closed in between.
    fn index(&self, number: RequestNumber) -> Option<usize> {
        let first = self.lowest()?;
        let guess = usize::try_from(number.0.checked_sub(first.0)?).ok()?;
        match self.numbers.get(guess) {
            Some(entry) if entry.number == number => Some(guess),
            Some(_) | None => self.numbers.binary_search_by_key(&number, |it| it.number).ok(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = RequestNumber> {
        self.numbers.iter().filter(|it| !it.is_gap).map(|it| it.number)
    }
}

/// Equal numbers are equal, whatever gaps are between them.
impl PartialEq for Unanswered {
    fn eq(&self, other: &Unanswered) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Unanswered {}

impl Hash for Unanswered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.numbers.len() - self.gaps);
        self.iter().for_each(|number| number.hash(state));
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the lowest unanswered number is always told, and answered ones take no memory.
    //! Method: many steps beside a `BTreeSet`.

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_lowest_is_always_known() {
        let (mut numbers, mut set) = (Unanswered::default(), BTreeSet::new());
        let (mut random, mut last) = (7_u64, 0);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = random >> 33;
            if set.len() < 50 {
                last += 1;
                numbers.add(RequestNumber(last));
                set.insert(RequestNumber(last));
            } else {
                // The lowest ones rarely, so that gaps come to be.
                let first = if draw.is_multiple_of(1_000) { 0 } else { 5 };
                let index = first + draw as usize % (set.len() - first);
                let number = *set.iter().nth(index).expect("the index is within the set");
                numbers.remove(number);
                set.remove(&number);
            }
            numbers.remove(RequestNumber(draw % last.max(1) / 1_000));
            set.remove(&RequestNumber(draw % last.max(1) / 1_000));
            assert_eq!(numbers.lowest(), set.first().copied());
            assert!(numbers.numbers.len() <= 2 * set.len() + GAPS_MAX + 1);
        }
        assert!(numbers.iter().eq(set.iter().copied()));
    }
}
