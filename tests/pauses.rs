//! Goal: a planned handover pauses a key set for one sync of the metaserver's disk and a few
//! messages, and not for those of other key sets.
//! Method: a quiet world whose metaserver's disk takes 20 ms, so that a second sync would show;
//! writers to many key sets, one write after the other; the server that leads most of them stops
//! in order. Each write's time is the world's own.

use tandem::protocol::message::Operation;
use tandem::protocol::session::Outcome;
use tandem::protocol::time::Span;
use tandem::protocol::types::{KeySet, ServerId, Value};
use tandem::sim::invariants::healed;
use tandem::sim::trace::Trace;
use tandem::sim::workload::key_in;
use tandem::sim::{ClientId, Settings, World};

const SETS: u16 = 24;

/// What a key set's handover may cost a write that falls into it.
const PAUSE_MAX: Span = Span::from_millis(25);

/// Far longer than any pause that would pass.
const PATIENCE: Span = Span::from_millis(10_000);

/// Writes to `set` once, and tells how long it took.
fn write(world: &mut World, client: ClientId, set: KeySet) -> Span {
    let key = key_in(set, SETS, "written");
    let begun = world.now();
    let put = Operation::Put { key, value: Value::from_static(b"value") };
    let operation = world.submit(client, put, PATIENCE);
    let known = |world: &World| {
        let running = &world.clients.get(&client).expect("a client").running;
        running.outcomes.get(&operation).cloned()
    };
    world.run_until(PATIENCE, |world| known(world).is_some());
    assert!(matches!(known(world), Some(Outcome::Done(_))), "{:?}", known(world));
    world.now().since(begun)
}

fn leads(world: &World, set: KeySet) -> Option<ServerId> {
    Some(world.meta.disk.set(set)?.configuration.as_ref()?.primary.server)
}

#[test]
fn a_planned_handover_waits_for_one_sync() {
    let disk = Span::from_millis(20);
    let settings = Settings { disk_min: disk, disk_max: disk, ..Settings::quiet(3, 2, SETS) };
    let mut longest = Span::ZERO;
    // Each run follows another key set, for a write only meets the pause of its own.
    for round in 0..4 {
        let mut world = World::new(settings.clone(), 1, Trace::default());
        world.start_all();
        world.run_until(PATIENCE, |world| healed::obstacle(world).is_none());
        let client = world.add_client(None, None);
        let led = (0..SETS).map(KeySet).filter(|&it| leads(&world, it) == Some(ServerId(1)));
        let set = led.clone().nth(round * led.count() / 4).expect("server 1 leads key sets");
        write(&mut world, client, set);
        world.ask_to_stop(ServerId(1));
        while leads(&world, set) == Some(ServerId(1)) {
            longest = longest.max(write(&mut world, client, set));
        }
        for _ in 0..100 {
            longest = longest.max(write(&mut world, client, set));
        }
        assert!(world.violation.is_none());
    }
    assert!(longest > Span::ZERO && longest <= PAUSE_MAX, "a write took {longest:?}");
}
