//! The product's whole shell in virtual time: real quinn and rustls over a network in memory.
//!
//! The simulator runs the machines alone. Here runs what is around them: driver, connections,
//! streams, handshakes, idle timeouts, dropped futures, wake-ups. A lost wake-up shows as a call
//! that has no outcome at its deadline; and time costs nothing, so that a world sees minutes of
//! trouble in a second. `TANDEM_VIRTUAL_SEED` runs one seed of the random worlds again,
//! `TANDEM_VIRTUAL_SEEDS` that many.

mod faults;
mod hostile;
mod load;
mod network;
mod panics;
mod process;
mod random;
mod traces;
mod wait;
mod world;

use std::rc::Rc;

use tandem::client::Client;
use tandem::protocol::meta::Status;
use tandem::protocol::time::Span;
use tandem::protocol::types::ServerId;
use tandem_local::status;

/// Until a cluster is whole: it starts up, or copies what a failure cost.
const WHOLE: Span = Span::from_millis(60_000);

/// Waits until every key set is served with all its copies.
async fn until_whole(client: &Client) -> Status {
    wait::until("all copies of all key sets", WHOLE, async || {
        let status = status::ask(client).await.map_err(|error| format!("{error:#}"))?;
        if status::is_whole(&status) { Ok(status) } else { Err(format!("{:?}", status.sets)) }
    })
    .await
}

/// The server that is primary for most key sets.
fn busiest(status: &Status) -> ServerId {
    status.servers.iter().max_by_key(|it| it.primary_of).expect("a server").id
}

/// Waits until server `id` runs no more, and gives what it ended with.
async fn until_ended(world: &Rc<world::World>, id: ServerId) -> anyhow::Result<()> {
    wait::until("the end of a server", WHOLE, async || {
        if world.server_runs(id) { Err(format!("{id} runs")) } else { Ok(()) }
    })
    .await;
    world.server_outcome(id).unwrap_or(Ok(()))
}
