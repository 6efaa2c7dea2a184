//! What handles ask of the client's loop, and the box in which it gathers.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::asks::AskReply;
use super::pipeline::Batch;
use super::pool::SessionSlot;
use crate::protocol::message::{MetaRequest, Operation};
use crate::protocol::session::{Outcome, SessionSettings};
use crate::protocol::time::Time;
use crate::protocol::view::View;

/// What handles ask of the loop.
pub(super) enum Command {
    Open {
        slot: SessionSlot,
        settings: SessionSettings,
    },
    Submit {
        slot: SessionSlot,
        operation: Operation,
        by: Time,
        reply: oneshot::Sender<Outcome>,
    },
    /// Operations of a pipeline.
    Begin {
        slot: SessionSlot,
        batch: Batch,
        by: Time,
    },
    Close {
        slot: SessionSlot,
    },
    Ask {
        request: MetaRequest,
        by: Time,
        reply: AskReply,
    },
    /// The newest view that the client knows, as soon as it knows any.
    View {
        by: Time,
        reply: ViewReply,
    },
    Stop {
        done: Option<oneshot::Sender<()>>,
    },
}

impl Command {
    /// How many operations it begins.
    pub(super) fn operations(&self) -> usize {
        match self {
            Command::Submit { .. } => 1,
            Command::Begin { batch, .. } => batch.len(),
            Command::Open { .. }
            | Command::Close { .. }
            | Command::Ask { .. }
            | Command::View { .. }
            | Command::Stop { .. } => 0,
        }
    }
}

/// A view, or why none was found.
pub(super) type ViewReply = oneshot::Sender<Result<View, String>>;

/// Commands on their way into the loop.
pub(super) struct Mailbox {
    /// None once the loop has ended: what comes then is dropped, and its replies with it.
    commands: Mutex<Option<Vec<Command>>>,
    pub(super) notify: Notify,
    /// Why the last dial failed.
    failure: Mutex<Option<String>>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            commands: Mutex::new(Some(Vec::new())),
            notify: Notify::new(),
            failure: Mutex::default(),
        }
    }
}

/// Closes a mailbox when its loop ends, however it ends.
pub(super) struct Reader(pub(super) Arc<Mailbox>);

impl Drop for Reader {
    fn drop(&mut self) {
        let commands = &self.0.commands;
        let unread = commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Dropped without the lock, because a command may own the last handle of something.
        drop(unread);
    }
}

impl Mailbox {
    pub(super) fn post(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &mut *commands else {
            // Dropped without the lock, because it tells whoever waits for it.
            drop(commands);
            drop(command);
            return;
        };
        if queue.is_empty() {
            self.notify.notify_one();
        }
        queue.push(command);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Takes all commands, oldest first, into an empty `into`.
    pub(super) fn take(&self, into: &mut Vec<Command>) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = &mut *commands {
            std::mem::swap(commands, into);
        }
    }
}
