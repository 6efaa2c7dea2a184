//! The search for a view: any server or the metaserver hands it out, so all are asked in turn.
//!
//! One question at a time; where it is not answered within the hedge, the next endpoint is asked
//! as well. The first view ends the search.

use std::collections::BTreeSet;

use super::pool::{Pool, Wish};
use super::transport::{Endpoint, Transport};
use crate::protocol::message::MetaRequest;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::LinkId;

/// The number of questions for the view; asks have numbers from 1.
pub(super) const VIEW_QUESTION: u64 = 0;

/// After this long without an answer the next endpoint is asked.
const HEDGE: Span = Span::from_millis(25);

/// A search that nobody wishes for any more ends after this long.
const PERSISTENCE: Span = Span::from_millis(5_000);

/// After a failure the next endpoint is asked sooner.
const AFTER_FAILURE: Span = Span::from_millis(10);

/// A search for the view.
#[derive(Debug)]
pub(super) struct Finder {
    endpoints: Vec<Endpoint>,
    /// The endpoint whose turn it is.
    turn: usize,
    /// When the next one is asked; none while no view is wanted.
    due: Option<Time>,
    /// When the search ends without success, unless it is wished for again.
    until: Time,
    /// Links that were dialled for, or carry, a question.
    asked: BTreeSet<LinkId>,
    failure: Option<String>,
}

impl Finder {
    /// A search over `endpoints`, of which there is at least one. It begins at number `turn`, so
    /// that many clients spread.
    pub(super) fn new(endpoints: Vec<Endpoint>, turn: usize) -> Finder {
        assert!(!endpoints.is_empty(), "a cluster has a metaserver");
        Finder { endpoints, turn, due: None, until: Time(0), asked: BTreeSet::new(), failure: None }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Why the last endpoint did not answer.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Begins a search, or keeps up the one under way.
    pub(super) fn begin(&mut self, now: Time) {
        self.until = now + PERSISTENCE;
        if self.due.is_none() {
            self.due = Some(now);
        }
    }

    /// Asks the next endpoint if it is time.
    pub(super) fn step(&mut self, now: Time, pool: &mut Pool, transport: &mut impl Transport) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        if self.until < now {
            self.due = None;
            return;
        }
        self.due = Some(now + HEDGE);
        let endpoint = &self.endpoints[self.turn % self.endpoints.len()];
        self.turn = self.turn.wrapping_add(1);
        match pool.want_any(transport, endpoint) {
            Wish::Up(link) => {
                self.asked.insert(link);
                transport.ask(link, VIEW_QUESTION, &MetaRequest::View);
            }
            Wish::Dialling(link) => {
                self.asked.insert(link);
            }
        }
    }

    pub(super) fn on_up(&mut self, link: LinkId, transport: &mut impl Transport) {
        if self.due.is_some() && self.asked.contains(&link) {
            transport.ask(link, VIEW_QUESTION, &MetaRequest::View);
        }
    }

    pub(super) fn on_down(&mut self, now: Time, link: LinkId, reason: &str) {
        if self.asked.remove(&link) {
            self.failure = Some(reason.to_owned());
            self.due = self.due.map(|due| due.min(now + AFTER_FAILURE));
        }
    }

    /// A view came: the search is over.
    pub(super) fn on_view(&mut self) {
        self.due = None;
        self.asked.clear();
        self.failure = None;
    }

    /// Learns where servers are that the configuration does not name.
    pub(super) fn learn(&mut self, endpoint: Endpoint) {
        if !self.endpoints.contains(&endpoint) {
            self.endpoints.push(endpoint);
        }
    }
}
