//! A virtual world: a metaserver, servers and clients, all of the product's shell, in one thread.
//!
//! ```text
//!   Process (LocalSet): roles::meta::run_here, roles::server::run_here, Client::connect_here
//!        |  real quinn and rustls, tokio's paused clock
//!   Port -> Net (delay, loss, reordering, duplicates, cuts, moves) -> Port
//! ```
//!
//! Nothing is replaced but the sockets, the clock, the metaserver's disk and the sources of
//! chance, which all follow from one seed. Time passes only while nobody has anything to do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tandem::client::{Client, ClientOptions};
use tandem::clock::{self, VirtualTime};
use tandem::config::ClusterConfig;
use tandem::net::memory::Standing;
use tandem::protocol::meta::durable::MetaRecord;
use tandem::protocol::time::Span;
use tandem::protocol::types::{ClusterId, Member, ServerId};
use tandem::roles::meta::{Disk, Told};
use tandem::roles::{meta, server};
use tandem::sim::disk::MetaDisk;
use tandem::sim::rng::Rng;
use tandem::sim::{ClientId, Node};
use tandem_local::{CLIENT, Cluster, Hosts, Plan};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::network::{Net, Trace, Weather, host};
use super::process::Process;
use super::wait;

/// Servers of a world.
pub const SERVERS: u16 = 3;

/// A world that lives longer than this is stuck.
const VIRTUAL_MAX: Span = Span::from_millis(600_000);

/// How long the metaserver's disk takes.
const DISK_MIN: Span = Span::from_micros(500);
const DISK_MAX: Span = Span::from_micros(4_000);

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub weather: Weather,
    /// Workers of each server.
    pub workers: u16,
    /// The trace keeps its packets.
    pub keep_trace: bool,
}

impl Settings {
    pub fn new(seed: u64) -> Settings {
        Settings { seed, weather: Weather::FAIR, workers: 1, keep_trace: false }
    }
}

/// A server: its process, and the way to ask it to stop.
struct Server {
    process: Process,
    stopping: Cell<bool>,
    stop: mpsc::UnboundedSender<()>,
}

/// The metaserver: its process, and the way to ask it to stop.
struct Meta {
    process: Process,
    _stop: oneshot::Sender<()>,
}

