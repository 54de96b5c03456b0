//! What callers' dialects share.
//!
//! A dialect is pure translation: a body becomes an operation, events become an answer, a failure
//! becomes an error of the dialect's own shape. Each is a folder beside this one, with a [`Folder`]
//! for whole answers, a [`StreamWriter`](stream::StreamWriter) for streamed ones, and its
//! [`Dialect`] for errors.
//!
//! - [`read`], [`media`], [`steering`]: what callers send, read once, bounded and checked;
//! - [`events`], [`vectors`]: what adapters say, bounded and checked;
//! - [`answer`], [`stream`]: answers on their way out.

pub mod answer;
pub mod events;
pub mod media;
pub mod read;
pub mod steering;
pub mod stream;
pub mod vectors;

use std::marker::PhantomData;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use keyward::{Failure, FailureKind, Fault, contract::Event};

use self::events::Warnings;
use crate::body::{Counted, Received};

/// Bytes of a body that is parsed where it arrived: some 100 µs of work.
const PARSE_INLINE: usize = 256 * 1024;

/// How a dialect tells of errors.
pub trait Dialect: 'static {
    /// The whole answer to a request that failed before its first byte.
    fn error(failure: &Failure) -> Response;

    /// An error of the surface itself, that no exchange made.
    fn refusal(status: StatusCode, code: &str, message: &str) -> Response;
}

/// Folds the events of one answer into one JSON document.
pub trait Folder {
    /// The warnings among what was added so far.
    fn warnings(&self) -> &Warnings;

    /// # Errors
    /// If the events contradict each other or exceed a limit.
    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure>;

    /// The whole answer as JSON.
    ///
    /// # Errors
    /// If something is missing in it.
    fn finish(self) -> Result<Vec<u8>, Failure>;
}

/// A failure on its way to a caller of dialect `D`, so that handlers can use `?`.
pub struct Refused<D>(Failure, PhantomData<D>);

impl<D> From<Failure> for Refused<D> {
    fn from(failure: Failure) -> Self {
        Self(failure, PhantomData)
    }
}

impl<D: Dialect> IntoResponse for Refused<D> {
    fn into_response(self) -> Response {
        D::error(&self.0)
    }
}

/// Parses a body, where it is if it is small, else off the async threads. What comes with it is the
/// room that the content takes, to be held for as long as that is kept.
///
/// # Errors
/// What `parse` says.
pub async fn parse<T: Send + 'static>(
    received: Received,
    parse: fn(&[u8]) -> Result<T, Failure>,
) -> Result<(T, Counted), Failure> {
    let small = received.bytes.len() <= PARSE_INLINE;
    let read = move || {
        let Received { bytes, counted } = received;
        parse(&bytes).map(|parsed| (parsed, counted))
    };
    if small {
        return read();
    }
    let parsed = tokio::task::spawn_blocking(read).await;
    parsed.unwrap_or_else(|error| {
        let why = format!("The request couldn't be parsed: {error}.");
        Err(Failure::new(FailureKind::Other, Fault::Host, why))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;
    use crate::body::Intake;

    #[tokio::test]
    async fn what_was_read_from_a_body_is_counted_until_it_is_let_go_of() {
        for size in [10_000, PARSE_INLINE + 1] {
            let intake = Intake::with_room(size);
            let receive = || intake.receive(Full::new(Bytes::from(vec![b' '; size])));
            let length = |bytes: &[u8]| Ok(bytes.len());
            let (read, counted) = parse(receive().await.unwrap(), length).await.unwrap();
            assert_eq!(read, size);
            assert_eq!(receive().await.unwrap_err().kind, FailureKind::HostBusy);
            drop(counted);
            let refused = |_: &[u8]| Err::<(), _>(Failure::invalid("body", "No."));
            assert!(parse(receive().await.unwrap(), refused).await.is_err());
            assert!(receive().await.is_ok(), "nothing is kept of what is refused");
        }
    }
}
