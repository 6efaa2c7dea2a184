//! Random worlds: faults of every kind, drawn from a seed, one after the other.
//!
//! Goal: whatever connections, processes and addresses suffer, no acknowledged write is lost, no
//! read is stale, no call stays without an outcome, and once it is over the cluster is whole
//! again.
//! Method: a world from each seed; faults while clients work under a ledger; then all is mended,
//! and everything must be served and read back. A server is killed only where every key set
//! keeps another member that lives, because more than that is promised to nobody.

use std::rc::Rc;

use tandem::clock;
use tandem::protocol::time::Span;
use tandem::protocol::types::ServerId;
use tandem::sim::rng::Rng;
use tandem::sim::{ClientId, Node};

use super::load::{Load, Manner, Tally};
use super::network::Weather;
use super::world::{Ran, SERVERS, Settings, World, run};
use super::{until_whole, wait};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 20;

/// Clients of a random world.
const CLIENTS: u16 = 2;

/// Faults of a random world.
const FAULTS: u64 = 12;

/// Few calls: their number costs more than the faults between them.
const CALM: Manner = Manner { rest_max: Span::from_millis(150), drop_ppm: 0, value_bytes_max: 64 };

/// What can be done to a world.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum Fault {
    Kill,
    Stop,
    KillMeta,
    CutOneWay,
    CutBothWays,
    Isolate,
    Move,
    Storm,
    Drops,
    LargeValues,
}

const FAULT_KINDS: [Fault; 10] = [
    Fault::Kill,
    Fault::Stop,
    Fault::KillMeta,
    Fault::CutOneWay,
    Fault::CutBothWays,
    Fault::Isolate,
    Fault::Move,
    Fault::Storm,
    Fault::Drops,
    Fault::LargeValues,
];

fn nodes() -> Vec<Node> {
    let servers = (1..=SERVERS).map(|id| Node::Server(ServerId(id)));
    let clients = (0..CLIENTS).map(|id| Node::Client(ClientId(id)));
    std::iter::once(Node::Meta).chain(servers).chain(clients).collect()
}

/// Starts again whatever server is down, as a supervisor would, until everyone is up.
fn restart_the_dead(world: &World) {
    for id in (1..=SERVERS).map(ServerId) {
        if !world.server_runs(id) {
            world.start_server(id);
        }
    }
}

/// Does one thing to the world; false if it was not possible now.
fn strike(world: &World, load: &Load, fault: Fault) -> bool {
    let victim = ServerId(world.draw(|rng| rng.between(1, u64::from(SERVERS))) as u16);
    let client = Node::Client(ClientId(world.draw(|rng| rng.below(u64::from(CLIENTS))) as u16));
    let two = {
        let mut nodes = nodes();
        let first = nodes.remove(world.draw(|rng| rng.below(nodes.len() as u64)) as usize);
        (first, nodes.remove(world.draw(|rng| rng.below(nodes.len() as u64)) as usize))
    };
    match fault {
        Fault::Kill if world.may_lose(victim) => world.kill_server(victim),
        Fault::Stop if world.may_lose(victim) => world.stop_server(victim),
        Fault::Kill | Fault::Stop => return false,
        Fault::KillMeta => world.kill_meta(),
        Fault::CutOneWay => world.net.cut(two.0, two.1),
        Fault::CutBothWays => {
            world.net.cut(two.0, two.1);
            world.net.cut(two.1, two.0);
        }
        Fault::Isolate => nodes().into_iter().filter(|&node| node != two.0).for_each(|node| {
            world.net.cut(two.0, node);
            world.net.cut(node, two.0);
        }),
        Fault::Move => world.net.migrate(client, world.draw(|rng| rng.chance(500_000))),
        Fault::Storm => world.net.set_weather(Weather {
            loss_ppm: world.draw(|rng| rng.below(200_000)),
            late_ppm: 100_000,
            late_max: Span::from_millis(50),
            ..Weather::ROUGH
        }),
        Fault::Drops => load.set_manner(Manner { drop_ppm: 500_000, ..CALM }),
        Fault::LargeValues => {
            load.set_manner(Manner { value_bytes_max: 200_000, ..CALM });
        }
    }
    true
}

