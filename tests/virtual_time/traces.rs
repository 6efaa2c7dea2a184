//! The same seed gives the same packets.
//!
//! Goal: a run is its seed's alone: nothing of it depends on the machine, on the real clock or on
//! chance that is not drawn from the seed, so that a failing seed fails again.
//! Method: the same world twice, with losses, a killed server and large values, and every packet
//! compared; then another seed. And a task that panics, which must not pass unseen.

use tandem::protocol::time::Span;
use tandem::protocol::types::ServerId;
use tandem::sim::{ClientId, Node};

use super::load::{Load, Manner};
use super::network::{Sent, Weather};
use super::process::Process;
use super::until_whole;
use super::world::{Ran, Settings, run};

fn eventful(seed: u64) -> Ran {
    let settings =
        Settings { weather: Weather::ROUGH, workers: 2, keep_trace: true, ..Settings::new(seed) };
    run(settings, async |world| {
        let client = world.client(0);
        until_whole(&client).await;
        let mut load = Load::new(Manner { value_bytes_max: 20_000, ..Manner::default() });
        load.join(&world, &client, "a", 2);
        load.until_progress(40).await;
        world.kill_server(ServerId(1));
        load.until_progress(40).await;
        world.start_server(ServerId(1));
        until_whole(&client).await;
        load.finish(&world, &client).await;
    })
}

fn packets(ran: &Ran) -> &[Sent] {
    ran.trace.kept.as_deref().expect("the trace is kept")
}

#[test]
#[should_panic(expected = "a task panicked")]
fn a_panic_of_a_task_is_seen() {
    run(Settings::new(3), async |world| {
        let body = async { panic!("as planned") };
        let process = Process::start(&world.net, Node::Client(ClientId(7)), body);
        super::wait::until("the end of a process", Span::from_millis(1_000), async || {
            if process.runs() { Err("it runs".to_owned()) } else { Ok(()) }
        })
        .await;
    });
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let (first, again) = (eventful(1), eventful(1));
    for (number, (one, other)) in packets(&first).iter().zip(packets(&again)).enumerate() {
        assert_eq!(one, other, "packet {number} differs");
    }
    assert_eq!(packets(&first).len(), packets(&again).len());
    assert_eq!(first.trace.digest(), again.trace.digest());
    let other = eventful(2);
    assert_ne!(first.trace.digest(), other.trace.digest(), "the seed does not matter");
}
