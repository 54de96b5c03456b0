//! Server-sent events by the rules of the HTML standard, "parsing an event stream".
//!
//! `id` and `retry` are for browsers that reconnect and are left out, as are comments. One rule is
//! added. The standard drops an event that isn't closed by a blank line when the stream ends.
//! Some vendors end with `data: [DONE]`, or with a whole last event, and no blank line after it,
//! so such an event is given out if it can't be a part of a longer one: its data is `[DONE]` or a
//! whole JSON value. Anything else is reported as cut off: text is never invented.

use memchr::memchr2;

use super::{Bom, Frame, FramingError, append, check_length, is_whole_json, reuse, utf8};

/// What OpenAI and those who copy it send as the last event.
const LAST: &str = "[DONE]";

pub(super) struct Sse {
    bom: Bom,
    /// The part of a line that has come. Empty if it ends with the input.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
    name: String,
    data: String,
    has_data: bool,
    max: usize,
}

impl Sse {
    pub(super) fn new(max: usize) -> Self {
        Self {
            bom: Bom::default(),
            line: Vec::new(),
            after_cr: false,
            name: String::new(),
            data: String::new(),
            has_data: false,
            max,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let (lead, mut bytes) = self.bom.skip(bytes);
        append(&mut self.line, lead, self.max)?;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            if self.line.is_empty() {
                // As if it had come in pieces.
                check_length(end, self.max)?;
                self.take_line(&bytes[..end], out)?;
            } else {
                append(&mut self.line, &bytes[..end], self.max)?;
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line, out)?;
                reuse(&mut line);
                self.line = line;
            }
            let closed_by_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if closed_by_cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        append(&mut self.line, bytes, self.max)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        if self.bom.is_open() {
            return Err(FramingError::Truncated("inside a byte-order mark"));
        }
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, out).map_err(|error| match error {
                FramingError::InvalidUtf8(_) => FramingError::Truncated("inside a character"),
                other => other,
            })?;
        }
        let whole = self.has_data && (self.data == LAST || is_whole_json(&self.data));
        // A cut in a comment, or in a field nobody reads, loses nothing.
        let nothing_open = !self.has_data && self.name.is_empty();
        if whole {
            self.dispatch(out);
            Ok(())
        } else if nothing_open && !might_be_field(&line) {
            Ok(())
        } else {
            Err(FramingError::Truncated("inside an event"))
        }
    }

    fn take_line(&mut self, line: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        if let Some(value) = field(line, b"data") {
            let value = utf8(value, "an event's data")?;
            self.check_size(value.len() + 1)?;
            if self.has_data {
                self.data.push('\n');
                self.data.push_str(value);
            } else {
                // Exactly as large as most events need.
                self.data = value.to_owned();
                self.has_data = true;
            }
        } else if line.is_empty() {
            self.dispatch(out);
        } else if let Some(value) = field(line, b"event") {
            let value = utf8(value, "an event's name")?;
            self.check_size(value.len())?;
            self.name = value.to_owned();
        }
        Ok(())
    }

    fn check_size(&self, more: usize) -> Result<(), FramingError> {
        if self.name.len() + self.data.len() + more > self.max {
            return Err(FramingError::TooLarge(self.max));
        }
        Ok(())
    }

    fn dispatch(&mut self, out: &mut Vec<Frame>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            out.push(Frame { name, data });
        }
    }
}

/// The value of a line if it is the field `name`: a colon, one space that doesn't count, the rest.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest.strip_prefix(b":") {
        Some(value) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        None => rest.is_empty().then_some(rest),
    }
}

/// True if a last line without its end could have become a `data` or `event` field.
fn might_be_field(line: &[u8]) -> bool {
    !line.is_empty() && (b"data".starts_with(line) || b"event".starts_with(line))
}
