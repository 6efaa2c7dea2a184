//! Scans of everything, again and again: how many records a second come back in order.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use tandem::client::{ScanOptions, Session};
use tandem::clock;
use tandem::protocol::time::Span;

use crate::load::Pace;

/// What scans found within their time.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    /// Scans that came to their end.
    pub scans: u64,
}

/// Lets every session scan all `keys` keys until the time is over.
///
/// # Errors
/// A page can not be read, or a scan misses keys.
pub async fn drive(sessions: Vec<Session>, keys: u64, pace: Pace) -> Result<Scanned> {
    let from = clock::now() + Span::from(pace.warm_up);
    let to = from + Span::from(pace.length);
    let (records, bytes, scans) = (Rc::<Cell<u64>>::default(), Rc::default(), Rc::default());
    let mut tasks = tokio::task::JoinSet::new();
    for session in sessions {
        let (records, bytes) = (records.clone(), Rc::<Cell<u64>>::clone(&bytes));
        let scans = Rc::<Cell<u64>>::clone(&scans);
        tasks.spawn_local(async move {
            while clock::now() < to {
                let mut scan = session.scan("key-", ScanOptions::default());
                let mut found = 0;
                while let Some(record) = scan.next().await? {
                    found += 1;
                    let now = clock::now();
                    if now >= to {
                        return Ok(());
                    }
                    if now >= from {
                        records.set(records.get() + 1);
                        let length = record.key.len() + record.value.len();
                        bytes.set(bytes.get() + length as u64);
                    }
                }
                ensure!(found >= keys, "a scan found {found} of {keys} keys");
                scans.set(scans.get() + 1);
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a session panicked")??;
    }
    let seconds = pace.length.as_secs_f64();
    Ok(Scanned {
        records_per_second: records.get() as f64 / seconds,
        bytes_per_second: bytes.get() as f64 / seconds,
        scans: scans.get(),
    })
}
