//! What the machines alone can not show: links that die, addresses that change, dropped calls.
//!
//! Goal: no fault of a connection loses an acknowledged write, fails a request that could wait,
//! or leaves a call without an outcome.
//! Method: one fault in each test, under a load whose ledger judges every read.

use tandem::protocol::time::Span;
use tandem::protocol::types::ServerId;
use tandem::sim::{ClientId, Node};

use super::load::{Load, Manner, Tally};
use super::network::Weather;
use super::world::{SERVERS, Settings, run};
use super::{busiest, until_ended, until_whole, wait};

const CLIENT: Node = Node::Client(ClientId(0));

/// Longer than a silent connection lives.
const LONG: Span = Span::from_millis(8_000);

fn assert_none_failed(load: Option<String>, tally: Tally) {
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "a request failed: {load:?}, {tally:?}");
}

#[test]
fn a_killed_server_costs_no_write() {
    let settings = Settings { weather: Weather::ROUGH, workers: 2, ..Settings::new(2) };
    run(settings, async |world| {
        let (client, other) = (world.client(0), world.client(1));
        let victim = busiest(&until_whole(&client).await);
        let mut load = Load::new(Manner::default());
        load.join(&world, &client, "a", 2);
        load.join(&world, &other, "b", 2);
        load.until_progress(100).await;
        world.kill_server(victim);
        load.until_progress(100).await;
        world.start_server(victim);
        wait::until("the recovery of the killed server", super::WHOLE, async || {
            let status = until_whole(&client).await;
            let begun = status.recoveries.iter().any(|it| it.failed.server == victim);
            if begun { Ok(()) } else { Err(format!("{:?}", status.recoveries)) }
        })
        .await;
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_none_failed(failure, tally);
    });
}

#[test]
fn a_planned_stop_fails_no_request() {
    run(Settings::new(3), async |world| {
        let client = world.client(0);
        let leaving = busiest(&until_whole(&client).await);
        let mut load = Load::new(Manner { value_bytes_max: 100_000, ..Manner::default() });
        load.join(&world, &client, "a", 3);
        load.until_progress(50).await;
        world.stop_server(leaving);
        until_ended(&world, leaving).await.expect("it stops in order");
        load.until_progress(50).await;
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_none_failed(failure, tally);
    });
}

#[test]
fn a_link_that_is_cut_one_way_times_out_and_comes_back() {
    run(Settings::new(4), async |world| {
        let client = world.client(0);
        until_whole(&client).await;
        let mut load = Load::new(Manner::default());
        load.join(&world, &client, "a", 2);
        load.until_progress(50).await;
        for from in 1..=SERVERS {
            let to = from % SERVERS + 1;
            let (from, to) = (Node::Server(ServerId(from)), Node::Server(ServerId(to)));
            world.net.cut(from, to);
            wait::pause(LONG).await;
            world.net.mend(from, to);
            until_whole(&client).await;
        }
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_none_failed(failure, tally);
    });
}

#[test]
fn a_client_that_is_cut_off_comes_back() {
    run(Settings::new(5), async |world| {
        let (client, watch) = (world.client(0), world.client(1));
        until_whole(&client).await;
        let mut load = Load::new(Manner::default());
        load.join(&world, &client, "a", 2);
        load.until_progress(50).await;
        let servers = || (1..=SERVERS).map(|id| Node::Server(ServerId(id)));
        // Its requests arrive, and no answer does; then the other way round.
        servers().for_each(|server| world.net.cut(server, CLIENT));
        wait::pause(Span::from_millis(5_000)).await;
        world.net.mend_all();
        load.until_progress(50).await;
        servers().for_each(|server| world.net.cut(CLIENT, server));
        wait::pause(Span::from_millis(5_000)).await;
        world.net.mend_all();
        load.until_progress(50).await;
        until_whole(&watch).await;
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_none_failed(failure, tally);
    });
}

#[test]
fn a_client_that_moves_in_mid_traffic_fails_no_request() {
    let settings = Settings { weather: Weather::ROUGH, ..Settings::new(6) };
    run(settings, async |world| {
        let client = world.client(0);
        until_whole(&client).await;
        let mut load = Load::new(Manner { value_bytes_max: 50_000, ..Manner::default() });
        load.join(&world, &client, "a", 4);
        load.until_progress(20).await;
        for turn in 0..10 {
            world.net.migrate(CLIENT, turn % 2 == 0);
            load.until_progress(20).await;
        }
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert_none_failed(failure, tally);
    });
}

#[test]
fn dropped_calls_leave_the_library_working() {
    let settings = Settings { weather: Weather::ROUGH, ..Settings::new(7) };
    run(settings, async |world| {
        let client = world.client(0);
        until_whole(&client).await;
        let manner = Manner { drop_ppm: 500_000, ..Manner::default() };
        let mut load = Load::new(manner);
        load.join(&world, &client, "a", 6);
        load.until_progress(200).await;
        load.set_manner(Manner::default());
        load.until_progress(200).await;
        let failure = load.first_failure();
        let tally = load.finish(&world, &client).await;
        assert!(tally.dropped > 50, "too few calls were dropped in mid-flight: {tally:?}");
        assert_none_failed(failure, tally);
    });
}
