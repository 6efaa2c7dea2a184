//! From the text of `cluster.toml` to a `ClusterConfig`, section by section.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeTable;

use super::addresses::{Party, check_parties};
use super::error::{ConfigError, Source};
use super::section::Section;
use super::{
    CHECKPOINT_LOG, ClusterConfig, Engine, KEY_SETS, KEY_SETS_MAX, Limits, MetaConfig,
    ServerConfig, WORKERS_MAX,
};
use crate::protocol::space::Thresholds;
use crate::protocol::time::Span;
use crate::protocol::timing::{Timing, TimingError};
use crate::protocol::types::ServerId;

/// Bounds of the limits themselves: a frame must fit a connection's buffers.
const KEY_BYTES_BOUND: u32 = 64 << 10;
const VALUE_BYTES_BOUND: u32 = 64 << 20;

/// Bounds of the log between two checkpoints; a restart reads all of it.
const CHECKPOINT_LOG_MIN: u32 = 16 << 10;
const CHECKPOINT_LOG_MAX: u32 = 1 << 30;

const ROOT: &[&str] = &["cluster", "limits", "meta", "server", "certs", "client", "admin"];
const CLUSTER: &[&str] = &[
    "name",
    "key_sets",
    "replicas",
    "min_write_copies",
    "engine",
    "checkpoint_log",
    "heartbeat",
    "lease",
    "grace",
    "suspect",
    "queue",
    "stop_after",
    "space_soft",
    "space_high",
    "space_hard",
];
const LIMITS: &[&str] = &["key_bytes_max", "value_bytes_max"];
const META: &[&str] = &["listen", "advertise", "client_listen", "client_advertise", "state"];
const SERVER: &[&str] =
    &["id", "workers", "advertise", "spawn", "state", "disk_capacity", "memory_capacity"];
const CERTS: &[&str] = &["dir"];
const NAMED: &[&str] = &["name"];

/// The whole file.
pub(super) fn cluster(source: Source<'_>) -> Result<ClusterConfig, ConfigError> {
    let parsed = DeTable::parse(source.text).map_err(|error| {
        let problem = error.message().trim().replace('\n', ", ");
        source.error(&error.span().unwrap_or(0..0), "", problem, "correct the TOML here")
    })?;
    let root = Section::new(source, "", ROOT, parsed.get_ref(), 0..0)?;
    let cluster = section(&root, "cluster", CLUSTER)?;
    let name = cluster.party_name("name")?;
    let timing = timing(&cluster)?;
    let limits = limits(&root)?;

    let mut parties = Vec::new();
    let meta = meta(&section(&root, "meta", META)?, &mut parties)?;
    let servers = servers(&root, &mut parties)?;
    check_parties(source, &parties)?;
    let (replicas, min_write_copies) = copies(&cluster, servers.len())?;

    let (clients, admins) = (names(&root, "client")?, names(&root, "admin")?);
    check_names(source, &clients, &admins)?;
    let own = |names: Vec<Spanned<&str>>| {
        names.into_iter().map(|name| name.into_inner().to_owned()).collect()
    };
    Ok(ClusterConfig {
        path: source.path.to_path_buf(),
        name: (*name.get_ref()).to_owned(),
        key_sets: key_sets(&cluster)?,
        replicas,
        min_write_copies,
        engine: engine(&cluster)?,
        checkpoint_log: cluster
            .size("checkpoint_log", CHECKPOINT_LOG_MIN, CHECKPOINT_LOG_MAX)?
            .unwrap_or(CHECKPOINT_LOG),
        timing,
        limits,
        thresholds: thresholds(&cluster)?,
        meta,
        servers,
        certs: certs(&root)?,
        clients: own(clients),
        admins: own(admins),
    })
}

/// The section `[name]`, which must be there.
fn section<'a>(
    root: &Section<'a>,
    name: &'static str,
    known: &'static [&'static str],
) -> Result<Section<'a>, ConfigError> {
    match root.table(name)? {
        Some((table, span)) => Section::new(root.source, name, known, table, span),
        None => Err(root.error(name, &root.span(), "missing", format!("add a section [{name}]"))),
    }
}

