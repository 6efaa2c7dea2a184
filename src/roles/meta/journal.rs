//! The journal's thread: what waits is made durable together, and then confirmed.

use anyhow::Result;
use tokio::sync::mpsc;

use crate::protocol::meta::durable::MetaRecord;
use crate::store::journal::Journal;

/// A batch of records and the number of its effect.
pub type Batch = (u64, Vec<MetaRecord>);

/// Where batches become durable.
pub struct Disk {
    pub batches: mpsc::UnboundedSender<Batch>,
    /// Numbers up to which all is durable; an error is the last word.
    pub persisted: mpsc::UnboundedReceiver<Result<u64>>,
}

/// Starts the thread. Numbers come back on `persisted`; a failure ends the stream, because what
/// could not be made durable must never be said.
pub fn start(mut journal: Journal) -> Result<Disk> {
    let (persisted, confirmed) = mpsc::unbounded_channel();
    let (batches, mut inbox) = mpsc::unbounded_channel::<Batch>();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Some((mut number, mut records)) = inbox.blocking_recv() {
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
    Ok(Disk { batches, persisted: confirmed })
}
