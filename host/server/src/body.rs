//! Takes in request bodies: not too large, not too slowly, not too many at once.
//!
//! A body is counted against [`IN_FLIGHT`] as it arrives, not as it is announced, so a thousand
//! callers that announce much and send nothing cost nothing. It stays counted, as [`Counted`], for as
//! long as what was read from it is kept: also while the request waits for its turn at a provider.
//! Beyond a limit, the rest of a body is read and thrown away for a moment: a client that is still
//! sending wouldn't see the answer otherwise.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use keyward::{Failure, FailureKind, Fault};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Bytes of one body. Vendors take images and documents of up to 50 MB in a request.
pub const MAX_BODY: usize = 64 * 1024 * 1024;

/// Bytes of all bodies whose content is kept, as they came. What was read from one takes about as much,
/// and while it is being read both are there.
pub const IN_FLIGHT: usize = 512 * 1024 * 1024;

/// Between two pieces of a body. Whoever is slower has gone, or is holding on to a connection.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes a second that a body must have come with on the whole, the first [`PIECE_TIMEOUT`] given
/// away. Without it a byte now and then would hold a connection for years; phones in a bad place
/// send twice as fast.
const SLOWEST: u64 = 8 * 1024;

/// How long and how much of a body that is refused is thrown away before the connection closes.
const DISCARD_TIME: Duration = Duration::from_secs(5);
const DISCARD_BYTES: usize = MAX_BODY;

/// Memory taken at once for what is announced. More is taken as it arrives.
const RESERVE: usize = 1024 * 1024;

/// The unit of [`IN_FLIGHT`]'s semaphore; a piece is rounded up to it.
const UNIT: usize = 1024;

/// Receives bodies under one common bound. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    limit: usize,
    in_flight: Arc<Semaphore>,
}

/// A body in memory, counted until it is dropped.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    pub counted: Counted,
}

/// The room that a request's content takes, given back when dropped.
#[derive(Debug, Default)]
#[must_use = "dropped, it says that the content is gone"]
pub struct Counted(Option<OwnedSemaphorePermit>);

impl Intake {
    /// For bodies of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, in_flight: Arc::new(Semaphore::new(IN_FLIGHT / UNIT)) }
    }

    /// For bodies of so many bytes in all.
    #[cfg(test)]
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { limit: bytes, in_flight: Arc::new(Semaphore::new(bytes.div_ceil(UNIT))) }
    }

    /// Receives one body.
    ///
    /// # Errors
    /// If it is too large or too slow, breaks off, or the host holds too many already.
    pub async fn receive<B>(&self, mut body: B) -> Result<Received, Failure>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.size_hint().lower() > self.limit as u64 {
            discard(body).await;
            return Err(self.too_large());
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut counted = Counted::default();
        let began = Instant::now();
        let time = |received: usize| {
            PIECE_TIMEOUT + Duration::from_millis(received as u64 * 1000 / SLOWEST)
        };
        while let Some(piece) = next(&mut body, began + time(first.len() + rest.len())).await? {
            if first.len() + rest.len() + piece.len() > self.limit {
                drop((first, rest, counted));
                discard(body).await;
                return Err(self.too_large());
            }
            let units = u32::try_from(piece.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
            let Ok(permit) = self.in_flight.clone().try_acquire_many_owned(units) else {
                drop((first, rest, counted));
                discard(body).await;
                let why = "The host has too many large requests at the moment. Try again soon.";
                return Err(Failure::new(FailureKind::HostBusy, Fault::Host, why));
            };
            match &mut counted.0 {
                Some(all) => all.merge(permit),
                none => *none = Some(permit),
            }
            // Most bodies come in one piece, which needs no copy.
            if first.is_empty() && rest.is_empty() {
                first = piece;
                continue;
            }
            if rest.is_empty() {
                let more = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                rest.reserve(first.len() + piece.len() + more.min(RESERVE));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&piece);
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Received { bytes, counted })
    }

    fn too_large(&self) -> Failure {
        let why = format!("The request is larger than {} bytes.", self.limit);
        let mut failure = Failure::new(FailureKind::InvalidRequest, Fault::Caller, why);
        failure.status = Some(413);
        failure.code = Some("request_too_large".into());
        failure
    }
}

