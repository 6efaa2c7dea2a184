//! What happened, as one number that names the run and, on demand, as text.
//!
//! The number tells whether two runs were the same, step by step; the text is for people, keeps
//! only the last lines, and is written only where it was asked for, because wording every input
//! costs more than running it.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::protocol::time::Time;

/// Lines of text that are kept.
const LINES_MAX: usize = 50_000;

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// None = not asked for.
    hash: Option<u64>,
    steps: u64,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// A trace that names its run with a hash, and keeps its text, or not.
    #[must_use]
    pub fn new(hash: bool, text: bool) -> Trace {
        Trace { hash: hash.then_some(0), steps: 0, lines: text.then(VecDeque::new) }
    }

    /// A trace that keeps its text too.
    #[must_use]
    pub fn with_text() -> Trace {
        Trace::new(true, true)
    }

    /// Takes in one step: when, where and what.
    pub fn step<W: Hash + fmt::Debug, I: Hash + fmt::Debug>(&mut self, at: Time, who: W, what: &I) {
        if let Some(hash) = &mut self.hash {
            let mut hasher = Fold(*hash);
            at.hash(&mut hasher);
            who.hash(&mut hasher);
            what.hash(&mut hasher);
            *hash = hasher.finish();
        }
        self.steps += 1;
        self.say(at, || format!("{who:?} <- {what:?}"));
    }

    /// Adds a line to the text, if there is one.
    pub fn say(&mut self, at: Time, words: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        let micros = at.0 / 1_000;
        let (ms, micros) = (micros / 1_000, micros % 1_000);
        lines.push_back(format!("{ms:>7}.{micros:03} {}", words()));
    }

    /// The number that names the run so far; zero where it was not asked for.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.unwrap_or_default()
    }

    /// Takes the lines that were kept so far.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(|lines| lines.drain(..).collect()).unwrap_or_default()
    }

    /// Inputs that machines were handed.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The last lines of the text; empty where none was asked for.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().flatten() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// A fast hash that is the same on every machine and in every version of the toolchain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fold(pub u64);

impl Fold {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.add(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }
}

/// The fold of one value.
pub fn fold<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = Fold::default();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    //! Goal: the number tells runs apart by what, where, when and in which order.
    //! Method: traces that differ in one of these.

    use super::*;

    fn hash_of(steps: &[(u64, u8, &str)]) -> u64 {
        let mut trace = Trace::new(true, false);
        for (at, who, what) in steps {
            trace.step(Time(*at), who, what);
        }
        trace.hash()
    }

    #[test]
    fn every_difference_shows() {
        let base = hash_of(&[(1, 1, "a"), (2, 2, "b")]);
        assert_eq!(base, hash_of(&[(1, 1, "a"), (2, 2, "b")]));
        assert_ne!(base, hash_of(&[(1, 1, "a"), (3, 2, "b")]));
        assert_ne!(base, hash_of(&[(1, 1, "a"), (2, 1, "b")]));
        assert_ne!(base, hash_of(&[(1, 1, "a"), (2, 2, "c")]));
        assert_ne!(base, hash_of(&[(2, 2, "b"), (1, 1, "a")]));
    }

    #[test]
    fn text_is_kept_only_on_demand() {
        let mut silent = Trace::default();
        silent.step(Time(1), "who", &"what");
        assert_eq!(silent.text(), "");
        let mut telling = Trace::with_text();
        telling.step(Time(1_500_000), "who", &"what");
        assert!(telling.text().contains("1.500 \"who\" <- \"what\""));
    }
}
