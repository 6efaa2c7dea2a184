//! A bare echo over Tandem's own QUIC connections: what the network allows with nothing above it.
//!
//! Both sides use Tandem's endpoint, with its sockets, transport settings and handshake; then
//! the streams carry frames of one length, which the other process sends back as they come. As a
//! sink it only counts what it is sent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use tandem::clock;
use tandem::config::{ClusterConfig, CredentialFiles};
use tandem::identity::Identity;
use tandem::net::{Acceptor, Connection, Credentials, Endpoint, EndpointOptions};
use tandem::protocol::message::{Hello, HelloAck};
use tandem::protocol::time::Span;
use tandem::protocol::types::ClusterId;
use tandem::wire::{self, HelloRefusal, Local};
use tandem_local::CLIENT;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::children::Children;
use crate::load::{Pipeline, Request, Ticket};

/// Pieces of a stream that are sent back in one write.
const PIECES_MAX: usize = 45;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Pieces in which bulk is written.
const BULK_BYTES: usize = 64 << 10;

/// The other process, and how to reach it.
pub struct Echo {
    address: SocketAddr,
    config: ClusterConfig,
}

impl Echo {
    /// Starts the other process with the certificates of a cluster.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(children: &Children, config: &ClusterConfig) -> Result<Echo> {
        Echo::start_as(children, config, &[])
    }

    /// The same, but as a sink.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_sink(children: &Children, config: &ClusterConfig) -> Result<Echo> {
        Echo::start_as(children, config, &["--sink"])
    }

    fn start_as(children: &Children, config: &ClusterConfig, how: &[&str]) -> Result<Echo> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.arg("echo").arg(config.path()).args(how);
        let output = children.start_talking(&mut command)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("hearing from the echo")?;
        let address = line.trim().parse().with_context(|| format!("the echo says {line:?}"))?;
        Ok(Echo { address, config: config.clone() })
    }

    /// Sends to a sink over one stream for `length`; bytes a second that arrived.
    ///
    /// # Errors
    /// The other process does not answer.
    pub async fn carry(&self, length: Duration) -> Result<f64> {
        let (_, credentials) = party(&self.config, Side::Dials)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = Endpoint::bind(any, credentials, EndpointOptions::default())?;
        let (expected, _) = identity(&self.config, Side::Accepts)?;
        let connection = endpoint.dial(self.address, &expected, wire::client_hello(None)).await?;
        let (mut send, mut recv) = connection.bare().open_bi().await?;
        let piece = Bytes::from(vec![b'b'; BULK_BYTES]);
        let begun = clock::now();
        while clock::now().since(begun) < Span::from(length) {
            send.write_chunk(piece.clone()).await?;
        }
        send.finish()?;
        let count = recv.read_to_end(size_of::<u64>()).await?;
        let count = u64::from_be_bytes(count.as_slice().try_into().context("a count")?);
        Ok(count as f64 / Duration::from(clock::now().since(begun)).as_secs_f64())
    }

    /// Connections with `frame_bytes` frames; the endpoint must outlive them.
    ///
    /// # Errors
    /// The other process does not answer.
    pub async fn connect(&self, count: usize, frame_bytes: usize) -> Result<Vec<EchoPipeline>> {
        let (_, credentials) = party(&self.config, Side::Dials)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = Rc::new(Endpoint::bind(any, credentials, EndpointOptions::default())?);
        let (expected, _) = identity(&self.config, Side::Accepts)?;
        let mut pipelines = Vec::with_capacity(count);
        for _ in 0..count {
            let connection =
                endpoint.dial(self.address, &expected, wire::client_hello(None)).await?;
            let (send, recv) = connection.bare().open_bi().await?;
            pipelines.push(EchoPipeline {
                send,
                recv,
                out: BytesMut::new(),
                frame: Bytes::from(vec![b'e'; frame_bytes]),
                received: 0,
                tickets: VecDeque::new(),
                buffer: vec![0; READ_BYTES],
                _connection: connection,
                _endpoint: endpoint.clone(),
            });
        }
        Ok(pipelines)
    }
}

#[derive(Clone, Copy)]
enum Side {
    Dials,
    Accepts,
}

fn identity(config: &ClusterConfig, side: Side) -> Result<(Identity, CredentialFiles)> {
    let identity = match side {
        Side::Dials => config.client_or_admin(CLIENT).context("every plan lists this client")?,
        Side::Accepts => {
            let server = config.servers().first().context("a cluster has servers")?;
            config.server_identity(server.id)
        }
    };
    let files = config.credential_files(&identity);
    Ok((identity, files))
}

