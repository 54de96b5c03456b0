//! Bytes to frames.
//!
//! An input is what a vendor sends. The limit of a frame is small for some inputs, so that it is
//! met. For the event stream, whose checksums no changed byte would pass, the input is also read
//! with its checksums made right.
//!
//! Promised: frames and the error don't depend on how the bytes came; a frame never exceeds its
//! limit and all frames together never the input; after an error there are no more frames; elements
//! of an array and documents are JSON.

use keyward::{
    contract::{Frame, Framing},
    egress::{Decoder, FrameLimits, FramingError},
};

use crate::input::{hash, pieces};

/// What came of an answer.
struct Cut {
    frames: Vec<(String, String)>,
    error: Option<FramingError>,
}

fn cut<'a>(framing: Framing, limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Cut {
    let mut decoder = Decoder::new(framing, FrameLimits { frame: limit });
    let mut frames = Vec::new();
    let pushed = pieces.into_iter().try_for_each(|piece| decoder.push(piece, &mut frames));
    let error = pushed.and_then(|()| decoder.finish(&mut frames)).err();
    if let Some(error) = &error {
        let before = frames.len();
        assert_eq!(decoder.push(b"data: 1\n\n[1]\n", &mut frames).as_ref(), Err(error));
        assert_eq!(frames.len(), before, "frames after an error");
    }
    let frames = frames.into_iter().map(|Frame { name, data }| (name, data)).collect();
    Cut { frames, error }
}

fn check(framing: Framing, input: &[u8]) {
    let limit = match hash(input) % 4 {
        0 => 16,
        1 => 200,
        _ => 1 << 20,
    };
    let whole = cut(framing, limit, [input]);
    let mut split = cut(framing, limit, pieces(input, input));
    let mut expected = whole.frames.clone();
    if framing == Framing::Text {
        // Text has no frames of its own: pieces come as the bytes did.
        expected = vec![(String::new(), expected.into_iter().map(|(_, data)| data).collect())];
        let joined = split.frames.into_iter().map(|(_, data)| data).collect::<String>();
        if whole.error.is_some() {
            // What comes before a broken character depends on where that was seen.
            assert!(joined.starts_with(&expected[0].1));
            expected[0].1.clone_from(&joined);
        }
        split.frames = vec![(String::new(), joined)];
    }
    assert_eq!(split.frames, expected, "frames differ when the bytes come in pieces");
    assert_eq!(split.error, whole.error, "the error differs when the bytes come in pieces");
    let size = |(name, data): &(String, String)| name.len() + data.len();
    if framing != Framing::Text {
        assert!(whole.frames.iter().all(|frame| size(frame) <= limit), "a frame above its limit");
    }
    assert!(whole.frames.iter().map(size).sum::<usize>() <= input.len() * 2, "frames from nothing");
    if matches!(framing, Framing::Json | Framing::JsonArray) {
        for (_, data) in &whole.frames {
            serde_json::from_str::<serde::de::IgnoredAny>(data).expect("a frame that isn't JSON");
        }
    }
}

pub fn sse(input: &[u8]) {
    check(Framing::Sse, input);
}

pub fn ndjson(input: &[u8]) {
    check(Framing::Ndjson, input);
}

pub fn json(input: &[u8]) {
    check(Framing::Json, input);
}

/// The elements of an array that is read whole are those that the framing gives.
pub fn json_array(input: &[u8]) {
    check(Framing::JsonArray, input);
    let Ok(elements) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(input) else {
        return;
    };
    let whole = cut(Framing::JsonArray, 1 << 20, [input]);
    assert_eq!(whole.error, None, "an array that is one was refused");
    let frames: Vec<&str> = whole.frames.iter().map(|(_, data)| data.trim()).collect();
    let elements: Vec<&str> = elements.iter().map(|element| element.get()).collect();
    assert_eq!(frames, elements);
}

pub fn text(input: &[u8]) {
    check(Framing::Text, input);
}

pub fn aws_event_stream(input: &[u8]) {
    check(Framing::AwsEventStream, input);
    check(Framing::AwsEventStream, &with_checksums(input));
}

/// The messages of an event stream with lengths that fit and checksums that are right.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while bytes.len() - at >= 16 {
        let message = &mut bytes[at..];
        let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
        let length = if length <= message.len() { length.max(16) } else { message.len() };
        message[..4].copy_from_slice(&(length as u32).to_be_bytes());
        let prelude = crc32(&message[..8]);
        message[8..12].copy_from_slice(&prelude.to_be_bytes());
        let whole = crc32(&message[..length - 4]);
        message[length - 4..length].copy_from_slice(&whole.to_be_bytes());
        at += length;
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}
