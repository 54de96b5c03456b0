//! One JSON array, element by element, each as soon as its last byte is there.
//!
//! A small scanner finds where elements end, knowing only strings and depth, and skips through
//! strings with a vectorised search. Whether an element is JSON is then checked on the whole of
//! it, so that the adapter never sees anything else.

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::{Bom, Frame, FramingError, append, reuse, utf8};

pub(super) struct JsonArray {
    bom: Bom,
    place: Place,
    /// The part of an element that has come, if it didn't come whole.
    element: Vec<u8>,
    /// Bytes before the current input, for error messages.
    offset: u64,
    max: usize,
}

#[derive(Clone, Copy)]
enum Place {
    BeforeArray,
    /// After the opening bracket: an element or the end.
    First,
    /// After a comma: an element.
    Next,
    Element(Scan),
    /// After an element: a comma or the end.
    AfterElement,
    AfterArray,
}

#[derive(Clone, Copy, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonArray {
    pub(super) fn new(max: usize) -> Self {
        Self { bom: Bom::default(), place: Place::BeforeArray, element: Vec::new(), offset: 0, max }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let (lead, rest) = self.bom.skip(bytes);
        if !lead.is_empty() {
            return Err(FramingError::Malformed { at: 0, problem: "expected '['" });
        }
        self.offset += (bytes.len() - rest.len()) as u64;
        let result = self.scan(rest, out);
        self.offset += rest.len() as u64;
        result
    }

    fn scan(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Place::Element(scan) = &mut self.place {
                let Some(length) = scan.end_of_element(&bytes[at..]) else {
                    return append(&mut self.element, &bytes[at..], self.max);
                };
                let piece = &bytes[at..at + length];
                let begins_at = (self.offset + at as u64) - self.element.len() as u64;
                if self.element.is_empty() {
                    emit(piece, begins_at, self.max, out)?;
                } else {
                    append(&mut self.element, piece, self.max)?;
                    emit(&self.element, begins_at, self.max, out)?;
                    reuse(&mut self.element);
                }
                self.place = Place::AfterElement;
                at += length;
                continue;
            }
            if byte.is_ascii_whitespace() {
                at += 1;
                continue;
            }
            self.place = match (self.place, byte) {
                (Place::BeforeArray, b'[') => Place::First,
                (Place::BeforeArray, _) => return Err(self.unexpected(at, "expected '['")),
                (Place::First | Place::AfterElement, b']') => Place::AfterArray,
                (Place::AfterElement, b',') => Place::Next,
                (Place::AfterElement, _) => {
                    return Err(self.unexpected(at, "expected ',' or ']'"));
                }
                (Place::AfterArray, _) => {
                    return Err(self.unexpected(at, "nothing may follow the array"));
                }
                (_, b',' | b']' | b'}' | b':') => {
                    return Err(self.unexpected(at, "expected an element"));
                }
                // The element's own first byte is scanned with the rest of it.
                _ => {
                    self.place = Place::Element(Scan::default());
                    continue;
                }
            };
            at += 1;
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), FramingError> {
        match self.place {
            Place::AfterArray => Ok(()),
            Place::BeforeArray => Err(FramingError::Truncated("before its array")),
            Place::Element(_) => Err(FramingError::Truncated("inside an element of its array")),
            _ => Err(FramingError::Truncated("before the end of its array")),
        }
    }

    fn unexpected(&self, at: usize, problem: &'static str) -> FramingError {
        FramingError::Malformed { at: self.offset + at as u64, problem }
    }
}

impl Scan {
    /// How many of `bytes` belong to the element, if it ends in them.
    fn end_of_element(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.in_string {
                if self.escaped {
                    bytes.get(at)?;
                    self.escaped = false;
                    at += 1;
                }
                at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
                if bytes[at] == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_string = false;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
            } else {
                match *bytes.get(at)? {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 1 => self.depth -= 1,
                    b'}' | b']' if self.depth == 1 => return Some(at + 1),
                    // A number or a word ends before what follows it.
                    b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                        return Some(at);
                    }
                    _ => {}
                }
            }
            at += 1;
        }
    }
}

fn emit(element: &[u8], at: u64, max: usize, out: &mut Vec<Frame>) -> Result<(), FramingError> {
    if element.len() > max {
        return Err(FramingError::TooLarge(max));
    }
    let data = utf8(element, "an element of the array")?;
    if serde_json::from_str::<IgnoredAny>(data).is_err() {
        return Err(FramingError::Malformed {
            at,
            problem: "the element that begins here is not JSON",
        });
    }
    out.push(Frame { name: String::new(), data: data.to_owned() });
    Ok(())
}
