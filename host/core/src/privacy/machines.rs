//! Addresses of machines, which count as personal data where they lead to somebody. Off unless
//! switched on: logs and configurations are full of them.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::bytes;

/// The longest address: eight groups of four, or six with a dotted end.
const LONGEST: usize = 45;

/// The address around the digit's word at `start`, unless it is a machine's own or nobody's.
pub(super) fn at(text: &str, start: usize) -> Option<Range<usize>> {
    version4(text, start).or_else(|| version6(text, start))
}

fn version4(text: &str, start: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    /// `255.255.255.255` and a character more, to see that it doesn't go on.
    const LONGEST_4: usize = 16;
    let window = &input[..input.len().min(start + LONGEST_4)];
    let length = bytes::run(window, start, |b| b.is_ascii_digit() || *b == b'.');
    let written = text[start..start + length].trim_end_matches('.');
    let lead = bytes::before(input, start);
    let after = bytes::byte(input, start + written.len());
    if lead == b'.'
        || lead.is_ascii_alphanumeric()
        || after.is_ascii_alphanumeric()
        || after == b'-'
    {
        return None;
    }
    let address: Ipv4Addr = written.parse().ok()?;
    // `Chrome/120.0.0.0`, `version 1.2.3.4`
    let told = text[bytes::head(text, start, 10)..start].to_ascii_lowercase();
    let version = ["version ", "section ", "figure ", "v.", "release "]
        .iter()
        .any(|word| told.ends_with(word))
        || (lead == b'/' && start >= 2 && input[start - 2].is_ascii_alphabetic());
    let nobody = address.is_loopback()
        || address.is_unspecified()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.octets()[0] == 255;
    (!version && !nobody).then(|| start..start + written.len())
}

fn version6(text: &str, start: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let part = |b: &u8| b.is_ascii_hexdigit() || *b == b':' || *b == b'.';
    let group = bytes::run(&input[..input.len().min(start + 5)], start, u8::is_ascii_hexdigit);
    if bytes::byte(input, start + group) != b':' && bytes::before(input, start) != b':' {
        return None;
    }
    let from = start - bytes::run_before(input, start, LONGEST, part);
    let length = bytes::run(&input[..input.len().min(from + 2 * LONGEST)], from, part);
    let written = text[from..from + length].trim_end_matches([':', '.']);
    if written.len() > LONGEST
        || written.bytes().filter(|b| *b == b':').count() < 2
        || !bytes::begins(input, from)
        || bytes::byte(input, from + written.len()).is_ascii_alphanumeric()
    {
        return None;
    }
    let address: Ipv6Addr = written.parse().ok()?;
    let groups = written.split(':').filter(|group| !group.is_empty()).count();
    let nobody =
        address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local();
    (groups >= 3 && !nobody).then(|| from..from + written.len())
}
