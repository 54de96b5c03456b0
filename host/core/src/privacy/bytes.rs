//! The small steps all detectors are made of: where words begin and end, where the next digit is.

use std::ops::Range;

/// The first digit at or after `from`. Reads blocks, so that prose costs next to nothing.
pub(super) fn next_digit(text: &[u8], from: usize) -> Option<usize> {
    const BLOCK: usize = 32;
    let mut at = from;
    while let Some(block) = text.get(at..at + BLOCK) {
        // Without a way out in the middle: that is what a compiler makes vectors of.
        if block.iter().fold(false, |any, b| any | b.is_ascii_digit()) {
            break;
        }
        at += BLOCK;
    }
    let rest = text.get(at..)?;
    rest.iter().position(u8::is_ascii_digit).map(|found| at + found)
}

/// The run of ASCII letters and digits around `at`, not before `floor`.
pub(super) fn word_around(text: &[u8], at: usize, floor: usize) -> Range<usize> {
    let before = text[floor..at].iter().rev().take_while(|b| b.is_ascii_alphanumeric()).count();
    at - before..at + run(text, at, u8::is_ascii_alphanumeric)
}

/// How many bytes from `at` on are of a kind.
pub(super) fn run(text: &[u8], at: usize, kind: impl Fn(&u8) -> bool) -> usize {
    text.get(at..).map_or(0, |rest| rest.iter().take_while(|b| kind(b)).count())
}

/// How many bytes before `at` are of a kind, `most` at most.
pub(super) fn run_before(text: &[u8], at: usize, most: usize, kind: impl Fn(&u8) -> bool) -> usize {
    text[..at].iter().rev().take(most).take_while(|b| kind(b)).count()
}

pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

/// The byte before `at`; 0 at the beginning.
pub(super) fn before(text: &[u8], at: usize) -> u8 {
    at.checked_sub(1).map_or(0, |before| text[before])
}

/// Whether something can begin at `at`: no letter or digit stands before it, unless it is that of
/// an escape as in `\n`, which JSON within JSON is full of.
pub(super) fn begins(text: &[u8], at: usize) -> bool {
    !before(text, at).is_ascii_alphanumeric() || after_escape(text, at)
}

pub(super) fn after_escape(text: &[u8], at: usize) -> bool {
    at >= 2 && text[at - 2] == b'\\' && matches!(text[at - 1], b'n' | b'r' | b't')
}

/// Whether the name at `range` stands for itself: not within a longer word, though `userPhone`,
/// `phone_number` and `phoneNumber` are made of several.
pub(super) fn is_name(text: &[u8], range: &Range<usize>) -> bool {
    let (first, last) = (byte(text, range.start), before(text, range.end));
    let (left, right) = (before(text, range.start), byte(text, range.end));
    let open = |b: u8| !b.is_ascii_alphabetic();
    let starts = open(left)
        || (left.is_ascii_lowercase() && first.is_ascii_uppercase())
        || after_escape(text, range.start);
    let ends = open(right) || (last.is_ascii_lowercase() && right.is_ascii_uppercase());
    starts && ends
}

/// At most `most` bytes before `at`, cut at a character.
pub(super) fn head(text: &str, at: usize, most: usize) -> usize {
    text.ceil_char_boundary(at.saturating_sub(most))
}

/// At most `most` bytes after `at`, cut at a character.
pub(super) fn tail(text: &str, at: usize, most: usize) -> usize {
    text.floor_char_boundary((at + most).min(text.len()))
}
