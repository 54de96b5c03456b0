//! The forms of time vendors use in headers, read without a calendar library.

/// A duration as Go prints it: "1s", "6m0s", "20ms", "1h2m3.5s". In milliseconds, rounded up.
pub fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "h" => 3_600_000.0,
            "m" => 60_000.0,
            "s" => 1_000.0,
            "ms" => 1.0,
            "us" | "µs" => 0.001,
            "ns" => 0.000_001,
            _ => return None,
        };
        total += amount * scale;
        rest = &rest[end..];
    }
    Some(total.ceil() as u64)
}

/// Seconds, whole or with a fraction, in milliseconds, rounded up.
pub fn seconds_ms(text: &str) -> Option<u64> {
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then(|| (seconds * 1000.0).ceil() as u64)
}

/// A moment as RFC 3339 writes it ("2026-01-31T12:00:00Z", fractions and offsets allowed), in
/// milliseconds since 1970. None for moments before.
pub fn moment_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let (date, time) = text.split_at_checked(10)?;
    let number = |range: std::ops::Range<usize>, of: &str| -> Option<i64> {
        let digits = of.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    if date.as_bytes()[4] != b'-' || date.as_bytes()[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(0..4, date)?, number(5..7, date)?, number(8..10, date)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let bytes = time.as_bytes();
    if bytes.len() < 10 || !b"Tt ".contains(&bytes[0]) || bytes[3] != b':' || bytes[6] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(1..3, time)?, number(4..6, time)?, number(7..9, time)?);
    let mut rest = time.get(9..)?;
    let mut fraction_ms = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.find(|c: char| !c.is_ascii_digit())?;
        let thousandths: String = after[..digits].chars().chain("000".chars()).take(3).collect();
        fraction_ms = thousandths.parse::<i64>().ok()?;
        rest = &after[digits..];
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            if rest.len() != 6 || rest.as_bytes()[3] != b':' {
                return None;
            }
            sign * (number(1..3, rest)? * 60 + number(4..6, rest)?)
        }
    };
    // Days since 1970 in the proleptic Gregorian calendar, with years that begin in March so that
    // the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100)
        + y.div_euclid(400)
        + (153 * m + 2) / 5
        + (day - 1)
        - 719_468;
    let minutes = (days * 24 + hour) * 60 + minute - offset_minutes;
    u64::try_from((minutes * 60 + second) * 1000 + fraction_ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("1s"), Some(1000));
        assert_eq!(duration_ms("6m0s"), Some(360_000));
        assert_eq!(duration_ms("20ms"), Some(20));
        assert_eq!(duration_ms("1h2m3.5s"), Some(3_723_500));
        assert_eq!(duration_ms("17.5ms"), Some(18));
        for wrong in ["", "s", "1", "1x", "-1s", "1.2.3s", "१s"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment_ms("2024-02-29T12:34:56.789Z"), Some(1_709_210_096_789));
        assert_eq!(moment_ms("2026-01-31T12:00:00+02:00"), Some(1_769_853_600_000));
        assert_eq!(moment_ms("2026-01-31T12:00:00.5-00:30"), Some(1_769_862_600_500));
        for wrong in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "ä026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00.Z1",
            "2026-01-01T00:00:00+1:00",
        ] {
            assert_eq!(moment_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn seconds() {
        assert_eq!(seconds_ms("1.5"), Some(1500));
        for wrong in ["-1", "NaN", "inf", "soon"] {
            assert_eq!(seconds_ms(wrong), None, "{wrong}");
        }
    }
}
