//! Secrets: tokens with a vendor's beginning, private keys, and values that a name calls secret.
//!
//! One automaton finds the beginnings and names, the rest is looked at where one is found. What is
//! read there is bounded, and a run of characters is read once for it begins once: what a hostile
//! text can make it cost stays proportional to its size.
//!
//! Beginnings and lengths are those that the vendors publish, as collected in gitleaks' rules
//! (github.com/gitleaks/gitleaks, config/gitleaks.toml, read 2026-11-22).

use std::{
    ops::{ControlFlow, Range},
    sync::LazyLock,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{Detector, Detector::*, Enabled, Report, assigned, bytes, placeholder};

/// The longest value that is looked at. Longer ones are judged by their beginning.
const LONGEST: usize = 512;

/// What characters a token is of.
#[derive(Clone, Copy)]
enum Of {
    /// Letters and digits.
    Alnum,
    /// These, `-` and `_`.
    Word,
    /// These and `.`.
    Dotted,
    /// Upper-case letters and digits.
    Upper,
    Hex,
    /// Base64 with its padding.
    Base64,
}

impl Of {
    fn has(self, b: u8) -> bool {
        match self {
            Self::Alnum => b.is_ascii_alphanumeric(),
            Self::Word => b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'),
            Self::Dotted => b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
            Self::Upper => b.is_ascii_uppercase() || b.is_ascii_digit(),
            Self::Hex => b.is_ascii_hexdigit(),
            Self::Base64 => b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='),
        }
    }
}

/// What a found beginning asks for.
#[derive(Clone, Copy)]
enum Kind {
    /// A token: the beginning, then so many characters.
    Token { of: Of, least: usize, most: usize },
    /// Three parts with dots between.
    Jwt,
    /// `Bearer` or `Basic` and a token.
    Scheme,
    /// A URL whose path is the secret.
    Hook,
    /// A Telegram bot: digits before, letters after.
    Telegram,
    /// `-----BEGIN `.
    Pem,
    /// A name behind which `=` or `:` and a base64 value of this length stand.
    Named { length: usize },
    /// A password's name. What follows may be short, if it isn't a word.
    Password,
    /// A key's or token's name. What follows must be long and random.
    Key,
}

const fn token(of: Of, least: usize, most: usize) -> Kind {
    Kind::Token { of, least, most }
}

const BEGINNINGS: &[(&str, Kind)] = &[
    // AI vendors.
    ("sk-", token(Of::Word, 20, 300)),
    ("AIza", token(Of::Word, 35, 35)),
    ("gsk_", token(Of::Alnum, 40, 64)),
    ("xai-", token(Of::Alnum, 60, 100)),
    ("hf_", token(Of::Alnum, 30, 40)),
    ("r8_", token(Of::Alnum, 37, 40)),
    ("nvapi-", token(Of::Word, 50, 80)),
    ("pplx-", token(Of::Alnum, 40, 64)),
    ("fw_", token(Of::Alnum, 22, 32)),
    ("csk-", token(Of::Alnum, 40, 60)),
    ("lsv2_", token(Of::Word, 40, 60)),
    // Clouds.
    ("AKIA", token(Of::Upper, 16, 16)),
    ("ASIA", token(Of::Upper, 16, 16)),
    ("ABIA", token(Of::Upper, 16, 16)),
    ("ACCA", token(Of::Upper, 16, 16)),
    ("LTAI", token(Of::Alnum, 16, 24)),
    ("ya29.", token(Of::Word, 30, 400)),
    ("GOCSPX-", token(Of::Word, 28, 28)),
    ("dop_v1_", token(Of::Hex, 64, 64)),
    ("doo_v1_", token(Of::Hex, 64, 64)),
    ("dor_v1_", token(Of::Hex, 64, 64)),
    ("dapi", token(Of::Hex, 32, 32)),
    ("hvs.", token(Of::Word, 24, 200)),
    ("hvb.", token(Of::Word, 24, 300)),
    ("pul-", token(Of::Hex, 40, 40)),
    ("dckr_pat_", token(Of::Word, 27, 27)),
    ("AGE-SECRET-KEY-1", token(Of::Upper, 58, 58)),
    ("AccountKey", Kind::Named { length: 88 }),
    ("secret_access_key", Kind::Named { length: 40 }),
    ("secretaccesskey", Kind::Named { length: 40 }),
    // Where code lives.
    ("ghp_", token(Of::Alnum, 36, 36)),
    ("gho_", token(Of::Alnum, 36, 36)),
    ("ghu_", token(Of::Alnum, 36, 36)),
    ("ghs_", token(Of::Alnum, 36, 36)),
    ("ghr_", token(Of::Alnum, 36, 76)),
    ("github_pat_", token(Of::Word, 82, 82)),
    ("glpat-", token(Of::Dotted, 20, 60)),
    ("glrt-", token(Of::Dotted, 20, 60)),
    ("gldt-", token(Of::Word, 20, 40)),
    ("glptt-", token(Of::Hex, 40, 40)),
    ("ATATT3", token(Of::Base64, 100, 250)),
    ("npm_", token(Of::Alnum, 36, 36)),
    ("pypi-AgEIcHlwaS5vcmc", token(Of::Word, 50, 300)),
    ("rubygems_", token(Of::Hex, 48, 48)),
    ("sntrys_", token(Of::Base64, 60, 400)),
    ("sntryu_", token(Of::Hex, 64, 64)),
    ("lin_api_", token(Of::Alnum, 40, 40)),
    ("ntn_", token(Of::Alnum, 46, 46)),
    ("PMAK-", token(Of::Word, 59, 59)),
    // Conversation and mail.
    ("xoxb-", token(Of::Word, 24, 120)),
    ("xoxp-", token(Of::Word, 24, 120)),
    ("xoxa-", token(Of::Word, 24, 120)),
    ("xoxr-", token(Of::Word, 24, 120)),
    ("xoxs-", token(Of::Word, 24, 120)),
    ("xoxe-", token(Of::Word, 24, 250)),
    ("xapp-", token(Of::Word, 24, 160)),
    ("hooks.slack.com/services/", Kind::Hook),
    ("discord.com/api/webhooks/", Kind::Hook),
    (":AA", Kind::Telegram),
    ("SG.", token(Of::Dotted, 60, 70)),
    ("xkeysib-", token(Of::Word, 80, 90)),
    ("key-", token(Of::Hex, 32, 32)),
    // Payment and shops.
    ("sk_live_", token(Of::Alnum, 16, 120)),
    ("sk_test_", token(Of::Alnum, 16, 120)),
    ("rk_live_", token(Of::Alnum, 16, 120)),
    ("rk_test_", token(Of::Alnum, 16, 120)),
    ("whsec_", token(Of::Base64, 24, 80)),
    ("sq0atp-", token(Of::Word, 22, 22)),
    ("sq0csp-", token(Of::Word, 43, 43)),
    ("shpat_", token(Of::Hex, 32, 32)),
    ("shpca_", token(Of::Hex, 32, 32)),
    ("shppa_", token(Of::Hex, 32, 32)),
    ("shpss_", token(Of::Hex, 32, 32)),
    // Any.
    ("eyJ", Kind::Jwt),
    ("bearer ", Kind::Scheme),
    ("basic ", Kind::Scheme),
    ("-----BEGIN ", Kind::Pem),
    // Names.
    ("password", Kind::Password),
    ("passwd", Kind::Password),
    ("passphrase", Kind::Password),
    ("pwd", Kind::Password),
    ("pass", Kind::Password),
    ("sshpass -p", Kind::Password),
    ("passwort", Kind::Password),
    ("kennwort", Kind::Password),
    ("mot de passe", Kind::Password),
    ("contraseña", Kind::Password),
    ("clave", Kind::Password),
    ("senha", Kind::Password),
    ("wachtwoord", Kind::Password),
    ("lösenord", Kind::Password),
    ("hasło", Kind::Password),
    ("пароль", Kind::Password),
    ("Пароль", Kind::Password),
    ("密码", Kind::Password),
    ("密碼", Kind::Password),
    ("パスワード", Kind::Password),
    ("비밀번호", Kind::Password),
    ("secret", Kind::Key),
    ("token", Kind::Key),
    ("api_key", Kind::Key),
    ("api-key", Kind::Key),
    ("api key", Kind::Key),
    ("apikey", Kind::Key),
    ("secret_key", Kind::Key),
    ("secret-key", Kind::Key),
    ("secretkey", Kind::Key),
    ("private_key", Kind::Key),
    ("access_key", Kind::Key),
    ("access-key", Kind::Key),
    ("accesskey", Kind::Key),
    ("auth_key", Kind::Key),
    ("encryption_key", Kind::Key),
    ("encryptionkey", Kind::Key),
    ("signing_key", Kind::Key),
    ("master_key", Kind::Key),
    ("credential", Kind::Key),
    ("credentials", Kind::Key),
];

static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .ascii_case_insensitive(true)
        // Twice as fast as the automaton chosen otherwise, for a few hundred KB.
        .kind(Some(AhoCorasickKind::DFA))
        .build(BEGINNINGS.iter().map(|(beginning, _)| beginning))
        // They are the ones above, which a test builds.
        .ok()
});

