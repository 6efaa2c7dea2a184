//! The log: one sequence of batches, in files of a fixed size, on which every acknowledgement of a
//! worker rests.
//!
//! ```text
//!   00000000000000a1.log   header | frame | frame | ... | zeros
//!   00000000000000a2.log   header | frame | ...         <- written to
//!
//!   header   magic, format, number, where the file before it ended, checksum
//!   frame    mark, length and its own check, checksum, payload, end mark
//! ```
//!
//! A file has its space and its header on the disk before it gets its name. The space of the next
//! one is taken ahead, so that a disk that others have filled still takes what frees it. A frame is
//! a batch: it is found again in full or not at all. Only the end of the newest file may be torn,
//! because each file says where the one before it ended; a log that is opened begins a new file, so
//! that nothing is ever written over.
//!
//! What a crash tore and what went bad later look different. Of a torn frame whole sectors are
//! missing, or its end; those are still zeros. A frame of which nothing is missing and whose
//! checksum is wrong was on the disk once, and is damage.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::files::{Folder, LogFile};

const MAGIC: [u8; 8] = *b"TANDEMLG";
/// Version of files and frames; another one is refused.
pub const FORMAT: u32 = 1;

/// Magic, format, a spare word, number, end of the file before, checksum.
const HEADER_BYTES: usize = 40;
/// Mark, length (4), check of the length (3), checksum (8).
const FRAME_HEAD_BYTES: usize = 16;
/// Before and after a frame, so that neither end of it is zero.
const HEAD_MARK: u8 = 0xA6;
const END_MARK: u8 = 0xA7;
/// On every byte of a payload, so that zeros in it do not look as if they had never been written.
const MASK: u8 = 0x5C;
/// What a disk writes in full or not at all.
const SECTOR_BYTES: usize = 512;

const NEW_NAME: &str = "next.log.new";

/// A file that only holds space, which a start on a full disk lets go of: a little more than a file
/// of the log, for what else is written then.
pub const RESERVE_NAME: &str = "reserve";
const RESERVE_SLACK: u64 = 256 << 10;

/// Why a log can not be read.
#[derive(Debug)]
pub enum LogError {
    /// A file is not what was written, or is missing.
    Damaged {
        file: String,
        detail: String,
    },
    /// A file of another version of the program.
    Foreign {
        file: String,
        found: u32,
    },
    Io {
        file: String,
        error: io::Error,
    },
    /// There is no room for the next file. Nothing was written: once there is, the same may be
    /// asked again.
    Full {
        file: String,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Damaged { file, detail } => {
                write!(f, "the log file {file} is damaged: {detail}")
            }
            LogError::Foreign { file, found } => write!(
                f,
                "the log file {file} has format {found}, and this program reads format {FORMAT}: \
                 start the version of the program that wrote it"
            ),
            LogError::Io { file, error } => write!(f, "the log file {file}: {error}"),
            LogError::Full { file } => write!(f, "there is no room for the log file {file}"),
        }
    }
}

impl std::error::Error for LogError {}

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    folder: Box<dyn Folder>,
    file: Box<dyn LogFile>,
    /// The number of the file that is written to.
    number: u64,
    /// Where the next frame goes.
    end: u64,
    bytes: u64,
    /// The files before it that are still there, oldest first.
    files: VecDeque<u64>,
    /// The next file, as far as it can be made ahead.
    spare: Option<Box<dyn LogFile>>,
    /// The reserve has its space.
    reserved: bool,
    file_bytes: u64,
}

impl Log {
    /// Opens the log in `folder` and hands every payload from file number `from` on to `found`,
    /// oldest first; older ones stay until `forget_below`. What is written later goes into a new
    /// file.
    ///
    /// # Errors
    /// What is there is not what was written; then nothing was changed.
    pub fn open(
        folder: Box<dyn Folder>,
        from: u64,
        file_bytes: u64,
        mut found: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Log, LogError> {
        let names = folder.names().map_err(|error| io_error("(its folder)", error))?;
        let reserved = names.iter().any(|name| name == RESERVE_NAME);
        let numbers = numbers(&names);
        let kept: Vec<u64> = numbers.iter().copied().filter(|&it| it >= from).collect();
        check_complete(&kept, from)?;
        let read = |&number: &u64| {
            let name = name_of(number);
            let bytes = folder.read(&name).map_err(|error| io_error(&name, error))?;
            let end_before = read_header(&name, number, &bytes)?;
            Ok((name, number, bytes, end_before))
        };
        let mut end = 0;
        let mut next = kept.first().map(read).transpose()?;
        let mut later = kept.iter().skip(1);
        while let Some((name, number, bytes, _)) = next {
            next = later.next().map(read).transpose()?;
            let until = next.as_ref().map(|&(.., end_before)| end_before);
            end = replay(&name, number, &bytes, until, &mut found)?;
        }
        let number = kept.last().map_or(from, |last| last + 1);
        let file = begin(&*folder, number, end, file_bytes, None)?;
        let end = HEADER_BYTES as u64;
        let (files, bytes, spare) = (numbers.into(), file_bytes, None);
        let mut log = Log { folder, file, number, end, bytes, files, spare, reserved, file_bytes };
        log.take_space_ahead()?;
        Ok(log)
    }

    /// The number of the file that is written to.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Adds a frame; it is durable after `sync`.
    ///
    /// # Errors
    /// There is no room, and nothing was added; or the disk refused, and the log must not be used
    /// any more.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), LogError> {
        let length = u32::try_from(payload.len()).expect("a batch is bounded by the windows");
        let needed = (FRAME_HEAD_BYTES + payload.len() + 1) as u64;
        if self.end + needed > self.bytes {
            self.roll(needed)?;
        }
        let mut frame = Vec::with_capacity(needed as usize);
        frame.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        frame.extend(payload.iter().map(|byte| byte ^ MASK));
        let head = head(self.number, self.end, length, &frame[FRAME_HEAD_BYTES..]);
        frame[..FRAME_HEAD_BYTES].copy_from_slice(&head);
        frame.push(END_MARK);
        let written = self.file.write_at(self.end, &frame);
        written.map_err(|error| io_error(&name_of(self.number), error))?;
        self.end += needed;
        Ok(())
    }

