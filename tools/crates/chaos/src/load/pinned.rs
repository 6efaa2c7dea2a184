//! A reader pinned to one server: it asks that one for keys of all key sets, whoever is primary.
//!
//! The library would go where the newest view points; this one speaks the wire itself. What the
//! server answers as primary is in the history like everything else, what it refuses as well.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem::config::{ClusterConfig, ServerConfig};
use tandem::identity::Identity;
use tandem::net::{
    CloseReason, Connection, Credentials, Endpoint, EndpointOptions, FrameHandler, Lane,
};
use tandem::protocol::message::{AckLevel, Answer, ReadLevel, Request};
use tandem::protocol::types::KeySet;
use tandem::sim::rng::Rng;
use tandem::wire::{self, Frame};
use tandem_history::{Outcome, What};
use tandem_local::CLIENT;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use super::keys::SLOTS;
use super::{Sample, Shared};
use crate::nodes::Node;

/// How long an answer may take; a paused server answers late, and just that is looked for.
const PATIENCE: Duration = Duration::from_secs(6);

/// Between two reads, and between two attempts to connect.
const THINK: Duration = Duration::from_millis(15);

/// The server that a reader asks, and as whom.
pub struct Target {
    address: SocketAddr,
    server: Identity,
    credentials: Arc<Credentials>,
}

impl Target {
    /// # Errors
    /// The certificates can not be read.
    pub fn new(config: &ClusterConfig, server: &ServerConfig) -> Result<Target> {
        let identity = config.client_or_admin(CLIENT).context("every plan lists this client")?;
        let files = config.credential_files(&identity);
        let credentials = Credentials::load(&config.ca_file(), &files.certificate, &files.key)?;
        let address = *server.advertise.first().context("a server has a worker")?;
        let server = config.server_identity(server.id);
        Ok(Target { address, server, credentials: Arc::new(credentials) })
    }
}

/// Reads until the load ends. What it is told is in the history only: refusals are its daily
/// bread, and would spoil rates and waits.
///
/// # Errors
/// There is no socket, or the history can not be written.
pub fn run(_node: Node, target: &Target, key_sets: u16, shared: &Shared) -> Result<Vec<Sample>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = Endpoint::bind(any, target.credentials.clone(), EndpointOptions::default())?;
        let mut rng = Rng::new(shared.seed ^ u64::from(target.address.port()));
        while shared.goes_on() {
            match endpoint.dial(target.address, &target.server, wire::client_hello(None)).await {
                Ok(connection) => read_on(&connection, key_sets, shared, &mut rng).await?,
                // It is down, or out of reach: that is what this run is about.
                Err(_) => tokio::time::sleep(THINK).await,
            }
        }
        endpoint.shutdown().await;
        Ok(Vec::new())
    })
}

/// Reads on one connection until it ends, or an answer does not come.
async fn read_on(
    connection: &Connection,
    key_sets: u16,
    shared: &Shared,
    rng: &mut Rng,
) -> Result<()> {
    let waiting: Waiting = Rc::default();
    let reader = Reader { waiting: waiting.clone() };
    let running = connection.clone();
    let task = spawn_local(async move { running.run(reader).await });
    let mut process = shared.new_process();
    for number in 1.. {
        if !shared.goes_on() || task.is_finished() {
            break;
        }
        tokio::time::sleep(THINK).await;
        let set = KeySet(rng.below(u64::from(key_sets)) as u16);
        let slot = rng.below(SLOTS as u64) as usize;
        let Some(key) = shared.keys.peek(set, slot) else { continue };
        let request = Request {
            operation: What::Get.request(&key),
            origin: None,
            read_level: ReadLevel::Linearizable,
            ack_level: AckLevel::Every,
            expiry_ms: None,
        };
        let begun = shared.recorder.begin(process, &key, &What::Get)?;
        let (reply, answered) = oneshot::channel();
        waiting.replace(Some((number, reply)));
        // A failed sending shows in the end of the connection.
        let _ = connection.send(Lane::Control, |buffer, limits| {
            wire::encode_request(buffer, limits, number, &request)
        });
        let outcome = match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Outcome::of(&What::Get, &answer),
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        shared.recorder.end(begun, &outcome)?;
        if outcome == Outcome::Unknown {
            process = shared.new_process();
        }
    }
    connection.close(CloseReason::Done);
    // However it ended, this reader goes on with a new connection.
    let _ = task.await;
    Ok(())
}

/// The request under way, and who waits for its answer.
type Waiting = Rc<RefCell<Option<(u64, oneshot::Sender<Answer>)>>>;

/// Hands an answer to whoever waits; dropped at the end of the connection.
struct Reader {
    waiting: Waiting,
}

impl FrameHandler for Reader {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let answer = wire::decode_answer(frame).map_err(CloseReason::Wire)?;
        // An answer after its patience belongs to a read that is unknown by now.
        if let Some((_, reply)) =
            self.waiting.borrow_mut().take_if(|(number, _)| *number == frame.request)
        {
            let _ = reply.send(answer);
        }
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Err(CloseReason::Misbehaved("a client is sent no datagrams"))
    }

    fn on_batch_end(&mut self) {}
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.waiting.replace(None);
    }
}
