//! The lines of a history: JSON to operations and back.
//!
//! A finished history has one object an operation. A journal, which is what a recorder writes
//! while it runs, has two: the invocation, written before the request is sent, and the completion
//! with the same `id`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem::protocol::types::{Epoch, LossEpoch, Op, Position, Revision};

use crate::operation::{Answer, Ending, Expect, Operation, Outcome, Reply, Text, What};

/// A line that is none of a history: what is wrong, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LineError(pub String);

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LineError {}

/// What a line says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// A whole operation; its `line` is 0.
    Whole(Operation),
    /// An operation that is about to be sent; it ends as unknown until its completion is read.
    Begin { id: u64, operation: Operation },
    /// What became of one.
    End { id: u64, outcome: RawEnding },
}

/// A completion whose result is only understood together with its invocation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawEnding {
    return_ns: Option<u64>,
    outcome: OutcomeWord,
    result: Value,
    revision: Option<(u32, u64)>,
    position: Option<(u32, u64, u64)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutcomeWord {
    Ok,
    Fail,
    Unknown,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpWord {
    Get,
    Put,
    Delete,
    Cas,
    Incr,
}

/// Every field that a line may have.
#[derive(Deserialize)]
struct Fields {
    id: Option<u64>,
    process: Option<u64>,
    op: Option<OpWord>,
    key: Option<Text>,
    #[serde(default)]
    arg: Value,
    #[serde(default)]
    result: Value,
    revision: Option<(u32, u64)>,
    position: Option<(u32, u64, u64)>,
    invoke_ns: Option<u64>,
    return_ns: Option<u64>,
    outcome: Option<OutcomeWord>,
}

/// A whole operation as it is written.
#[derive(Serialize)]
struct WholeLine<'a> {
    process: u64,
    op: OpWord,
    key: &'a str,
    arg: Value,
    result: Value,
    revision: Option<(u32, u64)>,
    position: Option<(u32, u64, u64)>,
    invoke_ns: u64,
    return_ns: Option<u64>,
    outcome: OutcomeWord,
}

#[derive(Serialize)]
struct BeginLine<'a> {
    id: u64,
    process: u64,
    op: OpWord,
    key: &'a str,
    arg: Value,
    invoke_ns: u64,
}

#[derive(Serialize)]
struct EndLine {
    id: u64,
    result: Value,
    revision: Option<(u32, u64)>,
    position: Option<(u32, u64, u64)>,
    return_ns: Option<u64>,
    outcome: OutcomeWord,
}

/// Reads one line.
///
/// # Errors
/// It is no line of a history: what is wrong with it, and what to do.
pub fn read(text: &str) -> Result<Line, LineError> {
    let wrong = |error: serde_json::Error| {
        LineError(format!("{error}; see `tools/check-history --help` for the fields of a line"))
    };
    let fields: Fields = serde_json::from_str(text).map_err(wrong)?;
    if fields.op.is_none() {
        let id = fields.id.ok_or_else(|| missing("op"))?;
        return Ok(Line::End { id, outcome: raw_ending(fields)? });
    }
    let operation = Operation {
        line: 0,
        process: fields.process.ok_or_else(|| missing("process"))?,
        key: fields.key.clone().ok_or_else(|| missing("key"))?,
        what: what(fields.op.ok_or_else(|| missing("op"))?, &fields.arg)?,
        invoke_ns: fields.invoke_ns.ok_or_else(|| missing("invoke_ns"))?,
        ending: Ending::Unknown,
    };
    match (fields.id, fields.outcome) {
        (Some(id), None) => Ok(Line::Begin { id, operation }),
        (_, Some(_)) => Ok(Line::Whole(end(operation, raw_ending(fields)?)?)),
        (None, None) => Err(missing("outcome")),
    }
}