    /// Returns once everything appended is on the disk.
    ///
    /// # Errors
    /// As for `append`. It is never tried again: a second sync may succeed over pages that the
    /// first one lost.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.file.sync().map_err(|error| io_error(&name_of(self.number), error))
    }

    /// Begins a new file; answers its number. What was appended before is then durable, and is
    /// all in older files.
    ///
    /// # Errors
    /// As for `append`.
    pub fn cut(&mut self) -> Result<u64, LogError> {
        self.roll(0)?;
        Ok(self.number)
    }

    /// Removes the files below `number`: a checkpoint holds what they say.
    ///
    /// # Errors
    /// The disk refused; the files go at the next opening.
    pub fn forget_below(&mut self, number: u64) -> Result<(), LogError> {
        while let Some(&oldest) = self.files.front().filter(|&&oldest| oldest < number) {
            let name = name_of(oldest);
            self.folder.remove(&name).map_err(|error| io_error(&name, error))?;
            self.files.pop_front();
        }
        self.take_space_ahead()
    }

    /// Bytes in the files that are there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.len() as u64 * self.file_bytes + self.end
    }

    fn roll(&mut self, needed: u64) -> Result<(), LogError> {
        self.sync()?;
        let bytes = self.file_bytes.max(HEADER_BYTES as u64 + needed);
        let spare = self.spare.take().filter(|_| bytes == self.file_bytes);
        self.file = begin(&*self.folder, self.number + 1, self.end, bytes, spare)?;
        self.files.push_back(self.number);
        self.number += 1;
        self.end = HEADER_BYTES as u64;
        self.bytes = bytes;
        self.take_space_ahead()
    }

    /// Has the space of the next file ready, and that of the reserve, as far as there is room.
    fn take_space_ahead(&mut self) -> Result<(), LogError> {
        let create = |name, bytes| match self.folder.create(name, bytes) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_full(&error) => Ok(None),
            Err(error) => Err(io_error(name, error)),
        };
        if self.spare.is_none() {
            self.spare = create(NEW_NAME, self.file_bytes)?;
        }
        if !self.reserved {
            self.reserved = create(RESERVE_NAME, self.file_bytes + RESERVE_SLACK)?.is_some();
        }
        Ok(())
    }
}

fn name_of(number: u64) -> String {
    format!("{number:016x}.log")
}

fn io_error(file: &str, error: io::Error) -> LogError {
    LogError::Io { file: file.to_owned(), error }
}

/// Whether the disk, or what this user may take of it, has no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn damaged(file: &str, detail: impl Into<String>) -> LogError {
    LogError::Damaged { file: file.to_owned(), detail: detail.into() }
}

/// Bound to its place, so that a frame of another place is not taken for this one.
fn checksum(number: u64, offset: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, number.rotate_left(32) ^ offset)
}

/// The numbers of the log's files, ascending.
fn numbers(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".log"))
        .filter(|digits| digits.len() == 16)
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// From `from` on no file may be missing; a log that was never written to has none.
fn check_complete(kept: &[u64], from: u64) -> Result<(), LogError> {
    let missing = match kept {
        [] if from <= 1 => None,
        [] => Some(from),
        [first, ..] if *first != from => Some(from),
        kept => kept.windows(2).find(|pair| pair[1] != pair[0] + 1).map(|pair| pair[0] + 1),
    };
    missing.map_or(Ok(()), |number| Err(damaged(&name_of(number), "it is missing")))
}

