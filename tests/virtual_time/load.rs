//! Clients at work in a virtual world, under a ledger that judges every read.
//!
//! A writer stores growing numbers under keys of its own and counts on one; a reader reads
//! anybody's keys. Some calls are dropped in mid-flight, as by a program that lost interest: what
//! became of such a write is as unknown as of one whose answer was lost, and its key is left
//! alone from then on. A call that neither completes nor fails in its time is a lost wake-up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tandem::client::{Client, Error, Session};
use tandem::clock;
use tandem::protocol::time::Span;
use tandem::sim::rng::Rng;
use tandem_local::ledger::Ledger;
use tokio::task::{JoinHandle, spawn_local};

use super::wait;
use super::world::World;

/// How long one operation may wait.
const TIMEOUT: Span = Span::from_millis(10_000);

/// Beyond its own deadline no operation may take this much longer.
const LATE_MAX: Span = Span::from_millis(1_000);

/// Keys of one writer: they spread over as many key sets.
const KEYS_OF_WRITER: usize = 8;

/// A call that is dropped lives at most this long.
const PATIENCE_MAX: Span = Span::from_millis(4);

/// What a load came to so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub reads: u64,
    pub writes: u64,
    /// Surely not done within their time.
    pub not_done: u64,
    pub unknown: u64,
    /// Dropped in mid-flight, as planned.
    pub dropped: u64,
}

/// How a load goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Between two operations of a writer or reader.
    pub rest_max: Span,
    /// Calls that are dropped in mid-flight.
    pub drop_ppm: u64,
    /// Some values are of this many bytes.
    pub value_bytes_max: u64,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { rest_max: Span::from_millis(20), drop_ppm: 0, value_bytes_max: 64 }
    }
}

/// Writers and readers at work.
pub struct Load {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all writers and readers share.
struct Shared {
    ledger: Ledger,
    manner: Cell<Manner>,
    stop: Cell<bool>,
    tally: Cell<Tally>,
    /// The first request that failed, in words.
    failure: RefCell<Option<String>>,
}

impl Load {
    /// An idle load.
    pub fn new(manner: Manner) -> Load {
        let shared = Shared {
            ledger: Ledger::default(),
            manner: Cell::new(manner),
            stop: Cell::new(false),
            tally: Cell::default(),
            failure: RefCell::default(),
        };
        Load { shared: Rc::new(shared), tasks: Vec::new() }
    }

    /// Lets `client` take part with `pairs` of a writer and a reader; `name` is in their keys.
    pub fn join(&mut self, world: &World, client: &Client, name: &str, pairs: usize) {
        for pair in 0..pairs {
            let writer = Writer {
                party: self.party(world, client),
                name: format!("{name}-{pair}"),
                keys: [(0, 0); KEYS_OF_WRITER],
                counter: (0, 0, 0),
                turn: 0,
            };
            self.tasks.push(spawn_local(writer.run()));
            self.tasks.push(spawn_local(self.party(world, client).read_on()));
        }
    }

    fn party(&self, world: &World, client: &Client) -> Party {
        let rng = Rng::new(world.draw(Rng::next_u64));
        let session = client.session().with_timeout(TIMEOUT.into());
        Party { shared: self.shared.clone(), session, rng }
    }

    pub fn set_manner(&self, manner: Manner) {
        self.shared.manner.set(manner);
    }

    pub fn tally(&self) -> Tally {
        self.shared.tally.get()
    }

    /// The first request that failed, in words.
    pub fn first_failure(&self) -> Option<String> {
        self.shared.failure.borrow().clone()
    }

    /// Waits until at least `more` further writes are acknowledged.
    pub async fn until_progress(&self, more: u64) {
        let before = self.tally().writes;
        wait::until("acknowledged writes", Span::from_millis(60_000), async || {
            let count = self.tally().writes - before;
            if count >= more { Ok(()) } else { Err(format!("{count} of {more}")) }
        })
        .await;
    }

    /// Ends the load and reads every key once more by `client`.
    ///
    /// # Panics
    /// If a promise is broken, or a call never comes back.
    pub async fn finish(self, world: &World, client: &Client) -> Tally {
        self.shared.stop.set(true);
        let mut last = self.party(world, client);
        for task in self.tasks {
            let ended = tokio::time::timeout((TIMEOUT + TIMEOUT).into(), task).await;
            ended.expect("a call never came back").expect("a promise was broken, see above");
        }
        for key in last.shared.ledger.keys() {
            if let Err(error) = last.read(&key).await {
                panic!("at the end '{key}' can not be read: {error}");
            }
        }
        self.shared.tally.get()
    }
}

impl Shared {
    fn count(&self, count: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        count(&mut tally);
        self.tally.set(tally);
    }

    fn on_failed(&self, what: &str, error: &Error) {
        let words = format!("{what} at {:?}: {error}", clock::now());
        self.failure.borrow_mut().get_or_insert(words);
    }
}

/// How a call ended.
enum Ended<T> {
    Done(T),
    /// It may or may not have been done.
    Unknown,
    /// Surely not done.
    NotDone,
}

/// One writer's or reader's means.
struct Party {
    shared: Rc<Shared>,
    session: Session,
    rng: Rng,
}

impl Party {
    async fn rest(&mut self) {
        let rest_max = self.shared.manner.get().rest_max;
        wait::pause(self.rng.span(Span::ZERO, rest_max)).await;
    }

