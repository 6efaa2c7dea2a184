//! Another peer: etcd over TLS, three nodes, all processes of this run.
//!
//! It is driven through its own interface, gRPC over HTTP/2, by hand-written messages: a session
//! is a connection, an operation a call on it. Sessions are spread over the nodes, as etcd's own
//! client spreads what it sends. Nothing is taken from etcd's promises: reads are linearizable,
//! and a write is on the disks of a majority before it is answered.

use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Uri};
use rustls::pki_types::ServerName;
use tandem_local::{ports, wait};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificates::{self, Files};
use super::children::Children;
use super::etcd_wire;
use crate::load::{self, Pipeline, Request, Ticket};

/// Debian's name of the program, and of its package.
const PROGRAM: &str = "etcd";
pub const PACKAGE: &str = "etcd-server";

const NODES: usize = 3;

/// Until all nodes are up and have a leader.
const UP: Duration = Duration::from_secs(60);

/// What either side may send before it is told that it was read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The three nodes.
pub struct Etcd {
    addresses: Vec<SocketAddr>,
    tls: TlsConnector,
    pub version: String,
}

impl Etcd {
    /// What this machine's etcd calls itself; none if there is no etcd.
    ///
    /// # Errors
    /// It can not be started.
    pub fn version() -> Result<Option<String>> {
        let output = match Command::new(PROGRAM).arg("--version").output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("starting {PROGRAM}")),
        };
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = words.lines().find_map(|it| it.strip_prefix("etcd Version: "));
        Ok(Some(version.unwrap_or("of unknown version").trim().to_owned()))
    }

    /// Starts the nodes in `folder`, with certificates of their own, and waits for them.
    ///
    /// # Errors
    /// They do not come up.
    pub fn start(children: &Children, folder: &Path, version: String) -> Result<Etcd> {
        let files = certificates::make(&folder.join("certs"))?;
        let given = ports::free(2 * NODES)?;
        let nodes: Vec<Node> = (0..NODES)
            .map(|number| Node {
                name: format!("node-{number}"),
                client_port: given[number],
                peer_port: given[NODES + number],
                folder: folder.join(format!("node-{number}")),
            })
            .collect();
        let members: Vec<String> = nodes.iter().map(Node::member).collect();
        let members = members.join(",");
        let mut processes = Vec::new();
        for node in &nodes {
            processes.push(children.start(&mut node.command(&files, &members)?)?);
        }
        let addresses =
            given[..NODES].iter().map(|&port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let tls = certificates::connector(&files, &[b"h2"])?;
        let etcd = Etcd { addresses, tls, version };
        wait::until("etcd's nodes", UP, || {
            for (number, node) in processes.iter().zip(&nodes) {
                if let Err(error) = children.check(*number) {
                    return Err(format!("{error:#}; see {}", node.log().display()));
                }
            }
            load::on_this_thread(etcd.probe()).map_err(|error| format!("{error:#}"))
        })?;
        Ok(etcd)
    }

    /// Whether every node takes a write.
    async fn probe(&self) -> Result<()> {
        for number in 0..NODES {
            let requests = self.dial(number).await?;
            call(requests, uri(etcd_wire::PUT)?, etcd_wire::put(b"probe", b"here")).await?;
        }
        Ok(())
    }

    /// A connection to the node whose turn it is at session `number`.
    async fn dial(&self, number: usize) -> Result<SendRequest<Bytes>> {
        let address = self.addresses[number % self.addresses.len()];
        let stream = TcpStream::connect(address).await.context("dialling etcd")?;
        stream.set_nodelay(true).context("setting a socket")?;
        let name = ServerName::try_from(certificates::NAME).context("a name")?;
        let stream = self.tls.connect(name, stream).await.context("TLS with etcd")?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW);
        builder.initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, connection) = builder.handshake(stream).await.context("HTTP/2 with etcd")?;
        // Its end is seen by the calls that are on their way.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(requests)
    }

    /// Connections whose reads are to find values of `value_bytes`.
    ///
    /// # Errors
    /// etcd does not let them in.
    pub async fn connect(&self, count: usize, value_bytes: usize) -> Result<Vec<EtcdPipeline>> {
        let mut pipelines = Vec::with_capacity(count);
        for number in 0..count {
            pipelines.push(EtcdPipeline {
                requests: self.dial(number).await?,
                range: uri(etcd_wire::RANGE)?,
                put: uri(etcd_wire::PUT)?,
                value_bytes,
                landed: Rc::default(),
            });
        }
        Ok(pipelines)
    }
}