/// An invocation with its completion.
///
/// # Errors
/// They do not fit each other.
pub fn end(operation: Operation, raw: RawEnding) -> Result<Operation, LineError> {
    let RawEnding { return_ns, outcome, result, revision, position } = raw;
    let ending = match outcome {
        OutcomeWord::Unknown => Ending::Unknown,
        OutcomeWord::Fail => Ending::Fail { return_ns: returned(&operation, return_ns)? },
        OutcomeWord::Ok => Ending::Ok {
            return_ns: returned(&operation, return_ns)?,
            answer: Answer {
                reply: reply(&operation.what, &result)?,
                revision: revision
                    .map(|(loss, op)| Revision { loss_epoch: LossEpoch(loss), op: Op(op) }),
                position: position.map(|(loss, epoch, op)| Position {
                    loss_epoch: LossEpoch(loss),
                    epoch: Epoch(epoch),
                    op: Op(op),
                }),
            },
        },
    };
    Ok(Operation { ending, ..operation })
}

fn returned(operation: &Operation, return_ns: Option<u64>) -> Result<u64, LineError> {
    let return_ns = return_ns.ok_or_else(|| missing("return_ns"))?;
    if return_ns < operation.invoke_ns {
        let words = "`return_ns` is before `invoke_ns`; take both from one clock that never steps";
        return Err(LineError(words.to_owned()));
    }
    Ok(return_ns)
}

fn missing(field: &str) -> LineError {
    LineError(format!("the field `{field}` is missing; see `tools/check-history --help`"))
}

fn raw_ending(fields: Fields) -> Result<RawEnding, LineError> {
    let Fields { return_ns, outcome, result, revision, position, .. } = fields;
    let outcome = outcome.ok_or_else(|| missing("outcome"))?;
    Ok(RawEnding { return_ns, outcome, result, revision, position })
}

/// What the argument of a `cas` looks like.
const CAS: &str = "{\"expect\": \"absent\" | {\"value\": V} | {\"revision\": [LOSS, OP]}, \
                   \"value\": V | null}";

fn what(op: OpWord, arg: &Value) -> Result<What, LineError> {
    let wrong = |wanted: &str| LineError(format!("`arg` is {arg}, it has to be {wanted}"));
    match op {
        OpWord::Get => Ok(What::Get),
        OpWord::Delete => Ok(What::Delete),
        OpWord::Put => match arg {
            Value::String(value) => Ok(What::Put { value: Text::from(value.as_str()) }),
            _ => Err(wrong("the value, a string")),
        },
        OpWord::Incr => match arg.as_i64() {
            Some(by) => Ok(What::Incr { by }),
            None => Err(wrong("a number of 64 bits")),
        },
        OpWord::Cas => {
            let value = match &arg["value"] {
                Value::Null => None,
                Value::String(value) => Some(Text::from(value.as_str())),
                _ => return Err(wrong(CAS)),
            };
            let expect = expect(&arg["expect"]).ok_or_else(|| wrong(CAS))?;
            Ok(What::Cas { expect, value })
        }
    }
}

fn expect(value: &Value) -> Option<Expect> {
    if value == "absent" {
        return Some(Expect::Absent);
    }
    if let Some(value) = value["value"].as_str() {
        return Some(Expect::Value(Text::from(value)));
    }
    let (loss, op): (u32, u64) = serde_json::from_value(value["revision"].clone()).ok()?;
    Some(Expect::Revision(Revision { loss_epoch: LossEpoch(loss), op: Op(op) }))
}

