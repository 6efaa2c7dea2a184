//! Clients that write and read all the time, under a ledger that judges every read.
//!
//! A writer goes round its own keys. A write of unknown outcome may still arrive later, so its
//! writer leaves that key as it is and goes on with a new one in its place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tandem::client::{Client, Error, Session, block_on};
use tandem::clock;
use tandem::protocol::time::{Span, Time};

use crate::ledger::{Ledger, Violation};

/// How long one operation may wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Keys of one writer: they spread over as many key sets.
const KEYS_OF_WRITER: usize = 16;

/// What a load came to so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub reads: u64,
    pub writes: u64,
    /// Surely not done within their time.
    pub not_done: u64,
    pub unknown: u64,
}

impl Tally {
    /// How many requests failed, whatever is known of them.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.not_done + self.unknown
    }
}

/// The request that waited longest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Slowest {
    pub wait: Span,
    pub key: String,
    /// What it was and when it was answered, to be found in logs.
    pub what: String,
}

/// Writers and readers at work. Dropped without `finish`, they end by themselves.
#[derive(Debug, Default)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What all writers and readers share.
#[derive(Debug, Default)]
struct Shared {
    ledger: Ledger,
    stop: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    not_done: AtomicU64,
    unknown: AtomicU64,
    slowest: Mutex<Slowest>,
    /// The first broken promise: it ends the load.
    violation: Mutex<Option<Violation>>,
    /// The first request that failed, in words.
    failure: Mutex<Option<String>>,
}

impl Load {
    /// An idle load: `join` lets clients take part.
    #[must_use]
    pub fn new() -> Load {
        Load::default()
    }

    /// Lets `client` take part with `pairs` of a writer and a reader; `name` is in their keys.
    pub fn join(&mut self, client: &Client, name: &str, pairs: usize) {
        for pair in 0..pairs {
            let (session, shared) = (open(client), self.shared.clone());
            let mut writer = Writer::new(&format!("{name}-{pair}"));
            self.workers.push(std::thread::spawn(move || {
                while shared.goes_on() {
                    writer.turn(&session, &shared);
                }
            }));
            let (session, shared) = (open(client), self.shared.clone());
            self.workers.push(std::thread::spawn(move || {
                for turn in pair.. {
                    if !shared.goes_on() {
                        return;
                    }
                    read(&session, &shared, turn);
                }
            }));
        }
    }

    /// What was promised so far; others may write keys of their own under it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Tally {
            reads: read(&self.shared.reads),
            writes: read(&self.shared.writes),
            not_done: read(&self.shared.not_done),
            unknown: read(&self.shared.unknown),
        }
    }

    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.tally().writes
    }

    /// The request that waited longest for its answer since this was last asked.
    #[must_use]
    pub fn take_slowest(&self) -> Slowest {
        std::mem::take(&mut *self.shared.slowest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fails once a promise was broken.
    ///
    /// # Errors
    /// The first acknowledged write that was lost, or stale value that was read.
    pub fn check(&self) -> Result<()> {
        let violation = self.shared.violation.lock().unwrap_or_else(PoisonError::into_inner);
        match &*violation {
            Some(violation) => Err(violation.clone().into()),
            None => Ok(()),
        }
    }

    /// The first request that failed, in words.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the load, reads every key once more by `client`, and says what it came to.
    ///
    /// # Errors
    /// An acknowledged write was lost or a stale value read, then or before; or a key can not be
    /// read.
    pub fn finish(mut self, client: &Client) -> Result<Tally> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| anyhow!("a writer or reader panicked"))?;
        }
        self.check()?;
        let session = open(client);
        for key in self.shared.ledger.keys() {
            match judge(&session, &self.shared.ledger, &key) {
                Ok(()) => {}
                Err(Judged::Violation(violation)) => return Err(violation.into()),
                Err(Judged::Failed(error)) => bail!("at the end '{key}' can not be read: {error}"),
            }
        }
        Ok(self.tally())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn on_waited(&self, begun: Time, verb: &str, key: &str) {
        let wait = clock::now().since(begun);
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        if wait > slowest.wait {
            let what = format!("{verb} '{key}' answered at {}", clock::wall_clock());
            *slowest = Slowest { wait, key: key.to_owned(), what };
        }
    }

    fn on_failed(&self, count: &AtomicU64, words: String) {
        count.fetch_add(1, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(words);
    }

    fn on_violation(&self, violation: Violation) {
        self.violation.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(violation);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A session of its own for each: a reader must not profit from what its writer's one knows.
fn open(client: &Client) -> Session {
    client.session().with_timeout(TIMEOUT)
}

/// A writer with its keys.
struct Writer {
    name: String,
    /// Of each key: which one in its place it is, and the last number attempted.
    keys: [(u64, u64); KEYS_OF_WRITER],
    turn: usize,
}

impl Writer {
    fn new(name: &str) -> Writer {
        Writer { name: name.to_owned(), keys: [(0, 0); KEYS_OF_WRITER], turn: 0 }
    }

    /// Writes the next number to the next key.
    fn turn(&mut self, session: &Session, shared: &Shared) {
        self.turn = (self.turn + 1) % KEYS_OF_WRITER;
        let (place, (generation, number)) = (self.turn, &mut self.keys[self.turn]);
        *number += 1;
        let key = format!("{}-{place}-{generation}", self.name);
        shared.ledger.on_attempt(&key, *number);
        let begun = clock::now();
        let written = block_on(session.put(key.clone(), number.to_string()));
        shared.on_waited(begun, "put", &key);
        match written {
            Ok(_) => {
                shared.ledger.on_acknowledged(&key, *number);
                shared.writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.is_surely_not_done() => {
                shared.on_failed(&shared.not_done, error.to_string());
            }
            Err(error) => {
                shared.on_failed(&shared.unknown, error.to_string());
                *generation += 1;
            }
        }
    }
}

fn read(session: &Session, shared: &Shared, turn: usize) {
    let Some(key) = shared.ledger.pick(turn) else { return };
    let begun = clock::now();
    let judged = judge(session, &shared.ledger, &key);
    shared.on_waited(begun, "get", &key);
    match judged {
        Ok(()) => {
            shared.reads.fetch_add(1, Ordering::Relaxed);
        }
        Err(Judged::Violation(violation)) => shared.on_violation(violation),
        Err(Judged::Failed(error)) => shared.on_failed(&shared.not_done, error.to_string()),
    }
}

/// Why a read is not fine.
enum Judged {
    Violation(Violation),
    Failed(Error),
}

/// Reads `key`, and judges what is found; an absent key counts as 0.
fn judge(session: &Session, ledger: &Ledger, key: &str) -> std::result::Result<(), Judged> {
    let before = ledger.bounds(key);
    let read = block_on(session.get(key.to_owned())).map_err(Judged::Failed)?;
    let found = match &read.item {
        None => 0,
        Some(item) => {
            let number = std::str::from_utf8(&item.value).ok().and_then(|it| it.parse().ok());
            number.ok_or_else(|| {
                let found = item.value.escape_ascii().to_string();
                Judged::Violation(Violation::Invented { key: key.to_owned(), found })
            })?
        }
    };
    ledger.on_read(key, before, found).map_err(Judged::Violation)
}
