//! What the effects on an engine lead to, in memory; and effects as replicas emit them.

use std::rc::Rc;

use bytes::Bytes;

use super::super::Found;
use super::{Dice, KEY_SETS};
use crate::protocol::effect::WorkerEffect;
use crate::protocol::inheritance::{Inheritance, Standing};
use crate::protocol::limits::Limits;
use crate::protocol::message::DedupSnapshot;
use crate::protocol::types::{
    Change, Entry, Epoch, Expiry, KeySet, LossEpoch, Op, Origin, Record, RequestNumber, Revision,
    RunId, SessionId, Written,
};
use crate::store::kept::Kept;
use crate::store::{ChunkRange, Engine, MemoryEngine};

/// The state that effects lead to.
#[derive(Clone)]
pub struct Model {
    kept: Vec<Kept>,
    store: MemoryEngine,
}

impl Model {
    pub fn new(key_sets: u16) -> Model {
        Model {
            kept: vec![Kept::default(); usize::from(key_sets)],
            store: MemoryEngine::new(key_sets),
        }
    }

    fn kept(&mut self, set: KeySet) -> &mut Kept {
        &mut self.kept[usize::from(set.0)]
    }

    pub fn carry_out(&mut self, effect: &WorkerEffect) {
        match effect.clone() {
            WorkerEffect::Append { set, entries } => self.kept(set).append(entries),
            WorkerEffect::Cut { set, through } => self.kept(set).cut(through),
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
                self.store.apply(set, revision, &entry, keep_tombstone);
                self.kept(set).commit(&entry, revision, Limits::default().dedup_records_max);
            }
            WorkerEffect::StoreChunk { set, after, through, read_at, records, .. } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                self.store.store_chunk(set, range, read_at, &records);
            }
            WorkerEffect::DropTombstones { set } => self.store.drop_tombstones(set),
            WorkerEffect::Clear { set, at, dedup } => {
                self.store.clear(set, at);
                self.kept(set).restart(at, dedup);
            }
            WorkerEffect::Expire { set, keys } => self.kept(set).expire(&keys),
            WorkerEffect::Rebase { set, at, dedup } => {
                self.store.rebase(set, at);
                self.kept(set).restart(at, dedup);
            }
            WorkerEffect::StoreChanges { set, read_at, records, deleted, .. } => {
                self.store.store_changes(set, read_at, &records, &deleted);
            }
            WorkerEffect::Remember { set, standing, .. } => self.kept(set).remember(standing),
            other => panic!("{other:?} is never drawn"),
        }
    }

    pub fn inheritances(&self) -> impl Iterator<Item = Inheritance> {
        (0..).map(KeySet).zip(&self.kept).map(|(set, kept)| kept.inheritance(set))
    }

    /// Whether a restart found this.
    pub fn is_found(&self, found: &Found) -> bool {
        let kept = self.inheritances().eq(found.inheritance.iter().cloned());
        kept && (0..KEY_SETS).map(KeySet).all(|set| {
            let own = self.store.range(set, b"", None, u32::MAX, u32::MAX);
            let layers = &found.engine.layers;
            let there = layers.range(set, b"", None, u32::MAX, u32::MAX).expect("it is readable");
            let point = |record: &Record| {
                layers.get(set, &record.key).expect("it is readable")
                    == Some((record.value.clone(), record.revision))
            };
            own == there && own.records.iter().all(point)
        })
    }
}

impl Model {
    /// A life begins: no chunk of an earlier one comes any more, and deletes are kept for none.
    pub fn restart(&mut self) {
        (0..KEY_SETS).for_each(|set| self.store.drop_tombstones(KeySet(set)));
    }

    /// How what a restart found differs from this, in words for people.
    pub fn differences(&self, found: &Found) -> String {
        let mut words = String::new();
        for (own, there) in self.inheritances().zip(&found.inheritance) {
            if own != *there {
                words += &format!("\n own   {own:?}\n found {there:?}");
            }
        }
        for set in (0..KEY_SETS).map(KeySet) {
            let own = self.store.range(set, b"", None, u32::MAX, u32::MAX).records;
            let there = found.engine.layers.range(set, b"", None, u32::MAX, u32::MAX);
            let there = there.expect("it is readable").records;
            let short = |it: &Record| (it.key.clone(), it.revision, it.value.len());
            let (own, there): (Vec<_>, Vec<_>) =
                (own.iter().map(short).collect(), there.iter().map(short).collect());
            if own != there {
                words += &format!("\n own   {own:?}\n found {there:?}");
            }
        }
        words
    }
}

/// What a replica of each key set would do next.
pub struct Generator {
    sets: Vec<Progress>,
    numbers: u64,
    /// Kinds of effects; the last ones are those of a copy by difference.
    kinds: u64,
}

/// All kinds, and those that were drawn before copies by difference.
pub const KINDS: u64 = 19;
pub const KINDS_WITHOUT_CHANGES: u64 = 16;

#[derive(Clone, Default)]
struct Progress {
    epoch: u64,
    committed: u64,
    window: Vec<Rc<Entry>>,
    copying: bool,
}

impl Generator {
    /// Goes on from what a restart found.
    pub fn of(model: &Model, kinds: u64) -> Generator {
        let progress = |it: Inheritance| Progress {
            epoch: it.window.last().map_or(it.committed_epoch, |entry| entry.epoch).0 + 1,
            committed: it.committed.0,
            window: it.window,
            copying: false,
        };
        Generator { sets: model.inheritances().map(progress).collect(), numbers: 0, kinds }
    }

