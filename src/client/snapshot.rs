//! One key set whole, as it was at one position, while others go on writing to it.
//!
//! ```text
//!   page, changes since, page, changes since, ... last page, changes since -> as of that position
//! ```
//!
//! A page is read at a position of its own. What writes changed meanwhile is read as changes since
//! the first page: the keys that they changed, with what those are now. Once everything up to the
//! position of an answer is there, pages and changes together are the key set at that position.

use super::error::{Error, Result};
use super::handle::Session;
use crate::protocol::message::{Answer, Operation, Rejection};
use crate::protocol::session::NotDone;
use crate::protocol::types::{Key, KeySet, Record, Revision};

/// Records of a page, and bytes of one; the server's limits may be lower.
const ITEMS_MAX: u32 = 4_096;
const BYTES_MAX: u32 = 256 << 10;

/// A key set is read anew so often where its changes are forgotten before they are read.
const ATTEMPTS_MAX: u32 = 10;

/// A piece of a key set; later pieces stand for the keys that they name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// Records in the order of their keys, after those of the pieces before.
    Records(Vec<Record>),
    /// Keys that were written meanwhile: what they are now.
    Changes { records: Vec<Record>, deleted: Vec<Key> },
    /// What came so far is void, and the key set is read anew.
    Again,
    /// That was all, as of this revision.
    End(Revision),
}

/// Reads one key set.
pub struct Snapshot {
    session: Session,
    set: KeySet,
    /// The last key of the last page.
    after: Option<Key>,
    /// The last page was read.
    paged: bool,
    /// Changes up to here came; none before the first page.
    known: Option<Revision>,
    /// The last answer was computed here.
    seen: Revision,
    attempts: u32,
}

impl Snapshot {
    pub(super) fn new(session: Session, set: KeySet) -> Snapshot {
        let seen = Revision::default();
        Snapshot { session, set, after: None, paged: false, known: None, seen, attempts: 1 }
    }

    /// The next piece; the last one is `Piece::End`.
    ///
    /// # Errors
    /// It could not be read; calling again reads on.
    pub async fn next(&mut self) -> Result<Piece> {
        match self.known {
            Some(known) if known.loss_epoch != self.seen.loss_epoch => self.begin_again(),
            Some(known) if known.op < self.seen.op => self.changes(known).await,
            Some(known) if self.paged => Ok(Piece::End(known)),
            Some(_) | None => self.page().await,
        }
    }

    async fn page(&mut self) -> Result<Piece> {
        let operation = Operation::Scan {
            set: self.set,
            prefix: Key::new(),
            after: self.after.clone(),
            items_max: ITEMS_MAX,
            bytes_max: BYTES_MAX,
        };
        let Answer::Page { position, records, more } = self.session.begin(operation).await? else {
            return Err(misfit());
        };
        self.seen = position.revision();
        self.known.get_or_insert(self.seen);
        // A page that claims more and holds nothing would be asked for again for ever.
        self.paged = !more || records.is_empty();
        if let Some(last) = records.last() {
            self.after = Some(last.key.clone());
        }
        Ok(Piece::Records(records))
    }

    async fn changes(&mut self, after: Revision) -> Result<Piece> {
        let (set, items_max, bytes_max) = (self.set, ITEMS_MAX, BYTES_MAX);
        let operation = Operation::Changes { set, after, items_max, bytes_max };
        match self.session.begin(operation).await {
            Ok(Answer::Changes { position, ends, records, deleted }) => {
                self.seen = position.revision();
                self.known = Some(Revision { op: ends, ..self.seen });
                Ok(Piece::Changes { records, deleted })
            }
            Err(Error::Rejected { why: Rejection::ChangesForgotten, .. })
                if self.attempts < ATTEMPTS_MAX =>
            {
                self.begin_again()
            }
            Ok(_) => Err(misfit()),
            Err(error) => Err(error),
        }
    }

    fn begin_again(&mut self) -> Result<Piece> {
        let attempts = self.attempts + 1;
        *self = Snapshot { attempts, ..Snapshot::new(self.session.clone(), self.set) };
        Ok(Piece::Again)
    }
}

fn misfit() -> Error {
    let what = super::error::describe("read changes of", b"");
    Error::NotDone { what, why: NotDone::Misfit }
}
