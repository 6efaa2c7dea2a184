//! Clients that write and read all the time, and a ledger that knows what a read may return.
//!
//! Each writer has a key of its own and stores growing numbers, one after the other. So a read is
//! right exactly if it returns no less than what was acknowledged, or read by anyone, before it
//! began, and no more than what was attempted before it ended. A write of unknown outcome may
//! still arrive later, so its writer leaves that key as it is and goes on with a new one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tandem::client::{Client, Session, block_on};
use tandem::clock;
use tandem::protocol::time::Span;

/// How long one operation may wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What reads of one key may return: from `floor` to `ceiling`.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    floor: u64,
    ceiling: u64,
}

/// What was promised for every key.
#[derive(Debug, Default)]
struct Ledger {
    keys: Mutex<BTreeMap<String, Bounds>>,
    acknowledged: AtomicU64,
}

impl Ledger {
    fn bounds(&self, key: &str) -> Bounds {
        self.change(key, |_| ())
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Bounds)) -> Bounds {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = keys.entry(key.to_owned()).or_default();
        change(bounds);
        *bounds
    }

    fn on_attempt(&self, key: &str, number: u64) {
        self.change(key, |it| it.ceiling = it.ceiling.max(number));
    }

    fn on_acknowledged(&self, key: &str, number: u64) {
        self.change(key, |it| it.floor = it.floor.max(number));
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Judges a read that began when the key's bounds were `before`.
    fn on_read(&self, key: &str, before: Bounds, found: u64) {
        let after = self.change(key, |it| it.floor = it.floor.max(found));
        assert!(found >= before.floor, "stale: '{key}' read as {found} after {}", before.floor);
        assert!(found <= after.ceiling, "'{key}' read as {found}, which nobody wrote");
    }

    fn all_keys(&self) -> Vec<String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.keys().cloned().collect()
    }
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub reads: u64,
    pub writes: u64,
    /// Surely not done within their time.
    pub not_done: u64,
    pub unknown: u64,
    /// The longest that one operation waited for its answer.
    pub wait_max: Span,
}

/// Writers and readers at work.
pub struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// An idle load: `join` lets clients take part.
    pub fn new() -> Load {
        Load { ledger: Arc::default(), stop: Arc::default(), workers: Vec::new() }
    }

    /// Lets `client` take part with `pairs` of a writer and a reader; `name` is in their keys.
    pub fn join(&mut self, client: &Client, name: &str, pairs: usize) {
        for pair in 0..pairs {
            let session = client.session().with_timeout(TIMEOUT);
            let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
            let name = format!("{name}-{pair}");
            self.workers.push(std::thread::spawn(move || write(&session, &ledger, &stop, &name)));
            let session = client.session().with_timeout(TIMEOUT);
            let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
            self.workers.push(std::thread::spawn(move || read(&session, &ledger, &stop, pair)));
        }
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.ledger.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the load, reads every key once more by `client`, and says what it came to.
    ///
    /// # Panics
    /// If an acknowledged write was lost or a stale value read, then or before.
    pub fn finish(self, client: &Client) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for worker in self.workers {
            let tally = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.add(tally);
        }
        let session = client.session().with_timeout(TIMEOUT);
        for key in self.ledger.all_keys() {
            let before = self.ledger.bounds(&key);
            let found = look(&session, &key).unwrap_or_else(|error| panic!("at the end: {error}"));
            self.ledger.on_read(&key, before, found);
        }
        sum
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.not_done += other.not_done;
        self.unknown += other.unknown;
        self.wait_max = self.wait_max.max(other.wait_max);
    }
}

fn write(session: &Session, ledger: &Ledger, stop: &AtomicBool, name: &str) -> Tally {
    let mut tally = Tally::default();
    let mut generation = 0;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{name}-{generation}");
        ledger.on_attempt(&key, number);
        let begun = clock::now();
        match block_on(session.put(key.clone(), number.to_string())) {
            Ok(_) => {
                ledger.on_acknowledged(&key, number);
                tally.writes += 1;
            }
            Err(error) if error.is_surely_not_done() => tally.not_done += 1,
            Err(_) => {
                tally.unknown += 1;
                generation += 1;
            }
        }
        tally.wait_max = tally.wait_max.max(clock::now().since(begun));
    }
    tally
}

fn read(session: &Session, ledger: &Ledger, stop: &AtomicBool, from: usize) -> Tally {
    let mut tally = Tally::default();
    for turn in from.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let keys = ledger.all_keys();
        let Some(key) = keys.get(turn % keys.len().max(1)) else { continue };
        let before = ledger.bounds(key);
        let begun = clock::now();
        match look(session, key) {
            Ok(found) => {
                ledger.on_read(key, before, found);
                tally.reads += 1;
            }
            Err(_) => tally.not_done += 1,
        }
        tally.wait_max = tally.wait_max.max(clock::now().since(begun));
    }
    tally
}

/// The number stored under `key`; 0 if it is absent.
fn look(session: &Session, key: &str) -> Result<u64, tandem::client::Error> {
    let read = block_on(session.get(key.to_owned()))?;
    let Some(item) = read.item else { return Ok(0) };
    let text = std::str::from_utf8(&item.value).expect("writers store decimal numbers");
    Ok(text.parse().expect("writers store decimal numbers"))
}

#[cfg(test)]
mod tests {
    //! Goal: the ledger refuses a lost write, a stale read and a value out of nowhere.
    //! Method: histories made by hand.

    use super::*;

    /// A key of which 1 and 2 are acknowledged and 3 is on its way.
    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        for number in 1..=3 {
            ledger.on_attempt("k", number);
        }
        ledger.on_acknowledged("k", 1);
        ledger.on_acknowledged("k", 2);
        ledger
    }

    #[test]
    fn a_read_may_see_what_is_acknowledged_or_on_its_way() {
        let ledger = ledger();
        ledger.on_read("k", ledger.bounds("k"), 2);
        ledger.on_read("k", ledger.bounds("k"), 3);
    }

    #[test]
    #[should_panic(expected = "stale: 'k' read as 1 after 2")]
    fn an_acknowledged_write_must_not_be_lost() {
        let ledger = ledger();
        ledger.on_read("k", ledger.bounds("k"), 1);
    }

    #[test]
    #[should_panic(expected = "stale: 'k' read as 2 after 3")]
    fn what_was_read_once_must_not_go_back() {
        let ledger = ledger();
        ledger.on_read("k", ledger.bounds("k"), 3);
        ledger.on_read("k", ledger.bounds("k"), 2);
    }

    #[test]
    fn a_read_that_began_earlier_may_return_less() {
        let ledger = ledger();
        let before = ledger.bounds("k");
        ledger.on_read("k", before, 3);
        ledger.on_read("k", before, 2);
    }

    #[test]
    #[should_panic(expected = "which nobody wrote")]
    fn a_value_must_have_been_written() {
        let ledger = ledger();
        ledger.on_read("k", ledger.bounds("k"), 4);
    }
}
