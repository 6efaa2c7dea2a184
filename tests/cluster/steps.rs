//! The metaserver dies in each of the four steps of a recovery, and finishes it after its return.
//!
//! Goal: no step of a recovery lives only in the metaserver's memory.
//! Method: a metaserver that ends itself, as by SIGKILL, at a hook in the step; a server is
//! killed under load, the metaserver dies, a new one starts, and the recovery goes on to its end.

use tandem::client::block_on;
use tandem::protocol::meta::durable::Step;
use tandem::protocol::types::Member;
use tandem_local::{Load, Plan, Role, status};

use super::loopback::{WHOLE, busiest, client, until_progress, until_whole};
use super::{TestCluster, wait};

fn survives_death_in(step: &str) {
    if !cfg!(feature = "hooks") {
        panic!(
            "the metaserver has no hooks in this build: run tools/test, or use --features hooks"
        );
    }
    let mut made = TestCluster::create(&Plan::default());
    made.cluster.start_meta_to_die_at(step).expect("the binary starts");
    let client = client(&made);
    let status = until_whole(&client);
    let server = busiest(&status);
    let victim = status.servers.iter().find(|it| it.id == server).expect("it is listed");
    let victim = Member { server, incarnation: victim.incarnation };
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 100);
    made.cluster.doom_meta().expect("a mark for the metaserver");
    made.cluster.kill(Role::Server(server)).expect("a running server");
    wait::until("the metaserver's death", WHOLE, || {
        if made.cluster.has_ended(Role::Meta) { Ok(()) } else { Err("it still runs".to_owned()) }
    });
    made.cluster.start_meta().expect("the binary starts");
    wait::until("the end of the recovery", WHOLE, || {
        let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
        let recovery = status.recoveries.iter().find(|it| it.failed == victim);
        let over = recovery.is_some_and(|it| it.step == Step::Done);
        if over && status::is_whole(&status) { Ok(()) } else { Err(format!("{status:?}")) }
    });
    until_progress(&load, 100);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
}

#[test]
fn meta_dies_in_invalidate() {
    survives_death_in("invalidate");
}

#[test]
fn meta_dies_in_copy_primary() {
    survives_death_in("copy-primary");
}

#[test]
fn meta_dies_in_copy_secondary() {
    survives_death_in("copy-secondary");
}

#[test]
fn meta_dies_in_resume() {
    survives_death_in("resume");
}
