//! A store that writes all of itself at every checkpoint, on a disk that loses what is not synced.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::super::base::{Base, BaseError, Meta};
use super::super::files::Folder;
use super::super::overlay::Overlay;
use super::torn::Torn;
use crate::protocol::types::{Incarnation, KeySet, LossEpoch, Op, Record, Revision, Value};

const NAME: &str = "store";
const NAME_NEW: &str = "store.new";

type Records = BTreeMap<(u16, Vec<u8>), (Vec<u8>, u64)>;
type Encoded = (Records, u64, Option<Incarnation>, Vec<(KeySet, Vec<u8>)>);

pub struct TornBase {
    disk: Torn,
    state: Mutex<(Records, Meta)>,
}

impl TornBase {
    pub fn open(disk: Torn) -> Result<TornBase, BaseError> {
        let mut state = (Records::new(), Meta::default());
        if disk.names().is_ok_and(|names| names.iter().any(|name| name == NAME)) {
            let bytes = disk.read(NAME).map_err(|error| BaseError::Io(error.to_string()))?;
            let wrong = || BaseError::Damaged("the file of the store".to_owned());
            let (sum, encoded) = bytes.split_at_checked(8).ok_or_else(wrong)?;
            if xxhash_rust::xxh3::xxh3_64(encoded).to_le_bytes() != *sum {
                return Err(wrong());
            }
            let decoded: Encoded = postcard::from_bytes(encoded).map_err(|_| wrong())?;
            let (records, log_from, identity, sets) = decoded;
            state = (records, Meta { log_from, identity, sets });
        }
        Ok(TornBase { disk, state: Mutex::new(state) })
    }
}

fn record(key: &[u8], (value, op): &(Vec<u8>, u64)) -> Record {
    let revision = Revision { loss_epoch: LossEpoch(0), op: Op(*op) };
    Record { key: Bytes::copy_from_slice(key), value: Value::copy_from_slice(value), revision }
}

impl Base for TornBase {
    fn get(&self, set: KeySet, key: &[u8]) -> Result<Option<(Value, Revision)>, BaseError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.0.get(&(set.0, key.to_vec())).map(|stored| record(key, stored));
        Ok(found.map(|record| (record.value, record.revision)))
    }

    fn range(
        &self,
        set: KeySet,
        from: Bound<&[u8]>,
        items_max: usize,
    ) -> Result<Vec<Record>, BaseError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match from {
            Bound::Unbounded => Bound::Included((set.0, Vec::new())),
            bound => bound.map(|key| (set.0, key.to_vec())),
        };
        let until = Bound::Excluded((set.0 + 1, Vec::new()));
        let found = state.0.range((from, until)).take(items_max);
        Ok(found.map(|((_, key), stored)| record(key, stored)).collect())
    }

    fn meta(&self) -> Result<Meta, BaseError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone())
    }

    fn checkpoint(&self, changes: &Overlay, meta: &Meta) -> Result<(), BaseError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let records = &mut state.0.clone();
        for (set, changes) in changes.sets() {
            if changes.void {
                records.retain(|&(it, _), _| it != set.0);
            }
            for (key, changed) in changes.iter() {
                let key = (set.0, key.to_vec());
                match &changed.value {
                    Some(value) => {
                        records.insert(key, (value.to_vec(), changed.revision.op.0));
                    }
                    None => drop(records.remove(&key)),
                }
            }
        }
        let encoded = (&*records, meta.log_from, meta.identity, &meta.sets);
        let encoded = postcard::to_stdvec(&encoded).expect("it always encodes, into memory");
        let sum = xxhash_rust::xxh3::xxh3_64(&encoded).to_le_bytes();
        let bytes = [&sum[..], &encoded].concat();
        let write = || {
            let mut file = self.disk.create(NAME_NEW, bytes.len() as u64)?;
            file.write_at(0, &bytes)?;
            file.sync()?;
            self.disk.rename(NAME_NEW, NAME)?;
            Folder::sync(&self.disk)
        };
        write().map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => BaseError::Full(error.to_string()),
            _ => BaseError::Io(error.to_string()),
        })?;
        *state = (std::mem::take(records), meta.clone());
        Ok(())
    }

    fn count(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.len() as u64
    }

    fn reclaim(&self) -> Result<(), BaseError> {
        Ok(())
    }
}