/// Reports what secrets `text` holds.
pub(super) fn scan(text: &str, enabled: Enabled, report: &mut Report<'_>) -> ControlFlow<()> {
    if !enabled.any(Detector::SECRETS) {
        return ControlFlow::Continue(());
    }
    let Some(finder) = FINDER.as_ref() else { return ControlFlow::Continue(()) };
    for found in finder.find_iter(text) {
        let (beginning, kind) = BEGINNINGS[found.pattern().as_usize()];
        let place = found.range();
        let candidate = match kind {
            Kind::Password | Kind::Key if !enabled.has(Password) => None,
            Kind::Password => assigned::password(text, &place).map(|range| (Password, range)),
            Kind::Key => assigned::key(text, &place).map(|range| (Password, range)),
            Kind::Pem => pem(text, &place).map(|range| (PrivateKey, range)),
            _ if !enabled.has(AccessToken) => None,
            Kind::Named { length } => named(text, &place, length).map(|range| (AccessToken, range)),
            Kind::Scheme => scheme(text, &place).map(|range| (AccessToken, range)),
            // Beginnings of tokens are exact.
            _ if text.as_bytes()[place.clone()] != *beginning.as_bytes() => None,
            Kind::Token { of, least, most } => {
                vendor_token(text, &place, of, least..=most).map(|range| (AccessToken, range))
            }
            Kind::Jwt => jwt(text, &place).map(|range| (AccessToken, range)),
            Kind::Hook => hook(text, &place).map(|range| (AccessToken, range)),
            Kind::Telegram => telegram(text, &place).map(|range| (AccessToken, range)),
        };
        if let Some((detector, range)) = candidate
            && enabled.has(detector)
        {
            report(detector, range)?;
        }
    }
    ControlFlow::Continue(())
}

