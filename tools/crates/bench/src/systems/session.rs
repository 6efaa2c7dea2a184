//! Tandem through its client library, as programs that want its speed use it.

use std::task::{Context, Poll, ready};

use anyhow::{Result, bail};
use tandem::client::{self, Answer, Ended, Operation, Session};

use crate::load::{Pipeline, Request, Ticket};

/// A session's pipeline, and what the load remembers of each operation in flight.
struct Tickets {
    pipeline: client::Pipeline,
    value_bytes: usize,
    /// By the operations' tags, which are used again and again.
    tickets: Vec<Ticket>,
    free: Vec<u64>,
    ended: Vec<Ended>,
}

/// Drives `session`, whose reads are to find values of `value_bytes`.
pub fn pipeline(session: Session, value_bytes: usize) -> impl Pipeline {
    let pipeline = session.pipeline();
    Tickets { pipeline, value_bytes, tickets: Vec::new(), free: Vec::new(), ended: Vec::new() }
}

impl Pipeline for Tickets {
    fn submit(&mut self, request: Request, ticket: Ticket) {
        let operation = match request {
            Request::Get { key } => Operation::Get { key },
            Request::Put { key, value } => Operation::Put { key, value },
        };
        let tag = match self.free.pop() {
            Some(tag) => {
                self.tickets[tag as usize] = ticket;
                tag
            }
            None => {
                self.tickets.push(ticket);
                self.tickets.len() as u64 - 1
            }
        };
        self.pipeline.submit(operation, tag);
    }

    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>> {
        if self.pipeline.in_flight() == 0 {
            return Poll::Pending;
        }
        ready!(self.pipeline.poll_done(context, &mut self.ended));
        for (tag, result) in self.ended.drain(..) {
            if let Err(error) = judge(result, self.value_bytes) {
                return Poll::Ready(Err(error));
            }
            done.push(self.tickets[tag as usize]);
            self.free.push(tag);
        }
        Poll::Ready(Ok(()))
    }
}

fn judge(outcome: client::Result<Answer>, value_bytes: usize) -> Result<()> {
    match outcome? {
        Answer::Written { .. } => Ok(()),
        Answer::Found { value, .. } if value.len() == value_bytes => Ok(()),
        other => bail!("Tandem gave a wrong answer: {other:?}"),
    }
}
