//! What really happened, as only the simulator can know it: facts, and the truth that they add
//! up to. Invariants judge every new fact against the truth before it is taken in.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Process;
use super::trace::fold;
use crate::protocol::message::{Answer, Operation, Request};
use crate::protocol::time::Span;
use crate::protocol::types::{
    Configuration, Entry, Epoch, Key, KeySet, LossEpoch, Member, Op, Origin, RequestNumber,
    Revision, ServerId, SessionId, Value, Written,
};

/// Names an operation of a client over all its attempts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct OperationId(pub u64);

/// A write as replicas recognise it.
pub type WriteId = (SessionId, RequestNumber);

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    Done(&'a Answer),
    /// Surely not done, and never will be.
    NotDone,
    Unknown,
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// The metaserver's disk holds this configuration.
    Configured {
        set: KeySet,
        configuration: &'a Configuration,
    },
    Started {
        process: Process,
        server: ServerId,
    },
    /// The process starts with a copy that its predecessor left: what is in the store, up to
    /// which op chunks of a copy run may have gone ahead of that, and the log above it.
    Inherited {
        process: Process,
        set: KeySet,
        applied: Op,
        newest: Op,
        log: &'a [(Op, u64)],
    },
    /// The process learned which member it is.
    Registered {
        process: Process,
        member: Member,
    },
    Died {
        process: Process,
    },
    /// A process knows this configuration of `set`.
    Viewed {
        process: Process,
        set: KeySet,
        epoch: Epoch,
    },
    Appended {
        process: Process,
        set: KeySet,
        entries: &'a [Rc<Entry>],
    },
    Cut {
        process: Process,
        set: KeySet,
        through: Op,
    },
    Applied {
        process: Process,
        set: KeySet,
        revision: Revision,
        entry: &'a Entry,
        copying: bool,
    },
    /// A chunk of a copy is stored; `first` and `last` mark the ends of its run.
    Chunk {
        process: Process,
        set: KeySet,
        read_at: Revision,
        first: bool,
        last: bool,
    },
    Cleared {
        process: Process,
        set: KeySet,
    },
    /// A copy run starts from what is there: the log begins after `at`.
    Rebased {
        process: Process,
        set: KeySet,
        at: Op,
    },
    /// A primary says that it answers from now on.
    Opened {
        process: Process,
        set: KeySet,
        epoch: Epoch,
    },
    /// A replica would answer a read at this moment, for `left` of true time if its leases end.
    Serving {
        process: Process,
        set: KeySet,
        epoch: Epoch,
        left: Option<Span>,
    },
    /// What a copy holds at its position.
    Digested {
        process: Process,
        set: KeySet,
        at: Revision,
        digest: u64,
    },
    /// A server was handed a client's request.
    Requested {
        process: Process,
    },
    /// A server gave an answer to a client's request.
    Answered {
        process: Process,
        set: KeySet,
        request: &'a Request,
        answer: &'a Answer,
    },
    /// A primary admitted a write, where a value of `before` bytes was; its own server is full.
    Admitted {
        process: Process,
        set: KeySet,
        entry: &'a Entry,
        before: Option<usize>,
    },
    /// A process dropped requests whose client is gone.
    Abandoned {
        process: Process,
        requests: usize,
    },
    /// A client began an operation.
    Invoked {
        operation: OperationId,
        set: KeySet,
        what: &'a Operation,
    },
    /// A client's operation ended; `write` names it where one of its attempts was sent.
    Ended {
        operation: OperationId,
        write: Option<WriteId>,
        ending: Ending<'a>,
    },
    /// An honest process accused another one.
    Accused {
        process: Process,
        reason: &'static str,
    },
}

/// A write at its place in a key set.
#[derive(Clone, Debug, Hash)]
pub struct Committed {
    pub fingerprint: u64,
    pub key: Key,
    /// None = deleted.
    pub value: Option<Value>,
    pub written: Written,
    pub write: Option<WriteId>,
}

impl Committed {
    #[must_use]
    pub fn of(entry: &Entry) -> Committed {
        let value = entry.change.value().cloned();
        Committed {
            fingerprint: fingerprint(entry),
            key: entry.key.clone(),
            value,
            written: entry.written,
            write: entry.origin.map(write_id),
        }
    }
}

#[must_use]
pub fn write_id(origin: Origin) -> WriteId {
    (origin.session, origin.number)
}

/// What makes two entries the same write, whatever epochs prepared them.
#[must_use]
pub fn fingerprint(entry: &Entry) -> u64 {
    fold(&(&entry.key, &entry.change, entry.written, entry.origin.map(write_id)))
}

/// What one process holds of one key set.
#[derive(Clone, Debug, Default, Hash)]
pub struct Copy {
    /// Entries that are not applied yet.
    pub log: BTreeMap<Op, u64>,
    /// Everything up to here is in its store.
    pub applied: Op,
    /// A copy run is under way, and has read everything at this op or later.
    pub run: Option<Op>,
    /// The latest op at which a chunk of a copy was read.
    pub newest: Op,
}

