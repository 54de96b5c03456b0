//! What one exchange really sent and got, kept for a recording.
//!
//! A tape hears what an adapter could see and no more: the request as it was built, with the
//! content in it and without the credential, which is put in later; of the answer the status, the
//! headers that the descriptor asks for, and the body after the credential was taken out of it. An
//! exchange has no tape unless it was opened with one, and then pays a null check for each read.
//!
//! Bounds: [`MAX_BYTES`]. What goes beyond isn't kept, and the tape says that it is not whole.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::{
    contract::{self, Header, Method},
    egress::Secrets,
};

/// Bodies on one tape: far more than a recording should have, and few enough to keep in memory.
pub const MAX_BYTES: usize = 4 << 20;

/// A tape for one exchange. Cheap to clone; clones are one tape.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Taped>>);

/// What is on a tape.
#[derive(Debug, Default)]
pub struct Taped {
    /// What the adapter was told besides the operation.
    pub context: Option<contract::Context>,
    pub steps: Vec<Step>,
    /// How the adapter itself says that the exchange failed.
    pub failure: Option<contract::Failure>,
    /// There was more than [`MAX_BYTES`].
    pub cut_short: bool,
    bytes: usize,
}

#[derive(Debug)]
pub enum Step {
    Request(Box<Request>),
    /// The adapter asked to wait so many milliseconds.
    Sleep(u32),
}

#[derive(Debug)]
pub struct Request {
    /// The origin's name.
    pub origin: String,
    pub method: Method,
    pub path: String,
    pub headers: Vec<Header>,
    pub body: Body,
    /// Absent if none came.
    pub answer: Option<Answer>,
}

#[derive(Debug)]
pub enum Body {
    Empty,
    Json(Bytes),
    Raw(Bytes),
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The media type, and what the adapter sees.
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
}

impl Tape {
    /// Takes everything off the tape.
    pub fn take(&self) -> Taped {
        mem::take(&mut self.lock())
    }

    pub(crate) fn context(&self, context: &contract::Context) {
        self.lock().context = Some(context.clone());
    }

    pub(crate) fn request(&self, request: Request) {
        let mut taped = self.lock();
        let body = match &request.body {
            Body::Empty => 0,
            Body::Json(body) | Body::Raw(body) => body.len(),
        };
        taped.bytes += body;
        taped.cut_short |= taped.bytes > MAX_BYTES;
        taped.steps.push(Step::Request(Box::new(request)));
    }

    pub(crate) fn sleep(&self, milliseconds: u32) {
        self.lock().steps.push(Step::Sleep(milliseconds));
    }

    /// The head of the answer to the last request; `visible` is what the adapter sees of it.
    pub(crate) fn head(&self, status: u16, visible: &[Header], all: &HeaderMap, secrets: &Secrets) {
        let mut headers = visible.to_vec();
        for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
            let value = all.get(&name).map(HeaderValue::to_str).and_then(Result::ok);
            if let Some(value) = value
                && !headers.iter().any(|known| known.name == name.as_str())
            {
                let value = secrets.text(value).into_owned();
                headers.push(Header { name: name.to_string(), value });
            }
        }
        if let Some(request) = self.lock().last() {
            request.answer = Some(Answer { status, headers, body: Vec::new() });
        }
    }

    /// A piece of the answer's body.
    pub(crate) fn body(&self, piece: &[u8]) {
        let mut taped = self.lock();
        let room = MAX_BYTES.saturating_sub(taped.bytes);
        taped.bytes += piece.len();
        taped.cut_short |= piece.len() > room;
        if let Some(answer) = taped.last().and_then(|request| request.answer.as_mut()) {
            answer.body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    pub(crate) fn failed(&self, failure: &contract::Failure) {
        self.lock().failure = Some(failure.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taped {
    fn last(&mut self) -> Option<&mut Request> {
        self.steps.iter_mut().rev().find_map(|step| match step {
            Step::Request(request) => Some(request.as_mut()),
            Step::Sleep(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            origin: "api".into(),
            method: Method::Get,
            path: "/models".into(),
            headers: Vec::new(),
            body: Body::Empty,
            answer: None,
        }
    }

    fn answer(taped: &Taped) -> &Answer {
        let Some(Step::Request(request)) = taped.steps.last() else { panic!("{taped:?}") };
        request.answer.as_ref().unwrap()
    }

    #[test]
    fn an_answer_belongs_to_the_last_request_and_shows_no_secret() {
        let key = "sk-canary-0123456789".into();
        let secrets = Secrets::new([&key]);
        let tape = Tape::default();
        tape.request(request());
        tape.sleep(5);
        let mut all = HeaderMap::new();
        all.insert("content-type", HeaderValue::from_static("text/plain; sk-canary-0123456789"));
        all.insert("set-cookie", HeaderValue::from_static("a=b"));
        tape.head(200, &[], &all, &secrets);
        tape.body(b"one ");
        tape.body(b"two");
        let taped = tape.take();
        let [Step::Request(request), Step::Sleep(5)] = &taped.steps[..] else {
            panic!("{taped:?}")
        };
        let answer = request.answer.as_ref().unwrap();
        assert_eq!(answer.body, b"one two");
        let headers: Vec<_> = answer.headers.iter().map(|h| (&*h.name, &*h.value)).collect();
        assert_eq!(headers, [("content-type", "text/plain; [redacted]")]);
        assert!(tape.take().steps.is_empty(), "a tape is taken once");
    }

    #[test]
    fn a_tape_is_bounded_and_says_so() {
        let tape = Tape::default();
        tape.request(request());
        tape.head(200, &[], &HeaderMap::new(), &Secrets::default());
        tape.body(&vec![b'x'; MAX_BYTES - 1]);
        tape.body(b"yz");
        tape.body(b"more");
        let taped = tape.take();
        assert!(taped.cut_short);
        assert_eq!(answer(&taped).body.len(), MAX_BYTES);
    }
}