/// The next piece that has bytes, if it is there in time.
async fn next<B>(body: &mut B, by: Instant) -> Result<Option<Bytes>, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let broken = |why: String| Failure::new(FailureKind::InvalidRequest, Fault::Caller, why);
    loop {
        let silent = Instant::now() + PIECE_TIMEOUT;
        let frame = tokio::time::timeout_at(silent.min(by), body.frame()).await.map_err(|_| {
            let seconds = PIECE_TIMEOUT.as_secs();
            broken(if silent <= by {
                format!("The request's body stopped arriving for {seconds} seconds.")
            } else {
                "The request's body arrives too slowly.".to_owned()
            })
        })?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(broken(format!("The request's body broke off: {error}.")));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Empty pieces and trailers.
                _ => {}
            },
        }
    }
}

async fn discard<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut left = DISCARD_BYTES;
    let by = Instant::now() + DISCARD_TIME;
    let all = async {
        while let Ok(Some(piece)) = next(&mut body, by).await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    all.await;
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Piece = Result<Frame<Bytes>, std::io::Error>;

    fn pieces(
        all: &'static [&'static str],
    ) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames = all
            .iter()
            .map(|piece| -> Piece { Ok(Frame::data(Bytes::from_static(piece.as_bytes()))) });
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn pieces_are_put_together() {
        let intake = Intake::new(10);
        let received = intake.receive(pieces(&["", "ab", "", "cdefg", "hij"])).await.unwrap();
        assert_eq!(received.bytes, "abcdefghij");
        assert_eq!(intake.receive(pieces(&[])).await.unwrap().bytes, "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let intake = Intake::new(4);
        let announced = intake.receive(Full::new(Bytes::from_static(b"12345"))).await.unwrap_err();
        assert_eq!(announced.status, Some(413));
        let unannounced = intake.receive(pieces(&["123", "45"])).await.unwrap_err();
        assert_eq!(unannounced.status, Some(413));
    }

    #[tokio::test]
    async fn bodies_together_are_bounded_and_counted_until_dropped() {
        let intake = Intake { limit: 10_000, in_flight: Arc::new(Semaphore::new(3)) };
        let held = intake.receive(Full::new(Bytes::from(vec![b' '; 2_000]))).await.unwrap();
        let more = || intake.receive(Full::new(Bytes::from(vec![b' '; 2_000])));
        assert_eq!(more().await.unwrap_err().kind, FailureKind::HostBusy);
        drop(held);
        assert!(more().await.is_ok());
        assert_eq!(intake.in_flight.available_permits(), 3);
    }

    /// So many pieces of `size` bytes, each after `pause`.
    fn paced(
        count: usize,
        size: usize,
        pause: Duration,
    ) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let pieces = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Piece::Ok(Frame::data(Bytes::from(vec![b' '; size])))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_a_byte_now_and_then_is_given_up() {
        let began = Instant::now();
        let drip = paced(1_000_000, 1, Duration::from_secs(1));
        let failure = Intake::new(1 << 30).receive(drip).await.unwrap_err();
        assert!(failure.message.contains("too slowly"), "{failure}");
        assert!(began.elapsed() < 2 * PIECE_TIMEOUT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_goes_on_arrives() {
        let slow = paced(100, 16 << 10, Duration::from_secs(1));
        let received = Intake::new(1 << 30).receive(slow).await.unwrap();
        assert_eq!(received.bytes.len(), 100 * (16 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_arriving_is_given_up() {
        let body = StreamBody::new(Box::pin(stream::pending::<Piece>()));
        let failure = Intake::new(10).receive(body).await.unwrap_err();
        assert!(failure.message.contains("stopped arriving"), "{failure}");
    }
}
