//! Requests and answers, the frames of the data path: no copy and no allocation when read.
//!
//! Keys lie in the header and values in the tail; both are handed out as slices that share the
//! frame's memory. Headers mirror the messages field by field, with borrowed bytes.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::frame::{Frame, HEADER_BYTES_USUAL, WireError, decode_header, encode, no_tail};
use super::limits::{Kind, Limits};
use super::raw::Raw;
use crate::protocol::message::{
    AckLevel, Answer, Expect, Operation, ReadLevel, Refusal, Rejection, Request,
};
use crate::protocol::types::{
    Configuration, KeySet, Op, Origin, Position, Record, Revision, Value, Written,
};

/// `Request` without the value that lies in the tail.
#[derive(Serialize, Deserialize)]
struct RequestHeader<'a> {
    #[serde(borrow)]
    operation: OperationHeader<'a>,
    origin: Option<Origin>,
    read_level: ReadLevel,
    ack_level: AckLevel,
    expiry_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum OperationHeader<'a> {
    Get {
        #[serde(borrow)]
        key: Raw<'a>,
    },
    /// The value is the tail.
    Put {
        #[serde(borrow)]
        key: Raw<'a>,
    },
    Delete {
        #[serde(borrow)]
        key: Raw<'a>,
    },
    /// The new value, if any, is the tail.
    Cas {
        #[serde(borrow)]
        key: Raw<'a>,
        #[serde(borrow)]
        expect: ExpectHeader<'a>,
        stores: bool,
    },
    Incr {
        #[serde(borrow)]
        key: Raw<'a>,
        by: i64,
    },
    Scan {
        set: KeySet,
        #[serde(borrow)]
        prefix: Raw<'a>,
        #[serde(borrow)]
        after: Option<Raw<'a>>,
        items_max: u32,
        bytes_max: u32,
    },
    Changes {
        set: KeySet,
        after: Revision,
        items_max: u32,
        bytes_max: u32,
    },
    /// The value is the tail.
    PutFor {
        #[serde(borrow)]
        key: Raw<'a>,
        lifetime_ms: u64,
    },
    /// The value is the tail.
    CasFor {
        #[serde(borrow)]
        key: Raw<'a>,
        #[serde(borrow)]
        expect: ExpectHeader<'a>,
        lifetime_ms: u64,
    },
}

#[derive(Serialize, Deserialize)]
enum ExpectHeader<'a> {
    Absent,
    Value(#[serde(borrow)] Raw<'a>),
    Revision(Revision),
}

/// `Answer` without the value that lies in the tail.
#[derive(Serialize, Deserialize)]
enum AnswerHeader<'a> {
    /// The value is the tail.
    Found {
        position: Position,
        revision: Revision,
    },
    Absent {
        position: Position,
    },
    Written {
        position: Position,
        written: Written,
    },
    Mismatch {
        position: Position,
        found: Option<Revision>,
    },
    Rejected {
        position: Position,
        reason: Rejection,
    },
    Page {
        position: Position,
        #[serde(borrow)]
        records: Vec<RecordHeader<'a>>,
        more: bool,
    },
    Refused(Refusal),
    Forgotten {
        position: Position,
    },
    Moved {
        configuration: Option<Configuration>,
    },
    Changes {
        position: Position,
        ends: Op,
        #[serde(borrow)]
        records: Vec<RecordHeader<'a>>,
        #[serde(borrow)]
        deleted: Vec<Raw<'a>>,
    },
}

#[derive(Serialize, Deserialize)]
struct RecordHeader<'a> {
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    value: Raw<'a>,
    revision: Revision,
}

/// Appends a request, numbered `id` on its connection.
///
/// # Errors
/// It is larger than the limits allow; the buffer is as it was.
pub fn encode_request(
    buffer: &mut BytesMut,
    limits: &Limits,
    id: u64,
    request: &Request,
) -> Result<(), WireError> {
    let (operation, tail) = operation_header(&request.operation);
    let header = RequestHeader {
        operation,
        origin: request.origin,
        read_level: request.read_level,
        ack_level: request.ack_level,
        expiry_ms: request.expiry_ms,
    };
    encode(buffer, limits, (Kind::Request, id), (&header, HEADER_BYTES_USUAL), tail)
}

