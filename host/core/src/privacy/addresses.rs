//! What has an `@` in it: mail addresses, and URLs that carry a password.
//!
//! The search goes from `@` to `@`. Each looks back to the one before it at most, and not further
//! than an address is long, so the cost stays proportional to the text.

use std::ops::{ControlFlow, Range};

use memchr::memchr_iter;

use super::{Detector::*, Enabled, Report, bytes, placeholder};

/// RFC 5321, 4.5.3.1: local part and domain.
const LONGEST_LOCAL: usize = 64;
const LONGEST_DOMAIN: usize = 255;
/// The longest user and password in a URL that are looked for.
const LONGEST_LOGIN: usize = 256;

/// Endings of file names and of systemd's units, which stand behind an `@` as well.
const NO_DOMAINS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "css", "scss", "js", "mjs",
    "cjs", "ts", "tsx", "jsx", "json", "html", "htm", "xml", "yaml", "yml", "toml", "txt", "pdf",
    "tgz", "gz", "zip", "service", "timer", "socket", "mount", "target", "slice", "scope", "path",
];
/// What stands before an `@` in programs and remote repositories.
const NO_LOCALS: &[&str] = &["this", "super", "return", "break", "continue"];

pub(super) fn scan(text: &str, enabled: Enabled, report: &mut Report<'_>) -> ControlFlow<()> {
    if !enabled.any(&[Email, UrlPassword]) {
        return ControlFlow::Continue(());
    }
    let mut floor = 0;
    for at in memchr_iter(b'@', text.as_bytes()) {
        match login(text, at, floor) {
            // The rest of such a URL looks like a mail address.
            Some((range, real)) => {
                if real && enabled.has(UrlPassword) {
                    report(UrlPassword, range)?;
                }
            }
            None => {
                if enabled.has(Email)
                    && let Some(range) = email(text, at, floor)
                {
                    report(Email, range)?;
                }
            }
        }
        floor = at + 1;
    }
    ControlFlow::Continue(())
}

/// `user:password` before an `@`, if the text there is a URL's, and whether it is a real one.
fn login(text: &str, at: usize, floor: usize) -> Option<(Range<usize>, bool)> {
    let input = text.as_bytes();
    let part = |b: &u8| {
        !b.is_ascii_whitespace()
            && !matches!(b, b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'?' | b'#')
    };
    let length = bytes::run_before(&input[floor..], at - floor, LONGEST_LOGIN, part);
    let start = at - length;
    let scheme =
        start >= 4 && input[..start].ends_with(b"://") && input[start - 4].is_ascii_alphanumeric();
    if !scheme || !text.is_char_boundary(start) {
        return None;
    }
    let Some((user, password)) = text[start..at].split_once(':') else {
        return Some((start..at, false));
    };
    let host = bytes::byte(input, at + 1);
    let real = (host.is_ascii_alphanumeric() || matches!(host, b'[' | 0x80..))
        && password.len() >= 3
        && !user.eq_ignore_ascii_case(password)
        && !placeholder::is_one(password);
    Some((start..at, real))
}

/// RFC 5322's dot-atom with the letters of RFC 6531, at a domain with a plausible end.
fn email(text: &str, at: usize, floor: usize) -> Option<Range<usize>> {
    let local: usize = text[bytes::head(text, at, LONGEST_LOCAL).max(floor)..at]
        .chars()
        .rev()
        .take_while(|c| is_local(*c))
        .map(char::len_utf8)
        .sum();
    let written = &text[at - local..at];
    // `\n` of JSON within JSON, quotes, and dots of a sentence aren't part of it.
    let trimmed = written.trim_start_matches([
        '.', '\'', '*', '_', '=', '&', '/', '?', '{', '|', '`', '#', '$', '-', '+', '!', '%', '^',
        '~',
    ]);
    let trimmed =
        trimmed.rsplit(['=', '/', '?', '{', '|', '`', '&', '*']).next().unwrap_or(trimmed);
    let start = at - trimmed.len();
    let start =
        start + usize::from(bytes::after_escape(text.as_bytes(), start + 1) && trimmed.len() > 1);
    let local = &text[start..at];
    if local.is_empty()
        || local.ends_with('.')
        || local.contains("..")
        || !local.contains(char::is_alphanumeric)
        || NO_LOCALS.contains(&local)
    {
        return None;
    }
    let end = domain(text, at + 1)?;
    // The remote of a repository: `git@host:path`.
    let input = text.as_bytes();
    if local == "git" && matches!(bytes::byte(input, end), b':' | b'/') {
        return None;
    }
    // A call: `a@b.transpose()`.
    (bytes::byte(input, end) != b'(').then_some(start..end)
}

