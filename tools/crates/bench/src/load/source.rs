//! Where operations come from: which, on which keys, with which values.

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use tandem::protocol::time::Time;

use super::zipfian::Zipfian;
use super::{Kind, Request, Ticket};

/// The length of every key.
pub const KEY_BYTES: usize = 16;

/// Keys are cut from pieces of this size, so that a key costs no allocation of its own.
const PIECE_BYTES: usize = 16 << 10;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Choice {
    /// All equally often.
    Uniform,
    /// A few very often, as YCSB does (constant 0.99).
    Zipfian,
    /// The newest most often, as YCSB's workload D does.
    Latest,
    /// One after the other.
    Sequential,
}

/// Shares of operations, as the workloads of YCSB have them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Mix {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads only.
    C,
    /// 95 % reads of the newest, 5 % inserts.
    D,
    /// Half reads, half reads followed by an update of the same key.
    F,
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    Get,
    Put,
    Mixed(Mix),
}

/// The operations of one session, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Source {
    work: Work,
    choice: Choice,
    /// Keys that exist: numbers below it.
    keys: u64,
    /// Between two keys that this session inserts, so that sessions insert different ones.
    stride: u64,
    inserted_next: u64,
    /// Operations in flight: so many of the newest inserts may not be answered yet.
    in_flight_max: u64,
    turn: u64,
    value: Bytes,
    zipfian: Option<Zipfian>,
    random: SplitMix,
    piece: BytesMut,
}

impl Source {
    /// Operations over `keys` keys, which must not be 0.
    #[must_use]
    pub fn new(work: Work, choice: Choice, keys: u64, value: Bytes) -> Source {
        let skewed = matches!(choice, Choice::Zipfian | Choice::Latest);
        Source {
            work,
            choice,
            keys,
            stride: 1,
            inserted_next: keys,
            in_flight_max: 0,
            turn: 0,
            value,
            zipfian: skewed.then(|| Zipfian::new(keys)),
            random: SplitMix(0),
            piece: BytesMut::new(),
        }
    }

    /// The same where a session has up to `in_flight_max` operations in flight: the newest of its
    /// own inserts are not read, because they may not be answered yet.
    #[must_use]
    pub fn with_in_flight(self, in_flight_max: usize) -> Source {
        Source { in_flight_max: in_flight_max as u64, ..self }
    }

