//! An exact, non-negative decimal: prices, amounts of money, and what they are multiplied with.
//!
//! A fixed point with [`DIGITS`] digits after it, in 128 bits. That holds a price of 0.000001 dollars
//! per million tokens for a single token without rounding, and 340 quintillion dollars. Not a library's
//! type, because this crate is compiled into every adapter; not floating point, because sums of
//! money must come out the same whichever way they are added. Never negative, so a cost can't be one.
//!
//! Costs a few nanoseconds an operation, no allocation. Every operation that can overflow says so.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits after the point.
pub const DIGITS: usize = 18;

const ONE: u128 = 10_u128.pow(DIGITS as u32);
const MILLION: u128 = 1_000_000;

/// See the module. Its text and JSON form is a string such as "0.25", without trailing zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(u128);

/// A text that is no such decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDecimal;

impl fmt::Display for BadDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an amount is written as 0.25: digits, a point, at most {DIGITS} digits after it")
    }
}

impl std::error::Error for BadDecimal {}

impl Decimal {
    pub const ZERO: Self = Self(0);

    /// A whole number.
    pub const fn whole(number: u64) -> Self {
        // 2^64 * 10^18 is below 2^124.
        Self(number as u128 * ONE)
    }

    /// What a measured amount is in decimal: the shortest text that means this number, cut after
    /// [`DIGITS`] digits. `None` for what is negative, infinite or too large.
    pub fn from_f64(number: f64) -> Option<Self> {
        if !(0.0..1e20).contains(&number) {
            return None;
        }
        let text = number.abs().to_string();
        let point = text.find('.').unwrap_or(text.len());
        text[..text.len().min(point + 1 + DIGITS)].trim_end_matches('.').parse().ok()
    }

    /// The part before the point; the largest number if it is beyond.
    pub fn floor(self) -> u64 {
        u64::try_from(self.0 / ONE).unwrap_or(u64::MAX)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `None` if it would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, rounded half up in the last digit; exact if both have at most [`DIGITS`]
    /// digits after the point together.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let (a, b) = ((self.0 / ONE, self.0 % ONE), (other.0 / ONE, other.0 % ONE));
        // Both below 10^36.
        let fractions = (a.1 * b.1 + ONE / 2) / ONE;
        a.0.checked_mul(other.0)?
            .checked_add(a.1.checked_mul(b.0)?)?
            .checked_add(fractions)
            .map(Self)
    }

    /// So many of it.
    pub fn times(self, count: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(count)).map(Self)
    }

    /// What so many cost at this price for a million. Exact if the price has at most 12 digits
    /// after the point.
    pub fn per_million(self, count: u64) -> Option<Self> {
        Some(Self(self.0.checked_mul(u128::from(count))? / MILLION))
    }

    /// Digits after the point that aren't trailing zeros.
    pub fn digits(self) -> usize {
        let mut rest = self.0 % ONE;
        if rest == 0 {
            return 0;
        }
        let mut digits = DIGITS;
        while rest % 10 == 0 {
            rest /= 10;
            digits -= 1;
        }
        digits
    }
}

impl FromStr for Decimal {
    type Err = BadDecimal;

    fn from_str(text: &str) -> Result<Self, BadDecimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
            return Err(BadDecimal);
        }
        let whole: u128 = whole.parse().map_err(|_| BadDecimal)?;
        let fraction: u128 = format!("{fraction:0<DIGITS$}").parse().map_err(|_| BadDecimal)?;
        let sum = whole.checked_mul(ONE).and_then(|whole| whole.checked_add(fraction));
        sum.map(Self).ok_or(BadDecimal)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / ONE, self.0 % ONE);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:0>DIGITS$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (text, shown) in [
            ("0", "0"),
            ("0.10", "0.1"),
            ("12.50", "12.5"),
            ("007", "7"),
            ("0.000000000000000001", "0.000000000000000001"),
            (
                "340282366920938463463.374607431768211455",
                "340282366920938463463.374607431768211455",
            ),
        ] {
            assert_eq!(decimal(text).to_string(), shown);
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            " 1",
            "0x1",
            "1.2.3",
            "NaN",
            "٣",
            "0.0000000000000000001",
            "340282366920938463463.374607431768211456",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(BadDecimal), "{text}");
        }
    }

    #[test]
    fn a_measured_amount_is_its_shortest_text() {
        let of = |number| Decimal::from_f64(number).map(|it| it.to_string());
        assert_eq!(of(0.1).as_deref(), Some("0.1"));
        assert_eq!(of(1.98).as_deref(), Some("1.98"));
        assert_eq!(of(512.0).as_deref(), Some("512"));
        assert_eq!(of(1e-18).as_deref(), Some("0.000000000000000001"));
        assert_eq!(of(1e-19).as_deref(), Some("0"));
        assert_eq!(of(-0.0).as_deref(), Some("0"));
        for number in [f64::NAN, f64::INFINITY, -1.0, 1e20, 1e300] {
            assert_eq!(of(number), None, "{number}");
        }
    }

    #[test]
    fn products_are_exact_or_rounded_in_the_last_digit() {
        let times = |a: &str, b: &str| decimal(a).checked_mul(decimal(b)).map(|it| it.to_string());
        assert_eq!(times("1.98", "0.000011").as_deref(), Some("0.00002178"));
        assert_eq!(times("100", "5.25").as_deref(), Some("525"));
        assert_eq!(times("0.000000000000000001", "0.5").as_deref(), Some("0.000000000000000001"));
        assert_eq!(times("0.000000000000000001", "0.4").as_deref(), Some("0"));
        assert_eq!(times("99999999999", "99999999999"), None);
        assert_eq!(
            times("0.999999999999999999", "0.999999999999999999").as_deref(),
            Some("0.999999999999999998")
        );
    }

    #[test]
    fn a_price_for_a_million_is_exact_for_one() {
        let cost = |price: &str, count| decimal(price).per_million(count).map(|it| it.to_string());
        assert_eq!(cost("0.075", 1).as_deref(), Some("0.000000075"));
        assert_eq!(cost("0.000000000001", 1).as_deref(), Some("0.000000000000000001"));
        assert_eq!(cost("15", 3_000_000).as_deref(), Some("45"));
        assert_eq!(cost("1000", u64::MAX), None);
    }

    #[test]
    fn json_is_a_string_and_a_number_is_refused() {
        assert_eq!(serde_json::to_string(&decimal("0.30")).unwrap(), "\"0.3\"");
        assert_eq!(serde_json::from_str::<Decimal>("\"2.50\"").unwrap(), decimal("2.5"));
        assert!(serde_json::from_str::<Decimal>("2.5").is_err());
    }
}
