//! Cutting a vendor's answer into frames, as simply as well-formed answers allow.
//!
//! The host's framing is the real one, bounded and fuzzed; this one lets an adapter's crate be
//! tested without the host. It buffers the whole answer and knows JSON, server-sent events,
//! newline-delimited JSON and text.

use serde::de::IgnoredAny;

use crate::contract::{Frame, Framing};

/// Cuts bytes as they come into frames.
pub trait Framer {
    /// Appends the frames that these bytes complete to `out`.
    ///
    /// # Errors
    /// If the bytes can't be framed as asked: the host ends the exchange itself then. Frames before
    /// the damage are in `out`.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), String>;

    /// Appends the frames that the end of the answer completes.
    ///
    /// # Errors
    /// As `push`.
    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), String>;
}

/// The kit's own framer.
///
/// # Errors
/// For framings only the host knows: JSON arrays and AWS event streams.
pub fn simple_framer(framing: Framing) -> Result<Box<dyn Framer>, String> {
    match framing {
        Framing::Json | Framing::Sse | Framing::Ndjson | Framing::Text => {
            Ok(Box::new(SimpleFramer { framing, rest: Vec::new() }))
        }
        Framing::JsonArray | Framing::AwsEventStream => {
            Err(format!("{framing:?} isn't framed here; replay through the host instead"))
        }
    }
}

struct SimpleFramer {
    framing: Framing,
    rest: Vec<u8>,
}

impl Framer for SimpleFramer {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), String> {
        self.rest.extend_from_slice(bytes);
        let complete = match self.framing {
            Framing::Sse => end_of_last(&self.rest, &[b"\n\n", b"\r\n\r\n"]),
            Framing::Ndjson => end_of_last(&self.rest, &[b"\n"]),
            Framing::Text => match std::str::from_utf8(&self.rest) {
                Ok(_) => self.rest.len(),
                Err(error) => error.valid_up_to(),
            },
            _ => 0,
        };
        let complete: Vec<u8> = self.rest.drain(..complete).collect();
        self.frames(complete, out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), String> {
        match self.framing {
            // An event that wasn't ended by an empty line is incomplete and never dispatched.
            Framing::Sse => Ok(()),
            Framing::Json => {
                let json = serde_json::from_slice::<IgnoredAny>(&self.rest);
                json.map_err(|error| error.to_string())?;
                let rest = std::mem::take(&mut self.rest);
                self.frames(rest, out)
            }
            _ => {
                let rest = std::mem::take(&mut self.rest);
                self.frames(rest, out)
            }
        }
    }
}

impl SimpleFramer {
    fn frames(&self, complete: Vec<u8>, out: &mut Vec<Frame>) -> Result<(), String> {
        if complete.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8(complete).map_err(|error| error.to_string())?;
        let unnamed = |data: &str| Frame { name: String::new(), data: data.to_owned() };
        match self.framing {
            Framing::Sse => {
                let text = text.replace("\r\n", "\n");
                out.extend(text.split("\n\n").filter_map(event));
            }
            Framing::Ndjson => {
                out.extend(text.lines().filter(|line| !line.trim().is_empty()).map(unnamed));
            }
            _ => out.push(unnamed(&text)),
        }
        Ok(())
    }
}

fn end_of_last(bytes: &[u8], separators: &[&[u8]]) -> usize {
    let end = |separator: &&[u8]| {
        let at = bytes.windows(separator.len()).rposition(|window| window == *separator)?;
        Some(at + separator.len())
    };
    separators.iter().filter_map(end).max().unwrap_or(0)
}

fn event(text: &str) -> Option<Frame> {
    let (mut name, mut data) = (String::new(), None::<String>);
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => match &mut data {
                None => data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            _ => {}
        }
    }
    data.map(|data| Frame { name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_no_json_is_damaged() {
        for text in ["", "<html>", "{\"a\":1", "{} {}"] {
            let (mut framer, mut frames) = (simple_framer(Framing::Json).unwrap(), Vec::new());
            framer.push(text.as_bytes(), &mut frames).unwrap();
            assert!(framer.finish(&mut frames).is_err(), "{text}");
        }
    }

    #[test]
    fn frames_do_not_depend_on_where_the_bytes_were_cut() {
        let cases = [
            (Framing::Sse, ": hi\n\nevent: a\ndata: 1\ndata: é\n\ndata: 2\n\ndata: cut", 2),
            (Framing::Sse, "data: 1\r\n\r\ndata: 2\r\n\r\n", 2),
            (Framing::Ndjson, "{}\n\n[é]\n1", 3),
            (Framing::Json, "{\"a\":\n1}", 1),
        ];
        for (framing, text, count) in cases {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                let mut framer = simple_framer(framing).unwrap();
                let mut frames = Vec::new();
                framer.push(&bytes[..cut], &mut frames).unwrap();
                framer.push(&bytes[cut..], &mut frames).unwrap();
                framer.finish(&mut frames).unwrap();
                assert_eq!(frames.len(), count, "{framing:?} cut at {cut}: {frames:?}");
            }
        }
    }
}