    pub fn effect(&mut self, dice: &mut Dice) -> WorkerEffect {
        let index = dice.below(u64::from(KEY_SETS)) as usize;
        let set = KeySet(index as u16);
        self.numbers += 1;
        let number = self.numbers;
        let progress = &mut self.sets[index];
        match dice.below(self.kinds) {
            0..=5 => progress.append(dice, set, number, self.kinds == KINDS),
            6..=10 if !progress.window.is_empty() => progress.apply(set),
            11 => {
                let keep = dice.below(progress.window.len() as u64 + 1) as usize;
                progress.window.truncate(keep);
                progress.epoch += 1;
                WorkerEffect::Cut { set, through: Op(progress.committed + keep as u64) }
            }
            12 => {
                *progress = Progress { copying: true, ..progress.clone() };
                progress.window.clear();
                progress.committed += dice.below(3);
                let dedup = DedupSnapshot { horizon: Op(dice.below(3)), records: Vec::new() };
                WorkerEffect::Clear { set, at: Op(progress.committed), dedup }
            }
            16 if progress.window.is_empty() => {
                *progress = Progress { copying: true, ..progress.clone() };
                progress.committed += dice.below(3);
                let dedup = DedupSnapshot { horizon: Op(dice.below(3)), records: Vec::new() };
                WorkerEffect::Rebase { set, at: Op(progress.committed), dedup }
            }
            17 if progress.copying && progress.window.is_empty() => {
                WorkerEffect::Expire { set, keys: vec![(key(dice), Expiry(number))] }
            }
            17 | 18 if progress.copying => progress.changes(dice, set),
            13 | 14 if progress.copying => progress.chunk(dice, set),
            15 if progress.copying => {
                progress.copying = false;
                WorkerEffect::DropTombstones { set }
            }
            _ => {
                let whole_from = (dice.below(2) == 0).then(|| Op(dice.below(50)));
                let standing = Standing { whole_from, ..Standing::default() };
                WorkerEffect::Remember { set, number, standing }
            }
        }
    }
}

fn key(dice: &mut Dice) -> Bytes {
    Bytes::from(format!("key {:02}", dice.below(24)))
}

fn value(dice: &mut Dice) -> Bytes {
    let bytes = match dice.below(4) {
        0 => 0,
        1 => dice.below(1_500) as usize,
        _ => dice.below(60) as usize,
    };
    let fill = dice.below(4) as u8 * 60;
    Bytes::from(vec![fill; bytes])
}

impl Progress {
    fn revision(&self) -> Revision {
        Revision { loss_epoch: LossEpoch(0), op: Op(self.committed) }
    }

    /// The next entries, or others in the place of some of the window.
    fn append(
        &mut self,
        dice: &mut Dice,
        set: KeySet,
        number: u64,
        expiring: bool,
    ) -> WorkerEffect {
        if dice.below(4) == 0 {
            self.window.truncate(dice.below(self.window.len() as u64 + 1) as usize);
            self.epoch += 1;
        }
        let first = self.window.len();
        for _ in 0..=dice.below(3) {
            let op = Op(self.committed + self.window.len() as u64 + 1);
            let delete = dice.below(4) == 0;
            let change = match (delete, expiring && number.is_multiple_of(3)) {
                (true, _) => Change::Delete,
                (false, true) => Change::Expiring(value(dice), Expiry(number)),
                (false, false) => Change::Put(value(dice)),
            };
            let origin = (dice.below(3) > 0).then(|| Origin {
                session: SessionId(u128::from(dice.below(5))),
                number: RequestNumber(number * 4 + self.window.len() as u64 % 4),
                answered_below: RequestNumber(number.saturating_sub(dice.below(9)) * 4),
                base: Revision::default(),
            });
            self.window.push(Rc::new(Entry {
                epoch: Epoch(self.epoch),
                born: Epoch(self.epoch),
                op,
                origin,
                key: key(dice),
                change,
                written: Written::Stored,
            }));
        }
        WorkerEffect::Append { set, entries: self.window[first..].to_vec() }
    }

    fn apply(&mut self, set: KeySet) -> WorkerEffect {
        let entry = self.window.remove(0);
        self.committed = entry.op.0;
        let keep_tombstone = self.copying;
        WorkerEffect::Apply { set, revision: self.revision(), entry, keep_tombstone }
    }

    /// Records as of an op, and that op.
    fn records(&self, dice: &mut Dice) -> (Vec<Record>, Revision) {
        let read_at = self.committed.saturating_sub(dice.below(4));
        let read_at = Revision { loss_epoch: LossEpoch(0), op: Op(read_at) };
        let mut keys: Vec<Bytes> = (0..dice.below(5)).map(|_| key(dice)).collect();
        keys.sort_unstable();
        keys.dedup();
        let records = keys.into_iter().map(|key| {
            let revision = Revision { op: Op(dice.below(read_at.op.0 + 1)), ..read_at };
            Record { key, value: value(dice), revision }
        });
        (records.collect(), read_at)
    }

    fn changes(&self, dice: &mut Dice, set: KeySet) -> WorkerEffect {
        let (records, read_at) = self.records(dice);
        let drawn = (0..dice.below(4)).map(|_| key(dice));
        let deleted = drawn.filter(|key| records.iter().all(|it| it.key != key)).collect();
        let (run, through) = (RunId(1), None);
        WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted }
    }

    fn chunk(&self, dice: &mut Dice, set: KeySet) -> WorkerEffect {
        let mut ends = [key(dice), key(dice)];
        ends.sort_unstable();
        let [after, through] = ends.map(|end| (dice.below(4) > 0).then_some(end));
        let (records, read_at) = self.records(dice);
        WorkerEffect::StoreChunk { set, run: RunId(1), after, through, read_at, records }
    }
}
