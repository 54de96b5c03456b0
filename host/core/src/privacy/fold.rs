//! A text as the detectors read it: what looks like an ASCII character is one.
//!
//! Numbers and addresses are written with non-breaking spaces, typographic hyphens, full-width
//! digits, digits of other scripts and invisible characters between. All of them are replaced
//! before anything is looked for, so that the detectors know one spelling. So are the escapes of JSON:
//! what tools give back is mostly JSON within a text, where a number after `\n` would be a word that
//! begins with an n. ASCII texts without a backslash, the most by far, aren't copied; others are
//! copied only from the first such character on. One pass.

use std::{borrow::Cow, ops::Range};

use super::bytes;

/// A text with its look-alikes replaced, and the way back to the original's places.
pub(super) struct Folded<'t> {
    original: &'t str,
    text: Cow<'t, str>,
    /// After each replaced character: its end in the folded text, and in the original.
    shifts: Vec<(usize, usize)>,
}

impl<'t> Folded<'t> {
    pub fn new(original: &'t str) -> Self {
        let mut folded = String::new();
        let mut shifts = Vec::new();
        let mut copied = 0;
        let mut at = skip_plain(original.as_bytes(), 0);
        while let Some(c) = original[at..].chars().next() {
            let (plain, length) = match c {
                '\\' => escape(&original[at..]),
                _ => (look_alike(c), c.len_utf8()),
            };
            let end = at + length;
            if let Some(plain) = plain {
                if shifts.is_empty() {
                    folded.reserve(original.len());
                }
                folded.push_str(&original[copied..at]);
                if let Plain::Is(plain) = plain {
                    folded.push(plain);
                }
                shifts.push((folded.len(), end));
                copied = end;
            }
            at = skip_plain(original.as_bytes(), end);
        }
        if shifts.is_empty() {
            return Self { original, text: Cow::Borrowed(original), shifts };
        }
        folded.push_str(&original[copied..]);
        Self { original, text: Cow::Owned(folded), shifts }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it differs from the original.
    pub fn changed(&self) -> bool {
        !self.shifts.is_empty()
    }

    /// The original's range of a range of the folded text: whole characters, as long as the range
    /// is of whole characters.
    pub fn range(&self, folded: Range<usize>) -> Range<usize> {
        if self.shifts.is_empty() || folded.is_empty() {
            return folded;
        }
        let start = self.place(folded.start);
        // One that was replaced ends where it says.
        let replaced = self.shifts.partition_point(|(end, _)| *end < folded.end);
        if let Some((end, original)) = self.shifts.get(replaced)
            && *end == folded.end
        {
            return start..*original;
        }
        let last = self.place(folded.end - 1);
        // `last` may be inside a character that wasn't replaced; the next boundary is its end.
        let mut end = last + 1;
        while !self.original.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }

    /// Where the byte at a place of the folded text came from.
    fn place(&self, folded: usize) -> usize {
        let passed = self.shifts.partition_point(|(end, _)| *end <= folded);
        let (from, to) = passed.checked_sub(1).map_or((0, 0), |last| self.shifts[last]);
        to + (folded - from)
    }
}

/// The place of the next character that may have to be replaced.
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const BLOCK: usize = 32;
    let plain = |byte: &u8| byte.is_ascii() & (*byte != b'\\');
    // Without a branch for each byte, so that it is done for many at once.
    let all = |block: &[u8]| block.iter().fold(true, |all, byte| all & plain(byte));
    while bytes.get(at..at + BLOCK).is_some_and(all) {
        at += BLOCK;
    }
    while bytes.get(at).is_some_and(plain) {
        at += 1;
    }
    at
}

/// What an escape of JSON stands for, and its bytes. Other backslashes stand for themselves. Several
/// before the same character are one escape: JSON in a text in JSON is escaped twice.
fn escape(text: &str) -> (Option<Plain>, usize) {
    let bytes = text.as_bytes();
    let slashes = bytes::run(bytes, 0, |byte| *byte == b'\\');
    let plain = match bytes.get(slashes) {
        Some(b'n' | b'r') => '\n',
        Some(b't') => '\t',
        Some(byte @ (b'"' | b'/')) => char::from(*byte),
        Some(b'u') => match unicode(&text[slashes + 1..]) {
            Some(plain) => return (Some(plain), slashes + 1 + CODE),
            None => return slashes_alone(slashes),
        },
        _ => return slashes_alone(slashes),
    };
    (Some(Plain::Is(plain)), slashes + 1)
}

