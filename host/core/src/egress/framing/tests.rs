use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    event_stream::{PRELUDE, crc32},
    *,
};

type Outcome = (Vec<(String, String)>, Option<FramingError>);

fn decode(framing: Framing, limits: FrameLimits, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(framing, limits);
    let mut frames = Vec::new();
    let mut error = None;
    for piece in pieces {
        if let Err(problem) = decoder.push(piece, &mut frames) {
            error = Some(problem);
            break;
        }
    }
    if error.is_none() {
        error = decoder.finish(&mut frames).err();
    }
    (frames.into_iter().map(|frame| (frame.name, frame.data)).collect(), error)
}

/// Decodes in one piece, in single bytes, and cut at every place; all must agree.
fn everywhere(framing: Framing, bytes: &[u8]) -> Outcome {
    let limits = FrameLimits::default();
    let whole = decode(framing, limits, &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(framing, limits, &single), whole, "in single bytes");
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(decode(framing, limits, &[a, b]), whole, "cut at {cut}");
        assert_eq!(decode(framing, limits, &[a, b"", b]), whole, "cut at {cut}");
    }
    whole
}

fn good(framing: Framing, bytes: &[u8]) -> Vec<(String, String)> {
    let (frames, error) = everywhere(framing, bytes);
    assert_eq!(error, None);
    frames
}

fn data(framing: Framing, bytes: &[u8]) -> Vec<String> {
    let unnamed = good(framing, bytes).into_iter();
    unnamed
        .map(|(name, data)| (name.is_empty(), data))
        .inspect(|it| assert!(it.0))
        .map(|it| it.1)
        .collect()
}

fn truncated(framing: Framing, bytes: &[u8]) -> Vec<(String, String)> {
    let (frames, error) = everywhere(framing, bytes);
    assert!(matches!(error, Some(FramingError::Truncated(_))), "{error:?}");
    frames
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, data)| (name.to_owned(), data.to_owned())).collect()
}

// ------------------------------------------------------------------------------------------ SSE

#[test]
fn events_end_with_a_blank_line_of_any_kind() {
    for end in ["\n", "\r", "\r\n"] {
        let text = "event: a\ndata: 1\n\n: comment\n\ndata: 2\n\n".replace('\n', end);
        assert_eq!(good(Framing::Sse, text.as_bytes()), named(&[("a", "1"), ("", "2")]), "{end:?}");
    }
    assert_eq!(good(Framing::Sse, b"data: 1\r\n\ndata: 2\n\r\n"), named(&[("", "1"), ("", "2")]));
}

