//! Scans: all keys with a prefix, in order, over all key sets.
//!
//! Keys are spread over key sets by their hash, so that every set has a part of the range. A
//! scan reads the sets page by page, side by side, and merges: the smallest key among the
//! sets' next ones comes next, once every set's next key is known.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::error::{Error, Result};
use super::handle::Session;
use crate::protocol::message::{Answer, Operation};
use crate::protocol::session::NotDone;
use crate::protocol::types::{Key, KeySet, Record};

/// Bytes of a page; one record more may come.
const PAGE_BYTES_MAX: u32 = 64 << 10;

/// How a scan goes.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Start behind this key.
    pub after: Option<Key>,
    /// Records of a page of one key set.
    pub page_items_max: u32,
}

impl Default for ScanOptions {
    fn default() -> ScanOptions {
        ScanOptions { after: None, page_items_max: 64 }
    }
}

/// What is known of one key set's part.
#[derive(Debug)]
struct Part {
    records: VecDeque<Record>,
    after: Option<Key>,
    more: bool,
}

/// A scan under way.
pub struct Scan {
    session: Session,
    prefix: Bytes,
    options: ScanOptions,
    /// None until the number of key sets is known.
    parts: Option<BTreeMap<KeySet, Part>>,
}

impl Scan {
    pub(super) fn new(session: Session, prefix: Bytes, options: ScanOptions) -> Scan {
        Scan { session, prefix, options, parts: None }
    }

    /// The next record in the order of keys; none at the end.
    ///
    /// # Errors
    /// A page could not be read. Calling again reads that page again.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        self.refill().await?;
        let Some(parts) = &mut self.parts else { return Ok(None) };
        let first = parts
            .iter()
            .filter_map(|(&set, part)| Some((part.records.front()?.key.clone(), set)))
            .min();
        let Some((_, set)) = first else { return Ok(None) };
        Ok(parts.get_mut(&set).and_then(|part| part.records.pop_front()))
    }

    /// Reads the next page of every part whose next key is not known.
    async fn refill(&mut self) -> Result<()> {
        if self.parts.is_none() {
            let count = self.session.key_sets().await?;
            let part =
                || Part { records: VecDeque::new(), after: self.options.after.clone(), more: true };
            self.parts = Some((0..count).map(|set| (KeySet(set), part())).collect());
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        loop {
            let empty: Vec<KeySet> = parts
                .iter()
                .filter(|(_, part)| part.more && part.records.is_empty())
                .map(|(&set, _)| set)
                .collect();
            if empty.is_empty() {
                return Ok(());
            }
            let pages = empty.iter().map(|set| Operation::Scan {
                set: *set,
                prefix: self.prefix.clone(),
                after: parts[set].after.clone(),
                items_max: self.options.page_items_max,
                bytes_max: PAGE_BYTES_MAX,
            });
            let pages = self.session.batch(pages.collect()).await;
            for (set, page) in empty.into_iter().zip(pages) {
                let Some(part) = parts.get_mut(&set) else { continue };
                part.take(page?, &self.prefix)?;
            }
        }
    }
}

impl Part {
    fn take(&mut self, page: Answer, prefix: &[u8]) -> Result<()> {
        let Answer::Page { records, more, .. } = page else {
            let what = super::error::describe("scan", prefix);
            return Err(Error::NotDone { what, why: NotDone::Misfit });
        };
        // A page that claims more and holds nothing would be asked for again for ever.
        self.more = more && !records.is_empty();
        self.after = records.last().map(|record| record.key.clone()).or(self.after.take());
        self.records = records.into();
        Ok(())
    }
}
