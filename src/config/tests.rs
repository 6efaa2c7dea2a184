//! Goal: a good file gives the configuration it describes, and each mistake one exact message.
//! Method: parse the example; replace one piece of a small good file at a time and compare the
//! whole message, so that place, key, problem and remedy are all checked.

use super::*;
use crate::protocol::space::Thresholds;
use crate::protocol::time::Span;

const GOOD: &str = r#"[cluster]
name = "demo"
heartbeat = "50ms"
lease = "150ms"
grace = "200ms"

[meta]
listen = "127.0.0.1:4700"
client_listen = "127.0.0.1:4701"

[[server]]
id = 1
workers = ["127.0.0.1:4711", "127.0.0.1:4712"]
spawn = true

[[server]]
id = 2
workers = ["127.0.0.1:4721"]
spawn = true

[[client]]
name = "app"

[[admin]]
name = "ops"
"#;

fn parse(text: &str) -> Result<ClusterConfig, ConfigError> {
    ClusterConfig::parse(text, "/etc/tandem/cluster.toml")
}

/// The message about `GOOD` with its first `piece` replaced, without the path.
fn message(piece: &str, replacement: &str) -> String {
    assert!(GOOD.contains(piece), "{piece:?} is not in the good file");
    let error = parse(&GOOD.replacen(piece, replacement, 1)).expect_err("a mistake");
    let text = error.to_string();
    text.strip_prefix("/etc/tandem/cluster.toml:").expect("the path comes first").to_owned()
}

#[test]
fn a_good_file_says_what_it_says() {
    let config = parse(GOOD).expect("a good file");
    assert_eq!(config.name(), "demo");
    assert_eq!((config.key_sets(), config.replicas(), config.min_write_copies()), (64, 2, 1));
    assert_eq!(config.timing(), Timing::default());
    assert_eq!(config.limits(), Limits { key_bytes_max: 1024, value_bytes_max: 1_048_576 });
    let server = config.server(ServerId(1)).expect("server 1");
    assert_eq!(server.workers, server.advertise);
    assert_eq!(server.workers.len(), 2);
    assert_eq!(server.state, Path::new("/etc/tandem/state/server-1"));
    assert_eq!(config.server(ServerId(3)), None);
    assert_eq!(config.meta().client_advertise, config.meta().client_listen);
    let files = config.credential_files(&config.server_identity(ServerId(2)));
    assert_eq!(files.key, Path::new("/etc/tandem/certs/server-2.key"));
    assert_eq!(config.ca_file(), Path::new("/etc/tandem/certs/ca.pem"));
    let identities: Vec<String> =
        config.identities().iter().map(std::string::ToString::to_string).collect();
    assert_eq!(
        identities,
        [
            "tandem://demo/meta/1",
            "tandem://demo/server/1",
            "tandem://demo/server/2",
            "tandem://demo/client/app",
            "tandem://demo/admin/ops"
        ]
    );
    let ops = config.client_or_admin("ops").expect("an admin");
    assert_eq!(ops.role, PartyRole::Admin);
    assert_eq!(config.client_or_admin("nobody"), None);
}

#[test]
fn the_example_at_the_root_is_the_generated_one_and_is_good() {
    let text = include_str!("../../cluster.toml");
    assert_eq!(text, loopback_example("demo", 3, 4700));
    let config = ClusterConfig::parse(text, "cluster.toml").expect("a good example");
    assert_eq!(config.servers().len(), 3);
    assert!(config.servers().iter().all(|server| server.spawn));
    assert_eq!(config.timing(), Timing::default());
    assert_eq!(config.meta().state, Path::new("state/meta"));
}

#[test]
fn generated_examples_of_other_sizes_are_good() {
    for servers in [1, 2, 5] {
        let text = loopback_example("x", servers, 30_000);
        let config = ClusterConfig::parse(&text, "cluster.toml").expect("a good example");
        assert_eq!(config.servers().len(), usize::from(servers));
    }
}

