//! What the tests stand on: authorities, credentials, endpoints and handlers that tell all.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::identity::{Identity, NODE_NAME};
use crate::net::*;
use crate::protocol::message::{Hello, HelloAck, PeerMessage, Purpose};
use crate::protocol::types::{ClusterId, Incarnation, KeySet, Member, RunId, ServerId, WorkerId};
use crate::wire::{self, Frame, FrameBuf, HelloRefusal, Local};

/// A wrong test would wait for ever otherwise.
const TEST_MAX: Duration = Duration::from_secs(60);

/// Runs a test as all of `net` runs: on one thread.
pub(super) fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(TEST_MAX, test).await.expect("done in time") };
    tokio::task::LocalSet::new().block_on(&runtime, bounded);
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-net-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left over files harm nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A leaf in PEM: its certificate and its key.
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A leaf for `uri`, valid from 2020 to the end of year `until`.
    pub(super) fn leaf(&self, uri: &str, until: i32) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a test's leaf");
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into().expect("plain text")),
            SanType::DnsName(NODE_NAME.try_into().expect("plain text")),
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    /// Credentials that trust this authority and show `leaf`.
    pub(super) fn try_show(&self, leaf: &Leaf) -> Result<Arc<Credentials>, CredentialsError> {
        let scratch = Scratch::new();
        let write = |name: &str, text: &str| {
            let file = scratch.0.join(name);
            std::fs::write(&file, text).expect("a temporary file");
            file
        };
        let (ca, certificate) = (write("ca.pem", &self.pem), write("leaf.pem", &leaf.certificate));
        Credentials::load(&ca, &certificate, &write("leaf.key", &leaf.key)).map(Arc::new)
    }

    pub(super) fn show(&self, leaf: &Leaf) -> Arc<Credentials> {
        self.try_show(leaf).expect("good credentials")
    }

    /// Good credentials for `uri`.
    pub(super) fn credentials(&self, uri: &str) -> Arc<Credentials> {
        self.show(&self.leaf(uri, 2_100))
    }
}

pub(super) fn identity(uri: &str) -> Identity {
    uri.parse().expect("a good identity")
}

pub(super) fn member(server: u16) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(10 + u64::from(server)) }
}

pub(super) const SERVER_1: &str = "tandem://demo/server/1";
pub(super) const SERVER_2: &str = "tandem://demo/server/2";
pub(super) const CLIENT: &str = "tandem://demo/client/app";
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Server 2's `Hello` to server 1.
pub(super) fn hello() -> Hello {
    Hello {
        version_min: wire::VERSION_MIN,
        version_max: wire::VERSION_MAX,
        features: 0,
        cluster: CLUSTER,
        purpose: Purpose::Replication,
        from: Some(member(2)),
        from_worker: WorkerId(0),
        to: Some(member(1)),
    }
}

/// A client's `Hello` to server 1.
pub(super) fn client_hello() -> Hello {
    Hello { purpose: Purpose::Client, from: None, ..hello() }
}

/// Server 1, listening; its connections and failed handshakes come out of channels.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) connections: UnboundedReceiver<Connection>,
    pub(super) failures: UnboundedReceiver<HandshakeError>,
}

struct Server1 {
    connections: UnboundedSender<Connection>,
    failures: UnboundedSender<HandshakeError>,
}

impl Acceptor for Server1 {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        Local { cluster: CLUSTER, member: Some(member(1)) }.admit(hello)
    }

    fn on_connection(&self, connection: Connection) {
        // A test that does not look at connections drops the other end.
        let _ = self.connections.send(connection);
    }

    fn on_failed(&self, error: &HandshakeError) {
        let _ = self.failures.send(error.clone());
    }
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) fn listen(credentials: Arc<Credentials>, options: EndpointOptions) -> Listening {
    listen_at(loopback(), credentials, options)
}

pub(super) fn listen_at(
    address: SocketAddr,
    credentials: Arc<Credentials>,
    options: EndpointOptions,
) -> Listening {
    let endpoint = Rc::new(Endpoint::bind(address, credentials, options).expect("a free port"));
    let address = endpoint.address().expect("a bound socket");
    let ((accepted, connections), (failed, failures)) = (unbounded_channel(), unbounded_channel());
    let serving = endpoint.clone();
    tokio::task::spawn_local(async move {
        serving.serve(Rc::new(Server1 { connections: accepted, failures: failed })).await;
    });
    Listening { address, endpoint, connections, failures }
}

pub(super) fn dialler(credentials: Arc<Credentials>, options: EndpointOptions) -> Endpoint {
    Endpoint::bind(loopback(), credentials, options).expect("a free port")
}

/// What a handler was told.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Frame(Lane, FrameBuf),
    Datagram(FrameBuf),
    BatchEnd,
    Ended(CloseReason),
}

struct Tap(UnboundedSender<Event>);

impl FrameHandler for Tap {
    fn on_frame(&mut self, lane: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let _ = self.0.send(Event::Frame(lane, frame.into()));
        Ok(())
    }

    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason> {
        let _ = self.0.send(Event::Datagram(frame.into()));
        Ok(())
    }

    fn on_batch_end(&mut self) {
        let _ = self.0.send(Event::BatchEnd);
    }
}

/// Runs a connection; everything that it hands over comes out of the channel.
pub(super) fn tap(connection: Connection) -> UnboundedReceiver<Event> {
    let (events, receiver) = unbounded_channel();
    tokio::task::spawn_local(async move {
        let reason = connection.run(Tap(events.clone())).await;
        let _ = events.send(Event::Ended(reason));
    });
    receiver
}

/// The next frame, whatever batches it came in.
pub(super) async fn next_frame(events: &mut UnboundedReceiver<Event>) -> (Lane, FrameBuf) {
    loop {
        match events.recv().await {
            Some(Event::Frame(lane, frame)) => return (lane, frame),
            Some(Event::BatchEnd) => {}
            other => panic!("no frame but {other:?}"),
        }
    }
}

/// Why the connection ended; frames before that are skipped.
pub(super) async fn end(events: &mut UnboundedReceiver<Event>) -> CloseReason {
    loop {
        match events.recv().await {
            Some(Event::Ended(reason)) => return reason,
            Some(Event::Frame(..) | Event::Datagram(_) | Event::BatchEnd) => {}
            None => panic!("a connection ended without a reason"),
        }
    }
}

/// A small message that can be told from others.
pub(super) fn numbered(set: KeySet, number: u64) -> PeerMessage {
    PeerMessage::RunLost { set, run: RunId(number) }
}

/// Sends `numbered`.
pub(super) fn send_numbered(
    connection: &Connection,
    set: KeySet,
    number: u64,
) -> Result<(), SendError> {
    connection
        .send(Lane::Set(set), |out, limits| wire::encode_peer(out, limits, &numbered(set, number)))
}
