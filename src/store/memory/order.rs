//! Slots in the order of their keys: blocks of slots, each a few hundred long.
//!
//! The keys themselves stay with their owner, so that the order costs about five bytes a key. A
//! look-up compares with the first key of blocks and then within one; an insertion moves at most a
//! block's slots, and now and then the list of blocks.

use std::ops::Bound;

/// A block that is full is split in two.
const BLOCK_SLOTS_MAX: usize = 256;

/// Whoever knows the keys of slots.
pub trait Keyed {
    fn key(&self, slot: u32) -> &[u8];
}

/// The order. Invariants: no block is empty; keys ascend within blocks and over them.
#[derive(Clone, Default)]
pub struct Order {
    blocks: Vec<Vec<u32>>,
}

impl Order {
    /// Puts a slot, whose key is new, in its place.
    pub fn insert(&mut self, slot: u32, keys: &impl Keyed) {
        let key = keys.key(slot);
        let (block, place) = self.lower_bound(key, keys);
        let Some(slots) = self.blocks.get_mut(block) else {
            self.blocks.push(vec![slot]);
            return;
        };
        slots.insert(place, slot);
        if slots.len() > BLOCK_SLOTS_MAX {
            // Keys that come in order are put behind a block's last: then the left one stays full.
            let middle = if place + 1 == slots.len() { place } else { slots.len() / 2 };
            let right = slots.split_off(middle);
            self.blocks.insert(block + 1, right);
        }
    }

    /// Takes a slot out, whose key is still known.
    pub fn remove(&mut self, slot: u32, keys: &impl Keyed) {
        let (block, place) = self.lower_bound(keys.key(slot), keys);
        let Some(slots) = self.blocks.get_mut(block) else { return };
        if slots.get(place) == Some(&slot) {
            slots.remove(place);
            if slots.is_empty() {
                self.blocks.remove(block);
            }
        }
    }

    /// All slots from a bound on.
    pub fn from(&self, bound: Bound<&[u8]>, keys: &impl Keyed) -> impl Iterator<Item = u32> {
        let (block, place) = match bound {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.lower_bound(key, keys),
            Bound::Excluded(key) => {
                let (block, place) = self.lower_bound(key, keys);
                let slots = self.blocks.get(block);
                let found = slots.and_then(|slots| slots.get(place));
                let same = found.is_some_and(|&slot| keys.key(slot) == key);
                (block, place + usize::from(same))
            }
        };
        self.blocks.iter().skip(block).flatten().copied().skip(place)
    }

    /// Block and place of the first key that is not below `key`; the place is behind the block's
    /// last slot where the next block begins with it, or nothing does.
    fn lower_bound(&self, key: &[u8], keys: &impl Keyed) -> (usize, usize) {
        let after = self.blocks.partition_point(|block| keys.key(block[0]) <= key);
        let block = after.saturating_sub(1);
        let place = self
            .blocks
            .get(block)
            .map_or(0, |slots| slots.partition_point(|&slot| keys.key(slot) < key));
        (block, place)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: slots are found in the order of their keys, whatever came and went.
    //! Method: random keys put in and taken out, beside an ordered set, far beyond a block.

    use std::collections::BTreeSet;

    use super::*;

    struct Keys(Vec<[u8; 4]>);

    impl Keyed for Keys {
        fn key(&self, slot: u32) -> &[u8] {
            &self.0[slot as usize]
        }
    }

    #[test]
    fn slots_are_in_the_order_of_their_keys() {
        let keys = Keys((0..4_000_u32).map(|slot| (slot * 7919 % 4_001).to_be_bytes()).collect());
        let (mut order, mut model) = (Order::default(), BTreeSet::new());
        let mut dice = 1_u32;
        for round in 0..20_000_u32 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (dice >> 8) % 4_000;
            let key = keys.0[slot as usize];
            if model.remove(&(key, slot)) {
                order.remove(slot, &keys);
            } else {
                model.insert((key, slot));
                order.insert(slot, &keys);
            }
            if round % 500 == 0 {
                let all: Vec<u32> = order.from(Bound::Unbounded, &keys).collect();
                assert!(all.iter().eq(model.iter().map(|(_, slot)| slot)));
                for bound in [Bound::Included(&key[..]), Bound::Excluded(&key[..])] {
                    let found: Vec<u32> = order.from(bound, &keys).collect();
                    let from = match bound {
                        Bound::Excluded(_) => Bound::Excluded((key, slot)),
                        Bound::Included(_) | Bound::Unbounded => Bound::Included((key, 0)),
                    };
                    let expected = model.range((from, Bound::Unbounded)).map(|&(_, slot)| slot);
                    assert!(found.into_iter().eq(expected));
                }
            }
        }
        assert!(order.blocks.len() > 8, "more than a few blocks were needed");
    }

    #[test]
    fn ascending_keys_fill_their_blocks() {
        let keys = Keys((0..2_560_u32).map(u32::to_be_bytes).collect());
        let mut order = Order::default();
        (0..2_560).for_each(|slot| order.insert(slot, &keys));
        assert_eq!(order.blocks.len(), 10);
    }
}