#[test]
fn servers_are_kept_by_id() {
    let text = GOOD.replacen("id = 1", "id = 9", 1);
    let config = parse(&text).expect("a good file");
    let ids: Vec<u16> = config.servers().iter().map(|server| server.id.0).collect();
    assert_eq!(ids, [2, 9]);
    assert!(config.server(ServerId(9)).is_some());
}

#[test]
fn sizes_and_durations_are_written_for_people() {
    let extra = "queue = \"2s\"\nstop_after = \"1m\"\nsuspect = \"1s\"\n\n[limits]\n\
                 key_bytes_max = 512\nvalue_bytes_max = \"2MiB\"\n\n[meta]";
    let config = parse(&GOOD.replacen("\n[meta]", extra, 1)).expect("a good file");
    assert_eq!(config.limits(), Limits { key_bytes_max: 512, value_bytes_max: 2 << 20 });
    assert_eq!(config.timing().queue, Span::from_millis(2_000));
    assert_eq!(config.timing().stop, Span::from_millis(60_000));
    assert_eq!(config.timing().suspect, Span::from_millis(1_000));
}

#[test]
fn the_log_between_checkpoints_has_bounds() {
    let with =
        |size: &str| GOOD.replacen("lease =", &format!("checkpoint_log = {size}\nlease ="), 1);
    assert_eq!(parse(GOOD).expect("a good file").checkpoint_log(), 64 << 20);
    assert_eq!(parse(&with("\"64 KiB\"")).expect("a good file").checkpoint_log(), 64 << 10);
    let error = parse(&with("\"1KiB\"")).expect_err("far too often").to_string();
    assert!(
        error.ends_with(
            "cluster.checkpoint_log: not a size within its bounds; write bytes as a number or a \
             text such as \"64KiB\", from 16KiB to 1024MiB"
        ),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_named_with_the_remedy() {
    let error = ClusterConfig::load("/nowhere/cluster.toml").expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "can not read the cluster's configuration /nowhere/cluster.toml: No such file or \
         directory (os error 2); name the file with --config, or copy the example cluster.toml \
         there"
    );
}

#[test]
fn broken_toml_is_placed() {
    let text = message("name = \"demo\"", "name = demo");
    assert!(text.starts_with("2:8: "), "{text}");
    assert!(text.ends_with("; correct the TOML here"), "{text}");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    assert_eq!(
        message("heartbeat =", "hartbeat ="),
        "3:1: cluster.hartbeat: unknown key; did you mean `heartbeat`?"
    );
    assert_eq!(
        message("spawn = true", "autostart = true"),
        "14:1: server.autostart: unknown key; known here are id, workers, advertise, spawn, state, \
         disk_capacity, memory_capacity"
    );
    assert_eq!(
        message("[[client]]", "[[clients]]"),
        "21:3: clients: unknown key; did you mean `client`?"
    );
}

#[test]
fn missing_things_are_named() {
    assert_eq!(
        message("[cluster]\nname = \"demo\"", "[cluster]"),
        "1:1: cluster.name: missing; add it to [cluster]"
    );
    assert_eq!(
        message("client_listen = \"127.0.0.1:4701\"", ""),
        "7:1: meta.client_listen: missing; add it to [meta]"
    );
    assert_eq!(message("id = 2\n", ""), "16:1: server.id: missing; add it to [[server]]");
    let error = parse("[meta]\n").expect_err("no cluster").to_string();
    assert!(error.ends_with("1:1: cluster: missing; add a section [cluster]"), "{error}");
    let alone = &GOOD[..GOOD.find("[[server]]").expect("servers")];
    let error = parse(alone).expect_err("no servers").to_string();
    assert!(error.ends_with("1:1: server: missing; add a section [[server]]"), "{error}");
}

#[test]
fn durations_must_fit_one_another() {
    assert_eq!(
        message("grace = \"200ms\"", "grace = \"151ms\""),
        "5:9: cluster.grace: 151ms does not cover the lease of 150ms; write at least \"154ms\", \
         or shorten `lease`"
    );
    assert!(
        parse(&GOOD.replacen("\"200ms\"", "\"154ms\"", 1)).is_ok(),
        "the floor printed is enough"
    );
    assert_eq!(
        message("lease = \"150ms\"", "lease = \"1s\""),
        "5:9: cluster.grace: 200ms does not cover the lease of 1s; write at least \"1s 21ms\", or \
         shorten `lease`"
    );
    assert_eq!(
        message("lease =", "suspect = \"99ms\"\nlease ="),
        "4:11: cluster.suspect: 99ms is not even two heartbeats; write at least \"100ms\""
    );
    assert_eq!(
        message("\"50ms\"", "50"),
        "3:13: cluster.heartbeat: not a duration; write a number and its unit in quotes, such as \
         \"50ms\" or \"2s\""
    );
    assert_eq!(
        message("\"50ms\"", "\"0s\""),
        "3:13: cluster.heartbeat: out of range; write a duration from \"1ms\" to \"1h\""
    );
}

#[test]
fn counts_are_bounded() {
    for wrong in ["0", "4097", "-1"] {
        assert_eq!(
            message("lease =", &format!("key_sets = {wrong}\nlease =")),
            format!(
                "4:12: cluster.key_sets: {wrong} is out of range; write a number from 1 to 4096"
            )
        );
    }
    assert_eq!(
        message("lease =", "replicas = 3\nlease ="),
        "4:12: cluster.replicas: 3 copies do not fit on 2 servers; write at most 2, or add a \
         [[server]]"
    );
    assert_eq!(
        message("lease =", "min_write_copies = 3\nlease ="),
        "4:20: cluster.min_write_copies: 3 is more than the 2 replicas; write a number from 1 to \
         2, or raise `replicas`"
    );
    assert_eq!(
        message("id = 1", "id = 0"),
        "12:6: server.id: 0 is out of range; write a number from 1 to 65535"
    );
    assert_eq!(
        message("[\"127.0.0.1:4721\"]", "[]"),
        "18:11: server.workers: 0 workers; list 1 to 64 addresses, one for each worker"
    );
    assert_eq!(
        message("\n[meta]", "\n[limits]\nvalue_bytes_max = \"65MiB\"\n[meta]"),
        "8:19: limits.value_bytes_max: not a size within its bounds; write bytes as a number or a \
         text such as \"64KiB\", from 1B to 64MiB"
    );
}

#[test]
fn types_are_checked() {
    assert_eq!(
        message("spawn = true", "spawn = \"yes\""),
        "14:9: server.spawn: a string stands here; write true or false, without quotes"
    );
    assert_eq!(
        message("id = 1", "id = \"1\""),
        "12:6: server.id: a string stands here; write a whole number"
    );
    assert_eq!(
        message("[\"127.0.0.1:4721\"]", "\"127.0.0.1:4721\""),
        "18:11: server.workers: a string stands here; write a list such as [\"127.0.0.1:4711\"]"
    );
    assert_eq!(
        message("[[client]]", "[client]"),
        "21:1: client: not a list of sections; write [[client]] above the keys of each"
    );
}

#[test]
fn names_must_fit_a_certificate() {
    assert_eq!(
        message("\"demo\"", "\"my demo\""),
        "2:8: cluster.name: \"my demo\" can not stand in a certificate's URI; use 1 to 48 letters, \
         digits, '-', '_' or '.', a letter or digit first"
    );
    assert_eq!(
        message("\"ops\"", "\"app\""),
        "25:8: admin.name: \"app\" is already in line 22; give each client and admin its own name"
    );
}

#[test]
fn ids_and_addresses_and_folders_are_not_shared() {
    assert_eq!(
        message("id = 2", "id = 1"),
        "17:6: server.id: server 1 is already in line 12; give each server its own id"
    );
    let taken = |place: &str, line: u32, by: &str| {
        format!(
            "{place}: 127.0.0.1:4711 is taken by {by} in line {line}; give each listener its own \
             address or port"
        )
    };
    assert_eq!(message(":4712", ":4711"), taken("13:30: server.workers", 13, "server 1"));
    assert_eq!(message(":4721", ":4711"), taken("18:12: server.workers", 13, "server 1"));
    assert_eq!(
        message(":4701", ":4700"),
        "9:17: meta.client_listen: 127.0.0.1:4700 is taken by the metaserver in line 8; give each \
         listener its own address or port"
    );
    assert_eq!(
        message(":4721\"]", ":4721\"]\nstate = \"state/server-1\""),
        "19:9: server.state: /etc/tandem/state/server-1 is the folder of server 1 in line 11; \
         give each process its own folder"
    );
}

#[test]
fn a_wildcard_takes_its_port_on_one_machine_only() {
    let wild = "[\"0.0.0.0:4711\"]\nadvertise = [\"10.0.0.2:4711\"]";
    assert_eq!(
        message("[\"127.0.0.1:4721\"]", wild),
        "18:12: server.workers: 0.0.0.0:4711 is taken by server 1 in line 13; give each listener \
         its own address or port"
    );
    let apart = GOOD.replacen("[\"127.0.0.1:4721\"]\nspawn = true", wild, 1);
    let config = parse(&apart).expect("server 2 is on another machine");
    let server = config.server(ServerId(2)).expect("server 2");
    assert_eq!(server.advertise[0].to_string(), "10.0.0.2:4711");
}

#[test]
fn what_is_advertised_can_be_dialled() {
    assert_eq!(
        message("127.0.0.1:4700", "0.0.0.0:4700"),
        "8:10: meta.listen: nobody can dial 0.0.0.0:4700; add `advertise` with the address of this \
         machine"
    );
    assert_eq!(
        message("client_listen", "advertise = \"0.0.0.0:4700\"\nclient_listen"),
        "9:13: meta.advertise: nobody can dial 0.0.0.0:4700; write the address at which the others \
         reach this machine"
    );
    assert_eq!(
        message(":4721\"]", ":4721\"]\nadvertise = [\"10.0.0.2:1\", \"10.0.0.2:2\"]"),
        "19:13: server.advertise: 2 addresses beside 1 in `workers`; list one for each worker, in \
         the same order"
    );
    assert_eq!(
        message(":4721\"]", ":4721\"]\nadvertise = [\"127.0.0.1:4700\"]"),
        "19:14: server.advertise: 127.0.0.1:4700 is taken by the metaserver in line 8; give each \
         listener its own address or port"
    );
    assert_eq!(
        message("127.0.0.1:4721", "localhost"),
        "18:12: server.workers: not an address with a port; write an IP address and a port in \
         quotes, such as \"127.0.0.1:4711\""
    );
    assert_eq!(
        message("127.0.0.1:4721", "127.0.0.1:0"),
        "18:12: server.workers: 127.0.0.1:0 can not be dialled; write the address of one machine \
         and a port from 1 to 65535"
    );
}

#[test]
fn space_has_thresholds_in_order_and_capacities_in_large_units() {
    let with = |cluster: &str, server: &str| {
        let text = GOOD.replacen("\n[meta]", &format!("{cluster}\n[meta]"), 1);
        text.replacen("id = 1\n", &format!("id = 1\n{server}\n"), 1)
    };
    let config = parse(GOOD).expect("a good file");
    assert_eq!(config.thresholds(), Thresholds { soft: 85, high: 90, hard: 95 });
    assert_eq!(config.servers()[0].disk_capacity, None);
    let given = "disk_capacity = \"20GiB\"\nmemory_capacity = 2097152";
    let config = parse(&with("space_soft = 50\nspace_hard = 92\n", given)).expect("a good file");
    assert_eq!(config.thresholds(), Thresholds { soft: 50, high: 90, hard: 92 });
    assert_eq!(config.servers()[0].disk_capacity, Some(20 << 30));
    assert_eq!(config.servers()[0].memory_capacity, Some(2 << 20));
    let error = parse(&with("space_hard = 80\n", "")).expect_err("out of order").to_string();
    assert!(error.contains("cluster.space_hard: 80 is less than the 90 before it"), "{error}");
    let error = parse(&with("", "disk_capacity = \"1KiB\"")).expect_err("too small").to_string();
    assert!(error.contains("server.disk_capacity: not a capacity"), "{error}");
}
