//! A closed loop: an operation begins when one ends.

use std::future::poll_fn;

use anyhow::Result;
use tandem::clock;

use super::found::SharedFound;
use super::{Pipeline, Source, Window};

/// One session of a closed loop.
pub(super) struct Session<P> {
    pub(super) pipeline: P,
    pub(super) source: Source,
    pub(super) outstanding: usize,
    pub(super) found: SharedFound,
    pub(super) window: Window,
}

impl<P: Pipeline> Session<P> {
    /// Keeps its operations in flight until the window is over, and waits for the last.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut in_flight = self.outstanding;
        let begun = clock::now();
        for _ in 0..in_flight {
            let (request, ticket) = self.source.next(begun);
            self.pipeline.submit(request, ticket);
        }
        let mut done = Vec::with_capacity(in_flight);
        while in_flight > 0 {
            poll_fn(|context| self.pipeline.poll(context, &mut done)).await?;
            let now = clock::now();
            for ticket in done.drain(..) {
                if let Some((request, ticket)) = self.source.follow_up(&ticket) {
                    self.pipeline.submit(request, ticket);
                    continue;
                }
                self.found.borrow_mut().on_done(&self.window, now, &ticket);
                if now < self.window.to {
                    let (request, ticket) = self.source.next(now);
                    self.pipeline.submit(request, ticket);
                } else {
                    in_flight -= 1;
                }
            }
        }
        Ok(())
    }
}

/// Does `count` operations of `source`.
pub(super) async fn some<P: Pipeline>(
    mut pipeline: P,
    mut source: Source,
    count: u64,
    outstanding: usize,
) -> Result<()> {
    let (mut begun, mut ended) = (0, 0);
    let mut done = Vec::new();
    while ended < count {
        while begun < count && begun - ended < outstanding as u64 {
            let (request, ticket) = source.next(clock::now());
            pipeline.submit(request, ticket);
            begun += 1;
        }
        poll_fn(|context| pipeline.poll(context, &mut done)).await?;
        ended += done.drain(..).len() as u64;
    }
    Ok(())
}
