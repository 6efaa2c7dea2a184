//! Links that a worker dials and keeps: to the metaserver, to its followers, and for bulk copies.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use super::accept::{BulkReader, PeerReader};
use super::worker::Driver;
use crate::identity::{Identity, PartyRole};
use crate::net::{self, CloseReason, Connection, Endpoint, FrameHandler};
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::{Hello, PeerMessage, Purpose};
use crate::protocol::types::{ClusterId, Incarnation, KeySet, LinkId, Member, WorkerId};
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

/// Bytes that may wait in a bulk connection, and as many on their way; more chunks wait before it.
/// What a learner has not read yet is what its promises wait behind, and so do its primaries'
/// clients once it is proposed.
const BULK_BYTES_MAX: usize = 512 << 10;

/// How long the feeder of a bulk connection rests while the connection is full.
const BULK_REST: Duration = Duration::from_millis(1);

/// Chunks that are to go over a bulk connection, bounded by what each run may have in flight.
#[derive(Default)]
pub struct Bulk {
    waiting: VecDeque<(KeySet, PeerMessage)>,
    came: Rc<Notify>,
}

impl Bulk {
    pub fn send(&mut self, set: KeySet, message: PeerMessage) {
        self.waiting.push_back((set, message));
        self.came.notify_one();
    }
}

/// Passes chunks on as fast as the connection takes them, for ever.
async fn feed_bulk(driver: Driver, link: LinkId, connection: Connection) {
    loop {
        let next = driver.with(|_, shell| {
            let bulk = shell.bulk.get_mut(&link)?;
            Some((bulk.waiting.pop_front(), bulk.came.clone()))
        });
        match next {
            Some((Some((set, message)), _)) => {
                while connection.queued_bytes() > BULK_BYTES_MAX {
                    tokio::time::sleep(BULK_REST).await;
                }
                send_chunk(&connection, set, &message);
            }
            Some((None, came)) => came.notified().await,
            None => return,
        }
    }
}

fn send_chunk(connection: &Connection, set: KeySet, message: &PeerMessage) {
    let sent = connection
        .send(net::Lane::Set(set), |buffer, limits| wire::encode_peer(buffer, limits, message));
    if let Err(error) = sent {
        tracing::debug!(%set, "a copy chunk was not sent: {error}");
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

async fn dial_peer(driver: &Driver, peer: Member, purpose: Purpose) -> Option<Connection> {
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

/// Keeps a bulk connection beside the link `beside`; when it breaks, the runs on it are over.
pub async fn keep_bulk_link(driver: Driver, beside: Connection, link: LinkId) {
    let Some(peer) = beside.hello().to else { return };
    let connection = dial_peer(&driver, peer, Purpose::Bulk).await;
    if let Some(connection) = connection {
        connection.limit_in_flight(BULK_BYTES_MAX);
        let feeder = feed_bulk(driver.clone(), link, connection.clone());
        tokio::select! {
            biased;
            reason = connection.clone().run(BulkReader::sender()) => {
                tracing::debug!(%peer, "bulk link ended: {reason}");
            }
            // The link beside it is gone.
            () = feeder => connection.close(CloseReason::Done),
        }
    }
    driver.with(|_, shell| shell.bulk.remove(&link));
    driver.submit(WorkerInput::BulkDown { link });
}

/// Reads what the metaserver says.
struct ControlReader {
    driver: Driver,
}

impl FrameHandler for ControlReader {
    fn on_frame(&mut self, _: net::Lane, frame: Frame) -> Result<(), CloseReason> {
        let message = wire::decode_to_server(&frame).map_err(CloseReason::Wire)?;
        self.driver.input(WorkerInput::FromMeta(message));
        Ok(())
    }

    fn on_datagram(&mut self, frame: Frame) -> Result<(), CloseReason> {
        self.on_frame(net::Lane::Control, frame)
    }

    fn on_batch_end(&mut self) {
        self.driver.settle();
    }
}
