//! Links that a worker dials and keeps: to the metaserver and to its followers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::accept::PeerReader;
use super::plan::Plan;
use super::worker::Driver;
use crate::identity::{Identity, PartyRole};
use crate::net::{self, CloseReason, Connection, Endpoint, FrameHandler};
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::{Hello, Purpose};
use crate::protocol::types::{ClusterId, Incarnation, Member, WorkerId};
use crate::wire::{self, Frame, VERSION_MAX, VERSION_MIN};

/// Pause before the second attempt, and the longest one; it doubles in between.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_millis(200);

/// A link that is kept until `end`.
#[derive(Default)]
pub struct Wanted {
    ended: Cell<bool>,
    changed: Notify,
}

impl Wanted {
    pub fn end(&self) {
        self.ended.set(true);
        self.changed.notify_one();
    }

    /// Waits for a time, or until the link is not wanted any more.
    async fn pause(&self, time: Duration) {
        // Either way the caller looks at `ended` next.
        let _ = timeout(time, self.changed.notified()).await;
    }
}

/// Grows from the first pause to the longest.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Backoff {
        Backoff(PAUSE_FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_LONGEST);
        pause
    }
}

fn hello(
    cluster: ClusterId,
    purpose: Purpose,
    from: Member,
    from_worker: WorkerId,
    to: Option<Member>,
) -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        cluster,
        purpose,
        from: Some(from),
        from_worker,
        to,
    }
}

/// Keeps the control link to the metaserver for ever.
pub async fn keep_control_link(
    driver: Driver,
    plan: Arc<Plan>,
    endpoint: Rc<Endpoint>,
    worker: WorkerId,
) {
    let mut backoff = Backoff::new();
    let mut reported = false;
    loop {
        let (member, cluster) = driver.with(|_, shell| (shell.member, shell.view.cluster));
        let unregistered = Member { server: plan.server.id, incarnation: Incarnation(0) };
        let from = member.unwrap_or(unregistered);
        let cluster = match plan.registration.cluster {
            Some(known) if cluster == ClusterId::default() => known,
            Some(_) | None => cluster,
        };
        let hello = hello(cluster, Purpose::Control, from, worker, None);
        match endpoint.dial(plan.meta, &plan.meta_identity, hello).await {
            Ok(connection) => {
                reported = false;
                backoff = Backoff::new();
                driver.with(|_, shell| shell.meta = Some(connection.clone()));
                driver.submit(WorkerInput::MetaUp);
                let reason = connection.run(ControlReader { driver: driver.clone() }).await;
                driver.with(|_, shell| shell.meta = None);
                driver.submit(WorkerInput::MetaDown);
                tracing::warn!("link to the metaserver ended: {reason}");
            }
            Err(error) => {
                if !reported {
                    reported = true;
                    tracing::warn!(
                        "no link to the metaserver at {}: {error}; trying on",
                        plan.meta
                    );
                }
            }
        }
        pause(backoff.next()).await;
    }
}

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Keeps a replication link to a follower while it is wanted.
pub async fn keep_peer_link(driver: Driver, peer: Member, wanted: Rc<Wanted>) {
    let mut backoff = Backoff::new();
    while !wanted.ended.get() {
        match dial_peer(&driver, peer, Purpose::Replication).await {
            // A later task may keep a link to the same peer by now, and this one must not take
            // its place.
            Some(connection) if wanted.ended.get() => connection.close(CloseReason::Done),
            Some(connection) => {
                backoff = Backoff::new();
                let link = driver.with(|_, shell| {
                    let link = shell.next_link();
                    shell.peers.insert(link, connection.clone());
                    link
                });
                driver.submit(WorkerInput::PeerUp { peer, link });
                let reader = PeerReader::new(driver.clone(), link);
                let reason = tokio::select! {
                    biased;
                    reason = connection.clone().run(reader) => reason,
                    () = wanted.changed.notified() => {
                        connection.close(CloseReason::Done);
                        CloseReason::Done
                    }
                };
                tracing::debug!(%peer, "replication link ended: {reason}");
                driver.with(|_, shell| {
                    shell.peers.remove(&link);
                    shell.bulk.remove(&link);
                });
                driver.submit(WorkerInput::PeerDown { link });
            }
            None => wanted.pause(backoff.next()).await,
        }
    }
}

pub async fn dial_peer(driver: &Driver, peer: Member, purpose: Purpose) -> Option<Connection> {
    let (endpoint, from, worker, view, name) = driver.with(|_, shell| {
        let name = shell.plan().cluster_name.clone();
        (shell.endpoint.clone(), shell.member, shell.worker(), shell.view.clone(), name)
    });
    let entry = view.server(peer.server)?;
    let address = *entry.workers.get(usize::from(worker.0))?;
    let identity = Identity::new(&name, PartyRole::Server, &peer.server.0.to_string()).ok()?;
    let hello = hello(view.cluster, purpose, from?, worker, Some(peer));
    match endpoint.dial(address, &identity, hello).await {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::debug!(%peer, "no link: {error}");
            None
        }
    }
}

/// Reads what the metaserver says.
struct ControlReader {
    driver: Driver,
}

impl FrameHandler for ControlReader {
    fn on_frame(&mut self, _: net::Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let message = wire::decode_to_server(frame).map_err(CloseReason::Wire)?;
        self.driver.input(WorkerInput::FromMeta(message));
        Ok(())
    }

    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason> {
        self.on_frame(net::Lane::Control, frame)
    }

    fn on_batch_end(&mut self) {
        self.driver.settle();
    }
}
