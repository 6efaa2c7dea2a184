//! The peer: Redis over TLS, a master and a replica, both processes of this run.
//!
//! Reads are plain `GET`s of the master. After each batch of `SET`s comes `WAIT 1`, and the batch
//! is done when the replica is said to have it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::{Buf, BytesMut};
use rustls::pki_types::ServerName;
use tandem_local::{ports, wait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{self, Files};
use super::children::Children;
use super::resp::{self, Reply};
use crate::load::{self, Pipeline, Request, Ticket};

/// Debian's name of the program and of its package.
const PROGRAM: &str = "redis-server";

/// Until master and replica are up and in step.
const UP: Duration = Duration::from_secs(20);

/// How long a batch may wait for the replica; a run that meets it fails.
const WAIT_MS: &[u8] = b"5000";

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// A running master with its replica.
pub struct Redis {
    address: SocketAddr,
    tls: TlsConnector,
    pub version: String,
    /// Process numbers of master and replica.
    pub processes: [u32; 2],
}

impl Redis {
    /// What this machine's Redis calls itself.
    ///
    /// # Errors
    /// There is none.
    pub fn version() -> Result<String> {
        let output = match Command::new(PROGRAM).arg("--version").output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{PROGRAM} is not installed, and it is the peer that Tandem is compared with: \
                 apt install {PROGRAM}"
            ),
            Err(error) => return Err(error).context(format!("starting {PROGRAM}")),
        };
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = words.split_whitespace().find_map(|it| it.strip_prefix("v="));
        Ok(version.unwrap_or("of unknown version").to_owned())
    }

    /// Starts both in `folder`, with certificates of their own, and waits for them. If `durable`,
    /// they sync before every answer.
    ///
    /// # Errors
    /// Redis is missing, or does not come up.
    pub fn start(children: &Children, folder: &Path, durable: bool) -> Result<Redis> {
        let version = Redis::version()?;
        let files = certificates::make(&folder.join("certs"))?;
        let given = ports::free(2)?;
        let master =
            Instance { port: given[0], replica_of: None, folder: folder.join("master"), durable };
        let replica = Instance {
            port: given[1],
            replica_of: Some(given[0]),
            folder: folder.join("replica"),
            durable,
        };
        let processes = [
            children.start(&mut master.command(&files)?)?,
            children.start(&mut replica.command(&files)?)?,
        ];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, given[0]));
        let tls = certificates::connector(&files, &[])?;
        let redis = Redis { address, tls, version, processes };
        wait::until("Redis and its replica", UP, || {
            for (number, instance) in processes.iter().zip([&master, &replica]) {
                if let Err(error) = children.check(*number) {
                    return Err(format!("{error:#}; see {}", instance.log().display()));
                }
            }
            load::on_this_thread(redis.probe()).map_err(|error| format!("{error:#}"))
        })?;
        Ok(redis)
    }

    /// Whether a write reaches the replica.
    async fn probe(&self) -> Result<()> {
        let mut stream = self.dial().await?;
        let mut out = BytesMut::new();
        resp::command(&mut out, &[b"SET", b"probe", b"here"]);
        resp::command(&mut out, &[b"WAIT", b"1", b"500"]);
        stream.write_all_buf(&mut out).await?;
        let (mut bytes, mut replies) = (BytesMut::new(), Vec::new());
        while replies.len() < 2 {
            if let Some((reply, length)) = resp::parse(&bytes)? {
                bytes.advance(length);
                replies.push(reply);
            } else {
                ensure!(stream.read_buf(&mut bytes).await? > 0, "it closed the connection");
            }
        }
        ensure!(replies[1] == Reply::Integer(1), "the replica is not there: {replies:?}");
        Ok(())
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.context("dialling Redis")?;
        stream.set_nodelay(true).context("setting a socket")?;
        let name = ServerName::try_from(certificates::NAME).context("a name")?;
        self.tls.connect(name, stream).await.context("TLS with Redis")
    }

    /// Connections whose reads are to find values of `value_bytes`.
    ///
    /// # Errors
    /// Redis does not let them in.
    pub async fn connect(&self, count: usize, value_bytes: usize) -> Result<Vec<RedisPipeline>> {
        let mut pipelines = Vec::with_capacity(count);
        for _ in 0..count {
            pipelines.push(RedisPipeline {
                stream: self.dial().await?,
                out: BytesMut::new(),
                received: BytesMut::new(),
                buffer: vec![0; READ_BYTES],
                value_bytes,
                waiting: VecDeque::new(),
                unconfirmed: Vec::new(),
                must_wait: false,
                must_flush: false,
            });
        }
        Ok(pipelines)
    }
}