    /// The same for session `number` of `sessions`, which draws numbers of its own.
    #[must_use]
    pub fn of_session(&self, number: usize, sessions: usize, seed: u64) -> Source {
        let (number, sessions) = (number as u64, sessions.max(1) as u64);
        let mut source = self.clone();
        source.random = SplitMix(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        source.stride = sessions;
        source.inserted_next = source.keys + number;
        source.turn = number;
        source
    }

    /// The next operation, which begins at `begun`.
    pub fn next(&mut self, begun: Time) -> (Request, Ticket) {
        let ticket = |kind, then_write| Ticket { begun, kind, then_write };
        let percent = match self.work {
            Work::Get => return (self.get(), ticket(Kind::Read, None)),
            Work::Put => {
                let key = self.choose();
                return (self.put(key), ticket(Kind::Write, None));
            }
            Work::Mixed(mix) => match mix {
                Mix::A | Mix::F => 50,
                Mix::B | Mix::D => 95,
                Mix::C => 100,
            },
        };
        if self.random.below(100) < percent {
            return (self.get(), ticket(Kind::Read, None));
        }
        if self.work == Work::Mixed(Mix::D) {
            let key = self.inserted_next;
            self.inserted_next += self.stride;
            return (self.put(key), ticket(Kind::Write, None));
        }
        let key = self.choose();
        if self.work == Work::Mixed(Mix::F) {
            let read = Request::Get { key: self.name(key) };
            return (read, ticket(Kind::ReadModifyWrite, Some(key)));
        }
        (self.put(key), ticket(Kind::Write, None))
    }

    /// What is to be done now that `ticket` is: its second half, if it has one.
    pub fn follow_up(&mut self, ticket: &Ticket) -> Option<(Request, Ticket)> {
        let key = ticket.then_write?;
        Some((self.put(key), Ticket { then_write: None, ..*ticket }))
    }

    fn get(&mut self) -> Request {
        let number = self.choose();
        Request::Get { key: self.name(number) }
    }

    fn put(&mut self, number: u64) -> Request {
        Request::Put { key: self.name(number), value: self.value.clone() }
    }

    fn name(&mut self, number: u64) -> Bytes {
        if self.piece.capacity() < KEY_BYTES {
            self.piece = BytesMut::with_capacity(PIECE_BYTES);
        }
        write_key(&mut self.piece, number);
        self.piece.split().freeze()
    }

    fn choose(&mut self) -> u64 {
        match (self.choice, &self.zipfian) {
            (Choice::Zipfian, Some(zipfian)) => {
                let rank = zipfian.rank(self.random.fraction());
                zipfian.scattered(rank)
            }
            (Choice::Latest, Some(zipfian)) => {
                // Of what this session inserted itself: whether others' arrived is not known.
                let rank = zipfian.rank(self.random.fraction());
                let inserted = (self.inserted_next - self.keys) / self.stride;
                let answered = inserted.saturating_sub(self.in_flight_max);
                match answered.checked_sub(rank + 1) {
                    Some(index) => self.inserted_next - (inserted - index) * self.stride,
                    None => self.keys - 1 - (rank - answered).min(self.keys - 1),
                }
            }
            (Choice::Sequential, _) => {
                let number = self.turn % self.keys;
                self.turn += self.stride;
                number
            }
            (Choice::Uniform | Choice::Zipfian | Choice::Latest, _) => self.random.below(self.keys),
        }
    }
}

/// The key of that number.
#[must_use]
pub fn key(number: u64) -> Bytes {
    let mut name = BytesMut::new();
    write_key(&mut name, number);
    name.freeze()
}

fn write_key(to: &mut BytesMut, number: u64) {
    let mut digits = *b"key-000000000000";
    let (mut rest, mut place) = (number, KEY_BYTES);
    while rest > 0 && place > 4 {
        place -= 1;
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    to.put_slice(&digits);
}

/// Steele, Lea and Flood's SplitMix64: small, fast, and good enough to choose keys.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    //! Goal: mixes have their shares, and keys their names.
    //! Method: many draws from a seed, counted.

    use std::collections::BTreeSet;

    use super::*;

    fn source(work: Work, choice: Choice) -> Source {
        Source::new(work, choice, 1_000, Bytes::from_static(b"value")).of_session(1, 4, 7)
    }

    fn kinds(work: Work, choice: Choice) -> (usize, usize, usize) {
        let mut source = source(work, choice);
        let drawn: Vec<Kind> = (0..10_000).map(|_| source.next(Time(0)).1.kind).collect();
        let count = |kind| drawn.iter().filter(|it| **it == kind).count();
        (count(Kind::Read), count(Kind::Write), count(Kind::ReadModifyWrite))
    }

    #[test]
    fn mixes_have_their_shares() {
        let near = |found: usize, meant: usize| found.abs_diff(meant) < 300;
        let (reads, writes, both) = kinds(Work::Mixed(Mix::A), Choice::Zipfian);
        assert!(near(reads, 5_000) && near(writes, 5_000) && both == 0);
        let (reads, writes, both) = kinds(Work::Mixed(Mix::B), Choice::Uniform);
        assert!(near(reads, 9_500) && near(writes, 500) && both == 0);
        assert_eq!(kinds(Work::Mixed(Mix::C), Choice::Zipfian), (10_000, 0, 0));
        let (reads, writes, both) = kinds(Work::Mixed(Mix::F), Choice::Zipfian);
        assert!(near(reads, 5_000) && writes == 0 && near(both, 5_000));
    }

    #[test]
    fn a_read_that_is_followed_by_a_write_keeps_its_beginning() {
        let mut source = source(Work::Mixed(Mix::F), Choice::Uniform);
        let (request, ticket) = std::iter::from_fn(|| Some(source.next(Time(5))))
            .find(|it| it.1.kind == Kind::ReadModifyWrite)
            .expect("half of them are");
        let Request::Get { key: read } = request else { panic!("it begins with a read") };
        let (request, ticket) = source.follow_up(&ticket).expect("a second half");
        let Request::Put { key, .. } = request else { panic!("it ends with a write") };
        assert_eq!((key, ticket.begun), (read, Time(5)));
        assert!(source.follow_up(&ticket).is_none());
    }

    #[test]
    fn inserts_are_new_and_the_newest_is_read() {
        let mut source = source(Work::Mixed(Mix::D), Choice::Latest);
        let (mut inserted, mut read_new) = (BTreeSet::new(), 0);
        for _ in 0..10_000 {
            match source.next(Time(0)).0 {
                Request::Put { key, .. } => assert!(inserted.insert(key), "inserted twice"),
                Request::Get { key: read } => {
                    read_new += usize::from(inserted.contains(&read));
                    assert!(inserted.contains(&read) || read < key(1_000), "{read:?}");
                }
            }
        }
        assert!(read_new > 2_000, "{read_new}");
    }

    #[test]
    fn inserts_that_may_be_in_flight_are_not_read() {
        let mut source = source(Work::Mixed(Mix::D), Choice::Latest).with_in_flight(8);
        let mut inserted = Vec::new();
        for _ in 0..10_000 {
            match source.next(Time(0)).0 {
                Request::Put { key, .. } => inserted.push(key),
                Request::Get { key } => {
                    let newest = inserted.iter().rev().take(8);
                    assert!(!newest.into_iter().any(|it| *it == key), "{key:?}");
                }
            }
        }
    }

    #[test]
    fn sessions_divide_a_sequence_among_them() {
        let all = Source::new(Work::Put, Choice::Sequential, 8, Bytes::new());
        let mut keys = BTreeSet::new();
        for number in 0..4 {
            let mut source = all.of_session(number, 4, 1);
            for _ in 0..2 {
                let Request::Put { key, .. } = source.next(Time(0)).0 else { panic!("a put") };
                keys.insert(key);
            }
        }
        assert_eq!(keys.len(), 8);
        assert_eq!(key(1_234), "key-000000001234");
    }
}
