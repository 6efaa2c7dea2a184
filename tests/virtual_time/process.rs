//! A process of a virtual world: tasks that share a fate, and can be dropped in mid-action.
//!
//! Each process is a `LocalSet` of its own on the one thread of the world. Dropping it drops
//! every task, connection and buffer at once, as SIGKILL does; nothing more is sent.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Result;
use tandem::clock;
use tandem::sim::Node;
use tokio::task::{LocalSet, spawn_local};

use super::network::Net;

/// A process, running or ended.
pub struct Process {
    /// None once it was killed or has ended.
    tasks: Rc<RefCell<Option<LocalSet>>>,
    /// What its main task came to.
    outcome: Rc<RefCell<Option<Result<()>>>>,
    net: Arc<Net>,
    node: Node,
}

impl Process {
    /// Starts a process on `node` that ends with `body`.
    pub fn start(
        net: &Arc<Net>,
        node: Node,
        body: impl Future<Output = Result<()>> + 'static,
    ) -> Process {
        let tasks = LocalSet::new();
        let outcome = Rc::new(RefCell::new(None));
        let told = outcome.clone();
        tasks.spawn_local(async move {
            let ended = body.await;
            if let Err(error) = &ended {
                println!("{node} ended at {:?}: {error:#}", clock::now());
            }
            told.replace(Some(ended));
        });
        let tasks = Rc::new(RefCell::new(Some(tasks)));
        let (net, held_tasks) = (net.clone(), tasks.clone());
        let process =
            Process { tasks: held_tasks, outcome: outcome.clone(), net: net.clone(), node };
        spawn_local(poll_fn(move |cx| {
            let mut held = tasks.borrow_mut();
            let Some(running) = held.as_mut() else { return Poll::Ready(()) };
            net.enter(node);
            let idle = Pin::new(running).poll(cx);
            if idle.is_pending() && outcome.borrow().is_none() {
                return Poll::Pending;
            }
            // Its main task is done: the process ends, and all else of it.
            drop(held.take());
            net.unplug(node);
            Poll::Ready(())
        }));
        process
    }

    /// Kills it, whatever it does.
    pub fn kill(&self) {
        if let Some(tasks) = self.tasks.borrow_mut().take() {
            drop(tasks);
            self.net.unplug(self.node);
        }
    }

    /// What it ended with, if it ended by itself; once.
    pub fn take_outcome(&self) -> Option<Result<()>> {
        self.outcome.borrow_mut().take()
    }

    #[must_use]
    pub fn runs(&self) -> bool {
        self.tasks.borrow().is_some()
    }
}
