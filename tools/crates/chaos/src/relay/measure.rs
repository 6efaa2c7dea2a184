//! What the relay costs: packets there and back between two nodes, and the same within one.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use tandem::clock;
use tandem::protocol::time::Span;

use super::Board;
use crate::nodes::Node;
use crate::topology::Topology;

const PORT: u16 = 5_000;

/// Round trips of each measurement.
const ROUNDS: usize = 20_000;

/// The length of a packet, about a full one of QUIC.
const PACKET_BYTES: usize = 1_200;

/// Far longer than a packet takes between two nodes of one machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures in a network of its own, and says what it found.
///
/// # Errors
/// The network can not be made, or a packet is lost.
pub fn measure() -> Result<()> {
    let nodes = [Node::Client(1), Node::Client(2)];
    let topology = Topology::new(&nodes)?;
    let address = |node: Node| SocketAddr::new(node.address(), PORT);
    let listening = nodes.map(address).to_vec();
    topology.on_hub(|| super::start(Board::default(), listening, 1))??;
    for (from, words) in
        [(Node::Client(2), "within a node"), (Node::Client(1), "through the relay")]
    {
        let echo = topology.on(Node::Client(2), || UdpSocket::bind(address(Node::Client(2))))??;
        let back = std::thread::spawn(move || answer(&echo));
        let mut trips = topology.on(from, || round_trips(address(Node::Client(2))))??;
        back.join().ok().context("the echo panicked")??;
        trips.sort_unstable();
        let us = |part: usize| trips[ROUNDS * part / 100].0 / 1_000;
        println!("{words}: median {} us, p99 {} us there and back", us(50), us(99));
    }
    Ok(())
}

/// Sends back what comes, as often as a measurement asks.
fn answer(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut packet = [0; PACKET_BYTES];
    for _ in 0..ROUNDS {
        let (length, from) = socket.recv_from(&mut packet)?;
        socket.send_to(&packet[..length], from)?;
    }
    Ok(())
}

fn round_trips(to: SocketAddr) -> Result<Vec<Span>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    let mut packet = [7; PACKET_BYTES];
    (0..ROUNDS)
        .map(|_| {
            let sent = clock::now();
            socket.send(&packet)?;
            socket.recv(&mut packet).context("a packet was lost")?;
            Ok(clock::now().since(sent))
        })
        .collect()
}
