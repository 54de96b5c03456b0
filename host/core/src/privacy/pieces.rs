//! What of a request is read: texts, values with their names, and inline files that are texts.
//!
//! A piece points into the request. Copied are only the beginnings of fields, because a name says what
//! its value is (`"password": …`), and files in base64 that turn out to be text. Other files aren't
//! read, wherever they stand: in 40 MB of random base64 something looks like a bank account.

use std::ops::{ControlFlow, Range};

use base64::{
    Engine as _,
    alphabet::{self, Alphabet},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::bytes;

/// A field's name is read with so much of its value; a longer value is read once more by itself.
const WITH_NAME: usize = 1024;

/// By so much of its beginning a file is told to be text or not: a multiple of 4.
const HEAD: usize = 1024;

/// A run of base64 within a value is a file from so many characters on. Signatures are shorter, and
/// so are keys and most tokens.
const FILE: usize = 2048;

/// One text of a request, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// JSON, or what else may hold files.
    Value(&'a str),
    /// A field that nobody here knows; the value is JSON.
    Field {
        name: &'a str,
        value: &'a str,
    },
    /// A file's content in standard base64. It is read if it is text.
    Base64 {
        media_type: &'a str,
        data: &'a str,
    },
    /// A text as the numbers of its tokens, which can't be read here.
    Tokens,
}

impl Piece<'_> {
    /// Bytes that are read at most.
    pub fn length(&self) -> usize {
        match self {
            Self::Text(text) | Self::Value(text) => text.len(),
            Self::Field { name, value } => name.len() + value.len(),
            Self::Base64 { data, .. } => data.len(),
            Self::Tokens => 0,
        }
    }

    /// Gives the texts in it to `each`, until that breaks.
    pub(super) fn read<B>(&self, each: &mut impl FnMut(&str) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            Self::Text(text) => each(text),
            Self::Value(value) => read_value(value, each),
            Self::Field { name, value } => {
                let head = &value[..value.floor_char_boundary(WITH_NAME)];
                each(&format!("\"{name}\":{head}"))?;
                if head.len() < value.len() { read_value(value, each) } else { done() }
            }
            Self::Base64 { media_type, data } => match content(media_type, data) {
                Content::Text(text) => each(&text),
                // Whatever it is, it isn't what it says.
                Content::Unknown => each(data),
                Content::Other => done(),
            },
            Self::Tokens => done(),
        }
    }
}

fn done<B>() -> ControlFlow<B> {
    ControlFlow::Continue(())
}

/// Reads a value without the files in it that aren't text.
fn read_value<B>(value: &str, each: &mut impl FnMut(&str) -> ControlFlow<B>) -> ControlFlow<B> {
    let (mut read, mut at) = (0, 0);
    while let Some(file) = next_file(value.as_bytes(), at) {
        at = file.end;
        match content("", &value[file.clone()]) {
            Content::Text(text) => each(&text)?,
            Content::Other => {
                each(&value[read..file.start])?;
                read = file.end;
            }
            Content::Unknown => {}
        }
    }
    each(&value[read..])
}

/// The next long run of base64 that isn't a token's part. Looks at one byte of [`FILE`] where there is
/// none.
fn next_file(text: &[u8], from: usize) -> Option<Range<usize>> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let mut at = from + FILE - 1;
    while at < text.len() {
        let after = bytes::run(text, at, is_base64);
        let end = at + after;
        if after > 0 {
            let start = at - bytes::run_before(text, at, at - from, is_base64);
            let padding = bytes::run(text, end, |byte| *byte == b'=').min(2);
            let whole = start..end + padding;
            // The parts of a JSON web token have points between them.
            let in_token = start > 0 && text[start - 1] == b'.' || text.get(end) == Some(&b'.');
            if whole.len() >= FILE && !in_token {
                return Some(whole);
            }
        }
        at = end + FILE;
    }
    None
}

/// What stands in base64.
enum Content {
    Text(String),
    /// An image and the like.
    Other,
    /// It isn't base64.
    Unknown,
}

/// Text is told by its type, or because it looks like one.
fn content(media_type: &str, data: &str) -> Content {
    let engine = if data.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let Ok(head) = engine.decode(data.get(..HEAD).unwrap_or(data)) else {
        return Content::Unknown;
    };
    let utf16: Option<fn([u8; 2]) -> u16> = match head.first_chunk::<2>() {
        Some([0xff, 0xfe]) => Some(u16::from_le_bytes),
        Some([0xfe, 0xff]) => Some(u16::from_be_bytes),
        _ => None,
    };
    let declared = is_text(media_type);
    let readable = declared || utf16.is_some() || looks_like_text(&head);
    if !readable {
        return Content::Other;
    }
    let Ok(bytes) = engine.decode(data) else { return Content::Unknown };
    if let Some(read) = utf16 {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|unit| read(*unit)).collect();
        return Content::Text(String::from_utf16_lossy(&units));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Content::Text(text),
        Err(error) if declared => {
            Content::Text(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(_) => Content::Other,
    }
}

static STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
static URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE);

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

/// Whether a media type is one of texts.
fn is_text(media_type: &str) -> bool {
    const OTHERS: &[&str] = &[
        "json",
        "x-ndjson",
        "jsonl",
        "xml",
        "yaml",
        "x-yaml",
        "toml",
        "csv",
        "sql",
        "javascript",
        "rtf",
        "x-sh",
        "mbox",
    ];
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    matches!(kind, "text" | "message")
        || subtype.ends_with("+json")
        || subtype.ends_with("+xml")
        || (kind == "application" && OTHERS.contains(&subtype))
}

