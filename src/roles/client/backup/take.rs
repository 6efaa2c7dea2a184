//! `admin backup`: reads every key set as it is at one revision, and writes it to a directory.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use indicatif::ProgressBar;
use serde_json::json;

use super::super::{Context, Failure, Format, report};
use super::file::{Stored, Writer};
use super::manifest::{Manifest, SetFile, path_of};
use super::{THREADS, bar};
use crate::client::{Piece, Session, block_on};
use crate::protocol::types::KeySet;
use crate::roles::Exit;

const BAR: &str = "{bar:40} {pos}/{len} key sets, {msg}, {eta} left";

pub(in super::super) fn run(context: &Context, folder: &Path) -> Result<Exit, Failure> {
    let session = context.client.session().with_timeout(context.timeout);
    let count = block_on(session.key_sets())?;
    let view = block_on(context.client.view(context.timeout));
    let cluster = view.map_err(|words| Failure { exit: Exit::Unavailable, words })?.cluster;
    make_room(folder)?;
    let progress = bar(BAR, u64::from(count));
    let next = AtomicU32::new(0);
    let taken = Mutex::new(Ok(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                take_some(&session, folder, count, (&next, &taken), &progress);
            });
        }
    });
    progress.finish_and_clear();
    let sets: Vec<SetFile> = taken.into_inner().unwrap_or_else(|poison| poison.into_inner())?;
    let manifest = Manifest::new(cluster.to_string(), sets);
    let (bytes, key_sets) = (manifest.bytes(), manifest.key_sets);
    manifest.store(folder).map_err(|error| unwritable(folder, &error))?;
    match context.format {
        Format::Json => report::print(&json!({ "key_sets": key_sets, "bytes": bytes }))?,
        Format::People => println!(
            "{key_sets} key sets, {bytes} bytes in {}; check it with `admin verify-backup`",
            folder.display()
        ),
    }
    Ok(Exit::Done)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("can not write {}: {error}", path.display()))
}

/// A backup has a directory of its own.
fn make_room(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let mut there = std::fs::read_dir(folder).map_err(|error| unwritable(folder, &error))?;
    if there.next().is_some() {
        let folder = folder.display();
        let words = format!("{folder} is not empty: a backup needs a directory of its own");
        return Err(Failure::usage(words));
    }
    Ok(())
}

type Taken = Mutex<Result<Vec<SetFile>, Failure>>;

/// Takes key sets until none is left, or one failed.
fn take_some(
    session: &Session,
    folder: &Path,
    count: u16,
    (next, taken): (&AtomicU32, &Taken),
    progress: &ProgressBar,
) {
    loop {
        let set = next.fetch_add(1, Ordering::Relaxed);
        let Some(set) = u16::try_from(set).ok().filter(|&set| set < count) else { return };
        let outcome = take_set(session, folder, KeySet(set));
        let mut taken = taken.lock().unwrap_or_else(|poison| poison.into_inner());
        match (&mut *taken, outcome) {
            (Err(_), _) => return,
            (Ok(sets), Ok(file)) => {
                sets.push(file);
                progress.inc(1);
                let bytes: u64 = sets.iter().map(|it| it.bytes).sum();
                progress.set_message(format!("{} MiB", bytes >> 20));
            }
            (failed, Err(failure)) => *failed = Err(failure),
        }
    }
}

fn take_set(session: &Session, folder: &Path, set: KeySet) -> Result<SetFile, Failure> {
    let path = path_of(folder, set);
    let failed = |error: io::Error| unwritable(&path, &error);
    let mut writer = Writer::create(&path, set).map_err(failed)?;
    let mut snapshot = session.snapshot(set);
    loop {
        let written = match block_on(snapshot.next())? {
            Piece::Records(records) => writer.write(&Stored::Records(records)),
            Piece::Changes { records, deleted } => {
                writer.write(&Stored::Changes { records, deleted })
            }
            Piece::Again => writer.begin_again(),
            Piece::End(revision) => {
                let bytes = writer.end(revision).map_err(failed)?;
                return Ok(SetFile::new(set, revision, bytes));
            }
        };
        written.map_err(failed)?;
    }
}
