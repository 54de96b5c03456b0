//! Cuts a vendor's answer into frames, as the adapter asked with `framing`.
//!
//! Written once here, so that adapters see whole events in whole characters however the network
//! cut them. A frame is given out as soon as its last byte is there. What is not valid is an
//! error, never repaired: bytes that aren't UTF-8 are not replaced, and half an event at the end
//! of an answer is not guessed at.
//!
//! Bounds: a frame has at most [`FrameLimits::frame`] bytes; the whole answer is capped where it
//! is read ([`super::client`]). Each byte is looked at once and copied at most twice, so time is
//! linear in the answer whatever its cuts. A frame that arrives in one piece costs the allocation
//! of its own text and nothing else.

mod event_stream;
mod json_array;
mod sse;

#[cfg(test)]
mod tests;

use memchr::memchr;
use serde::de::IgnoredAny;

use crate::{
    Failure,
    contract::{Frame, Framing},
};

/// The largest frame. The largest real ones are embeddings in one JSON document and images in an
/// event: a few MiB each. An adapter has 64 MiB of memory to hold a frame and what it makes of it.
pub const MAX_FRAME: usize = 16 << 20;

/// A buffer that grew beyond this is given back after its frame: most streams never need it.
const KEEP_BUFFER: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of one frame, name included, at most; and of one line, with what surrounds its text.
    pub frame: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { frame: MAX_FRAME }
    }
}

/// Why an answer can't be cut into frames. Never holds any of the answer's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("{0} is not valid UTF-8")]
    InvalidUtf8(&'static str),
    #[error("a frame is larger than {0} bytes")]
    TooLarge(usize),
    #[error("byte {at}: {problem}")]
    Malformed { at: u64, problem: &'static str },
    #[error("the answer was cut off {0}")]
    Truncated(&'static str),
}

impl From<FramingError> for Failure {
    fn from(error: FramingError) -> Self {
        let code = match error {
            FramingError::InvalidUtf8(_) => "invalid_utf8",
            FramingError::TooLarge(_) => "frame_too_large",
            FramingError::Malformed { .. } => "bad_framing",
            FramingError::Truncated(_) => "truncated",
        };
        let mut failure = Failure::malformed(format!("the vendor's answer is damaged: {error}"));
        failure.code = Some(code.to_owned());
        failure
    }
}

/// Turns the bytes of one answer into frames.
pub struct Decoder {
    cutter: Cutter,
    /// Set by the first error: what follows a damaged place has no meaning.
    failed: Option<FramingError>,
}

enum Cutter {
    Json(Document),
    Sse(sse::Sse),
    Ndjson(Lines),
    JsonArray(json_array::JsonArray),
    AwsEventStream(event_stream::EventStream),
    Text(Text),
}

impl Decoder {
    pub fn new(framing: Framing, limits: FrameLimits) -> Self {
        let max = limits.frame;
        let cutter = match framing {
            Framing::Json => Cutter::Json(Document::new(max)),
            Framing::Sse => Cutter::Sse(sse::Sse::new(max)),
            Framing::Ndjson => Cutter::Ndjson(Lines::new(max)),
            Framing::JsonArray => Cutter::JsonArray(json_array::JsonArray::new(max)),
            Framing::AwsEventStream => Cutter::AwsEventStream(event_stream::EventStream::new(max)),
            Framing::Text => Cutter::Text(Text::default()),
        };
        Self { cutter, failed: None }
    }

    /// Takes the next bytes and appends the frames they complete to `out`.
    ///
    /// # Errors
    /// If the answer is damaged. Frames appended before stay valid; every later call gives the
    /// same error.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        self.check()?;
        let result = match &mut self.cutter {
            Cutter::Json(it) => it.push(bytes),
            Cutter::Sse(it) => it.push(bytes, out),
            Cutter::Ndjson(it) => it.push(bytes, out),
            Cutter::JsonArray(it) => it.push(bytes, out),
            Cutter::AwsEventStream(it) => it.push(bytes, out),
            Cutter::Text(it) => it.push(bytes, out),
        };
        self.remember(result)
    }

    /// The answer is complete as far as HTTP can tell. Call once.
    ///
    /// # Errors
    /// If it ends inside a frame: the error says where.
    pub fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        self.check()?;
        let result = match &mut self.cutter {
            Cutter::Json(it) => it.finish(out),
            Cutter::Sse(it) => it.finish(out),
            Cutter::Ndjson(it) => it.finish(out),
            Cutter::JsonArray(it) => it.finish(),
            Cutter::AwsEventStream(it) => it.finish(),
            Cutter::Text(it) => it.finish(),
        };
        self.remember(result)
    }

    fn check(&self) -> Result<(), FramingError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn remember(&mut self, result: Result<(), FramingError>) -> Result<(), FramingError> {
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }
}

/// One JSON document, given out at the end of the answer: where a document ends is known for
/// certain only then.
struct Document {
    bom: Bom,
    bytes: Vec<u8>,
    max: usize,
}

