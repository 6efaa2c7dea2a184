//! Hand-made operations in few words: `put("a").at(0, 10).op(1)`.

use tandem::protocol::types::{Epoch, LossEpoch, Op, Position, Revision};
use tandem_history::{Answer, Ending, Expect, History, Operation, Reply, Text, What};

/// An operation in the making: unknown and of key "k" until something else is said.
#[derive(Clone)]
pub struct Story {
    key: &'static str,
    what: What,
    reply: Reply,
    times: (u64, u64),
    revision: Option<u64>,
    position: Option<u64>,
    failed: bool,
}

fn story(what: What, reply: Reply) -> Story {
    let (key, times) = ("k", (0, 0));
    Story { key, what, reply, times, revision: None, position: None, failed: false }
}

pub fn get(value: &str) -> Story {
    story(What::Get, Reply::Value(Some(Text::from(value))))
}

pub fn absent() -> Story {
    story(What::Get, Reply::Value(None))
}

pub fn put(value: &str) -> Story {
    story(What::Put { value: Text::from(value) }, Reply::Stored)
}

pub fn delete(existed: bool) -> Story {
    story(What::Delete, Reply::Existed(existed))
}

pub fn incr(by: i64, number: Option<i64>) -> Story {
    story(What::Incr { by }, Reply::Number(number))
}

/// A `cas` from a value, or from absent, to a value, or to absent.
pub fn cas(from: Option<&str>, to: Option<&str>, swapped: bool) -> Story {
    let expect = from.map_or(Expect::Absent, |value| Expect::Value(Text::from(value)));
    story(What::Cas { expect, value: to.map(Text::from) }, Reply::Swapped(swapped))
}

pub fn cas_revision(from: u64, to: &str, swapped: bool) -> Story {
    let expect = Expect::Revision(revision(from));
    story(What::Cas { expect, value: Some(Text::from(to)) }, Reply::Swapped(swapped))
}

fn revision(op: u64) -> Revision {
    Revision { loss_epoch: LossEpoch(0), op: Op(op) }
}

impl Story {
    /// When it was sent and when it returned.
    pub fn at(mut self, invoke: u64, returned: u64) -> Story {
        self.times = (invoke, returned);
        self
    }

    /// It was done as a write at `op`.
    pub fn op(mut self, op: u64) -> Story {
        self.revision = Some(op);
        self.position = Some(op);
        self
    }

    /// It was answered at `position` over the value of `revision`.
    pub fn saw(mut self, revision: u64, position: u64) -> Story {
        self.revision = Some(revision);
        self.position = Some(position);
        self
    }

    /// It was answered at `position` over nothing.
    pub fn saw_nothing(mut self, position: u64) -> Story {
        self.position = Some(position);
        self
    }

    pub fn fails(mut self) -> Story {
        self.failed = true;
        self
    }

    pub fn of(mut self, key: &'static str) -> Story {
        self.key = key;
        self
    }

    fn tell(&self, line: usize) -> Operation {
        let (invoke_ns, return_ns) = self.times;
        let position = |op| Position { loss_epoch: LossEpoch(0), epoch: Epoch(1), op: Op(op) };
        let ending = match (self.failed, self.position) {
            (true, _) => Ending::Fail { return_ns },
            (false, None) => Ending::Unknown,
            (false, Some(op)) => Ending::Ok {
                return_ns,
                answer: Answer {
                    reply: self.reply.clone(),
                    revision: self.revision.map(revision),
                    position: Some(position(op)),
                },
            },
        };
        Operation {
            line,
            process: line as u64,
            key: Text::from(self.key),
            what: self.what.clone(),
            invoke_ns,
            ending,
        }
    }
}

/// The history of stories, each by a client of its own.
pub fn history(stories: &[Story]) -> History {
    let mut operations: Vec<Operation> =
        stories.iter().enumerate().map(|(index, it)| it.tell(index + 1)).collect();
    operations.sort_by_key(|it| it.invoke_ns);
    History { operations }
}
