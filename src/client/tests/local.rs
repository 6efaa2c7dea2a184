//! Goal: a client on its caller's thread does the same, and never keeps that thread for long.
//! Method: the tiny cluster, its client's loop and the test side by side in one `LocalSet`.

use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;

/// Operations begun at once, and the most that may leave between two turns of other tasks.
const BEGUN: usize = 2_000;
const TURN_MAX: usize = 256;

/// A client, and its loop.
fn client_here(tiny: &Tiny) -> (Client, JoinHandle<()>) {
    let cluster = tiny.clone();
    let options = ClientOptions { outstanding_max: BEGUN, ..options() };
    let transport = |events| Ok(TinyTransport { cluster, events });
    let (client, body) = Client::start_local(&options, 1, transport).expect("good options");
    (client, spawn_local(body))
}

fn on_this_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test);
}

#[test]
fn operations_are_done_and_a_closed_client_ends_its_loop() {
    on_this_thread(async {
        let (client, running) = client_here(&Tiny::default());
        let session = client.session();
        session.put("a", "1").await.expect("the tiny cluster answers");
        let read = session.get("a").await.expect("the tiny cluster answers");
        assert_eq!(read.item.expect("it was put").value, "1");
        client.close().await;
        running.await.expect("the loop ended by itself");
        let error = session.get("a").await.expect_err("the client is closed");
        assert!(error.is_surely_not_done(), "{error}");
    });
}

#[test]
fn a_dropped_loop_ends_what_is_in_flight() {
    on_this_thread(async {
        let tiny = Tiny::default();
        tiny.state().silent = true;
        let (client, running) = client_here(&tiny);
        let session = client.session();
        let write = session.begin(Operation::Put { key: "a".into(), value: "1".into() });
        while tiny.state().requests == 0 {
            yield_now().await;
        }
        running.abort();
        let error = write.await.expect_err("nobody answers any more");
        assert_eq!(error, Error::Closed { what: "put \"a\"".to_owned(), sent: true });
    });
}

#[test]
fn many_operations_leave_in_turns() {
    on_this_thread(async {
        let tiny = Tiny::default();
        let (client, _running) = client_here(&tiny);
        let session = client.session();
        session.get("a").await.expect("the tiny cluster answers");
        let get = |_| session.begin(Operation::Get { key: "a".into() });
        let reads: Vec<_> = (0..BEGUN).map(get).collect();
        let (mut seen, mut steps) = (tiny.state().requests, Vec::new());
        while seen <= BEGUN {
            yield_now().await;
            let requests = tiny.state().requests;
            steps.push(requests - seen);
            seen = requests;
        }
        assert!(steps.iter().all(|&step| step <= TURN_MAX), "{steps:?}");
        for read in reads {
            read.await.expect("the tiny cluster answers");
        }
    });
}