/// Ends what `fault` began.
fn mend(world: &World, load: &Load, fault: Fault) {
    match fault {
        Fault::Kill | Fault::Stop | Fault::Move => {}
        Fault::KillMeta => world.start_meta(),
        Fault::CutOneWay | Fault::CutBothWays | Fault::Isolate => world.net.mend_all(),
        Fault::Storm => world.net.set_weather(Weather::ROUGH),
        Fault::Drops | Fault::LargeValues => load.set_manner(CALM),
    }
    restart_the_dead(world);
}

/// One fault after the other, some before the last one is mended.
async fn trouble(world: &Rc<World>, load: &Load) -> Vec<Fault> {
    let mut struck = Vec::new();
    let mut lasting: Option<Fault> = None;
    while (struck.len() as u64) < FAULTS {
        let kind = world.draw(|rng| rng.pick(&FAULT_KINDS).copied()).expect("there are kinds");
        if strike(world, load, kind) {
            tracing::info!(fault = ?kind, at = ?clock::now(), "struck");
            struck.push(kind);
            let last = lasting.replace(kind);
            wait::pause(world.draw(draw_length)).await;
            last.into_iter().for_each(|last| mend(world, load, last));
            if world.draw(|rng| rng.chance(600_000)) {
                lasting.take().into_iter().for_each(|last| mend(world, load, last));
            }
        }
        wait::pause(world.draw(draw_length)).await;
    }
    lasting.into_iter().for_each(|last| mend(world, load, last));
    world.net.set_weather(Weather::ROUGH);
    world.net.mend_all();
    struck
}

/// Mostly about as long as leases and silences last, at times longer than connections live.
fn draw_length(rng: &mut Rng) -> Span {
    let longest = if rng.chance(200_000) { 6_000 } else { 700 };
    rng.span(Span::from_millis(1), Span::from_millis(longest))
}

/// One world; what was done to it, and what its load came to.
fn random_world(seed: u64) -> (Ran, Vec<Fault>, Tally) {
    let workers = 1 + (seed % 2) as u16;
    let settings = Settings { weather: Weather::ROUGH, workers, ..Settings::new(seed) };
    let mut outcome = None;
    let ran = run(settings, async |world| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| world.client(number)).collect();
        until_whole(&clients[0]).await;
        let mut load = Load::new(CALM);
        for (number, client) in clients.iter().enumerate() {
            load.join(&world, client, &format!("c{number}"), 2);
        }
        let struck = trouble(&world, &load).await;
        wait::until("a whole cluster after all faults", super::WHOLE, async || {
            restart_the_dead(&world);
            let asked = tandem_local::status::ask(&clients[0]).await;
            let status = asked.map_err(|error| format!("{error:#}"))?;
            let whole = tandem_local::status::is_whole(&status);
            if whole { Ok(()) } else { Err(format!("{:?}", status.sets)) }
        })
        .await;
        load.until_progress(20).await;
        let tally = load.finish(&world, &clients[0]).await;
        outcome = Some((struck, tally));
    });
    let (struck, tally) = outcome.expect("the world ran to its end");
    (ran, struck, tally)
}

/// The seeds to run: those of the environment, or the first ones.
fn seeds() -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    match number("TANDEM_VIRTUAL_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("TANDEM_VIRTUAL_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn random_worlds_keep_their_promises() {
    let begun = clock::now();
    let mut lasted = Span::ZERO;
    let (mut packets, mut faults, mut sum) = (0, 0, Tally::default());
    let seeds = seeds();
    for &seed in &seeds {
        let (ran, struck, tally) = random_world(seed);
        lasted = lasted + ran.lasted;
        packets += ran.trace.packets;
        faults += struck.len();
        sum = Tally {
            reads: sum.reads + tally.reads,
            writes: sum.writes + tally.writes,
            not_done: sum.not_done + tally.not_done,
            unknown: sum.unknown + tally.unknown,
            dropped: sum.dropped + tally.dropped,
        };
        println!("seed {seed}: {:016x} {struck:?} {tally:?}", ran.trace.digest());
    }
    let seconds = |span: Span| span.0 as f64 / 1e9;
    let real = seconds(clock::now().since(begun)).max(f64::EPSILON);
    println!(
        "{} seeds in {real:.1} s ({:.0} a minute), {faults} faults, {packets} packets, {:.0} s of \
         virtual time ({:.0} to one); {sum:?}",
        seeds.len(),
        seeds.len() as f64 * 60.0 / real,
        seconds(lasted),
        seconds(lasted) / real
    );
}
