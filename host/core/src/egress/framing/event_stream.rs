//! The AWS event stream, `application/vnd.amazon.eventstream`: binary messages with checksums.
//!
//! A message is: its length and its headers' length (both 32 bit, big-endian), the CRC of those
//! eight bytes, headers, payload, the CRC of all before. The first checksum is verified before the
//! length is believed, so that damage can't make the host wait for gigabytes.

use super::{Frame, FramingError, append, reuse, utf8};

/// Both lengths and their checksum.
pub(super) const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

pub(super) struct EventStream {
    /// The part of a message that has come, if it didn't come whole.
    message: Vec<u8>,
    /// Bytes of messages given out before, for error messages.
    offset: u64,
    max: usize,
}

/// The headers a frame is named after. Others are skipped.
#[derive(Default)]
struct Headers<'a> {
    message_type: &'a str,
    event_type: &'a str,
    exception_type: &'a str,
    error_code: &'a str,
    error_message: &'a str,
}

impl EventStream {
    pub(super) fn new(max: usize) -> Self {
        Self { message: Vec::new(), offset: 0, max }
    }

    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<Frame>,
    ) -> Result<(), FramingError> {
        loop {
            if self.message.is_empty() {
                let Some(length) = self.message_length(bytes)? else { break };
                let Some((message, rest)) = bytes.split_at_checked(length) else { break };
                self.emit(message, out)?;
                bytes = rest;
                continue;
            }
            // Take no more than this message: what follows may be given out without a copy.
            let wanted = self.message_length(&self.message)?.unwrap_or(PRELUDE);
            let missing = wanted - self.message.len();
            let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
            append(&mut self.message, piece, self.max)?;
            bytes = rest;
            if piece.len() < missing {
                return Ok(());
            }
            if self.message_length(&self.message)? == Some(self.message.len()) {
                let mut message = std::mem::take(&mut self.message);
                self.emit(&message, out)?;
                reuse(&mut message);
                self.message = message;
            }
        }
        append(&mut self.message, bytes, self.max)
    }

    pub(super) fn finish(&self) -> Result<(), FramingError> {
        if self.message.is_empty() {
            Ok(())
        } else {
            Err(FramingError::Truncated("inside a message of its event stream"))
        }
    }

    /// The length of the message that begins with `bytes`, once its prelude is there and holds.
    fn message_length(&self, bytes: &[u8]) -> Result<Option<usize>, FramingError> {
        if bytes.len() < PRELUDE {
            return Ok(None);
        }
        if crc32(&bytes[..8]) != u32_at(bytes, 8) {
            return Err(self.malformed("the checksum of the message's prelude is wrong"));
        }
        let total = u32_at(bytes, 0) as usize;
        let headers = u32_at(bytes, 4) as usize;
        if total > self.max {
            return Err(FramingError::TooLarge(self.max));
        }
        if total < PRELUDE + CHECKSUM || headers > total - PRELUDE - CHECKSUM {
            return Err(self.malformed("the message's lengths don't fit each other"));
        }
        Ok(Some(total))
    }

    fn emit(&mut self, message: &[u8], out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let body = message.len() - CHECKSUM;
        if crc32(&message[..body]) != u32_at(message, body) {
            return Err(self.malformed("the message's checksum is wrong"));
        }
        let (headers, payload) = message[PRELUDE..body].split_at(u32_at(message, 4) as usize);
        let headers = parse_headers(headers)
            .ok_or_else(|| self.malformed("the message's headers are damaged"))?;
        let payload = utf8(payload, "a message's payload")?;
        let (name, data) = match headers.message_type {
            "exception" => (format!("exception:{}", headers.exception_type), payload.to_owned()),
            // An error without a payload: its text is in a header.
            "error" => (
                format!("exception:{}", headers.error_code),
                if payload.is_empty() {
                    serde_json::json!({ "message": headers.error_message }).to_string()
                } else {
                    payload.to_owned()
                },
            ),
            _ => (headers.event_type.to_owned(), payload.to_owned()),
        };
        out.push(Frame { name, data });
        self.offset += message.len() as u64;
        Ok(())
    }

    fn malformed(&self, problem: &'static str) -> FramingError {
        FramingError::Malformed { at: self.offset, problem }
    }
}

fn parse_headers(mut bytes: &[u8]) -> Option<Headers<'_>> {
    let mut headers = Headers::default();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 1)?[0] as usize;
        let name = take(&mut bytes, length)?;
        let kind = take(&mut bytes, 1)?[0];
        // Fixed sizes: booleans, integers of 1, 2, 4 and 8 bytes, a timestamp, a UUID.
        let size = match kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | 7 => {
                let length = take(&mut bytes, 2)?;
                u16::from_be_bytes([length[0], length[1]]) as usize
            }
            9 => 16,
            _ => return None,
        };
        let value = take(&mut bytes, size)?;
        const STRING: u8 = 7;
        if kind != STRING {
            continue;
        }
        let value = str::from_utf8(value).ok()?;
        match name {
            b":message-type" => headers.message_type = value,
            b":event-type" => headers.event_type = value,
            b":exception-type" => headers.exception_type = value,
            b":error-code" => headers.error_code = value,
            b":error-message" => headers.error_message = value,
            _ => {}
        }
    }
    Some(headers)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// # Panics
/// If `bytes` has fewer than four bytes from `at` on.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// CRC-32 as in gzip (polynomial 0xEDB88320, reflected), four bytes a step.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        crc ^= u32::from_le_bytes(*word);
        crc = TABLES[3][(crc & 0xFF) as usize]
            ^ TABLES[2][(crc >> 8 & 0xFF) as usize]
            ^ TABLES[1][(crc >> 16 & 0xFF) as usize]
            ^ TABLES[0][(crc >> 24) as usize];
    }
    for &byte in tail {
        crc = crc >> 8 ^ TABLES[0][((crc ^ u32::from(byte)) & 0xFF) as usize];
    }
    !crc
}

/// `TABLES[n][b]`: what byte `b` leaves behind after `n` further zero bytes.
static TABLES: [[u32; 256]; 4] = crc_tables();

const fn crc_tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}
