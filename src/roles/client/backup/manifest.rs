//! What a backup consists of, written when all of it is on the disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::super::Failure;
use super::damaged;
use crate::protocol::types::{KeySet, LossEpoch, Op, Revision};

const NAME: &str = "manifest.json";
/// Changes when a field changes its meaning.
const FORMAT: u32 = 1;

/// One key set of a backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SetFile {
    pub(super) set: u16,
    pub(super) loss_epoch: u32,
    pub(super) op: u64,
    /// Length of its file.
    pub(super) bytes: u64,
}

impl SetFile {
    pub(super) fn new(set: KeySet, revision: Revision, bytes: u64) -> SetFile {
        SetFile { set: set.0, loss_epoch: revision.loss_epoch.0, op: revision.op.0, bytes }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision { loss_epoch: LossEpoch(self.loss_epoch), op: Op(self.op) }
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        path_of(folder, KeySet(self.set))
    }
}

/// The file of a key set.
pub(super) fn path_of(folder: &Path, set: KeySet) -> PathBuf {
    folder.join(format!("set-{:05}.tandem", set.0))
}

/// A whole backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// The version of the program that took it.
    pub(super) version: String,
    /// The cluster that it was taken of.
    pub(super) cluster: String,
    pub(super) key_sets: u16,
    pub(super) sets: Vec<SetFile>,
}

/// The manifest's own checksum goes with it.
#[derive(Deserialize, Serialize)]
struct Sealed {
    manifest: Manifest,
    xxh3: String,
}

impl Manifest {
    pub(super) fn new(cluster: String, mut sets: Vec<SetFile>) -> Manifest {
        sets.sort_by_key(|it| it.set);
        let key_sets = u16::try_from(sets.len()).unwrap_or(u16::MAX);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Manifest { format: FORMAT, version, cluster, key_sets, sets }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sets.iter().map(|it| it.bytes).sum()
    }

    fn seal(&self) -> io::Result<String> {
        Ok(format!("{:016x}", xxh3_64(&serde_json::to_vec(self)?)))
    }

    /// Writes it and makes the directory's names durable: only now it is a backup.
    pub(super) fn store(self, folder: &Path) -> io::Result<()> {
        let xxh3 = self.seal()?;
        let text = serde_json::to_vec_pretty(&Sealed { manifest: self, xxh3 })?;
        let unfinished = folder.join("manifest.unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(unfinished, folder.join(NAME))?;
        File::open(folder)?.sync_all()?;
        // The directory's own name, if it is new.
        let above = std::path::absolute(folder)?;
        above.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
    }

    pub(super) fn load(folder: &Path) -> Result<Manifest, Failure> {
        let path = folder.join(NAME);
        let text = std::fs::read(&path).map_err(|error| {
            let folder = folder.display();
            damaged(format!("{folder} is no finished backup: can not read its {NAME}: {error}"))
        })?;
        let wrong =
            |why: String| damaged(format!("the backup is damaged: {} {why}", path.display()));
        let sealed: Sealed = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("is not what was written: {error}")))?;
        let Sealed { manifest, xxh3 } = sealed;
        if manifest.format != FORMAT {
            let format = manifest.format;
            return Err(wrong(format!(
                "has format {format}, and this program reads format {FORMAT}"
            )));
        }
        if manifest.seal()? != xxh3 {
            return Err(wrong("has a wrong checksum".to_owned()));
        }
        let complete = manifest.sets.iter().map(|it| it.set).eq(0..manifest.key_sets);
        if !complete {
            return Err(wrong("does not name every key set once".to_owned()));
        }
        Ok(manifest)
    }
}
