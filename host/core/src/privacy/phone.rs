//! Telephone numbers.
//!
//! In the international form (ITU-T E.164: `+`, a country's code, up to 15 digits) a number is
//! found anywhere. National forms are found where the way of writing is a telephone's only, as
//! `(415) 555-0137`, `01 99 00 27 41` or `090-5550-1187`; otherwise a word for a telephone must
//! stand before the number.

use std::ops::Range;

use super::{Detector, bytes, context};

const MOST_DIGITS: usize = 15;
const MOST_GROUPS: usize = 9;

/// Digits and what stands between them.
struct Dialled {
    digits: [u8; MOST_DIGITS],
    /// Ends of groups: in the text, and in digits.
    ends: [(usize, usize); MOST_GROUPS],
    /// What stands between a group and the next; 0 for more than one character.
    separators: [u8; MOST_GROUPS],
    groups: usize,
}

impl Dialled {
    /// Reads from a digit on. Between groups stand one separator, or a parenthesis with a space.
    fn read(text: &[u8], start: usize) -> Self {
        let mut dialled = Self {
            digits: [0; MOST_DIGITS],
            ends: [(0, 0); MOST_GROUPS],
            separators: [0; MOST_GROUPS],
            groups: 0,
        };
        let (mut at, mut count) = (start, 0);
        let mut was_alone = false;
        while dialled.groups < MOST_GROUPS {
            let length = bytes::run(text, at, u8::is_ascii_digit);
            if length == 0 || count + length > MOST_DIGITS {
                break;
            }
            if bytes::byte(text, at + length).is_ascii_alphanumeric() {
                break;
            }
            dialled.digits[count..count + length].copy_from_slice(&text[at..at + length]);
            count += length;
            at += length;
            dialled.ends[dialled.groups] = (at, count);
            let between =
                bytes::run(text, at, |b| matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')'));
            dialled.separators[dialled.groups] = if between == 1 { text[at] } else { 0 };
            dialled.groups += 1;
            // Single digits in a row are a list, but in `+33 (0)6 99 …`.
            let alone = length == 1 && bytes::byte(text, at) != b')';
            if alone && was_alone {
                break;
            }
            was_alone = alone;
            let parenthesis = text[at..at + between].iter().any(|b| matches!(b, b'(' | b')'));
            if between == 0 || between > if parenthesis { 3 } else { 1 } {
                break;
            }
            at += between;
        }
        dialled
    }

    fn lengths(&self, groups: usize) -> impl Iterator<Item = usize> {
        let mut before = 0;
        self.ends[..groups].iter().map(move |(_, count)| {
            let length = count - before;
            before = *count;
            length
        })
    }

    fn is_grouped(&self, lengths: &[usize]) -> bool {
        self.groups >= lengths.len() && self.lengths(lengths.len()).eq(lengths.iter().copied())
    }

    /// Whether the first `groups` are separated by this alone, and no more follow.
    fn is_separated(&self, groups: usize, separator: u8) -> bool {
        self.groups == groups
            && self.separators[..groups - 1].iter().all(|found| *found == separator)
    }

    fn total(&self) -> usize {
        self.groups.checked_sub(1).map_or(0, |last| self.ends[last].1)
    }

    fn end(&self) -> usize {
        self.groups.checked_sub(1).map_or(0, |last| self.ends[last].0)
    }

    /// The longest beginning whose digits are as wanted: its end in the text.
    fn longest(&self, fits: impl Fn(&[u8], usize) -> bool) -> Option<usize> {
        (1..=self.groups)
            .rev()
            .map(|groups| (groups, self.ends[groups - 1]))
            .find(|(groups, (_, count))| fits(&self.digits[..*count], *groups))
            .map(|(_, (end, _))| end)
    }
}

/// The number whose first digit stands at `start`, with its `+` or parenthesis.
pub(super) fn at(text: &str, start: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let dialled = Dialled::read(input, start);
    if dialled.total() < 7 {
        return None;
    }
    let lead = bytes::before(input, start);
    if lead == b'+' {
        let plus = start - 1;
        let free =
            !bytes::before(input, plus).is_ascii_alphanumeric() || bytes::after_escape(input, plus);
        let end = dialled.longest(|digits, groups| international(digits, groups > 1))?;
        // `+9999-12-31` is a day, `+255959.999` a time.
        let day = dialled.separators[..2] == *b"--"
            && dialled.lengths(3.min(dialled.groups)).skip(1).eq([2, 2]);
        let free = free && !day && (dialled.separators[0] != b'.' || dialled.groups > 2);
        return free.then_some(plus..end);
    }
    if bytes::before(input, start).is_ascii_alphanumeric() && !bytes::after_escape(input, start) {
        return None;
    }
    // `00` and the country's code, together: dumps of bytes have them apart.
    let abroad = dialled.digits.starts_with(b"00")
        && dialled.groups > 1
        && dialled.lengths(1).all(|length| matches!(length, 3..=5))
        && dialled.separators[0] != b'.'
        && !matches!(lead, b'.' | b':' | b'-');
    if abroad {
        let end =
            dialled.longest(|digits, _| digits.len() > 2 && international(&digits[2..], true));
        if let Some(end) = end {
            return Some(start..end);
        }
    }
    let parenthesis = lead == b'(';
    let from = if parenthesis { start - 1 } else { start };
    if !parenthesis && continues_before(input, start) {
        return None;
    }
    if let Some(end) = national(&dialled, parenthesis) {
        return Some(from..end);
    }
    let whole = from..dialled.end();
    let short_lead = dialled.groups == 1 || dialled.lengths(1).all(|length| length <= 5);
    let grouped = short_lead && dialled.lengths(dialled.groups).all(|length| length >= 2);
    let plausible = ((9..=13).contains(&dialled.total()) && grouped)
        || (dialled.is_separated(2, b'-') && dialled.is_grouped(&[3, 4]));
    (plausible && context::announces(Detector::Phone, text, &whole)).then_some(whole)
}

