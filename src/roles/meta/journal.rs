//! The journal's thread: what waits is made durable together, and then confirmed.

use std::sync::mpsc;

use anyhow::Result;
use tokio::sync::mpsc as queue;

use crate::protocol::meta::durable::MetaRecord;
use crate::store::journal::Journal;

/// A batch of records and the number of its effect.
pub type Batch = (u64, Vec<MetaRecord>);

/// Starts the thread. Numbers come back on `persisted`; a failure ends the stream, because what
/// could not be made durable must never be said.
pub fn start(
    mut journal: Journal,
    persisted: queue::UnboundedSender<Result<u64>>,
) -> Result<mpsc::Sender<Batch>> {
    let (batches, inbox) = mpsc::channel::<Batch>();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Ok((mut number, mut records)) = inbox.recv() {
            while let Ok((later, more)) = inbox.try_recv() {
                number = later;
                records.extend(more);
            }
            let outcome = journal.commit(&records).map(|()| number).map_err(anyhow::Error::from);
            let failed = outcome.is_err();
            if persisted.send(outcome).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(batches)
}
