//! Changed inputs for the short form: what libFuzzer does, without its eyes.
//!
//! The same seed gives the same inputs, so that a failure can be repeated.

use crate::input::Dice;

/// What hostile inputs are made of.
const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"18446744073709551616",
    b"4294967296",
    b"\xEF\xBB\xBF",
    b"\xff",
    b"\xE2\x80\xA8",
    b"\xF0\x9F\xA6\x80",
    b"{\"",
    b"\":",
    b",",
    b"[",
    b"]",
    b"{",
    b"}",
    b"data: ",
    b"event: ",
    b"[DONE]",
    b"====\n",
    b"\"error\":",
    b"\"index\":",
    b"200\n",
    b"500\n",
];

/// One to four changes of `input`, with pieces of `other`.
pub fn mutate(input: &[u8], other: &[u8], max_len: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let longest = if dice.below(4) == 0 { 64 } else { 4 };
        let length = 1 + dice.below(longest);
        let end = (at + length).min(bytes.len());
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.roll() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            5 if !other.is_empty() => {
                let from = dice.below(other.len());
                let piece = &other[from..(from + length).min(other.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
            _ => bytes.truncate(bytes.len() - bytes.len() / 8 - dice.below(2).min(bytes.len() / 8)),
        }
    }
    bytes.truncate(max_len);
    bytes
}
