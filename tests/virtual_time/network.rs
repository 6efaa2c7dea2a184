//! The network of a virtual world: packets on their way, and what may happen to them.
//!
//! Every packet that is sent goes into the trace (time, from, to, length) and draws its fate from
//! the world's seed. An address is where others see a port: a client that moves to another
//! network keeps its socket, and its packets come from another address from then on, as behind a
//! router that forgot it. What is sent to the old one is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tandem::clock;
use tandem::net::memory::{Network, Port};
use tandem::protocol::time::{Span, Time};
use tandem::sim::Node;
use tandem::sim::rng::Rng;
use tokio::sync::Notify;

/// Ports that are not asked for by number start here.
const FREE_PORT_FIRST: u16 = 40_000;

/// What may happen to any packet.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_min: Span,
    pub delay_max: Span,
    pub loss_ppm: u64,
    pub duplicate_ppm: u64,
    /// Packets that come late by up to `late_max`: others overtake them.
    pub late_ppm: u64,
    pub late_max: Span,
}

impl Weather {
    /// Nothing is lost.
    pub const FAIR: Weather = Weather {
        delay_min: Span(200_000),
        delay_max: Span(900_000),
        loss_ppm: 0,
        duplicate_ppm: 0,
        late_ppm: 0,
        late_max: Span(5_000_000),
    };

    /// Two packets in a hundred are lost, and others come twice or late.
    pub const ROUGH: Weather =
        Weather { loss_ppm: 20_000, duplicate_ppm: 5_000, late_ppm: 20_000, ..Weather::FAIR };
}

/// A packet as the trace has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Sent {
    pub at: Time,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub length: usize,
}

/// All packets that were sent: their digest, and the packets where they are kept.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    pub packets: u64,
    pub kept: Option<Vec<Sent>>,
}

impl Trace {
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    fn record(&mut self, sent: Sent) {
        sent.hash(&mut self.hasher);
        self.packets += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(sent);
        }
    }
}

/// A port, and whose it is.
struct Bound {
    port: Weak<Port>,
    node: Node,
}

struct State {
    rng: Rng,
    weather: Weather,
    /// The node whose code runs.
    running: Node,
    /// By the address at which others see it.
    ports: BTreeMap<SocketAddr, Bound>,
    /// Where ports are seen that are seen elsewhere than they were bound.
    moved: BTreeMap<SocketAddr, SocketAddr>,
    moves: u8,
    /// One-way cuts.
    cuts: BTreeSet<(Node, Node)>,
    /// By due time, and then in the order of sending.
    under_way: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Bytes)>,
    sent: u64,
    free_port_next: u16,
    trace: Trace,
}

/// The network.
pub struct Net {
    state: Mutex<State>,
    changed: Notify,
}