fn key_sets(cluster: &Section<'_>) -> Result<u16, ConfigError> {
    let count = cluster.number("key_sets", 1, u64::from(KEY_SETS_MAX))?;
    Ok(count.map_or(KEY_SETS, |count| u16::try_from(count.into_inner()).unwrap_or(KEY_SETS_MAX)))
}

/// `replicas` and `min_write_copies`.
fn copies(cluster: &Section<'_>, servers: usize) -> Result<(usize, usize), ConfigError> {
    let replicas = cluster.number("replicas", 1, u64::from(u16::MAX))?;
    let span = replicas.as_ref().map_or_else(|| cluster.span(), Spanned::span);
    let replicas = replicas.map_or(2, Spanned::into_inner);
    if replicas > servers as u64 {
        return Err(cluster.error(
            "replicas",
            &span,
            format!("{replicas} copies do not fit on {servers} servers"),
            format!("write at most {servers}, or add a [[server]]"),
        ));
    }
    let floor = cluster.number("min_write_copies", 1, u64::from(u16::MAX))?;
    let floor = floor.unwrap_or_else(|| Spanned::new(cluster.span(), 1));
    if *floor.get_ref() > replicas {
        return Err(cluster.error(
            "min_write_copies",
            &floor.span(),
            format!("{} is more than the {replicas} replicas", floor.get_ref()),
            format!("write a number from 1 to {replicas}, or raise `replicas`"),
        ));
    }
    Ok((replicas as usize, floor.into_inner() as usize))
}

fn engine(cluster: &Section<'_>) -> Result<Engine, ConfigError> {
    let Some(text) = cluster.text("engine")? else { return Ok(Engine::default()) };
    match *text.get_ref() {
        "durable" => Ok(Engine::Durable),
        "memory" => Ok(Engine::Memory),
        other => Err(cluster.error(
            "engine",
            &text.span(),
            format!("there is no engine {other:?}"),
            "write \"durable\" (on the disk) or \"memory\" (gone when a server stops)",
        )),
    }
}

/// The shares of a capacity, in percent, at which the levels of space begin.
fn thresholds(cluster: &Section<'_>) -> Result<Thresholds, ConfigError> {
    let usual = Thresholds::default();
    let read = |key, usual: u8| -> Result<Spanned<u8>, ConfigError> {
        let given = cluster.number(key, 1, 100)?;
        let given = given.unwrap_or_else(|| Spanned::new(cluster.span(), u64::from(usual)));
        Ok(Spanned::new(given.span(), u8::try_from(*given.get_ref()).unwrap_or(usual)))
    };
    let soft = read("space_soft", usual.soft)?;
    let high = read("space_high", usual.high)?;
    let hard = read("space_hard", usual.hard)?;
    for (key, lower, upper) in [("space_high", &soft, &high), ("space_hard", &high, &hard)] {
        if lower.get_ref() > upper.get_ref() {
            return Err(cluster.error(
                key,
                &upper.span(),
                format!("{} is less than the {} before it", upper.get_ref(), lower.get_ref()),
                "write space_soft, space_high and space_hard in ascending order",
            ));
        }
    }
    Ok(Thresholds { soft: *soft.get_ref(), high: *high.get_ref(), hard: *hard.get_ref() })
}

fn timing(cluster: &Section<'_>) -> Result<Timing, ConfigError> {
    let usual = Timing::default();
    let read = |key, usual: Span| -> Result<Spanned<Span>, ConfigError> {
        Ok(cluster.duration(key)?.unwrap_or_else(|| Spanned::new(cluster.span(), usual)))
    };
    let heartbeat = read("heartbeat", usual.heartbeat)?;
    let lease = read("lease", usual.lease)?;
    let grace = read("grace", usual.grace)?;
    let mut timing = Timing::new(*heartbeat.get_ref(), *lease.get_ref(), *grace.get_ref());
    match timing.check() {
        Ok(()) => {}
        Err(TimingError::GraceTooShort { grace: short, floor }) => {
            return Err(cluster.error(
                "grace",
                &grace.span(),
                format!("{} does not cover the lease of {}", words(short), words(timing.lease)),
                format!("write at least {:?}, or shorten `lease`", words(floor)),
            ));
        }
        Err(TimingError::Zero) => {
            return Err(cluster.error("lease", &lease.span(), "zero", "write at least \"1ms\""));
        }
    }
    let suspect = read("suspect", timing.suspect)?;
    if *suspect.get_ref() < timing.heartbeat.scaled(2, 1) {
        return Err(cluster.error(
            "suspect",
            &suspect.span(),
            format!("{} is not even two heartbeats", words(*suspect.get_ref())),
            format!("write at least {:?}", words(timing.heartbeat.scaled(2, 1))),
        ));
    }
    timing.suspect = suspect.into_inner();
    timing.queue = read("queue", usual.queue)?.into_inner();
    timing.stop = read("stop_after", usual.stop)?.into_inner();
    Ok(timing)
}