fn value_at(text: &[u8], from: usize, of: Of) -> Range<usize> {
    let window = &text[..text.len().min(from + LONGEST)];
    from..from + bytes::run(window, from, |b| of.has(*b))
}

/// Random enough for a token: letters and digits, many different ones, and no placeholder.
pub(super) fn is_random(value: &str, bits: f32) -> bool {
    value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && placeholder::entropy(value.as_bytes()) >= bits
        && !placeholder::is_one(value)
}

fn vendor_token(
    text: &str,
    place: &Range<usize>,
    of: Of,
    lengths: std::ops::RangeInclusive<usize>,
) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let lead = bytes::before(input, place.start);
    if !bytes::begins(input, place.start) || (matches!(lead, b'-' | b'_')) {
        return None;
    }
    let value = value_at(input, place.end, of);
    if !lengths.contains(&value.len()) {
        return None;
    }
    let body = &text[value.clone()];
    let letters_only = matches!(of, Of::Alnum) && value.len() >= 30;
    // Names of models and files have hyphens; a token has a long run without.
    let longest = body.split(['-', '_', '.']).map(str::len).max().unwrap_or(0);
    let random = is_random(body, 2.5)
        || (letters_only
            && placeholder::entropy(body.as_bytes()) >= 3.5
            && !placeholder::is_one(body));
    (random && longest >= 12).then_some(place.start..value.end)
}

/// RFC 7519: header and payload are JSON in base64url, then a signature, which may be empty.
fn jwt(text: &str, place: &Range<usize>) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let lead = bytes::before(input, place.start);
    if !bytes::begins(input, place.start) || matches!(lead, b'-' | b'_' | b'.') {
        return None;
    }
    let header = value_at(input, place.start, Of::Word);
    if header.len() < 16 || !input[header.end..].starts_with(b".eyJ") {
        return None;
    }
    // A payload may be long; what was seen suffices.
    let payload = value_at(input, header.end + 1, Of::Word);
    let end = match bytes::byte(input, payload.end) {
        b'.' => value_at(input, payload.end + 1, Of::Word).end,
        _ => payload.end,
    };
    (payload.len() >= 16).then_some(place.start..end)
}

/// The value behind `Bearer` or `Basic`.
fn scheme(text: &str, place: &Range<usize>) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let basic = input[place.start].eq_ignore_ascii_case(&b'b') && place.len() == "basic ".len();
    if !bytes::begins(input, place.start) {
        return None;
    }
    if basic {
        let told = &input[place.start.saturating_sub(24)..place.start].to_ascii_lowercase();
        let value = value_at(input, place.end, Of::Base64);
        let header = memchr::memmem::find(told, b"authorization").is_some();
        return (header && value.len() >= 12 && is_random(&text[value.clone()], 2.5))
            .then_some(value);
    }
    let window = &input[..input.len().min(place.end + LONGEST)];
    let length =
        bytes::run(window, place.end, |b| Of::Dotted.has(*b) || Of::Base64.has(*b) || *b == b'~');
    let value = place.end..place.end + length;
    (length >= 20 && is_random(&text[value.clone()], 3.0)).then_some(value)
}

