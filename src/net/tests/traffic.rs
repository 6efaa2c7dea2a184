//! Goal: frames arrive once, in order, on their lane; a connection ends with the same story on
//! both sides; a peer that does not read costs a bounded amount of memory.
//! Method: pairs of connections whose handlers pass on everything that they are told.

use std::net::SocketAddr;
use std::sync::mpsc;

use bytes::{BufMut, Bytes};
use tokio::sync::mpsc::UnboundedReceiver;

use super::fixture::*;
use crate::net::*;
use crate::protocol::message::PeerMessage;
use crate::protocol::types::{Epoch, KeySet, Op, Record, Revision, RunId};
use crate::wire::{self, FrameBuf, Kind, WireError};

/// Both ends of a replication link, the dialling one first, with what keeps it alive.
struct Pair {
    dialled: Connection,
    accepted: Connection,
    server: Listening,
    _dialler: Endpoint,
}

async fn pair(options: EndpointOptions) -> Pair {
    let authority = Authority::new("demo");
    let mut server = listen(authority.credentials(SERVER_1), options.clone());
    let dialler = dialler(authority.credentials(SERVER_2), options);
    let dialled = dialler.dial(server.address, &identity(SERVER_1), hello()).await;
    let accepted = server.connections.recv().await.expect("a connection");
    Pair { dialled: dialled.expect("let in"), accepted, server, _dialler: dialler }
}

fn run_of(frame: &FrameBuf) -> u64 {
    match wire::decode_peer(frame).expect("a good message") {
        PeerMessage::RunLost { run, .. } => run.0,
        other => panic!("never sent: {other:?}"),
    }
}

/// Receives 0..count on each of `sets`, in order.
async fn expect_all(events: &mut UnboundedReceiver<Event>, sets: u16, count: u64) {
    let mut next = vec![0; usize::from(sets)];
    for _ in 0..u64::from(sets) * count {
        let (lane, frame) = next_frame(events).await;
        let Lane::Set(set) = lane else { panic!("nothing was sent on {lane:?}") };
        let number = &mut next[usize::from(set.0)];
        assert_eq!(run_of(&frame), *number, "order on {set}");
        *number += 1;
    }
    assert!(next.iter().all(|&number| number == count));
}

/// A message of a mebibyte.
fn chunk() -> PeerMessage {
    let value = Bytes::from(vec![9; 1 << 20]);
    let record = Record { key: Bytes::from_static(b"k"), value, revision: Revision::default() };
    PeerMessage::CopyChunk {
        set: KeySet(1),
        run: RunId(1),
        after: None,
        through: None,
        read_at: Op(1),
        records: vec![record],
    }
}

fn send_mebibytes(connection: &Connection, count: usize) {
    let chunk = chunk();
    for _ in 0..count {
        connection
            .send(Lane::Control, |out, limits| wire::encode_peer(out, limits, &chunk))
            .expect("open");
    }
}

#[test]
fn each_lane_keeps_its_order_in_both_directions() {
    on_one_thread(async {
        let pair = pair(EndpointOptions::default()).await;
        let mut at_dialler = tap(pair.dialled.clone());
        let mut at_accepter = tap(pair.accepted.clone());
        // What the accepting side sends on a lane before the other opened it, waits.
        for number in 0..300 {
            for set in 0..20 {
                send_numbered(&pair.accepted, KeySet(set), number).expect("open");
            }
        }
        for number in 0..300 {
            for set in 0..20 {
                send_numbered(&pair.dialled, KeySet(set), number).expect("open");
            }
        }
        expect_all(&mut at_accepter, 20, 300).await;
        expect_all(&mut at_dialler, 20, 300).await;
    });
}

