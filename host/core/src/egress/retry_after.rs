//! Reads how long a vendor asks to wait.
//!
//! Vendors use `retry-after-ms`, `retry-after` in whole or fractional seconds, or `retry-after`
//! with a date in any of HTTP's three formats (RFC 9110, 5.6.7). What is neither is ignored, as if
//! the header were absent: the caller then backs off by its own rules.

use std::time::Duration;

use http::HeaderMap;
use jiff::{Timestamp, civil, tz::TimeZone};

/// The longest wait believed. Quotas that reset later make no difference to routing, and a vendor's
/// mistake (10^9 seconds have been seen) must not lock it out for good.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Longer values are garbage: a date has at most 33 characters.
const MAX_LENGTH: usize = 64;

/// How long to wait from `now` on, at most [`LONGEST`]. A date in the past means no wait.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = |name| headers.get(name)?.to_str().ok();
    if let Some(wait) = value("retry-after-ms").and_then(|text| decimal(text, 1000.0)) {
        return Some(wait);
    }
    let text = value("retry-after")?;
    decimal(text, 1.0).or_else(|| until(date(text)?, now))
}

/// A decimal number of seconds divided by `per_second`: digits and at most one point.
fn decimal(text: &str, per_second: f64) -> Option<Duration> {
    let text = text.trim();
    // The standard library would also take "inf", "nan", signs and exponents.
    let plain = text.len() <= MAX_LENGTH
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = if plain { text.parse().ok()? } else { return None };
    let seconds = (number / per_second).min(LONGEST.as_secs_f64());
    Duration::try_from_secs_f64(seconds).ok()
}

fn until(date: Timestamp, now: Timestamp) -> Option<Duration> {
    let wait = date.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO).min(LONGEST))
}

/// "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT" or
/// "Sun Nov  6 08:49:37 1994", all in UTC. The day of the week is not checked.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > MAX_LENGTH {
        return None;
    }
    let mut words = text.split([' ', '-', ',']).filter(|word| !word.is_empty());
    let mut word = || words.next();
    word()?;
    let second = word()?;
    let (day, month, year, time) = if second.starts_with(|c: char| c.is_ascii_digit()) {
        let (month, year, time) = (word()?, word()?, word()?);
        (word()? == "GMT").then_some((second, month, year, time))?
    } else {
        let (day, time, year) = (word()?, word()?, word()?);
        (day, second, year, time)
    };
    if word().is_some() {
        return None;
    }
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + MONTHS.iter().position(|&name| name == month)? as i8;
    let year = match (year.len(), year.parse::<i16>().ok()?) {
        // Two digits: this century, until dates of the last one come back into use.
        (2, year) => 2000 + year,
        (4, year) => year,
        _ => return None,
    };
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // A leap second is as good as the one before.
    civil::DateTime::new(year, month, day.parse().ok()?, hour, minute, second.min(59), 0)
        .ok()?
        .to_zoned(TimeZone::UTC)
        .ok()
        .map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        // 784111777 is the RFC's own example date.
        retry_after(&headers, Timestamp::from_second(784_111_777 - 30).unwrap())
    }

    #[test]
    fn seconds_are_whole_or_fractional() {
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", " 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "0"), Some(Duration::ZERO));
    }

    #[test]
    fn milliseconds_come_first() {
        assert_eq!(read("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        let mut headers = HeaderMap::new();
        headers.insert("retry-after-ms", HeaderValue::from_static("250"));
        headers.insert("retry-after", HeaderValue::from_static("1"));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(retry_after(&headers, now), Some(Duration::from_millis(250)));
        headers.insert("retry-after-ms", HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn all_three_date_formats_mean_the_same_moment() {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read("retry-after", date), Some(Duration::from_secs(30)), "{date}");
        }
        let now = Timestamp::from_second(1_794_000_000).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("Friday, 06-Nov-26 21:20:30 GMT"));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_date_in_the_past_means_now() {
        let date = "Sun, 06 Nov 1994 08:49:00 GMT";
        assert_eq!(read("retry-after", date), Some(Duration::ZERO));
    }

    #[test]
    fn an_absurd_wait_is_capped() {
        for value in ["1000000000", "99999999999999999999999999", "Sun, 06 Nov 2994 08:49:37 GMT"] {
            assert_eq!(read("retry-after", value), Some(LONGEST), "{value}");
        }
    }

    #[test]
    fn garbage_counts_as_absent() {
        for value in [
            "",
            "-5",
            "+5",
            "inf",
            "NaN",
            "1e9",
            "0x10",
            "1.2.3",
            ".5",
            "soon",
            "5 minutes",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 PST",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(read("retry-after", value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_or_exceeds_the_cap(
            value in "[ -~]{0,80}",
            now in -377_705_023_201i64..=253_402_207_200,
        ) {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(&value).unwrap());
            headers.insert("retry-after-ms", HeaderValue::from_str(&value).unwrap());
            let wait = retry_after(&headers, Timestamp::from_second(now).unwrap());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn nothing_like_a_date_panics(
            value in "[A-Z][a-z]{2,8},? [0-9]{1,3}[ -][A-Z][a-z]{2}[ -][0-9]{1,5} [0-9]{1,3}:[0-9]{1,3}:[0-9]{1,3} GMT",
        ) {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(&value).unwrap());
            let wait = retry_after(&headers, Timestamp::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
