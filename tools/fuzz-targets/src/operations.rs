//! What people and files ask for: the lines of an import, and arguments.

use tandem::{cli, roles};

/// The lines of an import: each is a key and a value, or refused with its number.
pub fn records(data: &[u8]) {
    let mut records = roles::client::records(data);
    let lines = (1..).zip(data.split(|&byte| byte == b'\n')).filter(|it| !it.1.is_empty());
    for (number, line) in lines {
        match records.next().expect("every line is told of") {
            Ok((key, value)) => assert_eq!([&key[..], b"\t", &value[..]].concat(), line),
            Err(words) => assert!(words.starts_with(&format!("line {number} ")), "{words}"),
        }
    }
    assert!(records.next().is_none(), "a record out of nothing");
}

/// Arguments, one a line: parsed, or refused in words.
pub fn arguments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let arguments = std::iter::once("tandem").chain(text.split('\n')).map(Into::into);
    if let Err(words) = cli::check(arguments) {
        assert!(!words.is_empty());
    }
}