#[test]
fn large_frames_and_datagrams_arrive_whole() {
    on_one_thread(async {
        let pair = pair(EndpointOptions::default()).await;
        let mut events = tap(pair.accepted);
        let _alive = tap(pair.dialled.clone());
        let chunk = chunk();
        send_mebibytes(&pair.dialled, 8);
        for _ in 0..8 {
            let (lane, frame) = next_frame(&mut events).await;
            assert_eq!(lane, Lane::Control);
            assert_eq!(wire::decode_peer(&frame).as_ref(), Ok(&chunk));
        }
        let beacon = |count| PeerMessage::Grant {
            number: 1,
            sent: Default::default(),
            sets: vec![(KeySet(300), Epoch(300), Op(300)); count],
        };
        let send = |message: PeerMessage| {
            pair.dialled.send_datagram(|out, limits| wire::encode_peer(out, limits, &message))
        };
        send(beacon(100)).expect("fits a packet");
        let told = loop {
            match events.recv().await {
                Some(Event::Datagram(frame)) => break wire::decode_peer(&frame),
                Some(Event::BatchEnd) => {}
                other => panic!("no datagram but {other:?}"),
            }
        };
        assert_eq!(told, Ok(beacon(100)));
        let refused = send(beacon(2_000)).expect_err("beyond any packet");
        assert!(matches!(refused, SendError::DatagramTooLarge { .. }), "{refused}");
    });
}

#[test]
fn a_frame_that_claims_too_much_ends_the_connection() {
    on_one_thread(async {
        let pair = pair(EndpointOptions::default()).await;
        let mut at_dialler = tap(pair.dialled.clone());
        let mut at_accepter = tap(pair.accepted);
        let claim = |out: &mut bytes::BytesMut| {
            out.put_u32_le(u32::MAX);
            out.put_u8(Kind::Peer as u8);
            Ok(())
        };
        pair.dialled.send(Lane::Set(KeySet(3)), |out, _| claim(out)).expect("open");
        let reason = end(&mut at_accepter).await;
        assert!(
            matches!(reason, CloseReason::Wire(WireError::TooLong { kind: Kind::Peer, .. })),
            "{reason}"
        );
        let CloseReason::ByPeer { code: 3, text } = end(&mut at_dialler).await else {
            panic!("the dialling side was not told");
        };
        assert!(text.contains("Peer frame of 4294967295 bytes"), "{text}");
        let refused = send_numbered(&pair.dialled, KeySet(3), 1).expect_err("closed");
        assert!(matches!(refused, SendError::Closed(CloseReason::ByPeer { .. })), "{refused}");
    });
}

#[test]
fn the_first_reason_to_close_stands_and_the_other_side_is_told() {
    on_one_thread(async {
        let pair = pair(EndpointOptions::default()).await;
        let (mut at_dialler, mut at_accepter) =
            (tap(pair.dialled.clone()), tap(pair.accepted.clone()));
        pair.accepted.close(CloseReason::Misbehaved("it lied"));
        pair.accepted.close(CloseReason::Done);
        assert_eq!(end(&mut at_accepter).await, CloseReason::Misbehaved("it lied"));
        let text = "protocol violation: it lied".to_owned();
        assert_eq!(end(&mut at_dialler).await, CloseReason::ByPeer { code: 2, text });
    });
}

#[test]
fn shutdown_tells_the_other_side() {
    on_one_thread(async {
        let pair = pair(EndpointOptions::default()).await;
        let mut at_dialler = tap(pair.dialled);
        let _at_accepter = tap(pair.accepted);
        pair.server.endpoint.shutdown().await;
        let text = "the process stops".to_owned();
        assert_eq!(end(&mut at_dialler).await, CloseReason::ByPeer { code: 1, text });
    });
}

