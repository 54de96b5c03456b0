//! Accepts connections and keeps them within bounds.
//!
//! One task a connection, HTTP/1.1 with keep-alive. A client that doesn't send a whole head within
//! [`HEAD_TIMEOUT`] is dropped, and one that is idle after [`IDLE_TIMEOUT`]; beyond [`MAX_CONNECTIONS`] new
//! ones wait in the kernel's queue. On shutdown nothing new is accepted, idle connections close at once,
//! answers without an end of their own are told to end ([`Closing`]), others may finish for
//! [`Options::grace`], and what is left then is cut.
//!
//! TLS is left to what stands in front.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use keyward::gateway::Gateway;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower::ServiceExt as _;

use crate::{
    access::{AccessSource, Peer},
    body,
    heads::{Heads, IDLE_TIMEOUT},
    surface,
};

pub use crate::heads::HEAD_TIMEOUT;

/// Open connections. Each stream has one here and one at its vendor, and some 100 KB of memory.
pub const MAX_CONNECTIONS: usize = 4096;

/// Connections that the kernel may keep until they are accepted; it may have a lower bound of its
/// own. Beyond it a client that believes itself connected waits for seconds, or for good if it
/// waits to be spoken to, so it has room for a rush of as many as are served.
const BACKLOG: u32 = 4096;

/// Bytes of a head; browsers stay below 16 KiB. Its fields are at most 100, hyper's own limit.
const MAX_HEAD: usize = 32 * 1024;

/// Bytes read ahead on one connection.
const READ_AHEAD: usize = 64 * 1024;

/// How long accepting pauses after an error that would come again at once, such as too many open
/// files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server runs.
#[derive(Clone)]
pub struct Options {
    pub access: AccessSource,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// How long running answers may take after a shutdown.
    pub grace: Duration,
}

impl Options {
    /// The defaults: bodies of 64 MiB, 30 s to finish.
    pub fn new(access: AccessSource) -> Self {
        Self { access, max_body: body::MAX_BODY, grace: Duration::from_secs(30) }
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// # Errors
    /// If the address can't be listened on.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A gateway that is started again at once finds its address free. Elsewhere than on Unix
        // this would let another program take it.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self { listener: socket.listen(BACKLOG)? })
    }

    /// The address bound, with the port chosen if it was asked for port 0.
    ///
    /// # Errors
    /// If the operating system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is done and running answers are, or the time for them is up.
    pub async fn run(self, gateway: Gateway, options: Options, shutdown: impl Future<Output = ()>) {
        let router = surface::router(gateway, options.access, options.max_body);
        serve(self.listener, router, options.grace, shutdown).await;
    }
}

/// Something that accepts connections.
pub(crate) trait Listener {
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and, over a network, where it comes from.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Option<Peer>)>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<Peer>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Without it, the last piece of a chunk may wait 40 ms for an acknowledgement. It fails
        // where the peer has gone, which its task will see.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(Peer(peer))))
    }
}

/// Tells a request that its server is to stop, for answers that have no end of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Option<watch::Receiver<()>>);

impl Closing {
    /// Waits until the server is to stop.
    pub async fn wait(&mut self) {
        match &mut self.0 {
            // Nothing is ever sent: it ends with its sender.
            Some(open) => while open.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }
}

/// Serves a router on a listener.
pub(crate) async fn serve<L: Listener>(
    listener: L,
    router: Router,
    grace: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .max_buf_size(READ_AHEAD);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let (open, closing) = watch::channel(());
    let closing = Closing(Some(closing));
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
            // Tasks that have ended are let go of here.
            Some(_) = connections.join_next() => continue,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection couldn't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, closing) = (router.clone(), closing.clone());
        let (io, progress) = Heads::new(io);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            progress.complete();
            let mut request = request.map(Body::new);
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            request.extensions_mut().insert(closing.clone());
            let answer = router.clone().oneshot(request);
            let progress = progress.clone();
            async move {
                let answer = answer.await;
                progress.answered();
                answer
            }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(io), service));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop((listener, open));
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "answers that took too long are cut off");
    }
    connections.shutdown().await;
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
