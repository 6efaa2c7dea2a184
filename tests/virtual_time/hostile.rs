//! Peers that break off in mid-frame, by resets, ends and closes that no honest peer sends.
//!
//! Goal: half a frame and then a reset stream, an ended stream or a closed connection end that
//! link and nothing else: the other side dials again, and nothing is lost.
//! Method: a peer of the test's own with good certificates and real QUIC, once as a client of a
//! server and once in a server's place, beside honest clients under a ledger.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, EndpointConfig, VarInt};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use tandem::identity::{Identity, NODE_NAME};
use tandem::net::ALPN;
use tandem::net::memory::{LocalRuntime, Network};
use tandem::protocol::message::{Answer, HelloAck, Refusal};
use tandem::protocol::types::ServerId;
use tandem::sim::{ClientId, Node};
use tandem::wire::{self, Limits};
use tandem_local::CLIENT;
use tokio::task::spawn_local;

use super::load::{Load, Manner};
use super::network::host;
use super::process::Process;
use super::world::{Settings, World, run};
use super::{busiest, until_whole, wait};

/// How a peer breaks off.
#[derive(Clone, Copy, Debug)]
enum Break {
    Reset,
    End,
    Close,
}

const BREAKS: [Break; 3] = [Break::Reset, Break::End, Break::Close];

/// A party's certificates, as the TLS library reads them.
struct Papers {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Papers {
    fn of(world: &World, identity: &Identity) -> Papers {
        let read = |path: &Path| {
            let certificates = CertificateDer::pem_file_iter(path).expect("a readable file");
            certificates.map(|it| it.expect("a certificate")).collect::<Vec<_>>()
        };
        let mut roots = RootCertStore::empty();
        for root in read(&world.config.ca_file()) {
            roots.add(root).expect("an authority");
        }
        let files = world.config.credential_files(identity);
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        Papers { roots: Arc::new(roots), chain: read(&files.certificate), key }
    }

    fn dialling(self) -> quinn::ClientConfig {
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(self.roots)
            .with_client_auth_cert(self.chain, self.key)
            .expect("the key fits");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = QuicClientConfig::try_from(tls).expect("the suites fit QUIC");
        quinn::ClientConfig::new(Arc::new(quic))
    }

    fn accepting(self) -> quinn::ServerConfig {
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots, provider.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("an authority"))
            .with_single_cert(self.chain, self.key)
            .expect("the key fits");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = QuicServerConfig::try_from(tls).expect("the suites fit QUIC");
        quinn::ServerConfig::with_crypto(Arc::new(quic))
    }
}

/// An endpoint of the test's own at `address`, which accepts if it has a configuration for that.
fn endpoint(world: &World, address: SocketAddr, config: Option<quinn::ServerConfig>) -> Endpoint {
    let port = world.net.clone().bind(address).expect("a free address");
    let runtime = Arc::new(LocalRuntime);
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), config, port, runtime)
        .expect("a bound port")
}

/// All of a frame but its end.
fn half_a_frame(encode: impl FnOnce(&mut BytesMut, &Limits)) -> BytesMut {
    let mut frame = BytesMut::new();
    encode(&mut frame, &Limits::default());
    frame.truncate(frame.len() - 1);
    frame
}

/// Breaks off, and waits until the other side has closed the connection.
async fn break_off(
    how: Break,
    connection: &quinn::Connection,
    send: &mut quinn::SendStream,
) -> ConnectionError {
    match how {
        Break::Reset => send.reset(VarInt::from_u32(1)).expect("an open stream"),
        Break::End => send.finish().expect("an open stream"),
        Break::Close => connection.close(VarInt::from_u32(77), b"enough"),
    }
    connection.closed().await
}

/// Connects to a server as a client does, and breaks off within a request.
async fn hostile_client(world: &World, to: SocketAddr, how: Break) {
    let identity = world.config.client_or_admin(CLIENT).expect("a listed client");
    world.net.enter(Node::Client(ClientId(9)));
    let endpoint = endpoint(world, SocketAddr::from(([0, 0, 0, 0], 0)), None);
    let config = Papers::of(world, &identity).dialling();
    let connecting = endpoint.connect_with(config, to, NODE_NAME).expect("a good address");
    let connection = connecting.await.expect("the server listens");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    let hello = wire::client_hello(None);
    let mut frame = BytesMut::new();
    wire::encode_hello(&mut frame, &Limits::default(), &hello).expect("a small message");
    send.write_all(&frame).await.expect("the server listens");
    let answered = recv.read_chunk(usize::MAX, true).await.expect("the server answers");
    assert!(answered.is_some(), "the server refused the hello");
    let half = half_a_frame(|out, limits| {
        let request = tandem::protocol::message::MetaRequest::View;
        wire::encode_meta_request(out, limits, 1, &request).expect("a small message");
    });
    send.write_all(&half).await.expect("the server listens");
    // The server has to have the half frame before the rest of it is denied.
    wait::pause(tandem::protocol::time::Span::from_millis(20)).await;
    let closed = break_off(how, &connection, &mut send).await;
    match (how, closed) {
        (Break::Close, ConnectionError::LocallyClosed) => {}
        (Break::Reset | Break::End, ConnectionError::ApplicationClosed(_)) => {}
        (how, closed) => panic!("after {how:?} the server closed with {closed}"),
    }
}