#[test]
fn a_peer_that_does_not_read_is_closed_at_the_limit() {
    on_one_thread(async {
        let queue_bytes_max = 1 << 20;
        let options = EndpointOptions { queue_bytes_max, ..EndpointOptions::default() };
        let pair = pair(options).await;
        // The accepting side never runs its connection: nothing is read.
        let mut at_dialler = tap(pair.dialled.clone());
        let piece = vec![0; 64 << 10];
        let mut sent = 0;
        let refused = loop {
            let put = |out: &mut bytes::BytesMut| {
                out.put_slice(&piece);
                Ok(())
            };
            match pair.dialled.send(Lane::Control, |out, _| put(out)) {
                Ok(()) => sent += piece.len(),
                Err(refused) => break refused,
            }
            assert!(pair.dialled.queued_bytes() <= queue_bytes_max + piece.len());
            // What QUIC takes, it takes now.
            let before = pair.dialled.queued_bytes();
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
                if pair.dialled.queued_bytes() < before {
                    break;
                }
            }
        };
        assert!(matches!(refused, SendError::Closed(CloseReason::SlowPeer { .. })), "{refused}");
        assert!(sent > 2 << 20, "the network's own room was used first: {sent}");
        assert!(matches!(end(&mut at_dialler).await, CloseReason::SlowPeer { .. }));
        assert_eq!(pair.dialled.queued_bytes(), 0, "the queue was dropped");
        drop(pair.accepted);
    });
}

#[test]
fn who_waits_for_a_queue_to_drain_is_woken_by_what_leaves_and_by_the_end() {
    on_one_thread(async {
        for is_read in [true, false] {
            let pair = pair(EndpointOptions::default()).await;
            let _at_dialler = tap(pair.dialled.clone());
            // More than the network takes of what nobody reads.
            send_mebibytes(&pair.dialled, 16);
            let waiting = pair.dialled.clone();
            // A task of its own, which nothing else wakes.
            let drained =
                tokio::task::spawn_local(async move { waiting.drained_to(1 << 20).await });
            tokio::task::yield_now().await;
            assert!(!drained.is_finished(), "{} wait", pair.dialled.queued_bytes());
            let at_accepter = is_read.then(|| tap(pair.accepted.clone()));
            if !is_read {
                pair.dialled.close(CloseReason::Done);
            }
            let woken = tokio::time::timeout(std::time::Duration::from_secs(20), drained).await;
            woken.expect("it is woken").expect("it does not panic");
            assert!(pair.dialled.queued_bytes() <= 1 << 20);
            let sent = pair.dialled.send(Lane::Control, |_, _| Ok(()));
            assert_eq!(sent.is_ok(), is_read, "it drained because it was read: {sent:?}");
            drop(at_accepter);
        }
    });
}

/// Runs server 1 on a thread and a runtime of its own, until told to vanish without a word.
fn mortal_server(
    address: SocketAddr,
    credentials: std::sync::Arc<Credentials>,
) -> (SocketAddr, tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>) {
    let (vanish, told) = tokio::sync::oneshot::channel();
    let (listening, address_of) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        on_one_thread(async move {
            let options =
                EndpointOptions { reset_seed: Some([5; 32]), ..EndpointOptions::default() };
            let mut server = listen_at(address, credentials, options);
            listening.send(server.address).expect("the test waits");
            tokio::select! {
                _ = told => {}
                _ = async {
                    while let Some(connection) = server.connections.recv().await {
                        drop(tap(connection));
                    }
                } => {}
            }
        });
    });
    (address_of.recv().expect("it listens"), vanish, thread)
}

#[test]
fn a_restart_is_noticed_at_once() {
    let authority = Authority::new("demo");
    let server = authority.credentials(SERVER_1);
    let (address, vanish, thread) = mortal_server(loopback(), server.clone());
    on_one_thread(async {
        let options = EndpointOptions::default();
        let dialler = dialler(authority.credentials(SERVER_2), options);
        let dialled = dialler.dial(address, &identity(SERVER_1), hello()).await.expect("let in");
        let mut events = tap(dialled);
        vanish.send(()).expect("it runs");
        thread.join().expect("it ends");
        let (_, vanish, thread) = mortal_server(address, server);
        assert_eq!(end(&mut events).await, CloseReason::Restarted);
        vanish.send(()).expect("it runs");
        thread.join().expect("it ends");
    });
}
