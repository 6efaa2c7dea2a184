//! Goal: each wrong party is refused with the named error, on both sides where both can know.
//! Method: one attempt for each way of being wrong, beside one that is right.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{ClientConnection, NamedGroup, ServerConnection};

use super::fixture::*;
use crate::identity::NODE_NAME;
use crate::net::verify::Witness;
use crate::net::*;
use crate::protocol::message::{Hello, Purpose};
use crate::protocol::types::ClusterId;
use crate::wire::{HelloRefusal, Kind, WireError};

/// Dials a good server 1 with `credentials`; what each side says.
async fn attempt(
    authority: &Authority,
    credentials: Arc<Credentials>,
    expected: &str,
    hello: Hello,
) -> (HandshakeError, HandshakeError) {
    let options = EndpointOptions::default();
    let mut server = listen(authority.credentials(SERVER_1), options.clone());
    let dialler = dialler(credentials, options);
    let dialled = dialler.dial(server.address, &identity(expected), hello).await;
    let dialler_says = dialled.err().expect("the dialling side is refused");
    let server_says = server.failures.recv().await.expect("the accepting side says why");
    assert!(server.connections.try_recv().is_err(), "nobody was let in");
    (dialler_says, server_says)
}

fn fault(error: &HandshakeError) -> &Fault {
    match error {
        HandshakeError::Certificate(refusal) => &refusal.fault,
        other => panic!("no certificate refused, but {other}"),
    }
}

fn alert(error: &HandshakeError) -> u8 {
    match error {
        HandshakeError::OwnCertificate { alert, .. } => *alert,
        other => panic!("not our certificate's fault, but {other}"),
    }
}

#[test]
fn the_right_party_is_let_in() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let options = EndpointOptions::default();
        let mut server = listen(authority.credentials(SERVER_1), options.clone());
        let dialler = dialler(authority.credentials(SERVER_2), options);
        let expected = identity(SERVER_1);
        let dialled = dialler.dial(server.address, &expected, hello()).await.expect("let in");
        let accepted = server.connections.recv().await.expect("a connection");
        assert_eq!(dialled.party(), &expected);
        assert_eq!(accepted.party(), &identity(SERVER_2));
        assert_eq!((accepted.hello(), dialled.ack()), (&hello(), accepted.ack()));
        assert_eq!(dialled.ack().from, Some(member(1)));
    });
}

#[test]
fn the_hybrid_group_is_agreed_on() {
    let authority = Authority::new("demo");
    let credentials = authority.credentials(SERVER_1);
    let witness = Witness::new(String::new());
    let accepting = credentials.accepting(witness.clone()).expect("a configuration");
    let dialling = credentials.dialling(witness).expect("a configuration");
    let name = NODE_NAME.try_into().expect("a DNS name");
    let mut dialler = ClientConnection::new(Arc::new(dialling), name).expect("a dialler");
    let mut accepter = ServerConnection::new(Arc::new(accepting)).expect("an accepter");
    while dialler.is_handshaking() || accepter.is_handshaking() {
        let mut bytes = Vec::new();
        dialler.write_tls(&mut bytes).expect("vectors take all");
        accepter.read_tls(&mut bytes.as_slice()).expect("slices give all");
        accepter.process_new_packets().expect("good packets");
        let mut bytes = Vec::new();
        accepter.write_tls(&mut bytes).expect("vectors take all");
        dialler.read_tls(&mut bytes.as_slice()).expect("slices give all");
        dialler.process_new_packets().expect("good packets");
    }
    let group = accepter.negotiated_key_exchange_group().expect("handshake is done").name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(accepter.alpn_protocol(), Some(ALPN));
}

#[test]
fn a_leaf_of_a_foreign_authority_is_refused() {
    on_one_thread(async {
        for name in ["demo", "foreign"] {
            let (authority, foreign) = (Authority::new("demo"), Authority::new(name));
            let shown = authority.show(&foreign.leaf(SERVER_2, 2_100));
            let (dialler, server) = attempt(&authority, shown, SERVER_1, hello()).await;
            assert_eq!(fault(&server), &Fault::ForeignAuthority, "authority {name}");
            assert!(matches!(alert(&dialler), 48 | 51), "{dialler}");
            // And the other way round: the dialling side trusts only the foreign authority.
            let trusting = foreign.credentials(SERVER_2);
            let (dialler, server) = attempt(&authority, trusting, SERVER_1, hello()).await;
            assert_eq!(fault(&dialler), &Fault::ForeignAuthority, "authority {name}");
            assert!(matches!(alert(&server), 48 | 51), "{server}");
        }
    });
}

