//! Values that a name calls secret: `password=…`, `"api_key": "…"`, *the password is …*.
//!
//! The name was found; here is read what it is given, in the ways of programs, configurations, forms,
//! commands and sentences, and judged whether it is somebody's secret or a word.

use std::ops::Range;

use super::{bytes, placeholder, secrets};

/// The longest value that is looked at. Of longer ones the beginning is judged.
const LONGEST: usize = 256;

/// Where a value begins and ends that a name is given.
struct Given {
    start: usize,
    end: usize,
    quoted: bool,
    /// By a sentence, `the password is …`, not by a sign.
    told: bool,
}

/// Where the value begins that is given behind a name which ends at `from`: after `=`, `:`, `=>`,
/// `:=` or the `>` of a tag.
fn start(text: &str, from: usize) -> Option<usize> {
    let input = text.as_bytes();
    // The name's own closing quote, which may be escaped.
    let mut at = from + usize::from(is_escaped_quote(input, from));
    at += usize::from(is_quote(bytes::byte(input, at)));
    at = after_space(input, at);
    match (bytes::byte(input, at), bytes::byte(input, at + 1)) {
        // A comparison.
        (b'=', b'=') => None,
        (b':', b'=') | (b'=', b'>') => Some(at + 2),
        (b'=' | b':', _) => Some(at + 1),
        // `<password>`, but not `name="password">`.
        (b'>', _) if at == from => Some(at + 1),
        _ => None,
    }
}