/// One of the two processes.
struct Instance {
    port: u16,
    replica_of: Option<u16>,
    folder: PathBuf,
    durable: bool,
}

impl Instance {
    fn log(&self) -> PathBuf {
        self.folder.join("redis.log")
    }

    /// Its command line: TLS only, both sides with certificates; in memory only, as Tandem.
    fn command(&self, files: &Files) -> Result<Command> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("creating {}", self.folder.display()))?;
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1", "--port", "0", "--tls-port"]);
        command.arg(self.port.to_string());
        command.arg("--tls-cert-file").arg(&files.certificate);
        command.arg("--tls-key-file").arg(&files.key);
        command.arg("--tls-ca-cert-file").arg(&files.authority);
        command.args(["--tls-auth-clients", "yes", "--tls-replication", "yes"]);
        command.args(["--save", "", "--daemonize", "no"]);
        if self.durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        } else {
            command.args(["--appendonly", "no"]);
        }
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(&self.folder).arg("--logfile").arg(self.log());
        if let Some(master) = self.replica_of {
            command.arg("--replicaof").arg(format!("127.0.0.1 {master}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }
}

/// What a reply will answer.
enum Waiting {
    Get(Ticket),
    Set(Ticket),
    /// The replica's word for all `SET`s before it.
    Replica,
}

/// One connection with commands in flight.
pub struct RedisPipeline {
    stream: TlsStream<TcpStream>,
    out: BytesMut,
    received: BytesMut,
    buffer: Vec<u8>,
    value_bytes: usize,
    waiting: VecDeque<Waiting>,
    /// Answered by the master, not yet by the replica.
    unconfirmed: Vec<Ticket>,
    /// There are `SET`s that no `WAIT` follows yet.
    must_wait: bool,
    must_flush: bool,
}

impl Pipeline for RedisPipeline {
    fn submit(&mut self, request: Request, ticket: Ticket) {
        match request {
            Request::Get { key } => {
                resp::command(&mut self.out, &[b"GET", &key]);
                self.waiting.push_back(Waiting::Get(ticket));
            }
            Request::Put { key, value } => {
                resp::command(&mut self.out, &[b"SET", &key, &value]);
                self.waiting.push_back(Waiting::Set(ticket));
                self.must_wait = true;
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>> {
        if std::mem::take(&mut self.must_wait) {
            resp::command(&mut self.out, &[b"WAIT", b"1", WAIT_MS]);
            self.waiting.push_back(Waiting::Replica);
        }
        if let Poll::Ready(Err(error)) = self.write(context) {
            return Poll::Ready(Err(error));
        }
        let before = done.len();
        loop {
            match self.read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            if let Err(error) = self.take_replies(done) {
                return Poll::Ready(Err(error));
            }
        }
        if done.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl RedisPipeline {
    fn write(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let count = std::task::ready!(stream.poll_write(context, &self.out))?;
            self.out.advance(count);
            self.must_flush = true;
        }
        if self.must_flush {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.must_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(anyhow!("Redis closed the connection")));
        }
        self.received.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    fn take_replies(&mut self, done: &mut Vec<Ticket>) -> Result<()> {
        while let Some((reply, length)) = resp::parse(&self.received)? {
            self.received.advance(length);
            let waiting = self.waiting.pop_front();
            match (waiting.context("Redis replied to nothing")?, reply) {
                (Waiting::Get(ticket), Reply::Bulk { bytes }) if bytes == self.value_bytes => {
                    done.push(ticket);
                }
                (Waiting::Set(ticket), Reply::Simple(word)) if word == "OK" => {
                    self.unconfirmed.push(ticket);
                }
                (Waiting::Replica, Reply::Integer(1..)) => done.append(&mut self.unconfirmed),
                (Waiting::Replica, reply) => bail!("the replica did not confirm: {reply:?}"),
                (Waiting::Get(_) | Waiting::Set(_), reply) => bail!("a wrong reply: {reply:?}"),
            }
        }
        Ok(())
    }
}
