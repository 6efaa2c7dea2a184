//! A disk that loses and tears what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::files::{Folder, LogFile};
use super::Dice;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: Vec<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made(String, u64),
    Renamed(String, String),
    Removed(String),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    files_last: u64,
    durable_names: BTreeMap<String, u64>,
    names: BTreeMap<String, u64>,
    changes: Vec<NameChange>,
    /// Counts power cuts: who opened a file before one is gone, and writes nothing any more.
    cuts: u64,
    /// A sync that does nothing: to show that the checks can fail.
    lying: bool,
    /// There is no room for a file.
    full: bool,
}

/// A disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Torn(Arc<Mutex<State>>);

#[derive(Debug)]
struct TornFile {
    disk: Torn,
    id: u64,
    /// Power cuts before it was opened.
    cuts: u64,
}

fn change(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Made(name, id) => drop(names.insert(name.clone(), *id)),
        NameChange::Renamed(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        NameChange::Removed(name) => drop(names.remove(name)),
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..=end.saturating_sub(1) / SECTOR);
    }

    fn crash(&mut self, dice: &mut Dice) {
        self.dirty.sort_unstable();
        self.dirty.dedup();
        let dirty = std::mem::take(&mut self.dirty);
        if !dirty.is_empty() && dice.below(2) == 0 {
            self.durable.resize(self.current.len(), 0);
        }
        // Either any of the sectors, or all up to some byte of one of them.
        let until = (dice.below(2) == 0).then(|| {
            let sector = dirty.get(dice.below(dirty.len().max(1) as u64) as usize);
            sector.map_or(0, |sector| sector * SECTOR + dice.below(SECTOR as u64) as usize)
        });
        for sector in dirty {
            let (from, mut to) = (sector * SECTOR, (sector + 1) * SECTOR);
            match until {
                Some(until) => to = to.min(until.max(from)),
                None if dice.below(2) == 0 => continue,
                None => {}
            }
            let to = to.min(self.current.len());
            if from < to {
                if self.durable.len() < to {
                    self.durable.resize(to, 0);
                }
                self.durable[from..to].copy_from_slice(&self.current[from..to]);
            }
        }
        self.current = self.durable.clone();
    }
}

impl Torn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: of what was not synced anything may be left.
    pub fn crash(&self, dice: &mut Dice) {
        let state = &mut *self.state();
        state.cuts += 1;
        for content in state.files.values_mut() {
            content.crash(dice);
        }
        for made in std::mem::take(&mut state.changes) {
            if dice.below(2) == 0 {
                change(&mut state.durable_names, &made);
            }
        }
        state.names = state.durable_names.clone();
    }

    /// From now on syncs do nothing.
    pub fn lie(&self) {
        self.state().lying = true;
    }

    /// Whether there is room for files from now on.
    pub fn fill(&self, full: bool) {
        self.state().full = full;
    }

    /// Flips one bit of what was synced, of a file that is chosen by `dice`.
    pub fn flip(&self, dice: &mut Dice) -> String {
        let state = &mut *self.state();
        let names: Vec<(String, u64)> =
            state.names.iter().map(|(name, &id)| (name.clone(), id)).collect();
        let (name, id) = names[dice.below(names.len() as u64) as usize].clone();
        let content = state.files.get_mut(&id).expect("a name is one of a file");
        let written = content.current.iter().rposition(|&byte| byte != 0).map_or(0, |it| it + 1);
        let at = dice.below(written.max(1) as u64) as usize;
        content.current[at] ^= 1 << dice.below(8);
        content.durable = content.current.clone();
        format!("byte {at} of {name}")
    }

    fn note(&self, made: NameChange) {
        let state = &mut *self.state();
        change(&mut state.names, &made);
        state.changes.push(made);
    }

    fn with<R>(&self, id: u64, act: impl FnOnce(&mut Content) -> R) -> R {
        act(self.state().files.get_mut(&id).expect("a file that is open is there"))
    }
}

impl TornFile {
    /// Acts on the content, unless the power was cut since it was opened.
    fn change(&self, act: impl FnOnce(&mut Content)) {
        if self.disk.state().cuts == self.cuts {
            self.disk.with(self.id, act);
        }
    }

    fn make_durable(&self) {
        if !self.disk.state().lying {
            self.change(|content| {
                content.durable = content.current.clone();
                content.dirty.clear();
            });
        }
    }
}

impl LogFile for TornFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|content| content.write(offset as usize, bytes));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.make_durable();
        Ok(())
    }
}

impl Folder for Torn {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn LogFile>> {
        let (id, cuts) = {
            let state = &mut *self.state();
            if state.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.files_last += 1;
            let current = vec![0; bytes as usize];
            let content = Content { current, ..Content::default() };
            state.files.insert(state.files_last, content);
            (state.files_last, state.cuts)
        };
        self.note(NameChange::Made(name.to_owned(), id));
        Ok(Box::new(TornFile { disk: self.clone(), id, cuts }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let id = self.state().names.get(name).copied();
        let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(self.with(id, |content| content.current.clone()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.note(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.note(NameChange::Removed(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.state();
        if !state.lying {
            state.changes.clear();
            state.durable_names = state.names.clone();
        }
        Ok(())
    }
}
