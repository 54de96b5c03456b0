//! JSON that stays on one line for every reader of lines.
//!
//! JSON escapes the control characters below a space, but some readers (Python's `splitlines`, and
//! by it the HTTP library of Ollama's SDK) also end a line at U+0085, U+2028 and U+2029, which may
//! stand in a JSON string as they are. They are escaped here. What it costs: one look for the two
//! bytes with which they begin.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

/// Appends a value as JSON on one line. Writing into memory can't fail, and nothing that answers
/// consist of can refuse to be written.
pub fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let written = value.serialize(&mut Serializer::with_formatter(out, OneLine));
    debug_assert!(written.is_ok());
}

struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        escaped(out, fragment)
    }

    /// JSON that an adapter gave: its line breaks were taken out before, and these characters can
    /// only stand in its strings.
    fn write_raw_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        escaped(out, fragment)
    }
}

fn escaped<W: ?Sized + Write>(out: &mut W, mut text: &str) -> io::Result<()> {
    if !text.bytes().any(|byte| matches!(byte, 0xc2 | 0xe2)) {
        return out.write_all(text.as_bytes());
    }
    while let Some((at, ends)) =
        text.char_indices().find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))
    {
        out.write_all(&text.as_bytes()[..at])?;
        write!(out, "\\u{:04x}", u32::from(ends))?;
        text = &text[at + ends.len_utf8()..];
    }
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn nothing_that_ends_a_line_anywhere_stands_in_one() {
        let text = "a\nb\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}c\u{2028}\u{2029}Grüße “🦀”";
        let mut out = Vec::new();
        write_json(text, &mut out);
        let line = String::from_utf8(out).unwrap();
        let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!line.contains(ends), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn raw_json_is_held_to_the_same() {
        let raw = RawValue::from_string("{\"a\u{2028}\":\"\u{85}é\"}".into()).unwrap();
        let mut out = Vec::new();
        write_json(&*raw, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\\u2028\":\"\\u0085é\"}");
    }
}