#[test]
fn an_expired_leaf_is_refused_with_all_that_a_person_needs() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let expired = authority.show(&authority.leaf(SERVER_2, 2_021));
        let (dialler, server) = attempt(&authority, expired, SERVER_1, hello()).await;
        assert_eq!(fault(&server), &Fault::Expired);
        assert_eq!(alert(&dialler), 45);
        let words = server.to_string();
        for part in ["CN=a test's leaf", SERVER_2, "2021-12-31", "expired", "clock says 20"] {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
        let words = dialler.to_string();
        for part in [SERVER_2, "2021-12-31", "expired", "clock says 20"] {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
    });
}

#[test]
fn a_client_can_not_speak_as_a_server() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        for purpose in [Purpose::Replication, Purpose::Bulk, Purpose::Control] {
            let role = "client".to_owned();
            let refused = HandshakeError::Refused(HelloRefusal::Role { role, purpose });
            let hello = Hello { purpose, ..hello() };
            let client = authority.credentials(CLIENT);
            let says = attempt(&authority, client, SERVER_1, hello).await;
            assert_eq!(says, (refused.clone(), refused));
        }
        let claims = Hello { from: Some(member(2)), ..client_hello() };
        let client = authority.credentials(CLIENT);
        let (dialler, server) = attempt(&authority, client, SERVER_1, claims).await;
        assert_eq!(dialler, server);
        assert!(matches!(
            dialler,
            HandshakeError::Refused(HelloRefusal::WrongSender { claimed, .. })
                if claimed == Some(member(2))
        ));
    });
}

#[test]
fn another_server_can_not_speak_as_this_one() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let server_3 = authority.credentials("tandem://demo/server/3");
        let (dialler, server) = attempt(&authority, server_3, SERVER_1, hello()).await;
        assert_eq!(dialler, server);
        assert!(matches!(dialler, HandshakeError::Refused(HelloRefusal::WrongSender { .. })));
    });
}

#[test]
fn a_certificate_of_another_cluster_or_of_nobody_is_refused() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let other = authority.credentials("tandem://other/server/2");
        let (dialler, server) = attempt(&authority, other, SERVER_1, hello()).await;
        assert_eq!(fault(&server), &Fault::NoParty);
        assert!(server.to_string().contains("tandem://other/server/2"), "{server}");
        let HandshakeError::Ended(CloseReason::ByPeer { code: 6, text }) = dialler else {
            panic!("not told by the other side, but {dialler}");
        };
        assert!(text.contains("tandem://other/server/2"), "{text}");
        // A leaf that names nobody can not even be loaded.
        let nobody = authority.leaf("https://demo/server/2", 2_100);
        let refused = authority.try_show(&nobody).expect_err("no party");
        assert!(refused.to_string().contains("leaf.pem"), "{refused}");
    });
}

#[test]
fn a_key_of_another_certificate_is_refused_by_its_file_name() {
    let authority = Authority::new("demo");
    let (mut leaf, other) = (authority.leaf(SERVER_1, 2_100), authority.leaf(SERVER_1, 2_100));
    leaf.key = other.key;
    let refused = authority.try_show(&leaf).expect_err("the wrong key");
    assert!(refused.to_string().contains("leaf.key"), "{refused}");
}

#[test]
fn somebody_else_than_was_dialled_is_refused() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let server_2 = authority.credentials(SERVER_2);
        let meant = "tandem://demo/server/5";
        let (dialler, server) = attempt(&authority, server_2, meant, hello()).await;
        assert_eq!(fault(&dialler), &Fault::WrongParty);
        let words = dialler.to_string();
        assert!(words.contains(SERVER_1) && words.contains(meant), "{words}");
        assert!(
            matches!(server, HandshakeError::Ended(CloseReason::ByPeer { code: 6, .. })),
            "{server}"
        );
    });
}

#[test]
fn a_hello_for_somebody_else_is_refused() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let (ours, mut meant) = (Some(member(1)), member(1));
        meant.incarnation.0 -= 1;
        let meant = Some(meant);
        let version = Hello { version_min: 99, version_max: 99, ..hello() };
        let older = Hello { version_min: 0, version_max: 0, ..hello() };
        let cluster = Hello { cluster: ClusterId([8; 16]), ..hello() };
        let cases = [
            (Hello { to: meant, ..hello() }, HelloRefusal::WrongDestination { ours, meant }),
            (version, HelloRefusal::Version { min: 1, max: 1 }),
            (older, HelloRefusal::Version { min: 1, max: 1 }),
            (cluster, HelloRefusal::OtherCluster { ours: ClusterId([7; 16]) }),
            (
                Hello { purpose: Purpose::Control, ..hello() },
                HelloRefusal::WrongPurpose { purpose: Purpose::Control },
            ),
        ];
        for (hello, refusal) in cases {
            let server_2 = authority.credentials(SERVER_2);
            let says = attempt(&authority, server_2, SERVER_1, hello).await;
            let refused = HandshakeError::Refused(refusal);
            assert_eq!(says, (refused.clone(), refused));
        }
    });
}

