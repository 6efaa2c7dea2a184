//! A map by member for the few members of a key set: one piece of memory, looked through in order.
//! Its methods are those of an ordered map.

use super::types::Member;

/// What is known of each of a few members.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Members<T> {
    /// By member.
    entries: Vec<(Member, T)>,
}

impl<T> Default for Members<T> {
    fn default() -> Members<T> {
        Members { entries: Vec::new() }
    }
}

impl<T> Members<T> {
    fn place(&self, member: &Member) -> Result<usize, usize> {
        let place = self.entries.iter().position(|(it, _)| it >= member);
        let place = place.unwrap_or(self.entries.len());
        let found = self.entries.get(place).is_some_and(|(it, _)| it == member);
        if found { Ok(place) } else { Err(place) }
    }

    #[must_use]
    pub fn get(&self, member: &Member) -> Option<&T> {
        self.entries.iter().find(|(it, _)| it == member).map(|(_, value)| value)
    }

    pub fn entry(&mut self, member: &Member) -> Option<&mut T> {
        self.entries.iter_mut().find(|(it, _)| it == member).map(|(_, value)| value)
    }

    pub fn insert(&mut self, member: Member, value: T) {
        match self.place(&member) {
            Ok(place) => self.entries[place].1 = value,
            Err(place) => self.entries.insert(place, (member, value)),
        }
    }

    pub fn entry_or(&mut self, member: Member, value: impl FnOnce() -> T) -> &mut T {
        let place = match self.place(&member) {
            Ok(place) => place,
            Err(place) => {
                self.entries.insert(place, (member, value()));
                place
            }
        };
        &mut self.entries[place].1
    }

    pub fn remove(&mut self, member: &Member) -> Option<T> {
        let place = self.place(member).ok()?;
        Some(self.entries.remove(place).1)
    }

    pub fn retain(&mut self, mut keeps: impl FnMut(&Member, &mut T) -> bool) {
        self.entries.retain_mut(|(member, value)| keeps(member, value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Member, &T)> {
        self.entries.iter().map(|(member, value)| (member, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Member, &mut T)> {
        self.entries.iter_mut().map(|(member, value)| (&*member, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &Member> {
        self.entries.iter().map(|(member, _)| member)
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, value)| value)
    }
}

impl<T> FromIterator<(Member, T)> for Members<T> {
    fn from_iter<I: IntoIterator<Item = (Member, T)>>(entries: I) -> Members<T> {
        let mut members = Members::default();
        for (member, value) in entries {
            members.insert(member, value);
        }
        members
    }
}

#[cfg(test)]
mod tests {
    //! Goal: it is a map, and its order is the members'.
    //! Method: members put in out of order, replaced and taken out.

    use super::*;
    use crate::protocol::types::{Incarnation, ServerId};

    fn member(server: u16) -> Member {
        Member { server: ServerId(server), incarnation: Incarnation(1) }
    }

    #[test]
    fn it_is_a_map_in_order() {
        let mut members: Members<u32> = [(member(3), 30), (member(1), 10)].into_iter().collect();
        members.insert(member(2), 20);
        members.insert(member(3), 31);
        *members.entry_or(member(4), || 40) += 1;
        *members.entry_or(member(1), || 99) += 1;
        let all: Vec<(Member, u32)> = members.iter().map(|(it, value)| (*it, *value)).collect();
        assert_eq!(all, [(member(1), 11), (member(2), 20), (member(3), 31), (member(4), 41)]);
        assert_eq!((members.remove(&member(2)), members.get(&member(2))), (Some(20), None));
        members.retain(|it, value| *it != member(1) && *value > 31);
        assert!(members.keys().eq(&[member(4)]));
    }
}
