//! Where a growing number's call lies: constant time for numbers that are near one another.
//!
//! ```text
//!   places:  | 8 | 9 | - | 3 | 4 | - | 6 | - |     number modulo the count of places
//!   late:      1 -> slot                           whose place a later number wanted
//! ```
//!
//! Numbers that grow one by one lie side by side and hardly ever meet. One that stays much longer
//! than the others is moved out of their way, so that the memory is bounded by how many numbers
//! there are, not by how far apart they lie.

use std::collections::BTreeMap;

/// The number of a place that holds none.
const VACANT: u64 = u64::MAX;

/// The fewest places, once there are any.
const PLACES_MIN: usize = 8;

/// Slots by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// None or a power of two of them, and at least twice as many as there are numbers.
    places: Vec<(u64, u32)>,
    late: BTreeMap<u64, u32>,
    len: usize,
}

impl Window {
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<u32> {
        match self.places.get(self.place(number)) {
            Some(&(found, slot)) if found == number && number != VACANT => Some(slot),
            Some(_) | None => self.late.get(&number).copied(),
        }
    }

    /// Adds a number.
    ///
    /// # Panics
    /// If it is there already.
    #[inline]
    pub(super) fn insert(&mut self, number: u64, slot: u32) {
        assert!(number != VACANT, "numbers start low and grow");
        assert!(self.get(number).is_none(), "a number is never reused");
        self.len += 1;
        if self.places.len() < 2 * self.len {
            self.grow();
        }
        self.place_in(number, slot);
    }

    #[inline]
    pub(super) fn remove(&mut self, number: u64) -> Option<u32> {
        let place = self.place(number);
        let slot = match self.places.get_mut(place) {
            Some(found) if found.0 == number && number != VACANT => {
                found.0 = VACANT;
                found.1
            }
            Some(_) | None => self.late.remove(&number)?,
        };
        self.len -= 1;
        Some(slot)
    }

    #[inline]
    fn place(&self, number: u64) -> usize {
        number as usize & self.places.len().wrapping_sub(1)
    }

    /// Of two that want one place, the higher number has it.
    #[inline]
    fn place_in(&mut self, number: u64, slot: u32) {
        let place = self.place(number);
        let (found, other) = self.places[place];
        if found == VACANT {
            self.places[place] = (number, slot);
        } else if found < number {
            self.places[place] = (number, slot);
            self.late.insert(found, other);
        } else {
            self.late.insert(number, slot);
        }
    }

    fn grow(&mut self) {
        let count = (2 * self.places.len()).max(PLACES_MIN);
        let places = std::mem::replace(&mut self.places, vec![(VACANT, 0); count]);
        let late = std::mem::take(&mut self.late);
        let placed = places.into_iter().filter(|&(number, _)| number != VACANT);
        for (number, slot) in placed.chain(late) {
            self.place_in(number, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a window is a map, whatever numbers lie in it, and bounded by how many there are.
    //! Method: many steps beside a `BTreeMap`, with numbers that stay behind and that jump.

    use super::*;

    #[test]
    fn a_window_is_a_map() {
        let (mut window, mut map) = (Window::default(), BTreeMap::new());
        let mut random = 7_u64;
        let mut next = 0_u64;
        for step in 0..50_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = random >> 33;
            let wanted = if draw.is_multiple_of(64) { 100 } else { 20 };
            if map.len() < wanted {
                next += if draw.is_multiple_of(97) { draw % 1_000 } else { 1 };
                window.insert(next, step);
                map.insert(next, step);
            } else {
                // Mostly the lowest, now and then any: some stay for long.
                let index = if draw.is_multiple_of(4) { draw as usize % map.len() } else { 0 };
                let number = *map.keys().nth(index).expect("the map is not empty");
                assert_eq!(window.remove(number), map.remove(&number));
                assert_eq!(window.remove(number), None);
            }
            assert_eq!(window.len, map.len());
            let near = next.saturating_sub(draw % 300);
            assert_eq!(window.get(near), map.get(&near).copied());
        }
        for (&number, &slot) in &map {
            assert_eq!(window.get(number), Some(slot));
        }
        assert!(window.places.len() <= 512, "{} places for 100 numbers", window.places.len());
    }

    #[test]
    #[should_panic(expected = "never reused")]
    fn a_number_is_added_once() {
        let mut window = Window::default();
        window.insert(3, 0);
        window.insert(3 + 8, 1);
        window.insert(3, 2);
    }
}