    /// Awaits `call`, or drops it in mid-flight.
    async fn call<T>(&mut self, call: impl Future<Output = Result<T, Error>>) -> Ended<T> {
        let begun = clock::now();
        let dropped = self.rng.chance(self.shared.manner.get().drop_ppm);
        let patience = self.rng.span(Span::ZERO, PATIENCE_MAX);
        let limit = if dropped { patience } else { TIMEOUT + LATE_MAX };
        let ended = match tokio::time::timeout(limit.into(), call).await {
            Ok(ended) => ended,
            Err(_) if dropped => {
                self.shared.count(|tally| tally.dropped += 1);
                return Ended::Unknown;
            }
            Err(_) => panic!("a call from {begun:?} has no outcome at {:?}", clock::now()),
        };
        match ended {
            Ok(answer) => Ended::Done(answer),
            Err(error) if error.is_surely_not_done() => {
                self.shared.on_failed("surely not done", &error);
                self.shared.count(|tally| tally.not_done += 1);
                Ended::NotDone
            }
            Err(error) => {
                self.shared.on_failed("unknown", &error);
                self.shared.count(|tally| tally.unknown += 1);
                Ended::Unknown
            }
        }
    }

    /// Reads anybody's keys until the load ends.
    async fn read_on(mut self) {
        while !self.shared.stop.get() {
            self.rest().await;
            let turn = self.rng.next_u64() as usize;
            let Some(key) = self.shared.ledger.pick(turn) else { continue };
            let session = self.session.clone();
            let before = self.shared.ledger.bounds(&key);
            if let Ended::Done(read) = self.call(session.get(key.clone())).await {
                let found = number(read.item.as_ref().map(|item| &item.value[..]));
                self.judge(&key, before, found);
                self.shared.count(|tally| tally.reads += 1);
            }
        }
    }

    /// Reads `key` once and judges what is found.
    async fn read(&mut self, key: &str) -> Result<(), Error> {
        let before = self.shared.ledger.bounds(key);
        let read = self.session.get(key.to_owned()).await?;
        self.judge(key, before, number(read.item.as_ref().map(|item| &item.value[..])));
        Ok(())
    }

    fn judge(&self, key: &str, before: tandem_local::ledger::Bounds, found: u64) {
        if let Err(violation) = self.shared.ledger.on_read(key, before, found) {
            panic!("at {:?}: {violation}", clock::now());
        }
    }
}

/// The number that a value begins with; an absent one counts as 0.
fn number(value: Option<&[u8]>) -> u64 {
    let Some(value) = value else { return 0 };
    let digits = value.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).expect("digits are text");
    digits.parse().unwrap_or_else(|_| panic!("{} begins with no number", value.escape_ascii()))
}

/// A writer with its keys.
struct Writer {
    party: Party,
    name: String,
    /// Of each key: which one in its place it is, and the last number attempted.
    keys: [(u64, u64); KEYS_OF_WRITER],
    /// Which counter it is, how often it was counted up at most, and what it said last.
    counter: (u64, u64, u64),
    turn: usize,
}

impl Writer {
    async fn run(mut self) {
        while !self.party.shared.stop.get() {
            self.party.rest().await;
            self.turn += 1;
            if self.turn.is_multiple_of(4) { self.count_up().await } else { self.store().await }
        }
    }

    /// Writes the next number to the next key.
    async fn store(&mut self) {
        let place = self.turn % KEYS_OF_WRITER;
        let (generation, number) = &mut self.keys[place];
        *number += 1;
        let (key, number) = (format!("{}-{place}-{generation}", self.name), *number);
        let bytes_max = self.party.shared.manner.get().value_bytes_max;
        let padding = self.party.rng.below(bytes_max) as usize;
        let value = format!("{number} {}", ".".repeat(padding));
        let shared = self.party.shared.clone();
        shared.ledger.on_attempt(&key, number);
        let session = self.party.session.clone();
        match self.party.call(session.put(key.clone(), value)).await {
            Ended::Done(_) => {
                shared.ledger.on_acknowledged(&key, number);
                shared.count(|tally| tally.writes += 1);
            }
            Ended::NotDone => {}
            Ended::Unknown => self.keys[place].0 += 1,
        }
    }

    /// Counts up once: a retry that is applied twice shows in the sum.
    async fn count_up(&mut self) {
        let (generation, attempted, last) = &mut self.counter;
        *attempted += 1;
        let key = format!("{}-counter-{generation}", self.name);
        let (attempted, last) = (*attempted, *last);
        let shared = self.party.shared.clone();
        shared.ledger.on_attempt(&key, attempted);
        let session = self.party.session.clone();
        match self.party.call(session.incr(key.clone(), 1)).await {
            Ended::Done(count) => {
                let value = u64::try_from(count.value).expect("counters only grow");
                assert_eq!(value, last + 1, "'{key}' was counted up once");
                self.counter.2 = value;
                shared.ledger.on_acknowledged(&key, value);
                shared.count(|tally| tally.writes += 1);
            }
            // An attempt that was surely not done is the next one's.
            Ended::NotDone => self.counter.1 -= 1,
            Ended::Unknown => self.counter = (self.counter.0 + 1, 0, 0),
        }
    }
}
