//! Copy chunks on their way to a learner: a connection of their own, and how much is on it.

use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use super::accept::BulkReader;
use super::dial::dial_peer;
use super::worker::Driver;
use crate::net::{self, CloseReason, Connection};
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::{PeerMessage, Purpose};
use crate::protocol::types::{KeySet, LinkId};
use crate::wire;

/// Bytes that may wait in a bulk connection, and as many on their way; more chunks wait before it.
/// What a learner has not read yet is what its promises wait behind, and so do its primaries'
/// clients once it is proposed.
const BYTES_MAX: usize = 512 << 10;

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
                connection.drained_to(BYTES_MAX).await;
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

/// Keeps a bulk connection beside the link `beside`; when it breaks, the runs on it are over.
pub async fn keep_bulk_link(driver: Driver, beside: Connection, link: LinkId) {
    let Some(peer) = beside.hello().to else { return };
    let connection = dial_peer(&driver, peer, Purpose::Bulk).await;
    if let Some(connection) = connection {
        connection.limit_in_flight(BYTES_MAX);
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
