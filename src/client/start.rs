//! How a client comes to life: with a thread of its own, or on its caller's.

use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::rand::{GetRandomFlags, getrandom};

use super::handle::{Client, Shared};
use super::mailbox::{Mailbox, Reader};
use super::options::{CONNECTIONS_MAX, ClientOptions, ConnectError};
use super::quic::QuicTransport;
use super::shell::Shell;
use super::transport::{Events, Transport};
use crate::clock;
use crate::net::Credentials;

impl Client {
    /// Starts a client. Nobody is dialled yet: operations find their way themselves.
    ///
    /// # Errors
    /// The options or the credentials can not be used, or this machine refuses a thread or a
    /// socket.
    pub fn connect(options: ClientOptions) -> Result<Client, ConnectError> {
        let transport = quic(&options)?;
        Client::start(&options, transport)
    }

    /// A client without a thread of its own: its loop is the future, which runs in the caller's
    /// `LocalSet` beside what uses the client.
    ///
    /// This saves the way from thread to thread and back, which is most of what a lone operation
    /// costs beyond the network, and suits programs of one thread a core. Whoever keeps the
    /// thread busy keeps the client waiting. The future ends once the client is closed; where it
    /// is dropped, operations in flight end as `Error::Closed`.
    ///
    /// ```no_run
    /// # use tandem::client::{Client, ClientOptions, ConnectError};
    /// # async fn example(options: ClientOptions) -> Result<(), Box<dyn std::error::Error>> {
    /// let (client, running) = Client::connect_local(options)?;
    /// tokio::task::spawn_local(running);
    /// client.session().put("greeting", "hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The options or the credentials can not be used.
    pub fn connect_local(
        options: ClientOptions,
    ) -> Result<(Client, impl Future<Output = ()>), ConnectError> {
        let transport = quic(&options)?;
        Client::start_local(&options, draw()?, transport)
    }

    /// Test builds only: the same where `random` stands for what it would draw.
    ///
    /// # Errors
    /// The options or the credentials can not be used.
    #[cfg(feature = "hooks")]
    pub fn connect_here(
        options: ClientOptions,
        random: u128,
    ) -> Result<(Client, impl Future<Output = ()>), ConnectError> {
        let transport = quic(&options)?;
        Client::start_local(&options, random, transport)
    }

    /// Starts a client's thread with the transport that `transport` makes on it.
    ///
    /// # Errors
    /// The options can not be used, the thread or its runtime can not be started, or `transport`
    /// fails.
    pub fn start<T: Transport>(
        options: &ClientOptions,
        transport: impl FnOnce(Events) -> Result<T, String> + Send + 'static,
    ) -> Result<Client, ConnectError> {
        let not_started = |reason: String| ConnectError::NotStarted { reason };
        let random = draw()?;
        let (client, inbox) = Client::new(options, random)?;
        let (started, outcome) = mpsc::channel();
        let options = options.clone();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    // The starter waits for these words.
                    let _ = started.send(Err(error.to_string()));
                    return;
                }
            };
            let events = Events::default();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                match transport(events.clone()) {
                    Ok(transport) => {
                        let _ = started.send(Ok(()));
                        serve(&options, random, transport, events, inbox).await;
                    }
                    Err(reason) => {
                        let _ = started.send(Err(reason));
                    }
                }
            });
        };
        thread::Builder::new()
            .name("tandem-client".to_owned())
            .spawn(body)
            .map_err(|error| not_started(format!("no thread: {error}")))?;
        outcome
            .recv()
            .map_err(|_| not_started("its thread ended".to_owned()))?
            .map_err(not_started)?;
        Ok(client)
    }

    /// A client and its loop, with the transport that `transport` makes.
    pub(super) fn start_local<T, F>(
        options: &ClientOptions,
        random: u128,
        transport: F,
    ) -> Result<(Client, impl Future<Output = ()> + use<T, F>), ConnectError>
    where
        T: Transport,
        F: FnOnce(Events) -> Result<T, String>,
    {
        let (client, inbox) = Client::new(options, random)?;
        let events = Events::default();
        let transport =
            transport(events.clone()).map_err(|reason| ConnectError::NotStarted { reason })?;
        let options = options.clone();
        let body = async move { serve(&options, random, transport, events, inbox).await };
        Ok((client, body))
    }

    /// A client, and what its loop reads.
    fn new(options: &ClientOptions, random: u128) -> Result<(Client, Reader), ConnectError> {
        let asked = options.connections;
        if !(1..=CONNECTIONS_MAX).contains(&asked) {
            return Err(ConnectError::Connections { asked });
        }
        let mailbox = Arc::new(Mailbox::default());
        let inbox = Reader(mailbox.clone());
        let shared = Shared {
            mailbox,
            origin: random >> 32 << 32,
            sessions: AtomicU32::new(0),
            timeout: options.timeout.into(),
            outstanding_max: options.outstanding_max,
        };
        Ok((Client { shared: Arc::new(shared) }, inbox))
    }
}

/// What makes the transport over QUIC, once the credentials are loaded.
fn quic(
    options: &ClientOptions,
) -> Result<impl FnOnce(Events) -> Result<QuicTransport, String> + Send + use<>, ConnectError> {
    let ClientOptions { authority, certificate, key, limits, .. } = options;
    let credentials = Credentials::load(authority, certificate, key)
        .map_err(|error| ConnectError::NotStarted { reason: error.to_string() })?;
    let limits = *limits;
    Ok(move |events| Ok(QuicTransport::new(Arc::new(credentials), limits, events)))
}

/// Runs a client's loop until the client is closed.
async fn serve<T: Transport>(
    options: &ClientOptions,
    random: u128,
    transport: T,
    events: Events,
    inbox: Reader,
) {
    let shell = Shell::new(transport, options, random as usize);
    shell.run(&inbox.0, &events, clock::now).await;
}

/// A number that no other client has.
fn draw() -> Result<u128, ConnectError> {
    let mut random = [0; 16];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| ConnectError::NotStarted {
        reason: format!("no random numbers: {error}"),
    })?;
    Ok(u128::from_ne_bytes(random))
}
