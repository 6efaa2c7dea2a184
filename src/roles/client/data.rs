//! The commands that read and write keys.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Context, Failure, Format, report};
use crate::client::{CasAnswer, ScanOptions, Session, block_on};
use crate::protocol::message::Expect;
use crate::protocol::types::Key;
use crate::roles::Exit;

impl Context {
    fn session(&self) -> Session {
        self.client.session().with_timeout(self.timeout)
    }

    /// Prints `json` for programs, or what `people` says.
    fn tell(&self, json: impl FnOnce() -> Value, people: &str) -> io::Result<()> {
        match self.format {
            Format::Json => report::print(&json()),
            Format::People => writeln!(io::stdout(), "{people}"),
        }
    }
}

pub(super) fn get(context: &Context, key: Key) -> Result<Exit, Failure> {
    let read = block_on(context.session().get(key.clone()))?;
    let exit = if read.item.is_some() { Exit::Done } else { Exit::NotFound };
    match (context.format, read.item) {
        (Format::Json, item) => {
            let mut object = report::bytes("key", &key);
            object.insert("position".to_owned(), report::position(read.position));
            object.insert("found".to_owned(), item.is_some().into());
            if let Some(item) = item {
                object.extend(report::bytes("value", &item.value));
                object.insert("revision".to_owned(), report::revision(item.revision).into());
            }
            report::print(&object.into())?;
        }
        (Format::People, Some(item)) => {
            let mut out = io::stdout().lock();
            out.write_all(&item.value)?;
            out.flush()?;
        }
        (Format::People, None) => eprintln!("tandem: no key \"{}\"", key.escape_ascii()),
    }
    Ok(exit)
}

pub(super) fn put(
    context: &Context,
    key: Key,
    value: Bytes,
    lifetime: Option<Duration>,
) -> Result<Exit, Failure> {
    let written = match lifetime {
        Some(lifetime) => block_on(context.session().put_for(key, value, lifetime))?,
        None => block_on(context.session().put(key, value))?,
    };
    let revision = report::revision(written.revision());
    let json = || json!({ "position": report::position(written.position), "revision": revision });
    context.tell(json, &format!("stored, revision {revision}"))?;
    Ok(Exit::Done)
}

pub(super) fn delete(context: &Context, key: Key) -> Result<Exit, Failure> {
    let deleted = block_on(context.session().delete(key))?;
    let json =
        || json!({ "position": report::position(deleted.position), "existed": deleted.existed });
    context.tell(json, if deleted.existed { "deleted" } else { "there was no such key" })?;
    Ok(if deleted.existed { Exit::Done } else { Exit::NotFound })
}

pub(super) fn cas(
    context: &Context,
    key: Key,
    expect: Expect,
    value: Option<Bytes>,
    lifetime: Option<Duration>,
) -> Result<Exit, Failure> {
    let session = context.session();
    let answer = match (value, lifetime) {
        (Some(value), Some(lifetime)) => block_on(session.cas_for(key, expect, value, lifetime))?,
        (value, _) => block_on(session.cas(key, expect, value))?,
    };
    match answer {
        CasAnswer::Swapped { position } => {
            let revision = report::revision(position.revision());
            let json = || {
                json!({
                    "swapped": true,
                    "position": report::position(position),
                    "revision": revision,
                })
            };
            context.tell(json, &format!("done, revision {revision}"))?;
            Ok(Exit::Done)
        }
        CasAnswer::Mismatch { position, found } => {
            let found = found.map(report::revision);
            let json = || {
                json!({
                    "swapped": false,
                    "position": report::position(position),
                    "found": found,
                })
            };
            let words = match &found {
                Some(revision) => format!("not as expected, found revision {revision}"),
                None => "not as expected, there is no such key".to_owned(),
            };
            context.tell(json, &words)?;
            Ok(Exit::NotFound)
        }
    }
}

pub(super) fn incr(context: &Context, key: Key, by: i64) -> Result<Exit, Failure> {
    let count = block_on(context.session().incr(key, by))?;
    let json = || json!({ "position": report::position(count.position), "value": count.value });
    context.tell(json, &count.value.to_string())?;
    Ok(Exit::Done)
}

/// One line a key: key, tab, value, with special bytes escaped; or one JSON object a line.
pub(super) fn scan(
    context: &Context,
    prefix: &Bytes,
    limit: Option<u64>,
    keys_only: bool,
) -> Result<Exit, Failure> {
    let mut scan = context.session().scan(prefix.clone(), ScanOptions::default());
    let mut left = limit.unwrap_or(u64::MAX);
    let mut out = io::BufWriter::new(io::stdout().lock());
    while left > 0 {
        let Some(record) = block_on(scan.next())? else { break };
        left -= 1;
        match context.format {
            Format::Json => {
                let mut object = report::bytes("key", &record.key);
                if !keys_only {
                    object.extend(report::bytes("value", &record.value));
                }
                object.insert("revision".to_owned(), report::revision(record.revision).into());
                writeln!(out, "{}", Value::from(object))?;
            }
            Format::People if keys_only => writeln!(out, "{}", record.key.escape_ascii())?,
            Format::People => {
                writeln!(out, "{}\t{}", record.key.escape_ascii(), record.value.escape_ascii())?;
            }
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