fn hook(text: &str, place: &Range<usize>) -> Option<Range<usize>> {
    let value = value_at(text.as_bytes(), place.end, Of::Base64);
    let end = value.end + value_at(text.as_bytes(), value.end, Of::Word).len();
    let path = &text[place.end..end];
    (path.len() >= 40 && is_random(path, 3.0)).then_some(place.start..end)
}

/// `123456789:AA` and 33 more.
fn telegram(text: &str, place: &Range<usize>) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let digits = bytes::run_before(input, place.start, 12, u8::is_ascii_digit);
    let value = value_at(input, place.end, Of::Word);
    let start = place.start - digits;
    let fits = (8..=10).contains(&digits) && bytes::begins(input, start) && value.len() == 33;
    (fits && is_random(&text[value.clone()], 3.0)).then_some(start..value.end)
}

/// A private key: from its first line to its last, or as far as it is there.
fn pem(text: &str, place: &Range<usize>) -> Option<Range<usize>> {
    /// `-----BEGIN ENCRYPTED PRIVATE KEY-----` has 17 before the dashes.
    const LONGEST_KIND: usize = 40;
    /// RSA with 16384 bits has 12 KiB.
    const LONGEST_KEY: usize = 16 << 10;
    let input = text.as_bytes();
    // Exactly so, but for a text that has been lower-cased.
    let kind_end = (place.end + LONGEST_KIND).min(input.len());
    let dashes = memchr::memmem::find(&input[place.end..kind_end], b"-----")? + place.end;
    let kind = input[place.end..dashes].to_ascii_uppercase();
    memchr::memmem::find(&kind, b"PRIVATE KEY")?;
    // Something of the key itself must follow: others only speak of it.
    let first = dashes + 5;
    let body = bytes::run(&input[..input.len().min(first + 64)], first, |b| {
        b.is_ascii_whitespace() || *b == b'\\' || Of::Base64.has(*b)
    });
    if body < 32 {
        return None;
    }
    let limit = (first + LONGEST_KEY).min(input.len());
    // The next dashes are those of the last line; keys have none.
    let end = match memchr::memchr(b'-', &input[first..limit]) {
        Some(end) => {
            let end = first + end;
            let line = bytes::run(&input[..limit.min(end + 80)], end, |b| {
                *b == b'-' || *b == b' ' || b.is_ascii_uppercase()
            });
            end + line
        }
        None => {
            first
                + bytes::run(&input[..limit], first, |b| {
                    b.is_ascii_whitespace() || *b == b'\\' || Of::Base64.has(*b)
                })
        }
    };
    Some(place.start..text.floor_char_boundary(end))
}

/// `AccountKey=…`, `aws_secret_access_key: "…"`.
fn named(text: &str, place: &Range<usize>, length: usize) -> Option<Range<usize>> {
    let input = text.as_bytes();
    let start = assigned::value_start(text, place.end)?;
    let value = value_at(input, start, Of::Base64);
    (value.len() == length && is_random(&text[value.clone()], 3.0)).then_some(value)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn found(text: &str) -> Vec<(Detector, String)> {
        let all = Detector::SECRETS.iter().fold(Enabled::default(), |all, one| all.with(*one));
        let mut found = Vec::new();
        let _ = scan(text, all, &mut |detector, range| {
            found.push((detector, text[range].to_owned()));
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn a_beginning_alone_or_of_the_wrong_length_is_no_token() {
        let body = "a8F5f167f44F4964e6c998dee827110cQ1z9";
        assert_eq!(body.len(), 36);
        for beginning in ["ghp_", "gho_", "npm_"] {
            let token = format!("{beginning}{body}");
            for text in [token.clone(), format!("x={token};"), format!("\\n{token}\\n")] {
                assert_eq!(found(&text), [(AccessToken, token.clone())], "{text}");
            }
            for text in [
                beginning.to_owned(),
                format!("{beginning}..."),
                format!("{beginning}{}", "x".repeat(36)),
                format!("{beginning}{}", &body[1..]),
                format!("{beginning}{body}0"),
                format!("x{beginning}{body}"),
                format!("{}{body}", beginning.to_uppercase()),
            ] {
                assert_eq!(found(&text), [], "{text}");
            }
        }
    }

    #[test]
    fn a_private_key_is_found_to_its_end_and_not_where_it_is_spoken_of() {
        let line = "MIIEpAIBAAKCAQEAz5b8".repeat(3);
        let key = format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{line}\n{line}\n-----END RSA PRIVATE KEY-----"
        );
        assert_eq!(found(&format!("see\n{key}\nend")), [(PrivateKey, key.clone())]);
        let escaped = key.replace('\n', "\\n");
        assert_eq!(found(&format!("\"{escaped}\"")), [(PrivateKey, escaped)]);
        assert_eq!(found("begins with -----BEGIN PRIVATE KEY----- and ends"), []);
        assert_eq!(found(&key.replace("PRIVATE", "PUBLIC")), []);
    }
}