/// Makes the file with its header durable under its name, out of `spare` or anew. Nothing was
/// written to it before, so that it may be made again if there was no room.
fn begin(
    folder: &dyn Folder,
    number: u64,
    end_before: u64,
    bytes: u64,
    spare: Option<Box<dyn LogFile>>,
) -> Result<Box<dyn LogFile>, LogError> {
    let make = || {
        let mut file = match spare {
            Some(spare) => spare,
            None => folder.create(NEW_NAME, bytes)?,
        };
        file.write_at(0, &header(number, end_before))?;
        file.sync()?;
        folder.rename(NEW_NAME, &name_of(number))?;
        folder.sync()?;
        Ok(file)
    };
    make().map_err(|error| match error {
        error if is_full(&error) => LogError::Full { file: name_of(number) },
        error => io_error(&name_of(number), error),
    })
}

fn header(number: u64, end_before: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&end_before.to_le_bytes());
    let sum = checksum(number, 0, &header[..32]);
    header[32..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Checks a file's header; answers where the file before it ended.
fn read_header(name: &str, number: u64, bytes: &[u8]) -> Result<u64, LogError> {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Err(damaged(name, "it is shorter than its header"));
    };
    if checksum(number, 0, &header[..32]) != word(header, 32) || header[..8] != MAGIC {
        return Err(damaged(name, "its header does not match its checksum"));
    }
    let format = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if format != FORMAT {
        return Err(LogError::Foreign { file: name.to_owned(), found: format });
    }
    Ok(word(header, 24))
}

/// The eight bytes at `at` as a number.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Hands out a file's payloads; answers where they end. `until` is where the next file says that;
/// none for the newest, whose end may be torn.
fn replay(
    name: &str,
    number: u64,
    bytes: &[u8],
    until: Option<u64>,
    found: &mut impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<u64, LogError> {
    let limit = usize::try_from(until.unwrap_or(bytes.len() as u64)).unwrap_or(usize::MAX);
    if limit > bytes.len() {
        return Err(damaged(name, format!("it is shorter than the {limit} bytes written")));
    }
    let mut at = HEADER_BYTES;
    loop {
        match frame(number, &bytes[..limit], at) {
            Frame::Whole(payload) => {
                let plain: Vec<u8> = payload.iter().map(|byte| byte ^ MASK).collect();
                found(&plain).map_err(|detail| damaged(name, format!("at byte {at}: {detail}")))?;
                at += FRAME_HEAD_BYTES + payload.len() + 1;
            }
            Frame::End if until.is_none_or(|_| at == limit) => return Ok(at as u64),
            Frame::Torn if until.is_none() => return Ok(at as u64),
            Frame::End | Frame::Torn | Frame::Bad => {
                return Err(damaged(name, format!("what is written at byte {at} is not whole")));
            }
        }
    }
}

/// The head of the frame at `offset`.
fn head(number: u64, offset: u64, length: u32, payload: &[u8]) -> [u8; FRAME_HEAD_BYTES] {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[0] = HEAD_MARK;
    head[1..5].copy_from_slice(&length.to_le_bytes());
    let check = checksum(number, offset, &head[..5]);
    head[5..8].copy_from_slice(&check.to_le_bytes()[..3]);
    head[8..].copy_from_slice(&checksum(number, offset, payload).to_le_bytes());
    head
}

enum Frame<'a> {
    Whole(&'a [u8]),
    /// Nothing was ever written here.
    End,
    /// A part of it never reached the disk.
    Torn,
    /// All of it reached the disk, and is not what was written.
    Bad,
}

fn frame(number: u64, bytes: &[u8], at: usize) -> Frame<'_> {
    let rest = &bytes[at..];
    if rest.first().is_none_or(|&first| first == 0) {
        return if rest.iter().all(|&byte| byte == 0) { Frame::End } else { Frame::Torn };
    }
    let torn_or_bad = |part: &[u8]| {
        let torn = part.last() == Some(&0) || has_hole(part, at);
        if torn { Frame::Torn } else { Frame::Bad }
    };
    let Some(head) = rest.get(..FRAME_HEAD_BYTES) else { return Frame::Bad };
    let check = checksum(number, at as u64, &head[..5]);
    if head[0] != HEAD_MARK || head[5..8] != check.to_le_bytes()[..3] {
        return torn_or_bad(head);
    }
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let whole = FRAME_HEAD_BYTES.saturating_add(length).saturating_add(1);
    let Some(frame) = rest.get(..whole) else { return Frame::Bad };
    let payload = &frame[FRAME_HEAD_BYTES..whole - 1];
    if checksum(number, at as u64, payload) == word(head, 8) && frame[whole - 1] == END_MARK {
        Frame::Whole(payload)
    } else {
        torn_or_bad(frame)
    }
}

/// Whether a whole sector of what lies at `at`, or the part of one that begins or ends it, is
/// zeros.
fn has_hole(bytes: &[u8], at: usize) -> bool {
    let first = (SECTOR_BYTES - at % SECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let mut parts = std::iter::once(head).chain(rest.chunks(SECTOR_BYTES));
    parts.any(|part| part.iter().all(|&byte| byte == 0))
}
