//! What broke: noted by whoever sees it, read at the end.

use std::sync::{Arc, Mutex, PoisonError};

/// More of them are counted only.
const KEPT_MAX: usize = 100;

/// Everything that must not be; shared.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    broken: Arc<Mutex<Vec<String>>>,
}

impl Verdict {
    /// Notes that something broke, once for each wording.
    pub fn note(&self, words: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.len() < KEPT_MAX && !broken.contains(&words) {
            eprintln!("  BROKEN: {words}");
            broken.push(words);
        }
    }

    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what broke stays noted, once.
    //! Method: note twice the same and once another.

    use super::*;

    #[test]
    fn a_break_is_noted_once() {
        let verdict = Verdict::default();
        assert!(verdict.broken().is_empty());
        for words in ["a", "b", "a"] {
            verdict.note(words.to_owned());
        }
        assert_eq!(verdict.broken(), ["a", "b"]);
    }
}
