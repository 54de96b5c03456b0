//! A streamed answer's body, in any dialect.
//!
//! All events that arrived together become one frame. [`Body`] adds what time brings: a sign of life
//! while the vendor is silent, so that neither proxies nor clients take the connection for dead, and
//! the end, valid or told. Dropping the body drops the answer, which cancels the vendor's request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame};
use keyward::{Failure, contract::Event};
use tokio::time::{Instant, Sleep};

use super::events::Warnings;

/// How long a stream stays silent. Proxies cut idle connections after 30 s to 60 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes to begin a frame with: a short delta and what surrounds it takes some 250.
const FRAME: usize = 512;

/// Writes one answer's events in a dialect, as they come.
pub trait StreamWriter: Send + Unpin + 'static {
    const CONTENT_TYPE: &'static str;

    /// Written while the vendor is silent. Empty where a dialect has nothing that means nothing.
    const KEEP_ALIVE: &'static [u8];

    /// The warnings among what was written so far.
    fn warnings(&self) -> &Warnings;

    /// Writes events that arrived together; that may be nothing.
    ///
    /// # Errors
    /// If the events contradict each other or exceed a limit. What was written before is valid.
    fn write(&mut self, events: &[Event], out: &mut Vec<u8>) -> Result<(), Failure>;

    /// The valid end.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// The end after a failure, which no client may take for a valid one.
    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>);
}

/// The body of a streamed answer.
pub struct Body<W, S> {
    /// Gone after the end.
    events: Option<Pin<Box<S>>>,
    writer: W,
    /// What was written before the head went out.
    ready: Vec<u8>,
    silence: Pin<Box<Sleep>>,
}

impl<W, S> Body<W, S>
where
    W: StreamWriter,
    S: Stream<Item = Result<Vec<Event>, Failure>>,
{
    /// A body of the bytes in `ready`, then `events`.
    pub fn new(writer: W, ready: Vec<u8>, events: S) -> Self {
        let silence = Box::pin(tokio::time::sleep(KEEP_ALIVE));
        Self { events: Some(Box::pin(events)), writer, ready, silence }
    }
}

impl<W, S> HttpBody for Body<W, S>
where
    W: StreamWriter,
    S: Stream<Item = Result<Vec<Event>, Failure>>,
{
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let mut out = std::mem::take(&mut this.ready);
        while out.is_empty() {
            let Some(events) = &mut this.events else { return Poll::Ready(None) };
            match events.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(events))) => {
                    out.reserve(FRAME);
                    if let Err(failure) = this.writer.write(&events, &mut out) {
                        this.writer.fail(&failure, &mut out);
                        this.events = None;
                    }
                }
                Poll::Ready(Some(Err(failure))) => {
                    this.writer.fail(&failure, &mut out);
                    this.events = None;
                }
                Poll::Ready(None) => {
                    this.writer.finish(&mut out);
                    this.events = None;
                }
                Poll::Pending => {
                    ready!(this.silence.as_mut().poll(cx));
                    out.extend_from_slice(W::KEEP_ALIVE);
                    if out.is_empty() {
                        this.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                    }
                }
            }
        }
        this.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_none() && self.ready.is_empty()
    }
}
