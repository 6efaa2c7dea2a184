//! The text of a `cluster.toml` whose cluster runs on one machine, over loopback.

use std::fmt::Write;

/// The configuration of a cluster called `name` with a metaserver and `servers` servers of one
/// worker each, all spawned, on `127.0.0.1` and the `servers + 2` ports from `base_port` on.
///
/// The example at the root of the project is `loopback_example("demo", 3, 4700)`.
///
/// # Panics
/// The last port would be above 65535.
#[must_use]
pub fn loopback_example(name: &str, servers: u16, base_port: u16) -> String {
    let last_port = u32::from(base_port) + u32::from(servers) + 1;
    assert!(last_port <= u32::from(u16::MAX), "no {} ports from {base_port} on", servers + 2);
    let replicas = servers.min(2);
    let client_port = base_port + 1;
    let mut text = format!(
        r#"# A Tandem cluster on one machine: a metaserver and its servers, over loopback.
# This file starts a cluster; afterwards the metaserver's own record is the truth.
# Paths are relative to this file.

[cluster]
name = "{name}"           # part of every certificate
key_sets = 64           # fixed once the cluster exists
replicas = {replicas}            # copies of each key set: one more than failures survived
min_write_copies = 1    # a key set with fewer copies refuses writes
engine = "durable"      # on disk before it is acknowledged; "memory": gone with its server
heartbeat = "50ms"      # server to metaserver
lease = "150ms"         # how long a primary may serve on a secondary's word
grace = "200ms"         # how long a secondary waits before it takes over; outlasts the lease
queue = "10s"           # the longest that a request waits for a primary
stop_after = "30s"      # a server that can not stop by then says why

[limits]
key_bytes_max = "1KiB"
value_bytes_max = "1MiB"

[certs]
dir = "certs"           # made by tools/certs

# On other machines: `listen = "0.0.0.0:{base_port}"` and the machine's own address in `advertise`.
[meta]
listen = "127.0.0.1:{base_port}"            # servers
client_listen = "127.0.0.1:{client_port}"     # clients; apart, so that a flood of them harms nobody
state = "state/meta"
"#
    );
    for id in 1..=servers {
        let port = client_port + id;
        let hint = if id == 1 { " # one worker; add ports for more" } else { "" };
        let logs = "started by the metaserver, and logs to server.log in its state folder";
        let spawn_hint = if id == 1 { format!("            # {logs}") } else { String::new() };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            r#"
[[server]]
id = {id}
workers = ["127.0.0.1:{port}"]{hint}
spawn = true{spawn_hint}
state = "state/server-{id}"
"#
        );
    }
    text.push_str(
        r#"
# Clients read and write; admins may also change the cluster. Each has its own certificate.
[[client]]
name = "app"

[[admin]]
name = "ops"
"#,
    );
    text
}