/// One of the processes.
struct Node {
    name: String,
    client_port: u16,
    peer_port: u16,
    folder: PathBuf,
}

impl Node {
    fn log(&self) -> PathBuf {
        self.folder.join("etcd.log")
    }

    fn peer_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.peer_port)
    }

    fn member(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Its command line: both sides of every connection with certificates; all else as etcd has
    /// it, its data on disk and synced.
    fn command(&self, files: &Files, members: &str) -> Result<Command> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("creating {}", self.folder.display()))?;
        let log = File::create(self.log()).context("creating etcd's log")?;
        let client_url = format!("https://127.0.0.1:{}", self.client_port);
        let mut command = Command::new(PROGRAM);
        command.args(["--name", &self.name, "--data-dir"]).arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client_url]);
        command.args(["--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &self.peer_url()]);
        command.args(["--initial-advertise-peer-urls", &self.peer_url()]);
        command.args(["--initial-cluster", members, "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-outputs", "stderr"]);
        for side in ["--", "--peer-"] {
            command.arg(format!("{side}cert-file")).arg(&files.certificate);
            command.arg(format!("{side}key-file")).arg(&files.key);
            command.arg(format!("{side}trusted-ca-file")).arg(&files.authority);
            command.arg(format!("{side}client-cert-auth"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }
}

fn uri(path: &str) -> Result<Uri> {
    let name = certificates::NAME;
    Ok(Uri::builder().scheme("https").authority(name).path_and_query(path).build()?)
}

/// One call; its answer's bytes.
async fn call(requests: SendRequest<Bytes>, uri: Uri, message: Bytes) -> Result<BytesMut> {
    let mut request = HttpRequest::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let mut requests = requests.ready().await?;
    let (answer, mut stream) = requests.send_request(request, false)?;
    stream.send_data(message, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    // A call that fails at once has all in its head.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    let word = |name| word(&trailers, name);
    ensure!(
        word("grpc-status") == "0",
        "etcd refused with status {}: {}",
        word("grpc-status"),
        word("grpc-message")
    );
    Ok(bytes)
}

fn word<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("(none)")
}

/// Calls that ended, until the pipeline takes them.
#[derive(Default)]
struct Landed {
    ended: Vec<Result<Ticket>>,
    waker: Option<Waker>,
}

/// One connection with calls in flight.
pub struct EtcdPipeline {
    requests: SendRequest<Bytes>,
    range: Uri,
    put: Uri,
    value_bytes: usize,
    landed: Rc<RefCell<Landed>>,
}

impl Pipeline for EtcdPipeline {
    fn submit(&mut self, request: Request, ticket: Ticket) {
        let (requests, landed) = (self.requests.clone(), self.landed.clone());
        let (uri, message, meant) = match request {
            Request::Get { key } => {
                (self.range.clone(), etcd_wire::range(&key), Some(self.value_bytes))
            }
            Request::Put { key, value } => (self.put.clone(), etcd_wire::put(&key, &value), None),
        };
        tokio::task::spawn_local(async move {
            let answer = call(requests, uri, message).await;
            let ended = answer.and_then(|answer| judge(&answer, meant)).map(|()| ticket);
            let mut landed = landed.borrow_mut();
            landed.ended.push(ended);
            if let Some(waker) = landed.waker.take() {
                waker.wake();
            }
        });
    }

    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>> {
        let mut landed = self.landed.borrow_mut();
        if landed.ended.is_empty() {
            landed.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        for ended in landed.ended.drain(..) {
            match ended {
                Ok(ticket) => done.push(ticket),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether a read found a value of the length that is `meant`.
fn judge(answer: &[u8], meant: Option<usize>) -> Result<()> {
    if meant.is_some() {
        let found = etcd_wire::value_bytes(answer)?;
        ensure!(found == meant, "a read of etcd found a value of {found:?} bytes");
    }
    Ok(())
}