fn party(config: &ClusterConfig, side: Side) -> Result<(Identity, Arc<Credentials>)> {
    let (identity, files) = identity(config, side)?;
    let credentials = Credentials::load(&config.ca_file(), &files.certificate, &files.key)?;
    Ok((identity, Arc::new(credentials)))
}

/// The other process: says its address, and echoes, or only counts, until its standard input
/// ends.
///
/// # Errors
/// It can not listen.
pub fn serve(config: &Path, sink: bool) -> Result<()> {
    let config = ClusterConfig::load(config)?;
    let (over, input_ended) = oneshot::channel();
    std::thread::spawn(|| {
        // The end of the input, or an error, is the end of the run that started this process.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = over.send(());
    });
    crate::load::on_this_thread(async {
        let (_, credentials) = party(&config, Side::Accepts)?;
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = EndpointOptions { handshakes_max: 1_024, ..EndpointOptions::default() };
        let endpoint = Endpoint::bind(local, credentials, options)?;
        let mut output = std::io::stdout();
        writeln!(output, "{}", endpoint.address()?).context("saying the address")?;
        output.flush().context("saying the address")?;
        tokio::select! {
            () = endpoint.serve(Rc::new(Everyone { sink })) => Ok(()),
            _ = input_ended => Ok(()),
        }
    })
}

/// Lets everyone in whom TLS lets in.
struct Everyone {
    sink: bool,
}

impl Acceptor for Everyone {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        Local { cluster: ClusterId::default(), member: None }.admit(hello)
    }

    fn on_connection(&self, connection: Connection) {
        // The first stream carried the `Hello`.
        connection.bare().set_max_concurrent_bi_streams(VarInt::from_u32(2));
        let sink = self.sink;
        tokio::task::spawn_local(async move {
            while let Ok((send, recv)) = connection.bare().accept_bi().await {
                // A stream ends with its connection.
                if sink {
                    tokio::task::spawn_local(count(send, recv));
                } else {
                    tokio::task::spawn_local(echo(send, recv));
                }
            }
        });
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut pieces: [Bytes; PIECES_MAX] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = recv.read_chunks(&mut pieces).await?.ok_or_else(|| anyhow!("its end"))?;
        let mut back = BytesMut::with_capacity(pieces[..count].iter().map(Bytes::len).sum());
        for piece in &mut pieces[..count] {
            back.extend_from_slice(&std::mem::take(piece));
        }
        send.write_chunk(back.freeze()).await?;
    }
}

/// Reads all that comes, and says how much it was.
async fn count(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut pieces: [Bytes; PIECES_MAX] = std::array::from_fn(|_| Bytes::new());
    let mut sum = 0;
    while let Some(count) = recv.read_chunks(&mut pieces).await? {
        for piece in &mut pieces[..count] {
            sum += std::mem::take(piece).len() as u64;
        }
    }
    send.write_all(&sum.to_be_bytes()).await?;
    send.finish()?;
    // The stream ends once this was read.
    send.stopped().await?;
    Ok(())
}

/// One stream of one connection with frames in flight.
pub struct EchoPipeline {
    send: SendStream,
    recv: RecvStream,
    out: BytesMut,
    frame: Bytes,
    /// Bytes that came and are no whole frame yet.
    received: usize,
    tickets: VecDeque<Ticket>,
    buffer: Vec<u8>,
    _connection: Connection,
    _endpoint: Rc<Endpoint>,
}

impl Pipeline for EchoPipeline {
    fn submit(&mut self, _: Request, ticket: Ticket) {
        self.out.extend_from_slice(&self.frame);
        self.tickets.push_back(ticket);
    }

    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>> {
        while !self.out.is_empty() {
            match AsyncWrite::poll_write(Pin::new(&mut self.send), context, &self.out) {
                Poll::Ready(Ok(count)) => self.out.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        let before = done.len();
        loop {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match AsyncRead::poll_read(Pin::new(&mut self.recv), context, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(anyhow!("the echo closed its stream")));
            }
            self.received += buffer.filled().len();
            let frames = self.received / self.frame.len();
            self.received %= self.frame.len();
            done.extend(self.tickets.drain(..frames));
        }
        if done.len() > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
