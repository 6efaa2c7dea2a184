//! The metaserver dies in each of the four steps of a recovery, and finishes it after its return.
//!
//! Goal: no step of a recovery lives only in the metaserver's memory.
//! Method: a metaserver that ends itself, as by SIGKILL, at a hook in the step; a server is
//! killed under load, the metaserver dies, a new one starts, and the recovery goes on to its end.

use tandem::client::{Client, block_on};
use tandem::protocol::meta::Status;
use tandem::protocol::meta::durable::Step;
use tandem_local::{Load, Plan, Role, status};

use super::loopback::{WHOLE, busiest, client, until_progress, until_whole};
use super::{TestCluster, wait};

fn survives_death_in(step: &str) {
    if !cfg!(feature = "hooks") {
        panic!(
            "the metaserver has no hooks in this build: run tools/test, or use --features hooks"
        );
    }
    let mut made = TestCluster::start(&Plan::default());
    let client = client(&made);
    until_whole(&client);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    let victim = busiest(&whole_with_hook(&mut made, &client, step));
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 100);
    made.cluster.kill(Role::Server(victim)).expect("a running server");
    wait::until("the metaserver's death", WHOLE, || match made.cluster.process(Role::Meta) {
        Err(_) => Ok(()),
        Ok(process) => Err(format!("{process:?} still runs")),
    });
    made.cluster.start_meta().expect("the binary starts");
    wait::until("the end of the recovery", WHOLE, || {
        let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
        let recovery = status.recoveries.iter().find(|it| it.failed.server == victim);
        let over = recovery.is_some_and(|it| it.step == Step::Done);
        if over && status::is_whole(&status) { Ok(()) } else { Err(format!("{status:?}")) }
    });
    until_progress(&load, 100);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
}

/// Starts the metaserver with its hook and waits until the cluster is whole; starts it again if
/// it suspected somebody on a busy machine, and so died too early.
fn whole_with_hook(made: &mut TestCluster, client: &Client, step: &str) -> Status {
    wait::until("a whole cluster before the kill", WHOLE, || {
        if made.cluster.process(Role::Meta).is_err() {
            made.cluster.start_meta_to_die_at(step).map_err(|error| format!("{error:#}"))?;
        }
        let status = block_on(status::ask(client)).map_err(|error| format!("{error:#}"))?;
        let over = status.recoveries.iter().all(|it| it.step == Step::Done);
        if over && status::is_whole(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
}

#[test]
fn meta_dies_in_invalidate() {
    survives_death_in("invalidate");
}