/// A span as people write it, rounded up to whole milliseconds.
fn words(span: Span) -> String {
    let rounded = Span::from_millis(span.0.div_ceil(1_000_000));
    humantime::format_duration(rounded.into()).to_string()
}

fn limits(root: &Section<'_>) -> Result<Limits, ConfigError> {
    let usual = Limits::default();
    let Some((table, span)) = root.table("limits")? else { return Ok(usual) };
    let limits = Section::new(root.source, "limits", LIMITS, table, span)?;
    let key = limits.size("key_bytes_max", 1, KEY_BYTES_BOUND)?;
    let value = limits.size("value_bytes_max", 1, VALUE_BYTES_BOUND)?;
    Ok(Limits {
        key_bytes_max: key.unwrap_or(usual.key_bytes_max),
        value_bytes_max: value.unwrap_or(usual.value_bytes_max),
    })
}

fn meta(section: &Section<'_>, parties: &mut Vec<Party>) -> Result<MetaConfig, ConfigError> {
    let pair = |listen, advertise| -> Result<_, ConfigError> {
        let listen_at = section.required(listen, section.address(listen)?)?;
        let advertised = section.address(advertise)?;
        let dialled = advertised_address(section, listen, &listen_at, advertise, advertised)?;
        Ok((listen_at, dialled))
    };
    let (listen, advertise) = pair("listen", "advertise")?;
    let (client_listen, client_advertise) = pair("client_listen", "client_advertise")?;
    let state = section.folder("state", "state/meta")?;
    let config = MetaConfig {
        listen: *listen.get_ref(),
        advertise: *advertise.get_ref(),
        client_listen: *client_listen.get_ref(),
        client_advertise: *client_advertise.get_ref(),
        state: state.get_ref().clone(),
    };
    parties.push(Party {
        name: "the metaserver".to_owned(),
        section: "meta",
        beside_meta: true,
        listen: vec![("listen", listen), ("client_listen", client_listen)],
        advertise: vec![("advertise", advertise), ("client_advertise", client_advertise)],
        state,
    });
    Ok(config)
}

/// Where a party that listens at `listen` is dialled.
fn advertised_address(
    section: &Section<'_>,
    listen_key: &'static str,
    listen: &Spanned<SocketAddr>,
    advertise_key: &'static str,
    advertise: Option<Spanned<SocketAddr>>,
) -> Result<Spanned<SocketAddr>, ConfigError> {
    let given = advertise.is_some();
    let dialled = advertise.unwrap_or_else(|| listen.clone());
    if !dialled.get_ref().ip().is_unspecified() {
        return Ok(dialled);
    }
    let (key, remedy) = if given {
        (advertise_key, "write the address at which the others reach this machine".to_owned())
    } else {
        (listen_key, format!("add `{advertise_key}` with the address of this machine"))
    };
    let problem = format!("nobody can dial {}", dialled.get_ref());
    Err(section.error(key, &dialled.span(), problem, remedy))
}

fn servers(root: &Section<'_>, parties: &mut Vec<Party>) -> Result<Vec<ServerConfig>, ConfigError> {
    let mut servers: Vec<ServerConfig> = Vec::new();
    let mut lines: Vec<(ServerId, usize)> = Vec::new();
    for (table, span) in root.tables("server")? {
        let section = Section::new(root.source, "server", SERVER, table, span)?;
        let id = section.required("id", section.number("id", 1, u64::from(u16::MAX))?)?;
        let line = root.source.line(&id.span());
        let number = ServerId(u16::try_from(*id.get_ref()).unwrap_or(u16::MAX));
        if let Some((_, first)) = lines.iter().find(|(taken, _)| *taken == number) {
            return Err(section.error(
                "id",
                &id.span(),
                format!("server {} is already in line {first}", number.0),
                "give each server its own id",
            ));
        }
        lines.push((number, line));
        servers.push(server(&section, number, parties)?);
    }
    if servers.is_empty() {
        return Err(root.error("server", &root.span(), "missing", "add a section [[server]]"));
    }
    servers.sort_by_key(|server| server.id);
    Ok(servers)
}

