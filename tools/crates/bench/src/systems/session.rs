//! Tandem through its client library, as programs use it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Result, bail};
use tandem::client::{Answer, Operation, Session};

use crate::load::{Pipeline, Request, Ticket};

/// A session with operations in flight, each in a slot that is used again and again.
struct Slots<B, F> {
    begin: B,
    value_bytes: usize,
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    busy: Vec<usize>,
}

struct Slot<F> {
    /// Pinned once, so that an operation costs the load no allocation.
    answer: Pin<Box<Option<F>>>,
    ticket: Option<Ticket>,
}

/// Drives `session`, whose reads are to find values of `value_bytes`.
pub fn pipeline(session: Session, value_bytes: usize) -> impl Pipeline {
    let begin = move |operation| session.begin(operation);
    Slots { begin, value_bytes, slots: Vec::new(), free: Vec::new(), busy: Vec::new() }
}

impl<B, F> Pipeline for Slots<B, F>
where
    B: Fn(Operation) -> F,
    F: Future<Output = tandem::client::Result<Answer>>,
{
    fn submit(&mut self, request: Request, ticket: Ticket) {
        let answer = (self.begin)(match request {
            Request::Get { key } => Operation::Get { key },
            Request::Put { key, value } => Operation::Put { key, value },
        });
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { answer: Box::pin(None), ticket: None });
            self.slots.len() - 1
        });
        self.slots[number].answer.set(Some(answer));
        self.slots[number].ticket = Some(ticket);
        self.busy.push(number);
    }

    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>> {
        let before = done.len();
        let mut place = 0;
        while let Some(&number) = self.busy.get(place) {
            let slot = &mut self.slots[number];
            let Some(answer) = slot.answer.as_mut().as_pin_mut() else { break };
            let Poll::Ready(outcome) = answer.poll(context) else {
                place += 1;
                continue;
            };
            if let Err(error) = judge(outcome, self.value_bytes) {
                return Poll::Ready(Err(error));
            }
            slot.answer.set(None);
            done.extend(slot.ticket.take());
            self.busy.swap_remove(place);
            self.free.push(number);
        }
        if done.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

fn judge(outcome: tandem::client::Result<Answer>, value_bytes: usize) -> Result<()> {
    match outcome? {
        Answer::Written { .. } => Ok(()),
        Answer::Found { value, .. } if value.len() == value_bytes => Ok(()),
        other => bail!("Tandem gave a wrong answer: {other:?}"),
    }
}