impl Document {
    fn new(max: usize) -> Self {
        Self { bom: Bom::default(), bytes: Vec::new(), max }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), FramingError> {
        let (lead, rest) = self.bom.skip(bytes);
        append(&mut self.bytes, lead, self.max)?;
        append(&mut self.bytes, rest, self.max)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        if self.bom.is_open() || self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(FramingError::Truncated("before its first byte"));
        }
        let data = String::from_utf8(std::mem::take(&mut self.bytes))
            .map_err(|_| FramingError::InvalidUtf8("the JSON document"))?;
        match serde_json::from_str::<IgnoredAny>(&data) {
            Ok(_) => out.push(Frame { name: String::new(), data }),
            Err(error) if error.is_eof() => {
                return Err(FramingError::Truncated("inside its JSON document"));
            }
            Err(_) => {
                return Err(FramingError::Malformed { at: 0, problem: "not a JSON document" });
            }
        }
        Ok(())
    }
}

/// A JSON document a line. Blank lines are skipped: some vendors send them to keep a connection.
struct Lines {
    bom: Bom,
    line: Vec<u8>,
    max: usize,
}

impl Lines {
    fn new(max: usize) -> Self {
        Self { bom: Bom::default(), line: Vec::new(), max }
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let (lead, mut bytes) = self.bom.skip(bytes);
        append(&mut self.line, lead, self.max)?;
        while let Some(end) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                emit_line(&bytes[..end], self.max, out)?;
            } else {
                append(&mut self.line, &bytes[..end], self.max)?;
                emit_line(&self.line, self.max, out)?;
                reuse(&mut self.line);
            }
            bytes = &bytes[end + 1..];
        }
        append(&mut self.line, bytes, self.max)
    }

    /// A last line without its newline counts if it is a whole JSON document: vendors leave it
    /// out, and a cut can't make one.
    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        if self.bom.is_open() {
            return Err(FramingError::Truncated("inside a byte-order mark"));
        }
        let line = self.line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        if !str::from_utf8(line).is_ok_and(is_whole_json) {
            return Err(FramingError::Truncated("inside its last line"));
        }
        emit_line(line, self.max, out)
    }
}

fn emit_line(line: &[u8], max: usize, out: &mut Vec<Frame>) -> Result<(), FramingError> {
    check_length(line.len(), max)?;
    let line = line.trim_ascii();
    if !line.is_empty() {
        let data = utf8(line, "a line")?.to_owned();
        out.push(Frame { name: String::new(), data });
    }
    Ok(())
}

/// Text as it arrives; holds back the first bytes of a character that isn't complete yet.
#[derive(Default)]
struct Text {
    /// Between one and three bytes, or none.
    held: Vec<u8>,
}

impl Text {
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let mut data = String::new();
        while !self.held.is_empty() {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            self.held.push(byte);
            bytes = rest;
            match str::from_utf8(&self.held) {
                Ok(character) => {
                    data.push_str(character);
                    self.held.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(FramingError::InvalidUtf8("the text")),
            }
        }
        match str::from_utf8(bytes) {
            Ok(text) => data.push_str(text),
            Err(error) if error.error_len().is_none() => {
                let (whole, cut) = bytes.split_at(error.valid_up_to());
                data.push_str(utf8(whole, "the text")?);
                self.held.extend_from_slice(cut);
            }
            Err(_) => return Err(FramingError::InvalidUtf8("the text")),
        }
        if !data.is_empty() {
            out.push(Frame { name: String::new(), data });
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), FramingError> {
        if self.held.is_empty() {
            Ok(())
        } else {
            Err(FramingError::Truncated("inside a character"))
        }
    }
}

/// Skips a byte-order mark at the start of an answer, however it is cut.
#[derive(Default)]
struct Bom {
    /// How many of its bytes have been seen; 3 once the start of the answer is behind.
    seen: usize,
}

const BOM: &[u8; 3] = b"\xEF\xBB\xBF";

impl Bom {
    /// What belongs to the answer: first bytes that only looked like a mark, then the rest.
    fn skip<'a>(&mut self, mut bytes: &'a [u8]) -> (&'static [u8], &'a [u8]) {
        while self.seen < BOM.len() {
            let Some((&first, rest)) = bytes.split_first() else { break };
            if first != BOM[self.seen] {
                let lead = &BOM[..self.seen];
                self.seen = BOM.len();
                return (lead, bytes);
            }
            self.seen += 1;
            bytes = rest;
        }
        (&[], bytes)
    }

    /// True inside a mark.
    fn is_open(&self) -> bool {
        (1..BOM.len()).contains(&self.seen)
    }
}

fn utf8<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, FramingError> {
    str::from_utf8(bytes).map_err(|_| FramingError::InvalidUtf8(what))
}

/// Refuses what [`append`] would refuse if it came in pieces, so that the limit doesn't depend on it.
fn check_length(length: usize, max: usize) -> Result<(), FramingError> {
    if length > max { Err(FramingError::TooLarge(max)) } else { Ok(()) }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8], max: usize) -> Result<(), FramingError> {
    check_length(buffer.len() + bytes.len(), max)?;
    buffer.extend_from_slice(bytes);
    Ok(())
}

fn reuse(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_BUFFER {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

/// True for one JSON value that can't be the beginning of a longer one. A number can.
fn is_whole_json(text: &str) -> bool {
    !text.trim_ascii_start().starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}
