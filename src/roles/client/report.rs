//! Results as JSON. Bytes are a string where they are UTF-8, and hexadecimal in a field of
//! another name where they are not.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::protocol::types::{Configuration, Member, Position, Revision};

/// One object with `name` or `name_hex`.
pub(super) fn bytes(name: &str, bytes: &[u8]) -> Map<String, Value> {
    let mut object = Map::new();
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let mut hex = String::with_capacity(2 * bytes.len());
            for byte in bytes {
                // Writing to a string does not fail.
                let _ = write!(hex, "{byte:02x}");
            }
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
    object
}

/// A revision as the command line takes it.
pub(super) fn revision(revision: Revision) -> String {
    format!("{}.{}", revision.loss_epoch.0, revision.op.0)
}

pub(super) fn position(position: Position) -> Value {
    position.to_string().into()
}

pub(super) fn member(member: Member) -> Value {
    json!({ "server": member.server.0, "incarnation": member.incarnation.0 })
}

pub(super) fn configuration(configuration: &Configuration) -> Value {
    let secondaries: Vec<Value> = configuration.secondaries.iter().map(|&it| member(it)).collect();
    json!({
        "loss_epoch": configuration.loss_epoch.0,
        "epoch": configuration.epoch.0,
        "primary": member(configuration.primary),
        "secondaries": secondaries,
    })
}

/// Prints one document.
pub(super) fn print(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")
}
