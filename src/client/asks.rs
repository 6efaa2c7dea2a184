//! Questions to the metaserver: the status of the cluster, and what only administrators may ask.
//!
//! A question that changes nothing is asked again until its deadline. One that changes the
//! cluster is sent at most once: if its answer does not come, its outcome is unknown.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::oneshot;

use super::pool::{Pool, Wish};
use super::transport::{Endpoint, Transport};
use crate::protocol::message::{MetaAnswer, MetaRequest};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::LinkId;

/// Between two dials to the metaserver.
const REDIAL: Span = Span::from_millis(100);

/// Why the metaserver gave no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AskError {
    /// It was never asked, or the question changes nothing.
    Unanswered { reason: String },
    /// It was asked to change the cluster; whether it did is unknown.
    Unknown { reason: String },
}

impl std::error::Error for AskError {}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Unanswered { reason } => {
                write!(f, "the metaserver does not answer: {reason}")
            }
            AskError::Unknown { reason } => write!(
                f,
                "the metaserver was asked and did not answer, so that the change may or may not \
                 have been made: {reason}; `status` shows which"
            ),
        }
    }
}

/// Where the answer goes.
pub(super) type AskReply = oneshot::Sender<Result<MetaAnswer, AskError>>;

#[derive(Debug)]
struct Ask {
    request: MetaRequest,
    deadline: Time,
    reply: AskReply,
    state: State,
    failure: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Wants a link, not before this time.
    Idle {
        due: Time,
    },
    Dialling(LinkId),
    Sent(LinkId),
}

/// All questions in flight.
#[derive(Debug)]
pub(super) struct Asks {
    metaserver: Endpoint,
    asks: BTreeMap<u64, Ask>,
    last: u64,
}

impl Asks {
    pub(super) fn new(metaserver: Endpoint) -> Asks {
        Asks { metaserver, asks: BTreeMap::new(), last: 0 }
    }

    pub(super) fn add(&mut self, now: Time, request: MetaRequest, by: Time, reply: AskReply) {
        self.last += 1;
        let failure = "it can not be reached".to_owned();
        let state = State::Idle { due: now };
        self.asks.insert(self.last, Ask { request, deadline: by, reply, state, failure });
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let due = |ask: &Ask| match ask.state {
            State::Idle { due } => due.min(ask.deadline),
            State::Dialling(_) | State::Sent(_) => ask.deadline,
        };
        self.asks.values().map(due).min()
    }

    /// Ends what is overdue, and dials for what waits.
    pub(super) fn step(&mut self, now: Time, pool: &mut Pool, transport: &mut impl Transport) {
        let overdue = self.asks.extract_if(.., |_, ask| ask.deadline <= now);
        for (_, ask) in overdue {
            let sent = matches!(ask.state, State::Sent(_));
            let reason = if sent { "its time is up".to_owned() } else { ask.failure.clone() };
            ask.fail(reason);
        }
        for (&id, ask) in &mut self.asks {
            if !matches!(ask.state, State::Idle { due } if due <= now) {
                continue;
            }
            match pool.want_any(transport, &self.metaserver) {
                Wish::Up(link) => {
                    ask.state = State::Sent(link);
                    transport.ask(link, id, &ask.request);
                }
                Wish::Dialling(link) => ask.state = State::Dialling(link),
            }
        }
    }

    pub(super) fn on_up(&mut self, link: LinkId, transport: &mut impl Transport) {
        for (&id, ask) in &mut self.asks {
            if ask.state == State::Dialling(link) {
                ask.state = State::Sent(link);
                transport.ask(link, id, &ask.request);
            }
        }
    }

    pub(super) fn on_down(&mut self, now: Time, link: LinkId, reason: &str) {
        let hit = |ask: &Ask| ask.state == State::Sent(link) && ask.changes_the_cluster();
        for (_, ask) in self.asks.extract_if(.., |_, ask| hit(ask)) {
            ask.fail(reason.to_owned());
        }
        for ask in self.asks.values_mut() {
            if ask.state == State::Dialling(link) || ask.state == State::Sent(link) {
                reason.clone_into(&mut ask.failure);
                ask.state = State::Idle { due: now + REDIAL };
            }
        }
    }

    pub(super) fn on_answer(&mut self, id: u64, answer: MetaAnswer) {
        if let Some(ask) = self.asks.remove(&id) {
            // Whoever asked may have lost interest.
            let _ = ask.reply.send(Ok(answer));
        }
    }
}

impl Ask {
    fn changes_the_cluster(&self) -> bool {
        match self.request {
            MetaRequest::View | MetaRequest::Status | MetaRequest::Space => false,
            // Asked again it asks for the same.
            MetaRequest::StopCluster { .. } | MetaRequest::OwnSpace => false,
            MetaRequest::Revive { .. } | MetaRequest::Fence { .. } => true,
        }
    }

    fn fail(self, reason: String) {
        let unknown = self.changes_the_cluster() && matches!(self.state, State::Sent(_));
        let error =
            if unknown { AskError::Unknown { reason } } else { AskError::Unanswered { reason } };
        let _ = self.reply.send(Err(error));
    }
}