/// Answers every hello at a server's address, and breaks off within the first answer; counts.
async fn hostile_server(world: Rc<World>, id: ServerId, broken: Rc<Cell<usize>>) {
    let identity = world.config.server_identity(id);
    let address = SocketAddr::new(host(Node::Server(id)), 4_700);
    let endpoint = endpoint(&world, address, Some(Papers::of(&world, &identity).accepting()));
    while let Some(incoming) = endpoint.accept().await {
        let broken = broken.clone();
        spawn_local(async move {
            let Ok(connection) = incoming.await else { return };
            let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
            let mut received = BytesMut::new();
            let decoder = wire::Decoder::new(Limits::default());
            let hello = loop {
                if let Ok(Some(frame)) = decoder.next(&mut received) {
                    break wire::decode_hello(&frame).expect("an honest dialler");
                }
                let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await else { return };
                received.extend_from_slice(&chunk.bytes);
            };
            let ack = HelloAck {
                version: wire::VERSION_MAX,
                features: 0,
                cluster: hello.cluster,
                from: hello.to,
                bases: Vec::new(),
            };
            let mut frame = BytesMut::new();
            wire::encode_hello_ack(&mut frame, &Limits::default(), &ack).expect("small");
            let half = half_a_frame(|out, limits| {
                let refused = Answer::Refused(Refusal::Busy);
                wire::encode_answer(out, limits, 1, &refused).expect("a small message");
            });
            frame.extend_from_slice(&half);
            if send.write_all(&frame).await.is_err() {
                return;
            }
            // The other side asks first, or at least believes that it can.
            drop(recv.read_chunk(usize::MAX, true).await);
            let how = BREAKS[broken.get() % BREAKS.len()];
            broken.set(broken.get() + 1);
            break_off(how, &connection, &mut send).await;
        });
    }
}

#[test]
fn a_client_that_breaks_off_in_mid_frame_loses_its_link_and_nobody_else_does() {
    run(Settings::new(8), async |world| {
        let client = world.client(0);
        until_whole(&client).await;
        let mut load = Load::new(Manner::default());
        load.join(&world, &client, "a", 2);
        load.until_progress(20).await;
        let to = SocketAddr::new(host(Node::Server(ServerId(1))), 4_700);
        for how in BREAKS {
            hostile_client(&world, to, how).await;
            load.until_progress(20).await;
        }
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_eq!((tally.not_done, tally.unknown), (0, 0), "{failure:?}");
    });
}

#[test]
fn a_server_that_breaks_off_in_mid_frame_costs_no_write() {
    run(Settings::new(9), async |world| {
        let client = world.client(0);
        let victim = busiest(&until_whole(&client).await);
        let mut load = Load::new(Manner { rest_max: Default::default(), ..Manner::default() });
        load.join(&world, &client, "a", 4);
        load.until_progress(50).await;
        let broken = Rc::new(Cell::new(0));
        world.kill_server(victim);
        let body = hostile_server(world.clone(), victim, broken.clone());
        let place = Process::start(&world.net, Node::Server(victim), async {
            body.await;
            Ok(())
        });
        load.until_progress(50).await;
        // Clients that know nothing yet ask any server for the view, and so this one.
        for number in 10..100 {
            let stranger = world.client(number);
            let session = stranger.session();
            session.put("stranger", number.to_string()).await.expect("others tell the way");
            if broken.get() >= 2 * BREAKS.len() {
                break;
            }
        }
        assert!(broken.get() >= 2 * BREAKS.len(), "only {} links were broken off", broken.get());
        place.kill();
        world.start_server(victim);
        until_whole(&client).await;
        load.until_progress(50).await;
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_eq!((tally.not_done, tally.unknown), (0, 0), "{failure:?}");
    });
}
