//! The journal's thread: what waits is made durable together, and then confirmed.
//!
//! Where the disk is full, a batch waits and is tried again; nothing that rests on it is said
//! meanwhile. First it gets the room that was kept for that.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;

use crate::protocol::meta::durable::MetaRecord;
use crate::store::journal::{Journal, JournalError};

/// How soon what a full disk did not take is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// A batch of records and the number of its effect.
pub type Batch = (u64, Vec<MetaRecord>);

/// What the journal's thread tells.
#[derive(Debug)]
pub enum Told {
    /// All batches up to this number are durable.
    Persisted(u64),
    /// The disk is full: what is durable, while the next batch waits.
    Full(Vec<MetaRecord>),
    /// It has room again.
    Roomy,
}

/// Where batches become durable.
pub struct Disk {
    pub batches: mpsc::UnboundedSender<Batch>,
    /// An error is the last word.
    pub told: mpsc::UnboundedReceiver<Result<Told>>,
}

/// Starts the thread. A failure ends what it tells, because what could not be made durable must
/// never be said.
pub fn start(mut journal: Journal) -> Result<Disk> {
    let (tell, told) = mpsc::unbounded_channel();
    let (batches, mut inbox) = mpsc::unbounded_channel::<Batch>();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Some((mut number, mut records)) = inbox.blocking_recv() {
            while let Ok((later, more)) = inbox.try_recv() {
                number = later;
                records.extend(more);
            }
            let outcome = commit(&mut journal, &records, &tell);
            let outcome = outcome.map(|()| Told::Persisted(number)).map_err(anyhow::Error::from);
            let failed = outcome.is_err();
            if tell.send(outcome).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(Disk { batches, told })
}

/// Makes `records` durable, however long the disk is full.
fn commit(
    journal: &mut Journal,
    records: &[MetaRecord],
    tell: &mpsc::UnboundedSender<Result<Told>>,
) -> Result<(), JournalError> {
    let mut full = false;
    loop {
        match journal.commit(records) {
            Err(JournalError::Full { .. }) if journal.release_reserve()? => {
                tracing::error!("the disk is full: going on with the room that was kept for that");
            }
            Err(error @ JournalError::Full { .. }) if !tell.is_closed() => {
                if !std::mem::replace(&mut full, true) {
                    tracing::error!("{error}; nothing changes until then");
                    // The control thread is gone only when the process ends.
                    let _ = tell.send(Ok(Told::Full(journal.records())));
                }
                std::thread::sleep(FULL_RETRY);
            }
            outcome => {
                if full && outcome.is_ok() {
                    tracing::info!("the metaserver's disk has room again");
                    let _ = tell.send(Ok(Told::Roomy));
                }
                return outcome;
            }
        }
    }
}
