//! Durations and sizes as people write them: `90s`, `1h30m`, `64MiB`.
//!
//! A bare number is refused, because nobody can tell whether it means seconds or milliseconds.

use std::{fmt, time::Duration};

/// Shown wherever a duration is refused.
pub const DURATION_FORM: &str =
    "a duration is a whole number with its unit, as `250ms`, `30s`, `10m`, `1h30m` or `7d`";
/// Shown wherever a size is refused.
pub const SIZE_FORM: &str =
    "a size is a whole number with its unit, as `512KiB`, `64MiB` or `2GiB`";

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// In the largest binary unit that leaves a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// `None` if `text` isn't numbers with units, largest unit first, or doesn't fit.
pub fn duration(text: &str) -> Option<Duration> {
    let mut milliseconds: u64 = 0;
    let mut smaller_than = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, tail) = quantity(rest)?;
        let scale = scale(&DURATION_UNITS, unit).filter(|scale| *scale < smaller_than)?;
        smaller_than = scale;
        milliseconds = milliseconds.checked_add(number.checked_mul(scale)?)?;
        rest = tail;
    }
    (smaller_than < u64::MAX).then(|| Duration::from_millis(milliseconds))
}

/// `None` if `text` isn't one number with a unit, or doesn't fit.
pub fn size(text: &str) -> Option<ByteSize> {
    let (number, unit, tail) = quantity(text)?;
    let bytes = number.checked_mul(scale(&SIZE_UNITS, unit)?)?;
    tail.is_empty().then_some(ByteSize(bytes))
}

/// Digits, at most one space, letters, and what follows.
fn quantity(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, tail))
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_in_order() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("30 s", 30_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            " ",
            "30",
            "s",
            "30x",
            "1.5s",
            "-1s",
            "1s1s",
            "30m1h",
            "30S",
            "1s ",
            " 1s",
            "٣s",
            "99999999999999999999s",
            "9999999999999999d",
            "1e3s",
            "1  s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_one_number_with_a_unit() {
        for (text, bytes) in
            [("0B", 0), ("512KiB", 512 << 10), ("64 MiB", 64 << 20), ("2GB", 2_000_000_000)]
        {
            assert_eq!(size(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "64", "MiB", "64mib", "64M", "1MiB1KiB", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_can_be_written() {
        for text in ["64MiB", "1GiB", "1000B", "3KiB", "0B"] {
            assert_eq!(size(text).unwrap().to_string(), text);
        }
    }
}
