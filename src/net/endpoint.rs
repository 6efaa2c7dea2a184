//! An endpoint: one UDP port, which dials and accepts.
//!
//! Handshakes cost the accepting side a thousand times what they cost the dialling side, so they
//! are admitted: above a number of them under way, new ones are asked to prove their address
//! first, and then turned away, before any cryptography.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Incoming, TokioRuntime, ValidationTokenConfig};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connection::Connection;
use super::handshake::Handshake;
use super::reason::{CloseReason, HandshakeError};
use super::tls::Credentials;
use super::transport;
use super::verify::Witness;
use crate::identity::{Identity, NODE_NAME};
use crate::protocol::message::{Hello, HelloAck};
use crate::wire::{HelloRefusal, Limits};

/// Failed handshakes that are logged in a second; the rest is counted.
const REFUSALS_LOGGED_MAX: u32 = 10;

/// How long closed connections may take to say goodbye.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Bytes kept for a handshake that has not been looked at yet, and for all of them.
const INCOMING_BYTES_MAX: u64 = 16 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;

/// The limits of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    pub limits: Limits,
    /// Bytes in a packet at first; larger ones are found by probing. 1200 fits every path.
    pub mtu: u16,
    /// Bytes that may wait for a peer that does not read.
    pub queue_bytes_max: usize,
    /// Key sets with a stream of their own on a connection.
    pub lanes_max: u32,
    /// Handshakes under way; half of it is for diallers whose address is not proven.
    pub handshakes_max: usize,
    /// Open connections, either direction.
    pub connections_max: usize,
    /// From the first packet to `HelloAck`.
    pub handshake_time_max: Duration,
    /// Kept beside the state: lets others notice a restart at once. Endpoints of one process share
    /// it, each makes a key of its own from it and its address. None = a new one.
    pub reset_seed: Option<[u8; 32]>,
}

impl Default for EndpointOptions {
    fn default() -> EndpointOptions {
        EndpointOptions {
            limits: Limits::default(),
            mtu: 1_452,
            queue_bytes_max: 32 << 20,
            lanes_max: 256,
            handshakes_max: 64,
            connections_max: 4_096,
            handshake_time_max: Duration::from_secs(3),
            reset_seed: None,
        }
    }
}

/// Decides who is let in, and takes the connections.
pub trait Acceptor: 'static {
    /// Judges a `Hello` that fits the dialler's certificate; see `wire::Local::admit`.
    ///
    /// # Errors
    /// The dialler is not let in; it is told why.
    fn judge(&self, party: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal>;

    /// Takes a connection whose handshake is done; whoever wants its frames spawns its `run`.
    fn on_connection(&self, connection: Connection);

    /// A handshake failed. It is logged already; for those who count.
    fn on_failed(&self, _error: &HandshakeError) {}
}

/// An endpoint can not be made.
#[derive(Debug)]
pub struct BindError {
    pub address: SocketAddr,
    pub cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { address, cause } = self;
        write!(f, "can not listen on UDP {address}: {cause}; is another process using it?")
    }
}

impl std::error::Error for BindError {}

/// One UDP port. Of one thread: everything of it runs in one `LocalSet`.
pub struct Endpoint {
    quinn: quinn::Endpoint,
    credentials: RefCell<Arc<Credentials>>,
    options: Rc<EndpointOptions>,
    /// Handshakes under way that the other side began.
    accepting: Rc<Cell<usize>>,
    /// What all accepted connections share; the TLS part is replaced for each.
    accepted: quinn::ServerConfig,
    dialled: Arc<quinn::TransportConfig>,
}

