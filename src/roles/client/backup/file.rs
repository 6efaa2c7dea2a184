//! The file of one key set.
//!
//! ```text
//!   header: magic (8), format (4), key set (2), 0 (2)
//!   pieces: length (4), xxh3 of the payload, seeded with its place (8), payload (postcard)
//! ```
//!
//! Numbers are little-endian. Later pieces stand for the keys that they name. The last piece says
//! as of which revision all of it is, so that a file that was cut off is noticed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::Failure;
use super::damaged;
use crate::protocol::types::{Key, KeySet, Record, Revision};

const MAGIC: &[u8; 8] = b"TANDEMBK";
/// Changes when a piece changes.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
/// A server's page is far below this, and one record may be beyond a page.
const PIECE_BYTES_MAX: u32 = 64 << 20;

/// What a key set's file consists of.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Stored {
    Records(Vec<Record>),
    Changes { records: Vec<Record>, deleted: Vec<Key> },
    End { revision: Revision },
}

/// Writes one key set's file.
pub(super) struct Writer {
    out: BufWriter<File>,
    set: KeySet,
    pieces: u32,
    bytes: u64,
}

impl Writer {
    pub(super) fn create(path: &Path, set: KeySet) -> io::Result<Writer> {
        let out = BufWriter::new(File::options().write(true).create_new(true).open(path)?);
        let mut writer = Writer { out, set, pieces: 0, bytes: 0 };
        writer.header()?;
        Ok(writer)
    }

    fn header(&mut self) -> io::Result<()> {
        self.out.write_all(MAGIC)?;
        self.out.write_all(&FORMAT.to_le_bytes())?;
        self.out.write_all(&self.set.0.to_le_bytes())?;
        self.out.write_all(&[0; 2])?;
        (self.pieces, self.bytes) = (0, HEADER_BYTES as u64);
        Ok(())
    }

    pub(super) fn write(&mut self, piece: &Stored) -> io::Result<()> {
        let payload = postcard::to_stdvec(piece).map_err(io::Error::other)?;
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&checksum(&payload, self.set, self.pieces).to_le_bytes())?;
        self.out.write_all(&payload)?;
        self.pieces += 1;
        self.bytes += 12 + u64::from(length);
        Ok(())
    }

    /// What was written is void.
    pub(super) fn begin_again(&mut self) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.get_ref().set_len(0)?;
        self.header()
    }

    /// Ends the file, and answers its length once it is on the disk.
    pub(super) fn end(mut self, revision: Revision) -> io::Result<u64> {
        self.write(&Stored::End { revision })?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(self.bytes)
    }
}

/// The place is part of it, so that pieces can not change places unseen.
fn checksum(payload: &[u8], set: KeySet, piece: u32) -> u64 {
    xxh3_64_with_seed(payload, u64::from(set.0) << 32 | u64::from(piece))
}

/// Reads one key set's file.
pub(super) struct Reader<'a> {
    input: BufReader<File>,
    path: &'a Path,
    set: KeySet,
    pieces: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn open(path: &'a Path, set: KeySet) -> Result<Reader<'a>, Failure> {
        let unreadable = |error| damaged(format!("can not read {}: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let mut reader = Reader { input: BufReader::new(file), path, set, pieces: 0 };
        let header: [u8; HEADER_BYTES] = reader.take()?;
        let [format, number] = [&header[8..12], &header[12..16]].map(|bytes| {
            bytes.iter().rev().fold(0_u32, |number, &byte| number << 8 | u32::from(byte))
        });
        if &header[..8] != MAGIC {
            return Err(reader.is_damaged("is no file of a backup"));
        }
        if format != FORMAT {
            let words = format!("has format {format}, and this program reads format {FORMAT}");
            return Err(reader.is_damaged(&words));
        }
        if number != u32::from(set.0) {
            return Err(reader.is_damaged(&format!("is of key set {number}, not of {}", set.0)));
        }
        Ok(reader)
    }

    fn is_damaged(&self, words: &str) -> Failure {
        damaged(format!("the backup is damaged: {} {words}", self.path.display()))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.input
            .read_exact(&mut bytes)
            .map_err(|error| self.is_damaged(&format!("ends too early ({error})")))?;
        Ok(bytes)
    }

    /// The next piece and its length in the file; none after the last one.
    pub(super) fn next(&mut self) -> Result<(Stored, u64), Failure> {
        let length = u32::from_le_bytes(self.take()?);
        let sum = u64::from_le_bytes(self.take()?);
        if length > PIECE_BYTES_MAX {
            return Err(self.is_damaged("names an impossible length"));
        }
        let mut payload = vec![0; length as usize];
        self.input
            .read_exact(&mut payload)
            .map_err(|error| self.is_damaged(&format!("ends too early ({error})")))?;
        if checksum(&payload, self.set, self.pieces) != sum {
            let piece = self.pieces;
            return Err(self.is_damaged(&format!("has a wrong checksum at piece {piece}")));
        }
        self.pieces += 1;
        let piece = postcard::from_bytes(&payload)
            .map_err(|error| self.is_damaged(&format!("does not decode: {error}")))?;
        Ok((piece, 12 + u64::from(length)))
    }

    /// Nothing may follow the last piece.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let mut byte = [0];
        match self.input.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) | Err(_) => Err(self.is_damaged("goes on after its end")),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a file reads back as it was written, and no flipped bit or cut goes unseen.
    //! Method: a small file; every bit of it flipped, every length of it.

    use bytes::Bytes;

    use super::*;
    use crate::protocol::types::{LossEpoch, Op};

    const SET: KeySet = KeySet(7);

    fn read(path: &Path) -> Result<Vec<Stored>, Failure> {
        let mut reader = Reader::open(path, SET)?;
        let mut pieces = Vec::new();
        loop {
            let (piece, _) = reader.next()?;
            let ends = matches!(piece, Stored::End { .. });
            pieces.push(piece);
            if ends {
                reader.end()?;
                return Ok(pieces);
            }
        }
    }

    #[test]
    fn damage_is_found() {
        let path = std::env::temp_dir().join(format!("tandem-backup-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let revision = Revision { loss_epoch: LossEpoch(1), op: Op(9) };
        let (key, value) = (Bytes::from("key"), Bytes::from(vec![3; 40]));
        let records = vec![Record { key: key.clone(), value, revision }];
        let mut writer = Writer::create(&path, SET).expect("the temporary folder is writable");
        writer.write(&Stored::Records(Vec::new())).expect("it is writable");
        writer.begin_again().expect("it is writable");
        writer.write(&Stored::Records(records)).expect("it is writable");
        let changes = Stored::Changes { records: Vec::new(), deleted: vec![key] };
        writer.write(&changes).expect("it is writable");
        let length = writer.end(revision).expect("it is writable");
        let pieces = read(&path).ok().expect("it is whole");
        assert_eq!((pieces.len(), &pieces[1]), (3, &changes));
        let whole = std::fs::read(&path).expect("it is there");
        assert_eq!(whole.len() as u64, length);
        for bit in 0..whole.len() * 8 {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &other).expect("it is writable");
            assert!(read(&path).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("it is writable");
            assert!(read(&path).is_err(), "cut to {length}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).expect("it is writable");
        assert!(read(&path).is_err(), "longer than it was");
        std::fs::remove_file(&path).expect("it is there");
    }
}
