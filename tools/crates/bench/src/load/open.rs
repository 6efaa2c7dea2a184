//! An open loop: operations begin when they are due, whether or not earlier ones have ended.
//!
//! All that a session finds due leaves as one batch: one write to the system.

use std::future::poll_fn;
use std::task::{Context, Poll};

use anyhow::Result;
use tandem::clock;

use super::arrivals::Inbox;
use super::found::SharedFound;
use super::{Pipeline, Source, Ticket, Window};

/// Operations in flight of one session; what is due beyond them waits, and its wait counts.
pub const IN_FLIGHT_MAX: usize = 2_048;

/// One session of an open loop.
pub(super) struct Session<P> {
    pub(super) pipeline: P,
    pub(super) source: Source,
    pub(super) inbox: Inbox,
    pub(super) found: SharedFound,
    pub(super) window: Window,
}

impl<P: Pipeline> Session<P> {
    /// Does what becomes due until the pacer ends, and waits for the last.
    pub(super) async fn run(mut self) -> Result<()> {
        let (mut in_flight, mut done) = (0, Vec::new());
        loop {
            let over = poll_fn(|cx| self.turn(cx, &mut in_flight, &mut done)).await?;
            let now = clock::now();
            for ticket in done.drain(..) {
                if let Some((request, ticket)) = self.source.follow_up(&ticket) {
                    self.pipeline.submit(request, ticket);
                    continue;
                }
                in_flight -= 1;
                self.found.borrow_mut().on_due_done(&self.window, now, &ticket);
            }
            if over {
                break;
            }
        }
        // What was due and never began has waited at least until now.
        let now = clock::now();
        let mut found = self.found.borrow_mut();
        while let Some(due) = self.inbox.take() {
            found.on_left_over(&self.window, due, now.since(due));
        }
        Ok(())
    }

    /// Begins what is due; ready with true once all is over.
    fn turn(
        &mut self,
        context: &mut Context<'_>,
        in_flight: &mut usize,
        done: &mut Vec<Ticket>,
    ) -> Poll<Result<bool>> {
        let over = self.inbox.listen(context);
        while !over && *in_flight < IN_FLIGHT_MAX {
            let Some(due) = self.inbox.take() else { break };
            let (request, ticket) = self.source.next(due);
            self.pipeline.submit(request, ticket);
            *in_flight += 1;
        }
        if over && *in_flight == 0 {
            return Poll::Ready(Ok(true));
        }
        self.pipeline.poll(context, done).map_ok(|()| false)
    }
}
