//! Gives a client [`HEAD_TIMEOUT`] for the head of a request, and an idle connection much more.
//!
//! The HTTP library has one limit from the end of an answer to the end of the next head. A short one,
//! as slow senders call for, closes connections that clients and balancers still believe in: what they
//! send in that very moment is lost, and a POST isn't repeated. So the library's limit is [`IDLE_TIMEOUT`],
//! longer than others keep idle connections, and the time for a head is counted here, from the
//! connection's beginning and then from the head's first byte.
//!
//! Costs: a look at a flag for each read, and a timer where a head comes in pieces.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// From a connection's beginning, or the first byte of a later head, to the head's last byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle between requests. The clients of Go and Rust keep them for 90 s
/// and balancers for 60 s, and they should be the ones to close them.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Told how far the request on a connection is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

/// A head is awaited.
const AWAITED: u8 = 0;
/// It is complete. What is read belongs to its body, and what is written may ask for that.
const COMPLETE: u8 = 1;
/// There is an answer, and so its body was read.
const ANSWERED: u8 = 2;

impl Progress {
    pub fn complete(&self) {
        self.0.store(COMPLETE, Ordering::Relaxed);
    }

    pub fn answered(&self) {
        self.0.store(ANSWERED, Ordering::Relaxed);
    }
}

/// A connection of which heads are expected in time.
pub(crate) struct Heads<Io> {
    io: Io,
    progress: Progress,
    /// By when the head that has begun must be there.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<Io> Heads<Io> {
    pub fn new(io: Io) -> (Self, Progress) {
        let progress = Progress::default();
        let deadline = Some(Instant::now() + HEAD_TIMEOUT);
        (Self { io, progress: progress.clone(), deadline, timer: None }, progress)
    }

    fn rest(&mut self) {
        (self.deadline, self.timer) = (None, None);
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Heads<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let awaited = self.progress.0.load(Ordering::Relaxed) == AWAITED;
        if !awaited {
            self.rest();
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                if awaited && buffer.filled().len() > before {
                    self.deadline.get_or_insert_with(|| Instant::now() + HEAD_TIMEOUT);
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                let Some(deadline) = self.deadline else { return Poll::Pending };
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Heads<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answers();
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answers();
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<Io> Heads<Io> {
    /// What is read from here on belongs to the next request.
    fn answers(&mut self) {
        if self.progress.0.load(Ordering::Relaxed) == ANSWERED {
            self.progress.0.store(AWAITED, Ordering::Relaxed);
            self.rest();
        }
    }
}
