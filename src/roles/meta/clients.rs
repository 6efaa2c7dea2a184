//! The clients' thread: views at once, all else handed to the control thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::SharedView;
use crate::identity::{Identity, PartyRole};
use crate::net::{
    Acceptor, CloseReason, Connection, Credentials, Endpoint, EndpointOptions, FrameHandler, Lane,
};
use crate::protocol::message::{
    Hello, HelloAck, MetaAnswer, MetaRefusal, MetaRequest, OwnSpace, Purpose,
};
use crate::protocol::space::{Level, Resource, Space, Thresholds};
use crate::protocol::view::View;
use crate::store::durable::files::{self, Usage};
use crate::wire::{self, Frame, HelloRefusal, Local};

/// Requests on their way to the control thread; above it they are refused.
pub const REQUESTS_WAITING_MAX: usize = 64;

/// Handshakes of clients under way.
const HANDSHAKES_MAX: usize = 16;

/// Takes the answer to a request.
pub type Reply = oneshot::Sender<MetaAnswer>;

/// A request that the machine answers.
pub struct Asked {
    pub request: MetaRequest,
    pub admin: bool,
    pub reply: Reply,
}

/// What the clients' thread is made of.
pub struct Clients {
    pub address: SocketAddr,
    pub credentials: Arc<Credentials>,
    pub reset_seed: [u8; 32],
    pub view: SharedView,
    pub requests: mpsc::Sender<Asked>,
    pub own_space: Gauge,
}

/// Tells how full the disk of the metaserver's state is.
#[derive(Clone)]
pub struct Gauge {
    pub directory: PathBuf,
    pub thresholds: Thresholds,
    /// Decisions wait for room.
    pub waits: Arc<AtomicBool>,
}

impl Gauge {
    fn measure(&self) -> OwnSpace {
        let usage = files::usage(&self.directory).unwrap_or_else(|error| {
            tracing::warn!("can not measure {}: {error}", self.directory.display());
            Usage { used: 0, capacity: u64::MAX }
        });
        let waits = self.waits.load(Ordering::Relaxed);
        let level = self.thresholds.level(usage.used, usage.capacity, Level::Ok);
        let Usage { used, capacity } = usage;
        let level = if waits { Level::Hard } else { level };
        let directory = self.directory.display().to_string();
        OwnSpace { space: Space { level, of: Resource::Disk, used, capacity }, directory, waits }
    }
}

impl Clients {
    /// Starts the thread; returns once it listens.
    pub fn start(self) -> Result<()> {
        let (listening, started) = std_mpsc::channel();
        std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(listening.send(Err(error.into()))),
            };
            LocalSet::new().block_on(&runtime, self.serve(listening));
        })?;
        started.recv()?
    }

    /// Serves within the current `LocalSet`; says by `listening` whether it can.
    pub async fn serve(self, listening: std_mpsc::Sender<Result<()>>) {
        let options = EndpointOptions {
            handshakes_max: HANDSHAKES_MAX,
            reset_seed: Some(self.reset_seed),
            ..EndpointOptions::default()
        };
        let endpoint = Endpoint::bind(self.address, self.credentials.clone(), options);
        match endpoint {
            Ok(endpoint) => {
                // The starting thread waits for exactly this.
                let _ = listening.send(Ok(()));
                endpoint.serve(Rc::new(self)).await;
            }
            Err(error) => drop(listening.send(Err(error.into()))),
        }
    }
}

impl Acceptor for Clients {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        if hello.purpose != Purpose::Client {
            return Err(HelloRefusal::WrongPurpose { purpose: hello.purpose });
        }
        Local { cluster: self.view.load().cluster, member: None }.admit(hello)
    }

    fn on_connection(&self, connection: Connection) {
        let reader = ClientReader {
            admin: connection.party().role == PartyRole::Admin,
            connection: connection.clone(),
            view: self.view.clone(),
            requests: self.requests.clone(),
            own_space: self.own_space.clone(),
        };
        spawn_local(connection.run(reader));
    }
}

struct ClientReader {
    connection: Connection,
    admin: bool,
    view: SharedView,
    requests: mpsc::Sender<Asked>,
    own_space: Gauge,
}

fn answer(connection: &Connection, id: u64, answer: &MetaAnswer) {
    let sent = connection
        .send(Lane::Control, |buffer, limits| wire::encode_meta_answer(buffer, limits, id, answer));
    if let Err(error) = sent {
        tracing::debug!("an answer was not sent: {error}");
    }
}

impl FrameHandler for ClientReader {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let id = frame.request;
        let request = wire::decode_meta_request(frame).map_err(CloseReason::Wire)?;
        if request == MetaRequest::View {
            let view = View::clone(&self.view.load());
            answer(&self.connection, id, &MetaAnswer::View(view));
            return Ok(());
        }
        if request == MetaRequest::OwnSpace {
            let measured = self.own_space.measure();
            answer(&self.connection, id, &MetaAnswer::OwnSpace(measured));
            return Ok(());
        }
        let (reply, answered) = oneshot::channel();
        let asked = Asked { request, admin: self.admin, reply };
        if self.requests.try_send(asked).is_err() {
            answer(&self.connection, id, &MetaAnswer::Refused(MetaRefusal::Busy));
            return Ok(());
        }
        let connection = self.connection.clone();
        spawn_local(async move {
            // No answer means that the metaserver stops; the client sees its link end.
            if let Ok(said) = answered.await {
                answer(&connection, id, &said);
            }
        });
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Err(CloseReason::Misbehaved("a datagram from a client"))
    }

    fn on_batch_end(&mut self) {}
}
