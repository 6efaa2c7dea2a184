//! The observer asks the metaserver again and again how the cluster fares, and keeps the answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tandem::client::{Client, block_on};
use tandem::clock;
use tandem::protocol::message::{MetaAnswer, MetaRequest};
use tandem::protocol::meta::durable::{Recovery, Step};
use tandem::protocol::meta::{ServerState, SetStatus, Status};
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::{LossEpoch, RecoveryId};
use tandem::protocol::view::SetState;

use crate::nodes::Node;
use crate::verdict::Verdict;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long one question may take.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// How the cluster fared at one instant.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub at: Time,
    /// None while the metaserver did not answer.
    pub servers: Option<Vec<ServerSample>>,
    /// As last known.
    pub sets: Arc<[SetSample]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerSample {
    pub number: u8,
    pub state: ServerState,
    pub primary_of: u16,
    pub secondary_of: u16,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetSample {
    /// The primary first.
    pub members: Vec<Node>,
    pub redundant: bool,
    pub open: bool,
}

/// A recovery as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct RecoverySeen {
    pub server: u8,
    pub begin: Time,
    /// The end of each step that was seen to end, in order.
    pub steps: [Option<Time>; 4],
}

/// What the observer found. Clones share it.
#[derive(Clone)]
pub struct Observer {
    client: Client,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    samples: Vec<Sample>,
    recoveries: BTreeMap<RecoveryId, RecoverySeen>,
}

impl Observer {
    /// Begins to ask through `client`, on a thread of its own, until `stop`.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(client: Client, verdict: Verdict, stop: Arc<AtomicBool>) -> Result<Observer> {
        let observer = Observer { client, state: Arc::default() };
        let asking = observer.clone();
        std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let status = asking.status();
                asking.lock().on_status(clock::now(), status.as_ref().ok(), &verdict);
                std::thread::sleep(ASK_EVERY);
            }
        })?;
        Ok(observer)
    }

    /// Asks now.
    ///
    /// # Errors
    /// No answer in time.
    pub fn status(&self) -> Result<Status, String> {
        match block_on(self.client.ask(MetaRequest::Status, PATIENCE)) {
            Ok(MetaAnswer::Status(status)) => Ok(*status),
            Ok(other) => Err(format!("the metaserver does not tell its status: {other:?}")),
            Err(error) => Err(format!("the metaserver does not tell its status: {error}")),
        }
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.lock().samples.clone()
    }

    pub fn recoveries(&self) -> Vec<RecoverySeen> {
        self.lock().recoveries.values().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn on_status(&mut self, at: Time, status: Option<&Status>, verdict: &Verdict) {
        let mut sets = self.samples.last().map(|it| it.sets.clone()).unwrap_or_default();
        let Some(status) = status else {
            self.samples.push(Sample { at, servers: None, sets });
            return;
        };
        let now_sets = status.sets.iter().map(|it| SetSample {
            members: it.configuration.iter().flat_map(|it| it.members()).map(node).collect(),
            redundant: it.redundant,
            open: it.open,
        });
        let now_sets: Vec<SetSample> = now_sets.collect();
        if *sets != now_sets {
            sets = now_sets.into();
        }
        let servers = status.servers.iter().map(|it| ServerSample {
            number: u8::try_from(it.id.0).unwrap_or(u8::MAX),
            state: it.state,
            primary_of: it.primary_of,
            secondary_of: it.secondary_of,
        });
        self.samples.push(Sample { at, servers: Some(servers.collect()), sets });
        for set in status.sets.iter().filter(|it| it.state == SetState::Lost) {
            verdict.note(format!("key set {} is LOST within the budget of faults", set.set));
        }
        let reopened = |it: &&SetStatus| {
            it.configuration.as_ref().is_some_and(|it| it.loss_epoch != LossEpoch(0))
        };
        for set in status.sets.iter().filter(reopened) {
            verdict.note(format!("key set {} was reopened after a loss", set.set));
        }
        for recovery in &status.recoveries {
            self.on_recovery(at, recovery);
        }
    }

    fn on_recovery(&mut self, at: Time, recovery: &Recovery) {
        let took = recovery.took_ms;
        let so_far = Span::from_millis(took.iter().flatten().copied().max().unwrap_or(0));
        let seen = self.recoveries.entry(recovery.id).or_insert_with(|| RecoverySeen {
            server: u8::try_from(recovery.failed.server.0).unwrap_or(u8::MAX),
            begin: at - so_far,
            steps: [None; 4],
        });
        for (index, end) in seen.steps.iter_mut().enumerate() {
            if end.is_none() && recovery.step as usize > index {
                *end =
                    Some(took[index].map_or(at, |ms| seen.begin + Span::from_millis(ms)).min(at));
            }
        }
    }
}

fn node(member: tandem::protocol::types::Member) -> Node {
    Node::server(member.server)
}

/// The names of the four steps.
pub const STEPS: [(Step, &str); 4] = [
    (Step::Invalidate, "invalidate"),
    (Step::CopyPrimary, "copy-primary"),
    (Step::CopySecondary, "copy-secondary"),
    (Step::Resume, "resume"),
];
