//! As much of HTTP/2 as it takes to be asked one thing at a time and to answer wrongly (RFC 9113).
//!
//! Headers are left compressed: what a test wants to know of a request is in its body, and what it
//! wants to say of an answer has a place in HPACK's static table.

use std::{collections::BTreeMap, io, sync::Mutex, time::Instant};

use tokio::io::AsyncWriteExt;

use super::{Outcome, Recorded, Wire, take};

/// The only header that a recorded request of HTTP/2 has: the number of its stream.
pub const STREAM_ID: &str = "stream-id";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;

/// One frame, whatever its payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a streamed answer that says 200.
pub fn response_head(stream: u32) -> Vec<u8> {
    let content_type = b"text/event-stream";
    // `:status: 200`, then a literal value for the name number 31.
    let mut block = vec![0x88, 0x5f, content_type.len() as u8];
    block.extend_from_slice(content_type);
    frame(HEADERS, 0x4, stream, &block)
}

/// A piece of an answer.
pub fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

/// The bodies of requests that aren't complete, by stream.
#[derive(Default)]
pub(super) struct Unfinished(BTreeMap<u32, Vec<u8>>);

/// Reads the preface and sends settings of no content, and the confirmation of the other side's.
pub(super) async fn greet<W: Wire>(stream: &mut W, unread: &mut Vec<u8>) -> io::Result<()> {
    take(stream, unread, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()).await?;
    let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat();
    stream.write_all(&settings).await?;
    stream.flush().await
}

/// The next request, to the end of its body. Everything else on the connection is passed over.
pub(super) async fn read_request<W: Wire>(
    stream: &mut W,
    unread: &mut Vec<u8>,
    unfinished: &mut Unfinished,
) -> io::Result<Option<Recorded>> {
    loop {
        let head = take(stream, unread, 9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = take(stream, unread, length).await?;
        if kind == DATA {
            unfinished.0.entry(id).or_default().extend_from_slice(&payload);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok(Some(Recorded {
                method: String::new(),
                target: String::new(),
                headers: vec![(STREAM_ID.to_owned(), id.to_string())],
                body: unfinished.0.remove(&id).unwrap_or_default(),
                at: Instant::now(),
                outcome: Mutex::new(Outcome::Answering),
            }));
        }
    }
}