/// What server 1 says to a good certificate that sends `bytes` in place of a `Hello`.
async fn instead_of_hello(bytes: &[u8]) -> HandshakeError {
    let authority = Authority::new("demo");
    let mut server = listen(authority.credentials(SERVER_1), EndpointOptions::default());
    let tls = authority.credentials(SERVER_2).dialling(Witness::new(String::new()));
    let tls = QuicClientConfig::try_from(tls.expect("a configuration")).expect("QUIC's suite");
    let endpoint = quinn::Endpoint::client(loopback()).expect("a free port");
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, server.address, NODE_NAME);
    let connection = connecting.expect("a good address").await.expect("TLS is fine");
    let (mut send, _recv) = connection.open_bi().await.expect("one stream");
    send.write_all(bytes).await.expect("room for a few bytes");
    send.finish().expect("not finished yet");
    server.failures.recv().await.expect("the accepting side says why")
}

#[test]
fn bytes_that_are_no_hello_are_refused_by_name() {
    on_one_thread(async {
        let mut claim = BytesMut::new();
        claim.put_u32_le(u32::MAX);
        claim.put_u8(Kind::Hello as u8);
        let refused = instead_of_hello(&claim).await;
        assert!(
            matches!(
                refused,
                HandshakeError::Wire(WireError::TooLong { kind: Kind::Hello, length, .. })
                    if length == u32::MAX as usize
            ),
            "{refused}"
        );
        let refused = instead_of_hello(&claim[..3]).await;
        assert_eq!(refused, HandshakeError::Wire(WireError::Truncated { received: 3 }));
        let refused = instead_of_hello(&[9, 0, 0, 0, 77]).await;
        assert_eq!(refused, HandshakeError::Wire(WireError::UnknownKind { number: 77 }));
        // The limit of a longer kind is of no use before the handshake is done.
        let (kind, expected) = (Kind::ToServer, Kind::Hello);
        let refused = instead_of_hello(&[0, 0, 16, 0, kind as u8]).await;
        assert_eq!(refused, HandshakeError::Wire(WireError::Unexpected { kind, expected }));
    });
}

#[test]
fn whoever_says_no_hello_is_dropped_in_time() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let handshake_time_max = Duration::from_millis(300);
        let options = EndpointOptions { handshake_time_max, ..EndpointOptions::default() };
        let mut server = listen(authority.credentials(SERVER_1), options);
        let tls = authority.credentials(SERVER_2).dialling(Witness::new(String::new()));
        let tls = QuicClientConfig::try_from(tls.expect("a configuration")).expect("a suite");
        let endpoint = quinn::Endpoint::client(loopback()).expect("a free port");
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connecting = endpoint.connect_with(config, server.address, NODE_NAME);
        let connection = connecting.expect("a good address").await.expect("TLS is fine");
        assert_eq!(server.failures.recv().await, Some(HandshakeError::TimedOut));
        connection.closed().await;
    });
}

#[test]
fn a_dial_without_any_answer_is_given_up_before_its_time() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let mute = std::net::UdpSocket::bind(loopback()).expect("a free port");
        let address = mute.local_addr().expect("a bound socket");
        let handshake_time_max = Duration::from_secs(3_600);
        let options = EndpointOptions { handshake_time_max, ..EndpointOptions::default() };
        let dialler = dialler(authority.credentials(CLIENT), options);
        let dialled = dialler.dial(address, &identity(SERVER_1), client_hello()).await;
        // Without that it ends by QUIC's own silence, after packets that came ever more rarely.
        assert_eq!(dialled.err(), Some(HandshakeError::TimedOut));
    });
}

#[test]
fn garbage_datagrams_disturb_nobody() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        let options = EndpointOptions::default();
        let server = listen(authority.credentials(SERVER_1), options.clone());
        let socket = std::net::UdpSocket::bind(loopback()).expect("a free port");
        for length in 1..1_400_usize {
            let garbage: Vec<u8> = (0..length).map(|i| (i * 131 + length * 7) as u8).collect();
            socket.send_to(&garbage, server.address).expect("loopback takes it");
        }
        let dialler = dialler(authority.credentials(CLIENT), options);
        let dialled = dialler.dial(server.address, &identity(SERVER_1), client_hello()).await;
        assert!(dialled.is_ok());
    });
}

#[test]
fn there_is_room_for_so_many_handshakes_and_no_more() {
    on_one_thread(async {
        let authority = Authority::new("demo");
        // With room for one, the address must be proven first.
        for (handshakes_max, let_in) in [(0, false), (1, true)] {
            let options = EndpointOptions { handshakes_max, ..EndpointOptions::default() };
            let server = listen(authority.credentials(SERVER_1), options);
            let dialler = dialler(authority.credentials(CLIENT), EndpointOptions::default());
            let dialled = dialler.dial(server.address, &identity(SERVER_1), client_hello()).await;
            assert_eq!(dialled.is_ok(), let_in, "room for {handshakes_max}");
        }
    });
}
