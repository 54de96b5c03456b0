//! Dates as people write them. Only the day of somebody's birth is of interest, so the caller asks
//! for a word that says so.

use std::ops::Range;

use super::{bytes, checks};

/// Beginnings of months' names in the languages that the context words are in, in lower case.
#[rustfmt::skip]
const MONTHS: &[(&str, u64)] = &[
    ("jan", 1), ("janv", 1), ("ene", 1), ("gen", 1), ("янв", 1), ("sty", 1),
    ("feb", 2), ("fév", 2), ("fev", 2), ("фев", 2), ("lut", 2),
    ("mar", 3), ("mär", 3), ("маr", 3), ("март", 3), ("mrt", 3), ("maa", 3),
    ("apr", 4), ("avr", 4), ("abr", 4), ("апр", 4), ("kwi", 4),
    ("may", 5), ("mai", 5), ("maj", 5), ("mei", 5), ("mag", 5), ("мая", 5), ("май", 5),
    ("jun", 6), ("juin", 6), ("giu", 6), ("июн", 6), ("cze", 6),
    ("jul", 7), ("juil", 7), ("lug", 7), ("июл", 7), ("lip", 7),
    ("aug", 8), ("aoû", 8), ("aou", 8), ("ago", 8), ("авг", 8), ("sie", 8),
    ("sep", 9), ("set", 9), ("сен", 9), ("wrz", 9),
    ("oct", 10), ("okt", 10), ("out", 10), ("ott", 10), ("окт", 10), ("paź", 10),
    ("nov", 11), ("ноя", 11), ("lis", 11),
    ("dec", 12), ("déc", 12), ("dez", 12), ("dic", 12), ("дек", 12), ("gru", 12),
];
/// The longest month's name in bytes is Russian.
const LONGEST_MONTH: usize = 20;

/// The date whose first digit stands at `start`; with the month's name where that comes first.
pub(super) fn at(text: &str, start: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let (first, end) = number(input, start)?;
    match end - start {
        4 if is_year(first) => year_first(text, start, first, end),
        8 => {
            let fits = is_year(first / 10_000) && checks::is_day(first % 100, first / 100 % 100);
            fits.then_some(start..end)
        }
        1 | 2 => numeric(input, start, first, end)
            .or_else(|| named_after(text, start, first, end))
            .or_else(|| named_before(text, start, first, end)),
        _ => None,
    }
}

/// Somebody's who may live, roughly.
fn is_year(year: u64) -> bool {
    (1900..=2030).contains(&year)
}

/// A number of up to eight digits and its end.
fn number(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let length = bytes::run(text, at, u8::is_ascii_digit);
    if !(1..=8).contains(&length) {
        return None;
    }
    let digits = &text[at..at + length];
    Some((digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')), at + length))
}

/// `1985-03-12`, `1985年3月12日`.
fn year_first(text: &str, start: usize, _year: u64, end: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let after_year = separator(text, end, &["-", "/", ".", "年"])?;
    let (month, month_end) = number(input, after_year)?;
    let after_month = separator(text, month_end, &["-", "/", ".", "月"])?;
    let (day, end) = number(input, after_month)?;
    let end = separator(text, end, &["日"]).unwrap_or(end);
    checks::is_day(day, month).then_some(start..end)
}

fn separator(text: &str, at: usize, allowed: &[&str]) -> Option<usize> {
    let rest = text.get(at..)?;
    allowed.iter().find(|separator| rest.starts_with(**separator)).map(|found| at + found.len())
}

/// `12.03.1985`, `3/12/85`: day first or month first.
fn numeric(text: &[u8], start: usize, first: u64, end: usize) -> Option<Range<usize>> {
    let separator = bytes::byte(text, end);
    if !matches!(separator, b'.' | b'/' | b'-') {
        return None;
    }
    // `3. 12. 1985`
    let skip = |at: usize| at + usize::from(bytes::byte(text, at) == b' ' && separator == b'.');
    let (second, end) = number(text, skip(end + 1))?;
    if bytes::byte(text, end) != separator {
        return None;
    }
    let year = skip(end + 1);
    let (number, end) = number(text, year)?;
    let known = (end - year == 4 && is_year(number)) || end - year == 2;
    let fits = checks::is_day(first, second) || checks::is_day(second, first);
    (known && fits).then_some(start..end)
}

/// `12 March 1985`, `1. Dezember 1992`, `5 de mayo de 1983`, `3rd of May, 1985`.
fn named_after(text: &str, start: usize, day: u64, end: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let mut at = end;
    for suffix in [".", "st", "nd", "rd", "th", "er", "º"] {
        if text[at..].starts_with(suffix) {
            at += suffix.len();
            break;
        }
    }
    at = filler(text, at)?;
    // The year is looked at first: a number and a word stand everywhere.
    let name_end = name_end(text, at);
    let mark = usize::from(matches!(bytes::byte(input, name_end), b',' | b'.'));
    let year = filler(text, name_end + mark)?;
    let (_, end) = number(input, year).filter(|(n, end)| end - year == 4 && is_year(*n))?;
    checks::is_day(day, month(&text[at..name_end])?).then_some(start..end)
}

/// A space or hyphen, and perhaps `of` or `de` with another.
fn filler(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let at = at + 1;
    if !matches!(rest.as_bytes().first(), Some(b' ' | b'-')) {
        return None;
    }
    let rest = &text[at..];
    let word = ["of ", "de ", "di "].iter().find(|word| rest.starts_with(**word));
    Some(at + word.map_or(0, |word| word.len()))
}

fn name_end(text: &str, at: usize) -> usize {
    let window = &text[at..bytes::tail(text, at, LONGEST_MONTH)];
    at + window.find(|c: char| !c.is_alphabetic()).unwrap_or(window.len())
}

fn month(name: &str) -> Option<u64> {
    let name = name.to_lowercase();
    MONTHS.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, month)| *month)
}

/// `March 12, 1985`.
fn named_before(text: &str, start: usize, day: u64, end: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    if bytes::before(input, start) != b' ' {
        return None;
    }
    let mut at = end;
    for suffix in ["st", "nd", "rd", "th"] {
        if text[at..].starts_with(suffix) {
            at += suffix.len();
            break;
        }
    }
    at += usize::from(bytes::byte(input, at) == b',');
    let year = at + usize::from(bytes::byte(input, at) == b' ');
    let (_, end) = number(input, year).filter(|(n, end)| end - year == 4 && is_year(*n))?;
    let space = start - 1 - usize::from(bytes::before(input, start - 1) == b'.');
    let window = &text[bytes::head(text, space, LONGEST_MONTH)..space];
    let length: usize =
        window.chars().rev().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    let name = space - length;
    (year > at && checks::is_day(day, month(&text[name..space])?)).then_some(name..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_known_in_many_forms() {
        for date in [
            "1985-03-12",
            "1985/3/12",
            "1985年3月12日",
            "12.03.1985",
            "12. 3. 1985",
            "3/12/1985",
            "12-03-85",
            "12 March 1985",
            "12th of March, 1985",
            "1. Dezember 1992",
            "5 mai 1983",
            "5 de mayo de 1983",
            "March 12, 1985",
            "Mar. 12 1985",
            "12 марта 1985",
            "19850312",
        ] {
            let first = date.find(|c: char| c.is_ascii_digit()).unwrap();
            assert_eq!(at(date, first), Some(0..date.len()), "{date}");
        }
        for other in ["1985-13-12", "31/31/1985", "12 monkeys 1985", "2.4.1", "1985", "12:30:00"] {
            assert_eq!(at(other, 0), None, "{other}");
        }
    }
}
