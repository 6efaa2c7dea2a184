//! The first corpus of every target: good inputs, from which the fuzzer goes astray.

use std::fs;
use std::io;
use std::path::Path;

use tandem_history::generate::{Settings, generate};
use tandem_history::line;

/// One line `name hex` a variant of every message.
const GOLDEN: &str = include_str!("../../../src/wire/tests/golden.txt");

const CLUSTER: &str = include_str!("../../../cluster.toml");

/// Arguments, one a line.
const ARGUMENTS: &[&str] = &[
    "get\nk",
    "put\nk\nv",
    "put\nk\n--file\nf",
    "delete\nk",
    "cas\nk\n--absent\nv",
    "cas\nk\n--expect\nv\n--delete",
    "cas\nk\n--revision\n0.17\nv",
    "incr\nk\n-9223372036854775808",
    "scan\np\n--limit\n3\n--keys-only",
    "import\nd\n--outstanding\n9",
    "status\n--sets",
    "wait\n--ready\n--timeout\n3s",
    "admin\nfence\ns2.7",
    "admin\nrevive\n3\n--accept-loss",
    "--role\nserver\n--id\n2\n--config\nc.toml",
];

/// Writes `folder/TARGET/NAME` for every seed.
pub fn write(folder: &Path) -> io::Result<()> {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    let mut all = Vec::new();
    for line in GOLDEN.lines() {
        let (name, hex) = line.split_once(' ').expect("golden lines are a name and bytes");
        let frame = bytes(hex);
        all.extend_from_slice(&frame);
        put("frames", name, &frame)?;
        // Without the length: kind, request id, body.
        put("messages", name, &frame[4..])?;
        if frame[4] == 1 {
            put("hello", name, &[b"\x01\x01", &frame[13..]].concat())?;
        }
    }
    put("frames", "all", &all)?;
    put("cluster_toml", "example", CLUSTER.as_bytes())?;
    #[cfg(feature = "net")]
    for (name, bytes) in super::certificates::samples() {
        put("certificates", &name, &bytes)?;
    }
    put("operations", "lines", b"a\t1\nb\t2\t3\n\nc\t\n")?;
    for (index, arguments) in ARGUMENTS.iter().enumerate() {
        put("arguments", &index.to_string(), arguments.as_bytes())?;
    }
    let history = generate(&Settings { operations: 40, keys: 4, ..Settings::default() });
    for operation in &history.operations {
        let text = line::write_whole(operation);
        put("history", &operation.line.to_string(), text.as_bytes())?;
    }
    put("planted", "nothing", b"x")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("golden bytes are hex") as u8;
    hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