fn server(
    section: &Section<'_>,
    id: ServerId,
    parties: &mut Vec<Party>,
) -> Result<ServerConfig, ConfigError> {
    let workers = section.required("workers", section.addresses("workers")?)?;
    let count = workers.get_ref().len();
    if count == 0 || count > WORKERS_MAX {
        return Err(section.error(
            "workers",
            &workers.span(),
            format!("{count} workers"),
            format!("list 1 to {WORKERS_MAX} addresses, one for each worker"),
        ));
    }
    let advertise = dialled_workers(section, &workers)?;
    let state: Spanned<PathBuf> = section.folder("state", &format!("state/server-{}", id.0))?;
    let spawn = section.flag("spawn")?.unwrap_or(false);
    let config = ServerConfig {
        id,
        workers: workers.get_ref().iter().map(|address| *address.get_ref()).collect(),
        advertise: advertise.iter().map(|address| *address.get_ref()).collect(),
        spawn,
        state: state.get_ref().clone(),
        disk_capacity: section.capacity("disk_capacity")?,
        memory_capacity: section.capacity("memory_capacity")?,
    };
    let keyed = |key, list: Vec<Spanned<SocketAddr>>| {
        list.into_iter().map(|address| (key, address)).collect()
    };
    parties.push(Party {
        name: format!("server {}", id.0),
        section: "server",
        beside_meta: spawn,
        listen: keyed("workers", workers.into_inner()),
        advertise: keyed("advertise", advertise),
        state,
    });
    Ok(config)
}

/// Where each of the `workers` is dialled.
fn dialled_workers(
    section: &Section<'_>,
    workers: &Spanned<Vec<Spanned<SocketAddr>>>,
) -> Result<Vec<Spanned<SocketAddr>>, ConfigError> {
    let count = workers.get_ref().len();
    let given = section.addresses("advertise")?;
    if let Some(given) = given.as_ref().filter(|given| given.get_ref().len() != count) {
        return Err(section.error(
            "advertise",
            &given.span(),
            format!("{} addresses beside {count} in `workers`", given.get_ref().len()),
            "list one for each worker, in the same order",
        ));
    }
    let mut given = given.map(Spanned::into_inner).unwrap_or_default().into_iter();
    workers
        .get_ref()
        .iter()
        .map(|listen| advertised_address(section, "workers", listen, "advertise", given.next()))
        .collect()
}

fn certs(root: &Section<'_>) -> Result<PathBuf, ConfigError> {
    let empty = DeTable::new();
    let (table, span) = match root.table("certs")? {
        Some(found) => found,
        None => (&empty, 0..0),
    };
    let section = Section::new(root.source, "certs", CERTS, table, span)?;
    Ok(section.folder("dir", "certs")?.into_inner())
}

/// The names of the sections `[[kind]]`.
fn names<'a>(root: &Section<'a>, kind: &'static str) -> Result<Vec<Spanned<&'a str>>, ConfigError> {
    root.tables(kind)?
        .into_iter()
        .map(|(table, span): (&'a DeTable<'a>, Range<usize>)| {
            Section::new(root.source, kind, NAMED, table, span)?.party_name("name")
        })
        .collect()
}

/// A name alone must tell a client or an admin.
fn check_names(
    source: Source<'_>,
    clients: &[Spanned<&str>],
    admins: &[Spanned<&str>],
) -> Result<(), ConfigError> {
    let clients = clients.iter().map(|name| ("client.name", name));
    let admins = admins.iter().map(|name| ("admin.name", name));
    let mut seen: Vec<&Spanned<&str>> = Vec::new();
    for (key, name) in clients.chain(admins) {
        if let Some(first) = seen.iter().find(|other| other.get_ref() == name.get_ref()) {
            return Err(source.error(
                &name.span(),
                key,
                format!("{:?} is already in line {}", name.get_ref(), source.line(&first.span())),
                "give each client and admin its own name",
            ));
        }
        seen.push(name);
    }
    Ok(())
}