/// Digits stand before, with a separator: this isn't the beginning. With a space, it isn't for a
/// pair of hex digits behind another.
fn continues_before(text: &[u8], start: usize) -> bool {
    let (separator, before) = (bytes::before(text, start), start.saturating_sub(1));
    let last = bytes::before(text, before);
    match separator {
        b'-' | b'.' | b'/' | b',' => last.is_ascii_digit(),
        b' ' => {
            bytes::run_before(text, before, 3, u8::is_ascii_hexdigit) == 2 && last.is_ascii_digit()
        }
        _ => false,
    }
}

/// A country's code and as many digits as numbers have there. The codes are those of E.164's list:
/// nearly all beginnings are given out.
fn international(digits: &[u8], grouped: bool) -> bool {
    match digits {
        [b'1', national @ ..] => nanp(national),
        [b'0', ..] | [b'2', b'8', ..] | [b'8', b'3' | b'9', ..] | [] => false,
        _ => (if grouped { 8..=15 } else { 10..=15 }).contains(&digits.len()),
    }
}

/// The North American plan: area and exchange begin with 2 to 9.
fn nanp(digits: &[u8]) -> bool {
    digits.len() == 10 && digits[0] >= b'2' && digits[3] >= b'2' && digits[1..3] != *b"11"
}

/// Ways of writing that only telephone numbers have: the end of the number.
fn national(dialled: &Dialled, parenthesis: bool) -> Option<usize> {
    let digits = &dialled.digits[..dialled.total()];
    let north_american = if parenthesis {
        dialled.groups == 3 && dialled.is_grouped(&[3, 3, 4]) && nanp(digits)
    } else {
        let uniform =
            |groups| dialled.is_separated(groups, b'-') || dialled.is_separated(groups, b'.');
        (dialled.is_grouped(&[3, 3, 4]) && uniform(3) && nanp(digits))
            || (dialled.is_grouped(&[1, 3, 3, 4])
                && uniform(4)
                && digits[0] == b'1'
                && nanp(&digits[1..]))
    };
    // Brazil: two digits of area, then nine, or eight for fixed lines.
    let brazilian = parenthesis
        && dialled.groups == 3
        && (dialled.is_grouped(&[2, 5, 4]) || dialled.is_grouped(&[2, 4, 4]))
        && dialled.separators[1] == b'-';
    let trunk = digits.first() == Some(&b'0') && digits.get(1).is_some_and(|d| *d != b'0');
    let trunk_in_parenthesis =
        parenthesis && trunk && (9..=12).contains(&digits.len()) && dialled.groups > 1;
    // France: five pairs.
    // Five of them in a dump of bytes have more zeros.
    let french = trunk
        && digits.iter().step_by(2).filter(|d| **d == b'0').count() < 4
        && dialled.is_grouped(&[2, 2, 2, 2, 2])
        && [b' ', b'.', b'-'].iter().any(|s| dialled.is_separated(5, *s));
    // Japan and Korea: three groups with hyphens, the last of four.
    let japanese = trunk
        && (10..=11).contains(&digits.len())
        && dialled.is_separated(3, b'-')
        && dialled.lengths(3).last() == Some(4);
    // Britain, by the numbering plan's ways of writing.
    let british = trunk
        && ((digits[1] == b'2' && dialled.groups == 3 && dialled.is_grouped(&[3, 4, 4]))
            || (matches!(digits[1], b'1' | b'7')
                && dialled.groups == 2
                && dialled.is_grouped(&[5, 6])));
    let found =
        north_american || brazilian || trunk_in_parenthesis || french || japanese || british;
    found.then(|| dialled.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let first = text.find(|c: char| c.is_ascii_digit())?;
        at(text, first).map(|range| &text[range])
    }

    #[test]
    fn numbers_are_found_as_countries_write_them() {
        for number in [
            "+49 30 901820-412",
            "+12025550184",
            "+1 (617) 555-0199",
            "+33 (0)6 99 00 55 12",
            "+353-1-555-0142",
            "0041 44 555 01 90",
            "(415) 555-0137",
            "212-555-0169",
            "646.555.0128",
            "1-202-555-0169",
            "01 99 00 27 41",
            "090-5550-1187",
            "020 7946 0958",
            "07700 900482",
            "(11) 95550-1234",
            "(030) 5550142",
        ] {
            assert_eq!(found(number), Some(number));
            let text = format!("x {number}, y");
            assert_eq!(found(&text), Some(number));
        }
        for (text, number) in [
            ("Tel. 601 555 019", "601 555 019"),
            ("Handynummer: 0171 5550142", "0171 5550142"),
            ("电话：13800551234", "13800551234"),
            ("phone: 555-0123", "555-0123"),
        ] {
            assert_eq!(found(text), Some(number), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_no_telephone() {
        for text in [
            "+1 for it",
            "+100000 lines",
            "+12345678",
            "+0123456789",
            "UTC+0100",
            "a+4930901820412",
            "+9999-12-31 23",
            "+255959.999",
            "112-555-0169",
            "212-155-0169",
            "212-555-016",
            "3212-555-0169",
            "601 555 019",
            "13800551234",
            "03 03 01 00 01",
            "00 55 00 73 00 65 00",
            "01-02-2024",
            "0.0 (2018-05-01)",
            "1 2 3 4 5 6 7 8 9",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