impl Endpoint {
    /// Listens on `address`; port 0 takes a free one. Needs a running runtime.
    ///
    /// # Errors
    /// The address can not be bound.
    pub fn bind(
        address: SocketAddr,
        credentials: Arc<Credentials>,
        options: EndpointOptions,
    ) -> Result<Endpoint, BindError> {
        let failed = |cause| BindError { address, cause };
        let socket = transport::bind(address).map_err(failed)?;
        let accepted = server_config(&credentials, &options).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let config = transport::endpoint(credentials.provider(), options.reset_seed, bound);
        let runtime = Arc::new(TokioRuntime);
        let quinn = quinn::Endpoint::new(config, Some(accepted.clone()), socket, runtime)
            .map_err(failed)?;
        Ok(Endpoint {
            quinn,
            credentials: RefCell::new(credentials),
            accepting: Rc::default(),
            accepted,
            dialled: transport::config(&options, 0),
            options: Rc::new(options),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// Uses other credentials for all handshakes from now on.
    pub fn renew(&self, credentials: Arc<Credentials>) {
        self.credentials.replace(credentials);
    }

    /// Connects to `expected` at `address`.
    ///
    /// # Errors
    /// Nobody answers, somebody else answers, or this side is refused.
    pub async fn dial(
        &self,
        address: SocketAddr,
        expected: &Identity,
        hello: Hello,
    ) -> Result<Connection, HandshakeError> {
        let credentials = self.credentials.borrow().clone();
        let witness = Witness::new(expected.to_string());
        let not_started = |words: String| HandshakeError::NotStarted(words);
        let tls = credentials
            .dialling(witness.clone())
            .map_err(|error| not_started(error.to_string()))?;
        let tls = QuicClientConfig::try_from(tls).map_err(|e| not_started(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(self.dialled.clone());
        let connecting = self
            .quinn
            .connect_with(config, address, NODE_NAME)
            .map_err(|error| not_started(error.to_string()))?;
        let handshake = Handshake { credentials: &credentials, options: &self.options, witness };
        timeout(self.options.handshake_time_max, handshake.dial(connecting, expected, hello))
            .await
            .unwrap_or(Err(HandshakeError::TimedOut))
    }

    /// Accepts connections until the endpoint is shut down. Must run within a `LocalSet`.
    pub async fn serve(&self, acceptor: Rc<impl Acceptor>) {
        let log = Rc::new(RefusalLog::default());
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let incoming = tokio::select! {
                biased;
                _ = seconds.tick() => {
                    log.on_second();
                    continue;
                }
                incoming = self.quinn.accept() => incoming,
            };
            match incoming.map(|incoming| self.screen(incoming)) {
                Some(Some(incoming)) => self.admit(incoming, acceptor.clone(), log.clone()),
                Some(None) => log.on_turned_away(),
                None => return,
            }
        }
    }

    /// Turns away what there is no room for, before any cryptography.
    fn screen(&self, incoming: Incoming) -> Option<Incoming> {
        let under_way = self.accepting.get();
        let full = self.quinn.open_connections() >= self.options.connections_max;
        if full || under_way >= self.options.handshakes_max {
            incoming.refuse();
            return None;
        }
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        if under_way >= self.options.handshakes_max / 2 && !proven {
            // It fails only where no retry is possible, which was just asked.
            let _ = incoming.retry();
            return None;
        }
        Some(incoming)
    }

    /// Starts one handshake.
    fn admit(&self, incoming: Incoming, acceptor: Rc<impl Acceptor>, log: Rc<RefusalLog>) {
        let remote = incoming.remote_address();
        let credentials = self.credentials.borrow().clone();
        let cluster = &credentials.identity().cluster;
        let witness = Witness::new(format!("a party of cluster {cluster}, tandem://{cluster}/..."));
        let started = credentials
            .accepting(witness.clone())
            .map_err(|error| error.to_string())
            .and_then(|tls| QuicServerConfig::try_from(tls).map_err(|error| error.to_string()))
            .and_then(|tls| {
                let mut config = self.accepted.clone();
                config.crypto = Arc::new(tls);
                incoming.accept_with(Arc::new(config)).map_err(|error| error.to_string())
            });
        let connecting = match started {
            Ok(connecting) => connecting,
            Err(words) => return log.on_failed(remote, &HandshakeError::NotStarted(words)),
        };
        let (options, place) = (self.options.clone(), Place::take(&self.accepting));
        tokio::task::spawn_local(async move {
            let handshake = Handshake { credentials: &credentials, options: &options, witness };
            let judge = |party: &Identity, hello: &Hello| acceptor.judge(party, hello);
            let accepted =
                timeout(options.handshake_time_max, handshake.accept(connecting, judge)).await;
            drop(place);
            match accepted.unwrap_or(Err(HandshakeError::TimedOut)) {
                Ok(connection) => acceptor.on_connection(connection),
                Err(error) => {
                    log.on_failed(remote, &error);
                    acceptor.on_failed(&error);
                }
            }
        });
    }

    /// Closes all connections and waits, for a bounded time, until the other sides know.
    pub async fn shutdown(&self) {
        let reason = CloseReason::Shutdown;
        self.quinn.close(reason.code(), reason.to_string().as_bytes());
        // Whoever has not answered by then learns it from the silence.
        let _ = timeout(SHUTDOWN_MAX, self.quinn.wait_idle()).await;
    }
}

fn server_config(
    credentials: &Credentials,
    options: &EndpointOptions,
) -> io::Result<quinn::ServerConfig> {
    let witness = Witness::new(String::new());
    let tls = credentials.accepting(witness).map_err(io::Error::other)?;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let mut tokens = ValidationTokenConfig::default();
    // Diallers keep no tokens between connections.
    tokens.sent(0);
    config
        .validation_token_config(tokens)
        .transport_config(transport::config(options, 1))
        .max_incoming(options.handshakes_max)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    Ok(config)
}

/// One of the handshakes under way; given back when dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(count: &Rc<Cell<usize>>) -> Place {
        count.set(count.get() + 1);
        Place(count.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Logs failed handshakes, but no more of them a second than a person can read.
#[derive(Default)]
struct RefusalLog {
    logged: Cell<u32>,
    unlogged: Cell<u64>,
    turned_away: Cell<u64>,
}

impl RefusalLog {
    fn on_failed(&self, remote: SocketAddr, error: &HandshakeError) {
        if self.logged.get() < REFUSALS_LOGGED_MAX {
            self.logged.set(self.logged.get() + 1);
            tracing::warn!(%remote, "handshake failed: {error}");
        } else {
            self.unlogged.set(self.unlogged.get() + 1);
        }
    }

    fn on_turned_away(&self) {
        self.turned_away.set(self.turned_away.get() + 1);
    }

    fn on_second(&self) {
        self.logged.set(0);
        let (failed, turned_away) = (self.unlogged.take(), self.turned_away.take());
        if failed + turned_away > 0 {
            tracing::warn!(failed, turned_away, "more handshakes than are logged or let in");
        }
    }
}