/// Where the characters of that value begin.
pub(super) fn value_start(text: &str, from: usize) -> Option<usize> {
    start(text, from).map(|start| value(text, start, false).start)
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn is_escaped_quote(text: &[u8], at: usize) -> bool {
    bytes::byte(text, at) == b'\\' && is_quote(bytes::byte(text, at + 1))
}

fn after_space(text: &[u8], at: usize) -> usize {
    /// More aligns columns, or is the next thing.
    const MOST: usize = 8;
    let window = &text[..text.len().min(at + MOST)];
    at + bytes::run(window, at, |b| matches!(b, b' ' | b'\t'))
}

/// The value that a name is given, if any is.
fn given(text: &str, name: &Range<usize>) -> Option<Given> {
    let input = text.as_bytes();
    if let Some(start) = start(text, name.end) {
        return Some(value(text, start, false));
    }
    // `--password x`, `sshpass -p x`
    let word_start = name.start - bytes::run_before(input, name.start, 20, |b| is_name_byte(*b));
    let flag = input[word_start..].starts_with(b"--") || input[..name.end].ends_with(b" -p");
    if flag && bytes::byte(input, name.end) == b' ' {
        return Some(value(text, name.end, false));
    }
    told(text, name.end).map(|start| value(text, start, true))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The value at `from`, in quotes or up to what ends one.
fn value(text: &str, from: usize, told: bool) -> Given {
    let input = text.as_bytes();
    let mut start = after_space(input, from);
    start += usize::from(is_escaped_quote(input, start));
    let quote = bytes::byte(input, start);
    let quoted = is_quote(quote);
    if quoted {
        start += 1;
    } else if let Some(mark) = text[start..].chars().next().filter(|c| "“„«‘".contains(*c)) {
        start += mark.len_utf8();
    }
    let window = &text[start..bytes::tail(text, start, LONGEST)];
    let length = match quoted {
        true => window.find([char::from(quote), '\n', '\\']),
        false => window.bytes().position(|b| ENDS_VALUE[usize::from(b)]),
    };
    let value = &window[..length.unwrap_or(window.len())];
    let length = match quoted || value.is_ascii() {
        true => value.len(),
        false => value.find(['“', '”', '»', '’', '，', '。', '、']).unwrap_or(value.len()),
    };
    Given { start, end: start + length, quoted, told }
}

/// What ends a value without quotes.
const ENDS_VALUE: [bool; 256] = {
    let mut ends = [false; 256];
    let mut at = 0;
    let set = b" \t\n\r\"'`,;<>()[]{}\\";
    while at < set.len() {
        ends[set[at] as usize] = true;
        at += 1;
    }
    ends
};

/// Where the value begins of a name followed by words: `is …`, `for the server: …`.
fn told(text: &str, from: usize) -> Option<usize> {
    const VERBS: &[&str] = &[
        " is ",
        " is: ",
        " was ",
        " ist ",
        " lautet ",
        " lautet: ",
        " est ",
        " es ",
        " è ",
        " é ",
        " is now ",
        " to ",
        "是",
        "は",
        "为",
    ];
    let rest = &text[from..bytes::tail(text, from, 40)];
    if let Some(verb) = VERBS.iter().find(|verb| rest.starts_with(**verb)) {
        return Some(from + verb.len());
    }
    // `Passwort für den Server: …`
    if let Some(after) = rest.strip_prefix("：") {
        return Some(text.len() - text[from..].len() + (rest.len() - after.len()));
    }
    let colon = rest.find(": ")?;
    let words = &rest[..colon];
    (words.starts_with(' ')
        && words.split(' ').count() <= 5
        && words.chars().all(|c| c.is_alphabetic() || c == ' '))
    .then_some(from + colon + 2)
}

/// How far before a name its qualifier is looked for, in bytes: `continuation` has twelve.
const LONGEST_QUALIFIER: usize = 16;

/// Before `token` and `key`, words that make them something else.
const NOT_SECRET: &[&str] = &[
    "page",
    "next",
    "continuation",
    "csrf",
    "xsrf",
    "sync",
    "stop",
    "max",
    "public",
    "foreign",
    "primary",
    "sort",
    "partition",
    "cache",
    "bos",
    "eos",
    "pad",
    "special",
    "cancellation",
    "idempotency",
    "cursor",
    "pub",
];

/// The value that a password's name is given.
pub(super) fn password(text: &str, name: &Range<usize>) -> Option<Range<usize>> {
    let given = asked(text, name)?;
    let mut value = &text[given.start..given.end];
    if !given.quoted {
        value = value.trim_end_matches(['.', ':', '*']);
        // The next field of a form or a URL.
        let field = |next: &str| {
            next.split_once('=').is_some_and(|(name, _)| name.bytes().all(is_name_byte))
        };
        if let Some((one, next)) = value.split_once('&')
            && field(next)
        {
            value = one;
        }
    }
    is_password(value, &given).then(|| given.start..given.start + value.len())
}

/// The value that a key's or token's name is given.
pub(super) fn key(text: &str, name: &Range<usize>) -> Option<Range<usize>> {
    let given = asked(text, name)?;
    let value = &text[given.start..given.end];
    let value = value.split('&').next().unwrap_or(value).trim_end_matches(['.', ':', '*']);
    is_key(value).then(|| given.start..given.start + value.len())
}

/// What is given to a name that stands for itself and asks for a secret.
fn asked(text: &str, name: &Range<usize>) -> Option<Given> {
    let input = text.as_bytes();
    if input[name.start].is_ascii() && !bytes::is_name(input, name) {
        return None;
    }
    let before = &text[bytes::head(text, name.start, LONGEST_QUALIFIER)..name.start];
    let before = before.trim_end_matches(['_', '-', '.', ' ']).to_ascii_lowercase();
    if NOT_SECRET.iter().any(|word| before.ends_with(word)) {
        return None;
    }
    let given = given(text, name)?;
    // `password = getpass()`: an expression.
    let called = matches!(bytes::byte(input, given.end), b'(' | b'[');
    (given.quoted || !called).then_some(given)
}

/// A password isn't a word of a program or of a sentence: it has letters, and digits or signs.
fn is_password(value: &str, given: &Given) -> bool {
    let letters = value.chars().any(char::is_alphabetic);
    let digits = value.bytes().any(|b| b.is_ascii_digit());
    let signs = value.bytes().any(|b| {
        matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'*' | b'^' | b'?' | b'+' | b'~' | b'@')
    });
    let length = value.chars().count();
    // Without quotes, signs alone are what expressions have: `a&&b`.
    let enough = digits || (signs && given.quoted && length >= 8);
    // `password: 20931847` is a password; in a sentence it is a number.
    (6..=128).contains(&length)
        && (letters || !given.told)
        && enough
        && !value.starts_with("http")
        && !placeholder::is_one(value)
}

/// A key is long and random, and no path.
fn is_key(value: &str) -> bool {
    let of = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=~!$@%".contains(&b);
    value.len() >= 16
        && value.bytes().all(of)
        && !value.starts_with(['/', '.', '~', '@'])
        && value.split(['-', '_', '.', '/']).map(str::len).max().unwrap_or(0) >= 8
        && secrets::is_random(value, 3.0)
}

#[cfg(test)]
mod tests {
    use super::super::{Detector::Password, secrets::tests::found};

    #[test]
    fn values_are_taken_from_all_ways_of_giving_them() {
        for text in [
            "password=Hav3rgrod",
            "password: Hav3rgrod",
            "PASSWORD = 'Hav3rgrod'",
            r#"{"password": "Hav3rgrod"}"#,
            r#"{\"password\":\"Hav3rgrod\"}"#,
            "dbPassword := `Hav3rgrod`",
            ":password => 'Hav3rgrod',",
            "<password>Hav3rgrod</password>",
            "?user=a&password=Hav3rgrod&x=1",
            "the password is Hav3rgrod.",
            "Passwort für den Server: Hav3rgrod",
            "パスワードはHav3rgrod",
            "--password=Hav3rgrod",
            "--db-password Hav3rgrod -v",
            "sshpass -p 'Hav3rgrod' ssh",
        ] {
            assert_eq!(found(text), [(Password, "Hav3rgrod".to_owned())], "{text}");
        }
        assert_eq!(found("password: 20931847"), [(Password, "20931847".to_owned())]);
    }

    #[test]
    fn words_programs_and_other_names_are_no_secrets() {
        for text in [
            "password: String",
            "password = getPassword1()",
            "if password == other2 {",
            "password_hash = abc123def",
            "the password is 8 characters long",
            "token: 128009",
            "next_page_token=CAUQAAABBBcccDDD1112223334445556",
            "primary_key=a8f5f167f44f4964e6c998dee827110c1",
            "keyboard=a8f5f167f44f4964e6c998dee827110c1",
            "compass: n0rthwest9",
            "<a href=\"x-1password\">x-1password</a>",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
