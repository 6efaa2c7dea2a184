//! Rules on who may name whom: the import table of the product, and the crates of the network.
//!
//! `cli -> roles -> {client, driver} -> {net, store, clock} -> wire -> protocol <- sim`

use super::source::SourceFile;
use super::{Finding, Rule};

/// Each top-level module of the product, and the modules of ours that it may name.
const TABLE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("wire", &["protocol", "identity"]),
    ("sim", &["protocol", "store"]),
    ("identity", &["protocol"]),
    ("clock", &["protocol"]),
    ("process", &["protocol", "clock"]),
    ("config", &["protocol", "identity"]),
    ("store", &["protocol", "wire", "clock"]),
    ("net", &["protocol", "wire", "clock", "identity"]),
    ("driver", &["protocol", "wire", "clock", "identity", "net", "store"]),
    ("client", &["protocol", "wire", "clock", "identity", "config", "net", "driver"]),
    (
        "roles",
        &[
            "protocol", "wire", "clock", "process", "identity", "config", "net", "store", "driver",
            "client", "cli",
        ],
    ),
    (
        "cli",
        &["protocol", "wire", "clock", "identity", "config", "net", "store", "client", "roles"],
    ),
];

/// The machines: who handles an input decides; `net` and `store` only carry it out.
const MACHINES: &[&str] =
    &["protocol::replica", "protocol::worker", "protocol::meta::MetaServer", "protocol::session"];

/// Crates that only `net` may name.
const NETWORK_CRATES: &[&str] = &["quinn", "quinn_proto", "rustls", "socket2", "x509_parser"];

pub const RULES: &[Rule] = &[
    Rule {
        name: "import table",
        instead: "imports point one way (the table in tests/tidy/imports.rs); move the code to \
                  the layer that may know both",
        check: import_table,
        bad: &[
            ("src/protocol/a.rs", "use crate::net::peer;\n"),
            ("src/protocol/meta/a.rs", "use super::super::super::store::Engine;\n"),
            ("src/net/a.rs", "use crate::store::Engine;\n"),
            ("src/store/a.rs", "fn a() {\n    crate::net::dial();\n}\n"),
            ("src/net/a.rs", "use crate::protocol::replica::Replica;\n"),
            ("src/sim/a.rs", "use crate::net::durable;\n"),
            ("src/wire.rs", "use crate::{protocol::types, net};\n"),
            ("src/wire.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    use super::super::net;\n}\n"),
            ("src/unheard_of.rs", "//! A.\n"),
        ],
        good: &[
            ("src/protocol/a.rs", "use crate::protocol::types;\nuse super::time;\n"),
            ("src/sim/a.rs", "use crate::store::memory::MemoryEngine;\n"),
            ("src/net/a.rs", "use crate::protocol::message::Message;\n// crate::store\n"),
            ("src/lib.rs", "pub mod protocol;\nuse crate::net;\n"),
            ("src/roles/server.rs", "use crate::driver;\nuse crate::{net::tls, store};\n"),
            ("src/wire.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    use super::net;\n}\n"),
            ("tests/a.rs", "use crate::net;\n"),
        ],
    },
    Rule {
        name: "network crates",
        instead: "only src/net names them: give it a function for what is needed",
        check: network_crates,
        bad: &[
            ("src/client/a.rs", "use quinn::Connection;\n"),
            ("src/protocol/a.rs", "fn a(it: rustls::Error) {}\n"),
        ],
        good: &[
            ("src/net/tls.rs", "use rustls::ClientConfig;\n"),
            ("src/client/a.rs", "// quinn::Connection is named in net only.\n"),
            ("src/client/a.rs", "fn a(my_quinn: u8) {}\n"),
        ],
    },
];

/// The module of the product that a file belongs to; none for the roots and for other files.
fn module_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    if matches!(rest, "lib.rs" | "main.rs") {
        return None;
    }
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

fn import_table(file: &SourceFile) -> Vec<Finding> {
    let Some(module) = module_of(&file.path).filter(|_| file.is_rust()) else {
        return Vec::new();
    };
    let Some((_, allowed)) = TABLE.iter().find(|it| it.0 == module) else {
        let what = format!("'{module}' is not in the import table");
        return vec![Finding { line: 1, what }];
    };
    let machines_closed = matches!(module, "net" | "store" | "wire");
    named_paths(file)
        .into_iter()
        .filter(|(_, path)| {
            let within = |it: &&str| path == *it || path.starts_with(&format!("{it}::"));
            let own = within(&module);
            let machine = machines_closed && MACHINES.iter().any(within);
            machine || !(own || allowed.iter().any(within))
        })
        .map(|(line, path)| Finding { line, what: format!("'{module}' names '{path}'") })
        .collect()
}

/// Every path from the crate's root that the file names, with its line.
fn named_paths(file: &SourceFile) -> Vec<(usize, String)> {
    let inline_tests = file.product_lines().last().map_or(usize::MAX, |it| it.0);
    let mut found = Vec::new();
    for (line, text) in file.code_lines() {
        // A test module within the file is one level further down.
        let up = "super::".repeat(depth(&file.path) + usize::from(line > inline_tests));
        let mut roots: Vec<&str> = text.split("crate::").skip(1).collect();
        if let Some((before, after)) = text.split_once(up.as_str()) {
            // One `super` more than that would leave the crate, and does not compile.
            if !before.ends_with("super::") {
                roots.push(after);
            }
        }
        for rest in roots {
            found.extend(expand(rest).into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// How many `super::` lead from a file to the root of the crate.
fn depth(path: &str) -> usize {
    let below = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    below.split('/').count()
}

/// `a::b` of `a::b;`, and `a::b` and `c` of `{a::b, c}`. Only the first level of braces matters,
/// and `cargo fmt` keeps what is inside on lines of their own only where they do not fit.
fn expand(rest: &str) -> Vec<String> {
    let path = |text: &str| -> String {
        let text = text.trim();
        let end = text.find(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':'));
        text[..end.unwrap_or(text.len())].trim_end_matches(':').to_owned()
    };
    match rest.strip_prefix('{') {
        Some(list) => list.split([',', '}']).map(path).filter(|it| !it.is_empty()).collect(),
        None => vec![path(rest)],
    }
}

fn network_crates(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || !file.path.starts_with("src/") || module_of(&file.path) == Some("net") {
        return Vec::new();
    }
    let names = |text: &str, name: &str| {
        text.match_indices(&format!("{name}::")).any(|(at, _)| {
            !text[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_' || it == ':')
        })
    };
    file.code_lines()
        .flat_map(|(line, text)| {
            NETWORK_CRATES
                .iter()
                .filter(move |name| names(text, name))
                .map(move |name| Finding { line, what: format!("names '{name}'") })
        })
        .collect()
}