fn is_local(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        || (!c.is_ascii() && is_letter(c))
}

/// A letter of a script that writes words with spaces between: in others an address stands right
/// behind the words before it.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && !super::words::is_unspaced(c)
}

/// The end of a domain that begins at `from`: labels with a dot between, the last of letters.
fn domain(text: &str, from: usize) -> Option<usize> {
    let window = &text[from..bytes::tail(text, from, LONGEST_DOMAIN)];
    let length: usize = window
        .chars()
        .take_while(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '.') || (!c.is_ascii() && is_letter(*c))
        })
        .map(char::len_utf8)
        .sum();
    let mut name = window[..length].trim_end_matches(['.', '-']);
    // A sentence may go on without a space: `a@b.com.Next`. The labels before must do then.
    loop {
        let (rest, last) = name.rsplit_once('.')?;
        if is_ending(last) && !rest.is_empty() && rest.split('.').all(is_label) {
            return Some(from + name.len());
        }
        if NO_DOMAINS.contains(&last.to_ascii_lowercase().as_str())
            || !last.starts_with(char::is_uppercase)
        {
            return None;
        }
        name = rest;
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
}

fn is_ending(label: &str) -> bool {
    let one_case = label.chars().all(char::is_lowercase) || label.chars().all(char::is_uppercase);
    let letters = label.chars().all(char::is_alphabetic) && label.chars().count() >= 2;
    ((letters && (one_case || !label.is_ascii())) || label.starts_with("xn--"))
        && label.len() <= 24
        && !NO_DOMAINS.contains(&label.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(super::super::Detector, &str)> {
        let both = Enabled::default().with(Email).with(UrlPassword);
        let mut found = None;
        let _ = scan(text, both, &mut |detector, range| {
            found = Some((detector, &text[range]));
            ControlFlow::Break(())
        });
        found
    }

    #[test]
    fn mail_addresses_are_found_to_their_ends() {
        for (text, address) in [
            ("a@b.example", "a@b.example"),
            ("<o.brien+x@mail.ballyduff.ie>,", "o.brien+x@mail.ballyduff.ie"),
            ("write to anna@b.example.", "anna@b.example"),
            ("anna@b.example.Then", "anna@b.example"),
            ("mailto:anna@b.example?subject=x", "anna@b.example"),
            ("?to=anna@b.example&x=1", "anna@b.example"),
            (r"x\nanna@b.example\ny", "anna@b.example"),
            ("jürgen@bücher.example", "jürgen@bücher.example"),
            ("写信给anna@b.example谢谢", "anna@b.example"),
            ("ANNA@B.EXAMPLE", "ANNA@B.EXAMPLE"),
            ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ] {
            assert_eq!(found(text), Some((Email, address)), "{text}");
        }
    }

    #[test]
    fn other_uses_of_the_sign_are_no_addresses() {
        for text in [
            "@",
            "a@",
            "@a.example",
            "a@b",
            "a@b.c",
            "react@18.2.0",
            "icon@2x.png",
            "getty@tty1.service",
            "git@github.com:x/y",
            "this@Main.context",
            "q@k.mT",
            "a@b.dot(c)",
            "@scope/pkg",
            "...@b.example",
            "a@-b.example",
            "a@b..example",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_no_mail_address() {
        assert_eq!(
            found("postgres://shop:vK9-tulpe@db.example.org/x"),
            Some((UrlPassword, "shop:vK9-tulpe"))
        );
        assert_eq!(found("redis://:vK9-tulpe@cache:6379"), Some((UrlPassword, ":vK9-tulpe")));
        for text in [
            "https://user:password@host.example.org",
            "https://user@host.example.org",
            "https://${USER}:${PASS}@host.example.org",
            "amqp://guest:guest@localhost",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