fn operation_header(operation: &Operation) -> (OperationHeader<'_>, &[u8]) {
    match operation {
        Operation::Get { key } => (OperationHeader::Get { key: Raw(key) }, &[]),
        Operation::Put { key, value } => (OperationHeader::Put { key: Raw(key) }, value),
        Operation::Delete { key } => (OperationHeader::Delete { key: Raw(key) }, &[]),
        Operation::Cas { key, expect, value } => {
            let (key, expect) = (Raw(key), expect_header(expect));
            let header = OperationHeader::Cas { key, expect, stores: value.is_some() };
            (header, value.as_deref().unwrap_or_default())
        }
        Operation::Incr { key, by } => (OperationHeader::Incr { key: Raw(key), by: *by }, &[]),
        Operation::Scan { set, prefix, after, items_max, bytes_max } => {
            let header = OperationHeader::Scan {
                set: *set,
                prefix: Raw(prefix),
                after: after.as_deref().map(Raw),
                items_max: *items_max,
                bytes_max: *bytes_max,
            };
            (header, &[])
        }
        &Operation::Changes { set, after, items_max, bytes_max } => {
            (OperationHeader::Changes { set, after, items_max, bytes_max }, &[])
        }
        Operation::PutFor { key, value, lifetime_ms } => {
            (OperationHeader::PutFor { key: Raw(key), lifetime_ms: *lifetime_ms }, value)
        }
        Operation::CasFor { key, expect, value, lifetime_ms } => {
            let (key, expect, lifetime_ms) = (Raw(key), expect_header(expect), *lifetime_ms);
            (OperationHeader::CasFor { key, expect, lifetime_ms }, value)
        }
    }
}

fn expect_header(expect: &Expect) -> ExpectHeader<'_> {
    match expect {
        Expect::Absent => ExpectHeader::Absent,
        Expect::Value(value) => ExpectHeader::Value(Raw(value)),
        Expect::Revision(revision) => ExpectHeader::Revision(*revision),
    }
}

fn expect_of(header: ExpectHeader<'_>, frame: Frame<'_>) -> Expect {
    match header {
        ExpectHeader::Absent => Expect::Absent,
        ExpectHeader::Value(value) => Expect::Value(value.share(frame)),
        ExpectHeader::Revision(revision) => Expect::Revision(revision),
    }
}

/// The request in `frame`; its key and value share the frame's memory.
///
/// # Errors
/// The frame is not exactly one request.
pub fn decode_request<'a>(frame: impl Into<Frame<'a>>) -> Result<Request, WireError> {
    let frame = frame.into();
    let (header, tail) = decode_header::<RequestHeader<'_>>(frame, Kind::Request)?;
    let (operation, tail_used) = operation_of(header.operation, frame, tail);
    if !tail_used {
        no_tail(frame.kind, tail)?;
    }
    Ok(Request {
        operation,
        origin: header.origin,
        read_level: header.read_level,
        ack_level: header.ack_level,
        expiry_ms: header.expiry_ms,
    })
}

/// The operation, and whether the tail belongs to it.
fn operation_of(header: OperationHeader<'_>, frame: Frame<'_>, tail: &[u8]) -> (Operation, bool) {
    let key_of = |key: Raw<'_>| key.share(frame);
    match header {
        OperationHeader::Get { key } => (Operation::Get { key: key_of(key) }, false),
        OperationHeader::Put { key } => {
            (Operation::Put { key: key_of(key), value: Raw(tail).share(frame) }, true)
        }
        OperationHeader::Delete { key } => (Operation::Delete { key: key_of(key) }, false),
        OperationHeader::Cas { key, expect, stores } => {
            let expect = expect_of(expect, frame);
            let value: Option<Value> = stores.then(|| Raw(tail).share(frame));
            (Operation::Cas { key: key_of(key), expect, value }, stores)
        }
        OperationHeader::Incr { key, by } => (Operation::Incr { key: key_of(key), by }, false),
        OperationHeader::Scan { set, prefix, after, items_max, bytes_max } => {
            let (prefix, after) = (key_of(prefix), after.map(key_of));
            (Operation::Scan { set, prefix, after, items_max, bytes_max }, false)
        }
        OperationHeader::Changes { set, after, items_max, bytes_max } => {
            (Operation::Changes { set, after, items_max, bytes_max }, false)
        }
        OperationHeader::PutFor { key, lifetime_ms } => {
            let value = Raw(tail).share(frame);
            (Operation::PutFor { key: key_of(key), value, lifetime_ms }, true)
        }
        OperationHeader::CasFor { key, expect, lifetime_ms } => {
            let (expect, value) = (expect_of(expect, frame), Raw(tail).share(frame));
            (Operation::CasFor { key: key_of(key), expect, value, lifetime_ms }, true)
        }
    }
}