/// The address of a node's host.
pub fn host(node: Node) -> IpAddr {
    let [high, low] = match node {
        Node::Meta => [0, 1],
        Node::Server(server) => [1, server.0 as u8],
        Node::Client(client) => [2, client.0 as u8 + 1],
    };
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

impl Net {
    /// A network whose packets' fates follow from `seed`; with `keep`, the trace keeps them.
    pub fn new(seed: u64, weather: Weather, keep: bool) -> Arc<Net> {
        let trace = Trace { kept: keep.then(Vec::new), ..Trace::default() };
        let state = State {
            rng: Rng::new(seed),
            weather,
            running: Node::Meta,
            ports: BTreeMap::new(),
            moved: BTreeMap::new(),
            moves: 0,
            cuts: BTreeSet::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            free_port_next: FREE_PORT_FIRST,
            trace,
        };
        Arc::new(Net { state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the code of `node` runs: what it binds is on its host.
    pub fn enter(&self, node: Node) {
        self.state().running = node;
    }

    /// Closes all ports of `node`: its process is gone.
    pub fn unplug(&self, node: Node) {
        self.state().ports.retain(|_, bound| bound.node != node);
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Drops what `from` sends to `to`, from now on.
    pub fn cut(&self, from: Node, to: Node) {
        self.state().cuts.insert((from, to));
    }

    /// Ends a one-way cut.
    pub fn mend(&self, from: Node, to: Node) {
        self.state().cuts.remove(&(from, to));
    }

    /// Ends all cuts.
    pub fn mend_all(&self) {
        self.state().cuts.clear();
    }

    /// Moves `node` to another address; `far` = also of another host, else to another port.
    pub fn migrate(&self, node: Node, far: bool) {
        let mut state = self.state();
        let state = &mut *state;
        state.moves = state.moves.wrapping_add(1);
        let of_node = state.ports.extract_if(.., |_, bound| bound.node == node);
        let leaving: Vec<(SocketAddr, Bound)> = of_node.collect();
        for (seen, bound) in leaving {
            let Some(port) = bound.port.upgrade() else { continue };
            let mut elsewhere = seen;
            elsewhere.set_port(seen.port().wrapping_add(1_000).max(FREE_PORT_FIRST));
            if let (true, IpAddr::V4(ip)) = (far, seen.ip()) {
                let [_, _, high, low] = ip.octets();
                elsewhere.set_ip(IpAddr::V4(Ipv4Addr::new(10, state.moves, high, low)));
            }
            state.moved.insert(port.address(), elsewhere);
            state.ports.insert(elsewhere, bound);
        }
    }

    /// What was sent so far.
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    /// Delivers packets as they come due, for ever.
    pub async fn run(self: Arc<Net>) {
        loop {
            let next = self.deliver();
            let changed = self.changed.notified();
            match next {
                // Either way the agenda is looked at next.
                Some(due) => {
                    let wait = due.since(clock::now());
                    drop(tokio::time::timeout(wait.into(), changed).await);
                }
                None => changed.await,
            }
        }
    }

    /// Delivers what is due; when the next packet is.
    fn deliver(&self) -> Option<Time> {
        let now = clock::now();
        loop {
            let (port, from, packet) = {
                let mut state = self.state();
                let entry = state.under_way.first_entry()?;
                if entry.key().0 > now {
                    return Some(entry.key().0);
                }
                let (from, to, packet) = entry.remove();
                (state.ports.get(&to).and_then(|bound| bound.port.upgrade()), from, packet)
            };
            if let Some(port) = port {
                port.deliver(from, packet);
            }
        }
    }
}

impl State {
    /// Where others see `port`; none if its process is gone.
    fn seen_at(&self, port: &Port) -> Option<(SocketAddr, Node)> {
        let bound_at = port.address();
        let seen = *self.moved.get(&bound_at).unwrap_or(&bound_at);
        let bound = self.ports.get(&seen)?;
        std::ptr::eq(bound.port.as_ptr(), port).then_some((seen, bound.node))
    }

    /// When a packet arrives.
    fn due(&mut self, now: Time) -> Time {
        let weather = self.weather;
        let mut delay = self.rng.span(weather.delay_min, weather.delay_max);
        if self.rng.chance(weather.late_ppm) {
            delay = delay + self.rng.span(Span::ZERO, weather.late_max);
        }
        now + delay
    }
}

impl Network for Net {
    fn bind(self: Arc<Self>, address: SocketAddr) -> io::Result<Arc<Port>> {
        let mut state = self.state();
        let mut bound = address;
        if address.ip().is_unspecified() {
            bound.set_ip(host(state.running));
        }
        if address.port() == 0 {
            bound.set_port(state.free_port_next);
            state.free_port_next += 1;
        }
        if state.ports.get(&bound).is_some_and(|it| it.port.strong_count() > 0) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&state.rng.next_u64().to_le_bytes());
        }
        let port = Arc::new(Port::new(bound, seed, self.clone()));
        let entry = Bound { port: Arc::downgrade(&port), node: state.running };
        state.moved.remove(&bound);
        state.ports.insert(bound, entry);
        drop(state);
        Ok(port)
    }

    fn carry(&self, port: &Port, to: SocketAddr, packet: Bytes) {
        let now = clock::now();
        let mut state = self.state();
        let Some((from, sender)) = state.seen_at(port) else { return };
        state.trace.record(Sent { at: now, from, to, length: packet.len() });
        let weather = state.weather;
        let copies = match (state.rng.chance(weather.loss_ppm), weather.duplicate_ppm) {
            (true, _) => 0,
            (false, ppm) => 1 + usize::from(state.rng.chance(ppm)),
        };
        let Some(receiver) = state.ports.get(&to).map(|it| it.node) else { return };
        if state.cuts.contains(&(sender, receiver)) {
            return;
        }
        for _ in 0..copies {
            let due = state.due(now);
            state.sent += 1;
            let key = (due, state.sent);
            state.under_way.insert(key, (from, to, packet.clone()));
        }
        drop(state);
        self.changed.notify_one();
    }
}