/// UTF-8, as far as it goes, without the control characters that binary files begin with.
fn looks_like_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        // Cut in the middle of a character.
        Err(error) => error.error_len().is_none(),
    };
    whole && !head.iter().any(|byte| *byte < b' ' && !b"\t\n\r\x0c\x1b".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::{Detectors, tests::with_words};

    fn texts(piece: Piece<'_>) -> Vec<String> {
        let mut texts = Vec::new();
        let all = piece.read(&mut |text| {
            texts.push(text.to_owned());
            ControlFlow::<()>::Continue(())
        });
        assert!(all.is_continue());
        texts
    }

    fn file(media_type: &str, content: &[u8]) -> Option<String> {
        let data = STANDARD.encode(content);
        texts(Piece::Base64 { media_type, data: &data }).pop()
    }

    /// No text, the same in every run.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn a_long_value_is_read_whole_and_once_more_with_its_name() {
        assert_eq!(texts(Piece::Text("a text")), ["a text"]);
        assert_eq!(texts(Piece::Field { name: "n", value: "\"v\"" }), ["\"n\":\"v\""]);
        let value = format!("\"{}\"", "é".repeat(WITH_NAME));
        let long = texts(Piece::Field { name: "n", value: &value });
        assert!(long[0].len() < WITH_NAME + 8 && long[0].starts_with("\"n\":\"é"));
        assert_eq!(long[1..], [value]);
    }

    #[test]
    fn files_within_values_are_left_out_unless_they_are_text() {
        let image = [b"\x89PNG\r\n\x1a\n\0".as_slice(), &noise(5000)].concat();
        for encoded in [STANDARD.encode(&image), URL_SAFE.encode(&image)] {
            let value =
                format!(r#"{{"a":"before","data":"{encoded}","b":"{encoded}","c":"after"}}"#);
            let read = [r#"{"a":"before","data":""#, r#"","b":""#, r#"","c":"after"}"#];
            assert_eq!(texts(Piece::Value(&value)), read);
            // What stands alone, and at the beginning.
            assert_eq!(texts(Piece::Value(&encoded)).concat(), "");
        }
        let text = STANDARD.encode("anna@example.org ".repeat(200));
        let value = format!(r#"{{"data":"{text}"}}"#);
        assert!(texts(Piece::Value(&value))[0].starts_with("anna@example.org "));
        // Part of a token, and no base64 at all.
        let (token, run) = (URL_SAFE.encode(noise(3000)), "/+-_a".repeat(1000));
        for value in [format!("\"eyJhbGciOi.{token}.c2ln\""), format!("\"{run}\"")] {
            assert_eq!(texts(Piece::Value(&value)), [value]);
        }
    }

    #[test]
    fn a_name_says_what_its_value_is() {
        let secret = Piece::Field { name: "password", value: "\"kR7#vQ2!pZ\"" };
        let other = Piece::Field { name: "label", value: "\"kR7#vQ2!pZ\"" };
        assert!(Detectors::default().find_in(&[secret]).is_some());
        assert!(Detectors::default().find_in(&[other]).is_none());
    }

    #[test]
    fn files_that_are_text_are_read_whatever_they_call_themselves() {
        let long = "Zeile für Zeile. ".repeat(200);
        for content in ["name,mail\nanna,anna@example.org\n", "{\"a\": 1}", "é", &long] {
            for media_type in ["text/plain", "text/csv; charset=utf-8", "application/json", ""] {
                assert_eq!(file(media_type, content.as_bytes()).as_deref(), Some(content));
            }
            assert!(file("application/octet-stream", content.as_bytes()).is_some());
        }
        let utf16: Vec<u8> = "\u{feff}anna".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(file("", &utf16).is_some_and(|text| text.ends_with("anna")));
        assert_eq!(file("text/plain", b"caf\xe9 a@b.c").as_deref(), Some("caf\u{fffd} a@b.c"));
        assert_eq!(file("image/svg+xml", b"<svg/>").as_deref(), Some("<svg/>"));
    }

    #[test]
    fn images_and_the_like_are_not_read() {
        for (media_type, begins) in [
            ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice()),
            ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF"),
            ("application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
            ("audio/wav", b"RIFF\x24\x08\0\0WAVEfmt "),
            ("application/zip", b"PK\x03\x04\x14\0"),
        ] {
            assert_eq!(file(media_type, begins), None, "{media_type}");
        }
        // Text at first, and then not.
        let mut mixed = b"%PDF-1.7\n".repeat(200);
        mixed.extend_from_slice(b"\xff\0");
        assert_eq!(file("application/pdf", &mixed), None);
    }

    #[test]
    fn what_is_no_base64_is_read_as_it_is() {
        for data in ["anna@example.org", "not base64 at all"] {
            let piece = Piece::Base64 { media_type: "image/png", data };
            assert_eq!(texts(piece), [data]);
        }
    }

    #[test]
    fn words_are_found_in_json_that_is_all_ascii() {
        let detectors = with_words(&["Jürgen", "Проект", "蓝鸟"]);
        for value in [
            r#""J\u00fcrgen""#,
            r#"{"a":"\u041f\u0440\u043e\u0435\u043a\u0442 1"}"#,
            r#"["\u84dd\u9e1f"]"#,
            // JSON in a text in JSON.
            r#""{\"a\":\"x\\nJ\\u00fcrgen\"}""#,
        ] {
            let found = detectors.find_in(&[Piece::Field { name: "n", value }]);
            assert!(found.is_some(), "{value}");
        }
    }
}
