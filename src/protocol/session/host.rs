//! What a session wants done, as calls on its host or as a list.
//!
//! The simulator and the tests take effects as a list, through `Machine::handle`. The client's
//! loop does them as they come, because what is only looked at needs no memory of its own.

use std::net::SocketAddr;

use super::{AttemptId, CallId, Outcome};
use crate::protocol::message::{Operation, Request};
use crate::protocol::types::{LinkId, Member, WorkerId};

/// What a session wants done.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum SessionEffect {
    /// Dial this worker once; completes as `LinkUp` or `ConnectFailed`. Links may be shared by
    /// many sessions.
    Connect { peer: Member, worker: WorkerId, address: SocketAddr },
    /// Send `request` on `link`, under a number that the answer brings back.
    Send { link: LinkId, attempt: AttemptId, request: Request },
    /// Ask any server or the metaserver for the view. Asking while a question is under way may
    /// be ignored; an answer comes as `ViewLearned`, no answer needs no input.
    FetchView,
    /// The operation's end.
    Complete { call: CallId, outcome: Outcome },
}

/// Who does what a session wants; see `SessionEffect`. It is called while the session handles an
/// input, and hands it no other before that is done.
pub trait SessionHost {
    /// `SessionEffect::Connect`.
    fn connect(&mut self, peer: Member, worker: WorkerId, address: SocketAddr);

    /// `SessionEffect::Send`.
    fn send(&mut self, link: LinkId, attempt: AttemptId, request: &Request);

    /// `SessionEffect::FetchView`.
    fn fetch_view(&mut self);

    /// `SessionEffect::Complete`, of `operation`.
    fn complete(&mut self, call: CallId, operation: &Operation, outcome: Outcome);
}

/// Collects the effects, in order.
impl SessionHost for Vec<SessionEffect> {
    fn connect(&mut self, peer: Member, worker: WorkerId, address: SocketAddr) {
        self.push(SessionEffect::Connect { peer, worker, address });
    }

    fn send(&mut self, link: LinkId, attempt: AttemptId, request: &Request) {
        self.push(SessionEffect::Send { link, attempt, request: request.clone() });
    }

    fn fetch_view(&mut self) {
        self.push(SessionEffect::FetchView);
    }

    fn complete(&mut self, call: CallId, _: &Operation, outcome: Outcome) {
        self.push(SessionEffect::Complete { call, outcome });
    }
}