/// Appends the answer to request `id`.
///
/// # Errors
/// It is larger than the limits allow; the buffer is as it was.
pub fn encode_answer(
    buffer: &mut BytesMut,
    limits: &Limits,
    id: u64,
    answer: &Answer,
) -> Result<(), WireError> {
    let (header, tail) = answer_header(answer);
    encode(buffer, limits, (Kind::Answer, id), (&header, HEADER_BYTES_USUAL), tail)
}

fn answer_header(answer: &Answer) -> (AnswerHeader<'_>, &[u8]) {
    let header = match *answer {
        Answer::Found { position, revision, ref value } => {
            return (AnswerHeader::Found { position, revision }, value);
        }
        Answer::Absent { position } => AnswerHeader::Absent { position },
        Answer::Written { position, written } => AnswerHeader::Written { position, written },
        Answer::Mismatch { position, found } => AnswerHeader::Mismatch { position, found },
        Answer::Rejected { position, reason } => AnswerHeader::Rejected { position, reason },
        Answer::Page { position, ref records, more } => {
            AnswerHeader::Page { position, records: record_headers(records), more }
        }
        Answer::Refused(ref refusal) => AnswerHeader::Refused(refusal.clone()),
        Answer::Forgotten { position } => AnswerHeader::Forgotten { position },
        Answer::Moved { ref configuration } => {
            AnswerHeader::Moved { configuration: configuration.clone() }
        }
        Answer::Changes { position, ends, ref records, ref deleted } => {
            let deleted = deleted.iter().map(|key| Raw(key)).collect();
            AnswerHeader::Changes { position, ends, records: record_headers(records), deleted }
        }
    };
    (header, &[])
}

fn record_headers(records: &[Record]) -> Vec<RecordHeader<'_>> {
    let headers = records.iter().map(|record| RecordHeader {
        key: Raw(&record.key),
        value: Raw(&record.value),
        revision: record.revision,
    });
    headers.collect()
}

fn records_of(headers: Vec<RecordHeader<'_>>, frame: Frame<'_>) -> Vec<Record> {
    let record = |header: RecordHeader<'_>| Record {
        key: header.key.share(frame),
        value: header.value.share(frame),
        revision: header.revision,
    };
    headers.into_iter().map(record).collect()
}

/// The answer in `frame`; its keys and values share the frame's memory.
///
/// # Errors
/// The frame is not exactly one answer.
pub fn decode_answer<'a>(frame: impl Into<Frame<'a>>) -> Result<Answer, WireError> {
    let frame = frame.into();
    let (header, tail) = decode_header::<AnswerHeader<'_>>(frame, Kind::Answer)?;
    let answer = match header {
        AnswerHeader::Found { position, revision } => {
            return Ok(Answer::Found { position, revision, value: Raw(tail).share(frame) });
        }
        AnswerHeader::Absent { position } => Answer::Absent { position },
        AnswerHeader::Written { position, written } => Answer::Written { position, written },
        AnswerHeader::Mismatch { position, found } => Answer::Mismatch { position, found },
        AnswerHeader::Rejected { position, reason } => Answer::Rejected { position, reason },
        AnswerHeader::Page { position, records, more } => {
            Answer::Page { position, records: records_of(records, frame), more }
        }
        AnswerHeader::Refused(refusal) => Answer::Refused(refusal),
        AnswerHeader::Forgotten { position } => Answer::Forgotten { position },
        AnswerHeader::Moved { configuration } => Answer::Moved { configuration },
        AnswerHeader::Changes { position, ends, records, deleted } => {
            let deleted = deleted.into_iter().map(|key| key.share(frame)).collect();
            Answer::Changes { position, ends, records: records_of(records, frame), deleted }
        }
    };
    no_tail(frame.kind, tail)?;
    Ok(answer)
}