impl Copy {
    #[must_use]
    pub fn holds(&self, op: Op) -> bool {
        (op <= self.applied && self.run.is_none()) || self.log.contains_key(&op)
    }
}

/// All facts so far, added up.
#[derive(Clone, Debug, Default, Hash)]
pub struct Truth {
    pub configurations: BTreeMap<KeySet, Configuration>,
    pub history: BTreeMap<(KeySet, Epoch), Configuration>,
    pub servers: BTreeMap<Process, ServerId>,
    pub members: BTreeMap<Process, Member>,
    pub processes: BTreeMap<Member, Process>,
    pub copies: BTreeMap<(Process, KeySet), Copy>,
    pub committed: BTreeMap<KeySet, BTreeMap<(LossEpoch, Op), Committed>>,
    pub writes: BTreeMap<(KeySet, WriteId), (LossEpoch, Op)>,
}

impl Truth {
    /// The copy of a living member.
    #[must_use]
    pub fn copy_of(&self, member: Member, set: KeySet) -> Option<&Copy> {
        let process = self.processes.get(&member)?;
        self.copies.get(&(*process, set))
    }

    #[must_use]
    pub fn is_alive(&self, member: Member) -> bool {
        self.processes.contains_key(&member)
    }

    #[must_use]
    pub fn committed_at(&self, set: KeySet, at: Revision) -> Option<&Committed> {
        self.committed.get(&set)?.get(&(at.loss_epoch, at.op))
    }

    fn copy(&mut self, process: Process, set: KeySet) -> &mut Copy {
        self.copies.entry((process, set)).or_default()
    }

    /// Takes in a fact that was judged.
    pub fn take(&mut self, fact: &Fact<'_>) {
        match *fact {
            Fact::Configured { set, configuration } => {
                self.configurations.insert(set, configuration.clone());
                self.history
                    .entry((set, configuration.epoch))
                    .or_insert_with(|| configuration.clone());
            }
            Fact::Started { process, server } => {
                self.servers.insert(process, server);
            }
            Fact::Inherited { process, set, applied, newest, log } => {
                let log = log.iter().copied().collect();
                let copy = Copy { log, applied, newest, ..Copy::default() };
                self.copies.insert((process, set), copy);
            }
            Fact::Registered { process, member } => {
                self.members.insert(process, member);
                self.processes.insert(member, process);
            }
            Fact::Died { process } => self.forget(process),
            Fact::Appended { process, set, entries } => {
                let copy = self.copy(process, set);
                if let Some(first) = entries.first() {
                    copy.log.split_off(&first.op);
                }
                copy.log.extend(entries.iter().map(|entry| (entry.op, fingerprint(entry))));
            }
            Fact::Cut { process, set, through } => {
                self.copy(process, set).log.split_off(&through.next());
            }
            Fact::Applied { process, set, revision, entry, .. } => {
                self.apply(process, set, revision, entry);
            }
            Fact::Chunk { process, set, read_at, first, last } => {
                self.chunk(process, set, read_at, first, last);
            }
            Fact::Cleared { process, set } => {
                self.copies.remove(&(process, set));
            }
            Fact::Rebased { process, set, at } => {
                let copy = self.copy(process, set);
                copy.log.clear();
                // Changes bring what was missing up to there, and no more: the feed has the rest.
                copy.run = Some(at);
                copy.newest = copy.newest.max(at);
            }
            Fact::Viewed { .. }
            | Fact::Opened { .. }
            | Fact::Serving { .. }
            | Fact::Digested { .. }
            | Fact::Requested { .. }
            | Fact::Answered { .. }
            | Fact::Admitted { .. }
            | Fact::Abandoned { .. }
            | Fact::Invoked { .. }
            | Fact::Ended { .. }
            | Fact::Accused { .. } => {}
        }
    }

    fn apply(&mut self, process: Process, set: KeySet, revision: Revision, entry: &Entry) {
        let copy = self.copy(process, set);
        copy.applied = copy.applied.max(revision.op);
        copy.log = copy.log.split_off(&revision.op.next());
        let place = (revision.loss_epoch, revision.op);
        self.committed.entry(set).or_default().entry(place).or_insert_with(|| Committed::of(entry));
        if let Some(origin) = entry.origin {
            self.writes.entry((set, write_id(origin))).or_insert(place);
        }
    }

    fn chunk(&mut self, process: Process, set: KeySet, read_at: Revision, first: bool, last: bool) {
        let copy = self.copy(process, set);
        let oldest = match copy.run {
            Some(oldest) if !first => oldest.min(read_at.op),
            _ => read_at.op,
        };
        copy.newest = copy.newest.max(read_at.op);
        copy.run = (!last).then_some(oldest);
        if last {
            copy.applied = copy.applied.max(oldest);
        }
    }

    fn forget(&mut self, process: Process) {
        self.servers.remove(&process);
        if let Some(member) = self.members.remove(&process)
            && self.processes.get(&member) == Some(&process)
        {
            self.processes.remove(&member);
        }
        self.copies.retain(|&(owner, _), _| owner != process);
    }
}
