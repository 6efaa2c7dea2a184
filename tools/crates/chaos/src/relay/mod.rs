//! The relay: a small program between all nodes, which passes on, delays, reorders, drops,
//! duplicates and corrupts UDP packets, for each direction of each link by itself.
//!
//! In the hub it holds one socket for every address that ever sent or shall receive: what is
//! addressed to B arrives in the socket of B, and leaves through the socket of A that it came
//! from, so that B sees it come from A. Such sockets may speak for addresses that are not their
//! own (IP_TRANSPARENT). The kernel makes checksums anew, so a corrupt packet arrives as a good
//! UDP packet with wrong contents, and only QUIC can tell.

mod board;
mod edge;
mod measure;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tandem::clock;
use tandem::protocol::time::Time;
use tandem::sim::rng::Rng;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::spawn_local;

pub use board::{Board, FaultId, Traffic};
pub use edge::Impairment;
pub use measure::measure;

use crate::nodes::{Edge, Node};
use edge::{Line, corrupt};

/// No packet is longer.
const PACKET_BYTES_MAX: usize = 2_048;

/// Sockets' buffers; the system may grant less.
const BUFFER_BYTES: usize = 4 << 20;

/// A turn of one socket, after which the others get theirs.
const TURN_PACKETS: usize = 64;

/// Starts the relay on this thread's network, on a thread of its own, for good. `listening` are
/// the addresses where nodes wait for others.
///
/// # Errors
/// An address can not be had.
pub fn start(board: Board, listening: Vec<SocketAddr>, seed: u64) -> Result<()> {
    let (ready, started) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // The starter waits for these words.
                let _ = ready.send(Err(error.into()));
                return;
            }
        };
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let relay = Rc::new(Relay {
                board,
                state: RefCell::new(State::new(seed)),
                earlier: Notify::new(),
            });
            let bound = listening.iter().try_for_each(|&it| relay.socket(it).map(drop));
            let failed = bound.is_err();
            let _ = ready.send(bound);
            if !failed {
                relay.release().await;
            }
        });
    })?;
    started.recv().context("the relay ended at once")?
}

struct Relay {
    board: Board,
    state: RefCell<State>,
    /// A packet was put first in the queue of the late.
    earlier: Notify,
}

struct State {
    sockets: BTreeMap<SocketAddr, Rc<UdpSocket>>,
    lines: BTreeMap<Edge, Line>,
    late: BinaryHeap<Reverse<Late>>,
    number: u64,
    rng: Rng,
}

/// A packet that waits for its time; those of the same time in the order of their coming.
#[derive(Eq, PartialEq, Ord, PartialOrd)]
struct Late {
    leaves: Time,
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    packet: Vec<u8>,
}

impl State {
    fn new(seed: u64) -> State {
        State {
            sockets: BTreeMap::new(),
            lines: BTreeMap::new(),
            late: BinaryHeap::new(),
            number: 0,
            rng: Rng::new(seed),
        }
    }
}

impl Relay {
    /// The socket that speaks and listens for `address`.
    fn socket(self: &Rc<Self>, address: SocketAddr) -> Result<Rc<UdpSocket>> {
        if let Some(socket) = self.state.borrow().sockets.get(&address) {
            return Ok(socket.clone());
        }
        let socket = Rc::new(bind(address).with_context(|| format!("speaking for {address}"))?);
        self.state.borrow_mut().sockets.insert(address, socket.clone());
        let (relay, reading) = (self.clone(), socket.clone());
        spawn_local(async move { relay.read(address, &reading).await });
        Ok(socket)
    }

    /// Takes in what is addressed to `to`, for good.
    async fn read(self: Rc<Self>, to: SocketAddr, socket: &UdpSocket) {
        let mut buffer = [0; PACKET_BYTES_MAX];
        loop {
            if socket.readable().await.is_err() {
                continue;
            }
            for _ in 0..TURN_PACKETS {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => self.on_packet(from, to, &mut buffer[..length]),
                    // Nothing more for now, or word that an earlier packet was not delivered,
                    // which a broken line would not send either.
                    Err(_) => break,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn on_packet(self: &Rc<Self>, from: SocketAddr, to: SocketAddr, packet: &mut [u8]) {
        let (Some(sender), Some(receiver)) = (Node::of(from.ip()), Node::of(to.ip())) else {
            return;
        };
        let edge = Edge::new(sender, receiver);
        let what = self.board.impairment(edge);
        let now = clock::now();
        let fate = {
            let mut state = self.state.borrow_mut();
            let State { lines, rng, .. } = &mut *state;
            lines.entry(edge).or_default().fate(&what, rng, now, packet.len())
        };
        self.board.count(|it| match fate.leaves {
            None => it.dropped += 1,
            Some(leaves) => {
                it.passed += 1;
                it.late += u64::from(leaves > now);
                it.duplicated += u64::from(fate.copy_leaves.is_some());
                it.corrupted += u64::from(fate.corrupt);
            }
        });
        if fate.corrupt {
            corrupt(packet, &mut self.state.borrow_mut().rng);
        }
        for leaves in [fate.leaves, fate.copy_leaves].into_iter().flatten() {
            if leaves > now {
                self.delay(leaves, from, to, packet.to_vec());
            } else {
                self.send(from, to, packet);
            }
        }
    }

    fn send(self: &Rc<Self>, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        if let Ok(socket) = self.socket(from) {
            // A full queue drops a packet, as the network does.
            let _ = socket.try_send_to(packet, to);
        }
    }

    fn delay(&self, leaves: Time, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        state.number += 1;
        let number = state.number;
        let first = state.late.peek().is_none_or(|it| leaves < it.0.leaves);
        state.late.push(Reverse(Late { leaves, number, from, to, packet }));
        if first {
            self.earlier.notify_one();
        }
    }

    /// Sends the late when their time has come, for good.
    async fn release(self: Rc<Self>) {
        loop {
            let now = clock::now();
            let next = self.state.borrow().late.peek().map(|it| it.0.leaves);
            match next {
                None => self.earlier.notified().await,
                Some(leaves) if leaves > now => {
                    let wait = Duration::from(leaves.since(now));
                    // Whatever comes first, the queue is looked at again.
                    let _ = tokio::time::timeout(wait, self.earlier.notified()).await;
                }
                Some(_) => {
                    let due = self.state.borrow_mut().late.pop();
                    if let Some(Reverse(Late { from, to, packet, .. })) = due {
                        self.send(from, to, &packet);
                    }
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_ip_transparent_v4(true)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}