fn reply(what: &What, result: &Value) -> Result<Reply, LineError> {
    let wrong = |wanted: &str| LineError(format!("`result` is {result}, it has to be {wanted}"));
    match what {
        What::Get => match result {
            Value::Null => Ok(Reply::Value(None)),
            Value::String(value) => Ok(Reply::Value(Some(Text::from(value.as_str())))),
            _ => Err(wrong("the value, a string, or null where the key is absent")),
        },
        What::Put { .. } if *result == Value::Bool(true) => Ok(Reply::Stored),
        What::Put { .. } => Err(wrong("true")),
        What::Delete => match result {
            Value::Bool(existed) => Ok(Reply::Existed(*existed)),
            _ => Err(wrong("true, or false where the key was absent")),
        },
        What::Cas { .. } => match result {
            Value::Bool(swapped) => Ok(Reply::Swapped(*swapped)),
            _ => Err(wrong("true, or false where the comparison failed")),
        },
        What::Incr { .. } => match (result, result.as_i64()) {
            (Value::Null, _) => Ok(Reply::Number(None)),
            (_, Some(number)) => Ok(Reply::Number(Some(number))),
            (_, None) => Err(wrong("the new number, or null where it was refused")),
        },
    }
}

/// The line of an operation that is about to be sent, without its line end.
#[must_use]
pub fn write_begin(id: u64, process: u64, key: &str, what: &What, invoke_ns: u64) -> String {
    let (op, arg) = words(what);
    to_text(&BeginLine { id, process, op, key, arg, invoke_ns })
}

/// The line of a completion, without its line end; the time is left out where it says nothing.
#[must_use]
pub fn write_end(id: u64, outcome: &Outcome, return_ns: u64) -> String {
    let (word, result, revision, position) = ending_words(match outcome {
        Outcome::Ok(answer) => (OutcomeWord::Ok, Some(answer)),
        Outcome::Fail => (OutcomeWord::Fail, None),
        Outcome::Unknown => (OutcomeWord::Unknown, None),
    });
    let return_ns = (word != OutcomeWord::Unknown).then_some(return_ns);
    to_text(&EndLine { id, result, revision, position, return_ns, outcome: word })
}

/// The line of a whole operation, without its line end.
#[must_use]
pub fn write_whole(operation: &Operation) -> String {
    let (op, arg) = words(&operation.what);
    let (outcome, result, revision, position) = ending_words(match &operation.ending {
        Ending::Ok { answer, .. } => (OutcomeWord::Ok, Some(answer)),
        Ending::Fail { .. } => (OutcomeWord::Fail, None),
        Ending::Unknown => (OutcomeWord::Unknown, None),
    });
    to_text(&WholeLine {
        process: operation.process,
        op,
        key: &operation.key,
        arg,
        result,
        revision,
        position,
        invoke_ns: operation.invoke_ns,
        return_ns: operation.return_ns(),
        outcome,
    })
}

fn to_text(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("numbers, strings and lists have a form in JSON")
}

fn words(what: &What) -> (OpWord, Value) {
    let pair = |it: &Revision| json!([it.loss_epoch.0, it.op.0]);
    match what {
        What::Get => (OpWord::Get, Value::Null),
        What::Delete => (OpWord::Delete, Value::Null),
        What::Put { value } => (OpWord::Put, json!(**value)),
        What::Incr { by } => (OpWord::Incr, json!(by)),
        What::Cas { expect, value } => {
            let expect = match expect {
                Expect::Absent => json!("absent"),
                Expect::Value(value) => json!({ "value": **value }),
                Expect::Revision(revision) => json!({ "revision": pair(revision) }),
            };
            (OpWord::Cas, json!({ "expect": expect, "value": value.as_deref() }))
        }
    }
}

type Words = (OutcomeWord, Value, Option<(u32, u64)>, Option<(u32, u64, u64)>);

fn ending_words((word, answer): (OutcomeWord, Option<&Answer>)) -> Words {
    let Some(answer) = answer else { return (word, Value::Null, None, None) };
    let result = match &answer.reply {
        Reply::Value(value) => json!(value.as_deref()),
        Reply::Stored => json!(true),
        Reply::Existed(is) | Reply::Swapped(is) => json!(is),
        Reply::Number(number) => json!(number),
    };
    let revision = answer.revision.map(|it| (it.loss_epoch.0, it.op.0));
    let position = answer.position.map(|it| (it.loss_epoch.0, it.epoch.0, it.op.0));
    (word, result, revision, position)
}