/// A world.
pub struct World {
    pub net: Arc<Net>,
    pub config: ClusterConfig,
    pub rng: RefCell<Rng>,
    disk: Rc<RefCell<MetaDisk>>,
    meta: RefCell<Option<Meta>>,
    servers: RefCell<BTreeMap<ServerId, Server>>,
    clients: RefCell<Vec<Process>>,
    /// The last number given to a process.
    processes: Cell<u32>,
    cluster: ClusterId,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Ran {
    pub trace: Trace,
    /// How much virtual time passed.
    pub lasted: Span,
}

/// Runs `test` in a world of its own.
///
/// # Panics
/// If the test does, if a task of the product does, or if the world gets stuck.
pub fn run(settings: Settings, test: impl AsyncFnOnce(Rc<World>)) -> Ran {
    let folder = Folder::make();
    let witness = super::panics::Witness::new(settings.seed);
    #[cfg(feature = "mutants")]
    plant_mutant();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let mut ran = None;
    LocalSet::new().block_on(&runtime, async {
        let _time = VirtualTime::begin();
        let begun = clock::now();
        let net = Net::new(settings.seed, settings.weather, settings.keep_trace);
        let _ground = Standing::on(net.clone());
        spawn_local(net.clone().run());
        let world = Rc::new(World::new(net.clone(), settings, &folder.path));
        world.start_meta();
        (1..=SERVERS).for_each(|id| world.start_server(ServerId(id)));
        let bounded = tokio::time::timeout(VIRTUAL_MAX.into(), test(world.clone()));
        bounded.await.expect("the world is stuck");
        world.end();
        ran = Some(Ran { trace: net.trace(), lasted: clock::now().since(begun) });
    });
    witness.assert_none();
    ran.expect("the world ran to its end")
}

/// Plants the mutant that the environment names, to see that a check finds it.
#[cfg(feature = "mutants")]
fn plant_mutant() {
    use tandem::protocol::mutants::{Mutant, plant};
    let Ok(name) = std::env::var("TANDEM_VIRTUAL_MUTANT") else { return };
    let mutant = Mutant::ALL.iter().copied().find(|it| it.name() == name);
    plant(Some(mutant.unwrap_or_else(|| panic!("no mutant is called {name}"))));
}

impl World {
    fn new(net: Arc<Net>, settings: Settings, folder: &Path) -> World {
        let binary = Path::new(env!("CARGO_BIN_EXE_tandem"));
        // Nothing of it is started: it is files and certificates only.
        let made = Cluster::create(binary, folder, &plan(settings.workers)).expect("a folder");
        let config = made.config().clone();
        let mut rng = Rng::new(settings.seed ^ 0x7461_6e64_656d);
        let mut cluster = ClusterId::default();
        cluster.0[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        World {
            net,
            config,
            rng: RefCell::new(rng),
            disk: Rc::default(),
            meta: RefCell::new(None),
            servers: RefCell::default(),
            clients: RefCell::default(),
            processes: Cell::new(100),
            cluster,
        }
    }

    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    /// Starts the metaserver on what its disk holds, after its predecessor's death.
    pub fn start_meta(&self) {
        self.kill_meta();
        self.disk.borrow_mut().crash();
        let records = self.disk.borrow().records();
        let (stop, stopped) = oneshot::channel();
        let (batches, mut inbox) = mpsc::unbounded_channel();
        let (confirm, told) = mpsc::unbounded_channel();
        let (disk, mut rng) = (self.disk.clone(), Rng::new(self.draw(Rng::next_u64)));
        let (config, cluster) = (self.config.clone(), self.cluster);
        let body = async move {
            spawn_local(async move {
                while let Some((number, records)) = inbox.recv().await {
                    disk.borrow_mut().begin(number, records);
                    wait::pause(rng.span(DISK_MIN, DISK_MAX)).await;
                    let finished =
                        disk.borrow_mut().finish().map(|(number, _)| Ok(Told::Persisted(number)));
                    // The metaserver that asked may have stopped.
                    finished.map(|number| confirm.send(number));
                }
            });
            let stopped = async { drop(stopped.await) };
            meta::run_here(&config, cluster, records, Disk { batches, told }, stopped).await
        };
        let process = Process::start(&self.net, Node::Meta, body);
        self.meta.replace(Some(Meta { process, _stop: stop }));
    }

    pub fn kill_meta(&self) {
        if let Some(meta) = self.meta.take() {
            meta.process.kill();
        }
    }

    /// Starts server `id` as a new process.
    pub fn start_server(&self, id: ServerId) {
        self.processes.set(self.processes.get() + 1);
        let (number, config) = (self.processes.get(), self.config.clone());
        let (stop, stopped) = mpsc::unbounded_channel();
        let body = async move { server::run_here(&config, id, number, stopped).await };
        let process = Process::start(&self.net, Node::Server(id), body);
        let old = self
            .servers
            .borrow_mut()
            .insert(id, Server { process, stopping: Cell::new(false), stop });
        assert!(old.is_none_or(|old| !old.process.runs()), "server {} runs twice", id.0);
    }

    /// Kills server `id`, whatever it does.
    pub fn kill_server(&self, id: ServerId) {
        if let Some(server) = self.servers.borrow().get(&id) {
            server.process.kill();
        }
    }

    /// Asks server `id` to stop, as by SIGTERM.
    pub fn stop_server(&self, id: ServerId) {
        if let Some(server) = self.servers.borrow().get(&id) {
            server.stopping.set(true);
            // One that has ended needs no telling.
            let _ = server.stop.send(());
        }
    }

    #[must_use]
    pub fn server_runs(&self, id: ServerId) -> bool {
        self.servers.borrow().get(&id).is_some_and(|server| server.process.runs())
    }

    /// What server `id` ended with, if it ended by itself; once.
    pub fn server_outcome(&self, id: ServerId) -> Option<anyhow::Result<()>> {
        self.servers.borrow().get(&id).and_then(|server| server.process.take_outcome())
    }

    /// Whether the loss of `victim` leaves every key set a member that lives and means to stay.
    #[must_use]
    pub fn may_lose(&self, victim: ServerId) -> bool {
        let disk = self.disk.borrow();
        let records = disk.records();
        let stays = |member: Member| {
            let latest = records.iter().any(
                |record| matches!(record, MetaRecord::Server(row) if row.entry.member() == member),
            );
            let servers = self.servers.borrow();
            let server = servers.get(&member.server).filter(|it| it.process.runs());
            member.server != victim && latest && server.is_some_and(|it| !it.stopping.get())
        };
        // A removal may be on its way to the disk.
        disk.pending() == 0
            && disk.sets().filter_map(|row| row.configuration.as_ref()).all(|it| {
                std::iter::once(&it.primary).chain(&it.secondaries).any(|&member| stays(member))
            })
    }

    /// Starts client number `number`, whose certificate all clients share.
    pub fn client(&self, number: u16) -> Client {
        let options = ClientOptions::from_config(&self.config, CLIENT)
            .expect("every planned cluster lists this client");
        let random = self.draw(|rng| {
            // The top bit is set, so that ids of sessions are of one length on the wire.
            u128::from(rng.next_u64() | 1 << 63) << 64 | u128::from(rng.next_u64())
        });
        let (client, body) = Client::connect_here(options, random).expect("good credentials");
        let body = async move {
            body.await;
            Ok(())
        };
        let node = Node::Client(ClientId(number));
        self.clients.borrow_mut().push(Process::start(&self.net, node, body));
        client
    }

    /// Kills everybody.
    fn end(&self) {
        self.kill_meta();
        self.servers.borrow().values().for_each(|server| server.process.kill());
        self.clients.borrow().iter().for_each(Process::kill);
    }
}

/// A folder for one world's certificates and state directories, which goes away with it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("world-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for a world's state");
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left over files harm nobody.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn plan(workers: u16) -> Plan {
    let nodes =
        std::iter::once(Node::Meta).chain((1..=SERVERS).map(|id| Node::Server(ServerId(id))));
    Plan {
        durable: false,
        name: "virtual".to_owned(),
        servers: SERVERS,
        workers,
        replicas: 2,
        key_sets: 6,
        spawn: false,
        hosts: Hosts::Each(nodes.map(host).collect()),
        settings: Vec::new(),
        of_servers: Vec::new(),
    }
}