/// Backslashes that begin no escape but their own.
fn slashes_alone(slashes: usize) -> (Option<Plain>, usize) {
    ((slashes > 1).then_some(Plain::Is('\\')), slashes)
}

/// Digits of an escape like `\u0040`.
const CODE: usize = 4;

fn unicode(text: &str) -> Option<Plain> {
    let digits = text.get(..CODE).filter(|digits| !digits.starts_with('+'))?;
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some(look_alike(c).unwrap_or(Plain::Is(c)))
}

enum Plain {
    Is(char),
    Nothing,
}

/// What an unusual character stands for, if it stands for an ASCII one or for nothing.
fn look_alike(c: char) -> Option<Plain> {
    let digit = |zero: u32| Some(Plain::Is(char::from(b'0' + (u32::from(c) - zero) as u8)));
    match c {
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Some(Plain::Is(' '))
        }
        '\u{2010}'..='\u{2013}' | '\u{2212}' => Some(Plain::Is('-')),
        '\u{ff01}'..='\u{ff5e}' => {
            Some(Plain::Is(char::from((u32::from(c) - 0xff01) as u8 + b'!')))
        }
        // Soft hyphen, zero-width characters, direction marks, byte order mark.
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => Some(Plain::Nothing),
        '\u{660}'..='\u{669}' => digit(0x660),
        '\u{6f0}'..='\u{6f9}' => digit(0x6f0),
        '\u{966}'..='\u{96f}' => digit(0x966),
        '\u{9e6}'..='\u{9ef}' => digit(0x9e6),
        '\u{e50}'..='\u{e59}' => digit(0xe50),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_become_plain_and_places_lead_back() {
        let text = "é\u{a0}+\u{ff11}\u{ff12}\u{200b}3\u{2011}٤ ü";
        let folded = Folded::new(text);
        assert_eq!(folded.text(), "é +123-4 ü");
        for (part, original) in [
            ("+", "+"),
            ("12", "\u{ff11}\u{ff12}"),
            ("3-4", "3\u{2011}٤"),
            ("ü", "ü"),
            ("é ", "é\u{a0}"),
        ] {
            let at = folded.text().find(part).unwrap();
            assert_eq!(&text[folded.range(at..at + part.len())], original, "{part}");
        }
    }

    #[test]
    fn escapes_of_json_are_what_they_stand_for() {
        let text = r#"{"to":"a\u0040b.org","n":"\n4111\t\u00a0\\ \/ \u0663\ufeffx"}"#;
        let folded = Folded::new(text);
        assert_eq!(folded.text(), "{\"to\":\"a@b.org\",\"n\":\"\n4111\t \\ / 3x\"}");
        for (part, original) in
            [("a@", r"a\u0040"), ("@b", r"\u0040b"), ("4111", "4111"), ("3", r"\u0663")]
        {
            let at = folded.text().find(part).unwrap();
            assert_eq!(&text[folded.range(at..at + part.len())], original, "{part}");
        }
        for (text, once) in [(r"a\\nb", "a\nb"), (r#"\\\"x"#, "\"x"), (r"\\\\u0041", "A")] {
            assert_eq!(Folded::new(text).text(), once, "escaped twice");
        }
        assert_eq!(Folded::new(r"J\u00fcrgen \u84dd\u9e1f").text(), "Jürgen 蓝鸟");
        for text in [r"C:\Windows", r"\user", r"\u12", r"\u+123", r"\", r"\ü", r"\ud83d"] {
            assert_eq!(Folded::new(text).text(), text);
        }
    }

    #[test]
    fn other_texts_are_not_copied() {
        for text in ["", "plain", "déjà vu, “quoted” — 你好 привет"] {
            let folded = Folded::new(text);
            assert!(!folded.changed());
            assert_eq!(folded.text(), text);
        }
    }
}