#[test]
fn fields_are_read_as_the_standard_says() {
    for (text, frames) in [
        ("data: a\ndata: b\ndata:\ndata: c\n\n", vec![("", "a\nb\n\nc")]),
        ("data:a\n\ndata:  b\n\n", vec![("", "a"), ("", " b")]),
        ("data\n\n", vec![("", "")]),
        ("data: a: b\n\n", vec![("", "a: b")]),
        (": only a comment\n\n\n\n", vec![]),
        ("event: lonely\n\ndata: 1\n\n", vec![("", "1")]),
        ("event: a\nevent: b\ndata: 1\n\n", vec![("b", "1")]),
        ("event\ndata: 1\n\n", vec![("", "1")]),
        ("id: 7\nretry: 10\nunknown: x\ndatax: y\n data: z\ndata: 1\n\n", vec![("", "1")]),
        ("data: \u{1f600}\u{e9}\n\n", vec![("", "\u{1f600}\u{e9}")]),
    ] {
        assert_eq!(good(Framing::Sse, text.as_bytes()), named(&frames), "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    assert_eq!(good(Framing::Sse, b"\xEF\xBB\xBFdata: 1\n\n"), named(&[("", "1")]));
    assert_eq!(good(Framing::Sse, b"data: \xEF\xBB\xBF\n\n"), named(&[("", "\u{feff}")]));
    // A second mark makes the first line another field.
    assert_eq!(good(Framing::Sse, b"\xEF\xBB\xBF\xEF\xBB\xBFdata: 1\n\n"), named(&[]));
    assert_eq!(data(Framing::Json, b"\xEF\xBB\xBF{}"), ["{}"]);
    assert_eq!(data(Framing::Ndjson, b"\xEF\xBB\xBF{}\n"), ["{}"]);
    assert_eq!(data(Framing::JsonArray, b"\xEF\xBB\xBF[{}]"), ["{}"]);
}

#[test]
fn a_last_event_without_a_blank_line_counts_if_it_is_whole() {
    for text in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r", "data: [DONE]\r\n"] {
        assert_eq!(good(Framing::Sse, text.as_bytes()), named(&[("", "[DONE]")]), "{text:?}");
    }
    let text = b"data: {\"a\":1}\n\nevent: end\ndata: {\"b\":[2]}";
    assert_eq!(good(Framing::Sse, text), named(&[("", "{\"a\":1}"), ("end", "{\"b\":[2]}")]));
}

#[test]
fn a_cut_event_is_reported_and_nothing_is_invented() {
    for cut in [
        "data: {\"a\":",
        "data: {\"a\":1",
        "data: [DON",
        "data: tex",
        "data: 12",
        "data: text\n",
        "event: x\n",
        "event: x",
        "data",
        "dat",
        "e",
        "data:",
        "data: [1,2]\ndata: {",
        "data: \"caf\u{e9}",
    ] {
        let text = format!("data: whole\n\n{cut}");
        assert_eq!(truncated(Framing::Sse, text.as_bytes()), named(&[("", "whole")]), "{cut:?}");
    }
    assert_eq!(truncated(Framing::Sse, b"data: caf\xC3"), named(&[]));
    for harmless in ["", ": keep-al", ":", "\n", "id: 4"] {
        let text = format!("data: whole\n\n{harmless}");
        assert_eq!(good(Framing::Sse, text.as_bytes()), named(&[("", "whole")]), "{harmless:?}");
    }
}

// ---------------------------------------------------------------------------------- JSON, NDJSON

#[test]
fn a_json_document_is_one_frame_at_the_end() {
    assert_eq!(data(Framing::Json, b" {\"a\": [1, 2]}\n"), [" {\"a\": [1, 2]}\n"]);
    for cut in ["", " \n", "{\"a\":", "{\"a\":1", "[1,", "\"x", "tru"] {
        assert!(truncated(Framing::Json, cut.as_bytes()).is_empty(), "{cut:?}");
    }
    for garbage in ["<html></html>", "{}{}", "{'a':1}", "\x1f\x08"] {
        let (frames, error) = everywhere(Framing::Json, garbage.as_bytes());
        assert!(frames.is_empty());
        assert!(matches!(error, Some(FramingError::Malformed { .. })), "{garbage:?}: {error:?}");
    }
}

#[test]
fn lines_are_frames_and_blank_ones_are_not() {
    assert_eq!(data(Framing::Ndjson, b"{\"a\":1}\r\n\n \n{\"b\":2}\n"), ["{\"a\":1}", "{\"b\":2}"]);
    assert_eq!(data(Framing::Ndjson, b"{\"a\":1}\n{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
    assert_eq!(truncated(Framing::Ndjson, b"{\"a\":1}\n{\"b\":"), named(&[("", "{\"a\":1}")]));
    assert_eq!(truncated(Framing::Ndjson, b"{\"a\":1}\n\"caf\xC3"), named(&[("", "{\"a\":1}")]));
    assert!(truncated(Framing::Ndjson, b"12").is_empty());
    assert!(data(Framing::Ndjson, b"").is_empty());
}

#[test]
fn array_elements_are_frames() {
    for (text, elements) in [
        ("[]", vec![]),
        (" [ ] \r\n", vec![]),
        ("[{\"a\":1}\n,\r\n{\"b\":[{}]}]", vec!["{\"a\":1}", "{\"b\":[{}]}"]),
        (
            r#"["a\"]","\\",[1,[2]],-1.5e3 ,true,null]"#,
            vec![r#""a\"]""#, r#""\\""#, "[1,[2]]", "-1.5e3", "true", "null"],
        ),
        (r#"[{"a":"}]{[,\"\\"}]"#, vec![r#"{"a":"}]{[,\"\\"}"#]),
    ] {
        assert_eq!(data(Framing::JsonArray, text.as_bytes()), elements, "{text}");
    }
}

#[test]
fn an_element_is_given_out_with_its_last_byte() {
    let mut decoder = Decoder::new(Framing::JsonArray, FrameLimits::default());
    let mut frames = Vec::new();
    decoder.push(b"[{\"a\":1", &mut frames).unwrap();
    assert!(frames.is_empty());
    decoder.push(b"}", &mut frames).unwrap();
    assert_eq!(frames.len(), 1);
}

#[test]
fn what_is_not_an_array_is_refused() {
    for (text, before) in [
        ("{}", 0),
        ("[1 2]", 1),
        ("[1,]", 1),
        ("[,1]", 0),
        ("[1]]", 1),
        ("[1]x", 1),
        ("[abc]", 0),
        ("[{]}]", 0),
        ("[}", 0),
        ("[tru\"e\"]", 0),
        ("<html>", 0),
        ("[{\"a\"}]", 0),
        ("\u{feff}\u{feff}[]", 0),
        ("[1}", 1),
    ] {
        let (frames, error) = everywhere(Framing::JsonArray, text.as_bytes());
        assert_eq!(frames.len(), before, "{text}");
        assert!(matches!(error, Some(FramingError::Malformed { .. })), "{text}: {error:?}");
    }
    for text in ["", "[", "[1", "[1,", "[{\"a\":1}", "[\"a", "[\"a\\"] {
        truncated(Framing::JsonArray, text.as_bytes());
    }
}

// ------------------------------------------------------------------------------ AWS event stream

/// From the test suite that AWS publishes for the format.
const INT32_HEADER: &[u8] = b"\0\0\0\x2d\0\0\0\x10\x41\xc4\x24\xb8\x0aevent-type\x04\0\0\xa0\x0c{'foo':'bar'}\x36\xf4\x80\xa0";
const EMPTY: &[u8] = b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff";

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
        block.push(7);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    raw_message(&block, payload)
}

fn raw_message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((16 + headers.len() + payload.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes
}

#[test]
fn the_checksum_is_the_usual_crc_32() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(crc32(b""), 0);
}

#[test]
fn the_published_messages_are_read() {
    let both = [INT32_HEADER, EMPTY].concat();
    assert_eq!(good(Framing::AwsEventStream, &both), named(&[("", "{'foo':'bar'}"), ("", "")]));
}

#[test]
fn messages_are_named_after_their_event_or_exception() {
    let bytes = [
        message(
            &[
                (":event-type", "chunk"),
                (":content-type", "application/json"),
                (":message-type", "event"),
            ],
            b"{\"bytes\":\"e30=\"}",
        ),
        message(
            &[(":exception-type", "throttlingException"), (":message-type", "exception")],
            b"{\"message\":\"slow down\"}",
        ),
        message(
            &[(":message-type", "error"), (":error-code", "500"), (":error-message", "a \"b\"")],
            b"",
        ),
    ]
    .concat();
    assert_eq!(
        good(Framing::AwsEventStream, &bytes),
        named(&[
            ("chunk", "{\"bytes\":\"e30=\"}"),
            ("exception:throttlingException", "{\"message\":\"slow down\"}"),
            ("exception:500", "{\"message\":\"a \\\"b\\\"\"}"),
        ])
    );
}

#[test]
fn every_flipped_bit_of_a_message_is_noticed() {
    let clean = message(&[(":event-type", "chunk")], b"{\"a\":1}");
    for at in 0..clean.len() * 8 {
        let mut damaged = clean.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        let (frames, error) = decode(Framing::AwsEventStream, FrameLimits::default(), &[&damaged]);
        assert!(frames.is_empty() && error.is_some(), "bit {at}");
    }
}

#[test]
fn a_wrong_length_is_not_waited_for() {
    // Damage makes a message of 45 bytes one of two million; its prelude alone shows it.
    let mut damaged = INT32_HEADER[..PRELUDE].to_vec();
    damaged[1] = 0x1F;
    let mut decoder = Decoder::new(Framing::AwsEventStream, FrameLimits::default());
    let error = decoder.push(&damaged, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FramingError::Malformed { .. }), "{error:?}");
    // A right checksum over lengths that can't be.
    for (total, headers) in [(u32::MAX, 0), (15, 0), (0, 0), (20, 5), (16, u32::MAX)] {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
        let mut decoder = Decoder::new(Framing::AwsEventStream, FrameLimits::default());
        assert!(decoder.push(&bytes, &mut Vec::new()).is_err(), "{total} {headers}");
    }
}

#[test]
fn damaged_headers_and_cut_messages_are_errors() {
    for headers in [
        &b"\x05abc"[..],
        b"\x01a\x0b",
        b"\x01a\x07\0\x05abc",
        b"\x01a",
        b"\x0b:event-type\x07\0\x01\xFF",
    ] {
        let (_, error) = everywhere(Framing::AwsEventStream, &raw_message(headers, b""));
        assert!(matches!(error, Some(FramingError::Malformed { .. })), "{headers:?}: {error:?}");
    }
    let clean = message(&[(":event-type", "chunk")], b"{}");
    let two = [&clean[..], &clean[..clean.len() - 1]].concat();
    assert_eq!(truncated(Framing::AwsEventStream, &two).len(), 1);
}

// ------------------------------------------------------------------------------------------ text

#[test]
fn text_is_cut_only_between_characters() {
    let text = "a\u{e9}\u{20ac}\u{1f600}\r\nb";
    for cut in 0..=text.len() {
        let (a, b) = text.as_bytes().split_at(cut);
        let (frames, error) = decode(Framing::Text, FrameLimits::default(), &[a, b]);
        assert_eq!(error, None);
        assert_eq!(frames.iter().map(|frame| frame.1.as_str()).collect::<String>(), text);
        assert!(frames.iter().all(|frame| !frame.1.is_empty()));
    }
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    let (frames, _) = decode(Framing::Text, FrameLimits::default(), &single);
    assert_eq!(frames.len(), text.chars().count());
}

#[test]
fn text_that_ends_inside_a_character_is_cut_off() {
    let (frames, error) = decode(Framing::Text, FrameLimits::default(), &[b"caf\xC3"]);
    assert_eq!(frames, named(&[("", "caf")]));
    assert_eq!(error, Some(FramingError::Truncated("inside a character")));
}

// ------------------------------------------------------------------------------------------- all

const ALL: [Framing; 6] = [
    Framing::Json,
    Framing::Sse,
    Framing::Ndjson,
    Framing::JsonArray,
    Framing::AwsEventStream,
    Framing::Text,
];

#[test]
fn bytes_that_are_not_utf_8_are_an_error_and_never_replaced() {
    let message = message(&[], b"\"\xFF\"");
    for (framing, bytes) in [
        (Framing::Json, &b"\"\xFF\""[..]),
        (Framing::Sse, b"data: \xFF\n\n"),
        (Framing::Sse, b"data: \xC3\n\n"),
        (Framing::Sse, b"event: \xFF\ndata: 1\n\n"),
        (Framing::Ndjson, b"\"\xFF\"\n"),
        (Framing::JsonArray, b"[\"\xFF\"]"),
        (Framing::AwsEventStream, &message),
        (Framing::Text, b"\xC3\x28"),
        (Framing::Text, b"\xFF"),
        (Framing::Text, b"\xED\xA0\x80"),
    ] {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [&single[..], &[bytes]] {
            let (frames, error) = decode(framing, FrameLimits::default(), pieces);
            assert!(matches!(error, Some(FramingError::InvalidUtf8(_))), "{framing:?} {error:?}");
            assert!(frames.is_empty(), "{framing:?} {frames:?}");
        }
    }
}

#[test]
fn a_frame_larger_than_the_limit_is_an_error_before_it_is_whole() {
    let limits = FrameLimits { frame: 100 };
    let long = "x".repeat(50);
    let endless: [(Framing, String, String); 6] = [
        (Framing::Json, String::new(), long.clone()),
        (Framing::Sse, "data: ".into(), long.clone()),
        (Framing::Sse, String::new(), format!("data: {long}\n")),
        (Framing::Sse, ": ".into(), long.clone()),
        (Framing::Ndjson, "\"".into(), long.clone()),
        (Framing::JsonArray, "[\"".into(), long.clone()),
    ];
    for (framing, start, more) in endless {
        let mut decoder = Decoder::new(framing, limits);
        let mut frames = Vec::new();
        decoder.push(start.as_bytes(), &mut frames).unwrap();
        let error = (0..5).find_map(|_| decoder.push(more.as_bytes(), &mut frames).err());
        assert_eq!(error, Some(FramingError::TooLarge(100)), "{framing:?}");
        assert!(frames.is_empty());
    }
    let long = "x".repeat(101);
    for (framing, bytes) in [
        (Framing::Sse, format!("data: {long}\n\n")),
        (Framing::Ndjson, format!("\"{long}\"\n")),
        (Framing::JsonArray, format!("[\"{long}\"]")),
    ] {
        let (frames, error) = decode(framing, limits, &[bytes.as_bytes()]);
        assert_eq!((frames.len(), error), (0, Some(FramingError::TooLarge(100))), "{framing:?}");
    }
}

#[test]
fn a_line_is_too_large_however_it_comes() {
    let limits = FrameLimits { frame: 100 };
    let space = " ".repeat(200);
    for (framing, line) in [
        (Framing::Ndjson, format!("1{space}\n")),
        (Framing::Sse, format!(":{space}\n\n")),
        (Framing::Sse, format!("retry:{space}\n\n")),
    ] {
        let whole = decode(framing, limits, &[line.as_bytes()]);
        assert_eq!(whole, (Vec::new(), Some(FramingError::TooLarge(100))), "{framing:?}");
        let pieces: Vec<&[u8]> = line.as_bytes().chunks(1).collect();
        assert_eq!(decode(framing, limits, &pieces), whole, "{framing:?}");
    }
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new(Framing::JsonArray, FrameLimits::default());
    let mut frames = Vec::new();
    let error = decoder.push(b"[1, 2 x", &mut frames).unwrap_err();
    assert_eq!(frames.len(), 2);
    assert_eq!(decoder.push(b"[3]", &mut frames), Err(error.clone()));
    assert_eq!(decoder.finish(&mut frames), Err(error));
    assert_eq!(frames.len(), 2);
}

#[test]
fn a_large_frame_in_single_bytes_takes_linear_time() {
    let size = 2 << 20;
    let text = "x".repeat(size);
    let message = message(&[], text.as_bytes());
    for (framing, bytes) in [
        (Framing::Json, format!("\"{text}\"").into_bytes()),
        (Framing::Sse, format!("data: {text}\n\n").into_bytes()),
        (Framing::Ndjson, format!("\"{text}\"\n").into_bytes()),
        (Framing::JsonArray, format!("[\"{text}\"]").into_bytes()),
        (Framing::AwsEventStream, message),
    ] {
        let started = Instant::now();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let (frames, error) = decode(framing, FrameLimits::default(), &single);
        assert_eq!((frames.len(), error), (1, None), "{framing:?}");
        // Quadratic time would be hours.
        assert!(started.elapsed() < Duration::from_secs(20), "{framing:?}");
    }
}

#[test]
fn failures_of_framing_are_the_vendors_and_carry_a_code() {
    let failure = Failure::from(FramingError::Truncated("inside an event"));
    assert_eq!(failure.kind, crate::FailureKind::MalformedAnswer);
    assert_eq!(failure.fault, crate::Fault::Vendor);
    assert_eq!(failure.code.as_deref(), Some("truncated"));
    assert!(failure.message.contains("inside an event"));
}

/// Bytes that are likely to mean something to one of the framings.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 28] = [
        b"data: ",
        b"data",
        b"event: a",
        b"\n",
        b"\r",
        b"\r\n",
        b":",
        b"{\"a\":1}",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b"\"",
        b"\\",
        b"1",
        b"true",
        b"\xEF\xBB\xBF",
        b"\xEF",
        b"\xC3\xA9",
        b"\xF0\x9F\x98\x80",
        b"\xFF",
        b" ",
        b"[DONE]",
        EMPTY,
        INT32_HEADER,
        b"\0\0\0\x10",
        b"text",
    ];
    let piece = proptest::sample::select(&PIECES[..]);
    prop_oneof![
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        proptest::collection::vec(any::<u8>(), 0..120),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_the_frames(
        bytes in hostile(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        frame in prop_oneof![Just(MAX_FRAME), 16usize..80],
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        let limits = FrameLimits { frame };
        for framing in ALL {
            let (whole, error) = decode(framing, limits, &[&bytes]);
            let (cut, cut_error) = decode(framing, limits, &pieces);
            if matches!(framing, Framing::Text) {
                // Text is cut as it arrives; only its sum is fixed, and less of it comes before an error.
                let sum = |frames: Outcome| frames.0.into_iter().map(|it| it.1).collect::<String>();
                if error.is_none() {
                    prop_assert_eq!(sum((whole, None)), sum((cut, None)));
                } else {
                    prop_assert!(cut_error.is_some());
                }
                continue;
            }
            prop_assert_eq!(whole, cut, "{:?}", framing);
            prop_assert_eq!(error, cut_error, "{:?}", framing);
        }
    }
}
