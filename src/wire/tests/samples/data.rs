//! Requests of clients, and the answers to them.

use super::*;

pub(super) fn requests() -> Vec<(&'static str, Request)> {
    let request = |operation: Operation| {
        let origin = operation.is_write().then(origin);
        let (read_level, ack_level) = (ReadLevel::Linearizable, AckLevel::Every);
        Request { operation, origin, read_level, ack_level, expiry_ms: None }
    };
    let key = || bytes("key");
    let cas = |expect, value| request(Operation::Cas { key: key(), expect, value });
    let put = request(Operation::Put { key: key(), value: bytes("value") });
    let with = |read_level, ack_level| Request {
        read_level,
        ack_level,
        expiry_ms: Some(60_000),
        ..put.clone()
    };
    vec![
        ("request.get", request(Operation::Get { key: key() })),
        ("request.put", put.clone()),
        ("request.put.confirmed", with(ReadLevel::Confirmed, AckLevel::Primary)),
        ("request.put.any", with(ReadLevel::Any, AckLevel::Every)),
        ("request.delete", request(Operation::Delete { key: key() })),
        ("request.cas.absent", cas(Expect::Absent, Some(bytes("new")))),
        ("request.cas.value", cas(Expect::Value(bytes("old")), None)),
        ("request.cas.revision", cas(Expect::Revision(REVISION), Some(Bytes::new()))),
        ("request.incr", request(Operation::Incr { key: key(), by: -3 })),
        (
            "request.scan",
            request(Operation::Scan {
                set: SET,
                prefix: bytes("k"),
                after: Some(key()),
                items_max: 100,
                bytes_max: 65_536,
            }),
        ),
        (
            "request.put_for",
            request(Operation::PutFor { key: key(), value: bytes("value"), lifetime_ms: 60_000 }),
        ),
        (
            "request.cas_for",
            request(Operation::CasFor {
                key: key(),
                expect: Expect::Absent,
                value: bytes("value"),
                lifetime_ms: 60_000,
            }),
        ),
        (
            "request.changes",
            request(Operation::Changes {
                set: SET,
                after: REVISION,
                items_max: 100,
                bytes_max: 65_536,
            }),
        ),
    ]
}

pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    let position = POSITION;
    let written = |written| Answer::Written { position, written };
    let refused = Answer::Refused;
    let rejected = |reason| Answer::Rejected { position, reason };
    let configuration = Some(configuration());
    vec![
        ("answer.found", Answer::Found { position, revision: REVISION, value: bytes("value") }),
        ("answer.absent", Answer::Absent { position }),
        ("answer.written.stored", written(Written::Stored)),
        ("answer.written.deleted", written(Written::Deleted)),
        ("answer.written.counter", written(Written::Counter(-9))),
        ("answer.mismatch", Answer::Mismatch { position, found: Some(REVISION) }),
        ("answer.rejected.not_a_number", rejected(Rejection::NotANumber)),
        ("answer.rejected.overflow", rejected(Rejection::Overflow)),
        ("answer.rejected.changes_forgotten", rejected(Rejection::ChangesForgotten)),
        (
            "answer.changes",
            Answer::Changes {
                position,
                ends: Op(900),
                records: vec![record()],
                deleted: vec![bytes("gone")],
            },
        ),
        ("answer.page", Answer::Page { position, records: vec![record()], more: true }),
        (
            "answer.not_primary",
            refused(Refusal::NotPrimary { configuration: configuration.clone() }),
        ),
        ("answer.busy", refused(Refusal::Busy)),
        ("answer.base_needed", refused(Refusal::BaseNeeded { base: REVISION })),
        ("answer.key_too_large", refused(Refusal::KeyTooLarge { bytes_max: 1_024 })),
        ("answer.value_too_large", refused(Refusal::ValueTooLarge { bytes_max: 1_048_576 })),
        ("answer.empty_key", refused(Refusal::EmptyKey)),
        ("answer.below_floor", refused(Refusal::BelowWriteFloor { copies: 1, floor: 2 })),
        ("answer.lost", refused(Refusal::Lost)),
        ("answer.unborn", refused(Refusal::Unborn)),
        ("answer.unknown_set", refused(Refusal::UnknownSet)),
        ("answer.unsupported", refused(Refusal::Unsupported)),
        ("answer.malformed", refused(Refusal::Malformed)),
        ("answer.too_many_expire", refused(Refusal::TooManyExpire { bytes_max: 524_288 })),
        ("answer.full", refused(Refusal::Full { server: ServerId(2) })),
        ("answer.forgotten", Answer::Forgotten { position }),
        ("answer.moved", Answer::Moved { configuration }),
        ("answer.moved_nowhere", Answer::Moved { configuration: None }),
    ]
}
