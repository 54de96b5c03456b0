//! Keeps credentials out of the configuration file and out of what is said about it.
//!
//! A value with the look of a vendor's key is refused wherever it stands, and any value is refused
//! under a name that asks for one. What is printed of a file, message or line, goes through
//! [`redact`] first; it rather hides too much.

use std::ops::Range;

/// What stands in place of a value that isn't shown.
pub(super) const HIDDEN: &str = "[hidden]";

/// Beginnings of keys that vendors give out. None begins a model name, a path or a host.
const KEY_PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "rk_",
    "pk_live_",
    "AIza",
    "ya29.",
    "gsk_",
    "xai-",
    "hf_",
    "r8_",
    "nvapi-",
    "pplx-",
    "fw_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "eyJ",
    "Bearer ",
    "Basic ",
];
/// The shortest text with such a beginning that counts as a key.
const SHORTEST_KEY: usize = 16;
/// A run of letters and digits this long isn't a word: the keys of vendors without a prefix.
const LONGEST_WORD: usize = 24;

/// Field names that ask for a secret, without case and separators.
const SECRET_NAMES: &[&str] = &[
    "apikey",
    "apisecret",
    "apitoken",
    "accesskey",
    "accesstoken",
    "authkey",
    "authorization",
    "authtoken",
    "bearer",
    "bearertoken",
    "clientsecret",
    "credential",
    "credentials",
    "key",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretaccesskey",
    "secretkey",
    "token",
    "xapikey",
];

/// True if `value` is with near certainty a credential.
pub(super) fn is_key(value: &str) -> bool {
    let value = value.trim();
    let vendor = KEY_PREFIXES.iter().any(|prefix| {
        value.strip_prefix(prefix).is_some_and(|rest| rest.trim().chars().all(is_opaque))
    });
    (vendor && value.len() >= SHORTEST_KEY) || value.contains("-----BEGIN ")
}

/// True if a field of this name would hold a credential.
pub(super) fn asks_for_key(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.contains(&plain.as_str())
        || plain.len() <= 64
            && ["apikey", "secretkey", "clientsecret", "password"]
                .iter()
                .any(|end| plain.ends_with(end))
}

/// `text` for people: without what might be a credential, on one line, without controls.
pub(super) fn redact(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    render(&chars, &hidden(&chars)).0
}

/// Which characters of a line may not be shown.
pub(super) fn hidden(line: &[char]) -> Vec<bool> {
    let mut hidden = vec![false; line.len()];
    let mut hide = |range: Range<usize>| hidden[range].fill(true);
    for word in words(line) {
        let text: String = line[word.clone()].iter().collect();
        if is_key(&text) || holds_key(&text) || has_opaque_run(&text) {
            hide(word);
            continue;
        }
        if let Some(scheme) = find(line, word.clone(), &['/', '/']) {
            let authority = scheme + 2..word.end;
            if let Some(at) = line[authority.clone()].iter().rposition(|c| *c == '@') {
                hide(authority.start..authority.start + at);
            }
            if let Some(query) = line[authority.clone()].iter().position(|c| matches!(c, '?' | '#'))
            {
                hide(authority.start + query + 1..word.end);
            }
        }
    }
    // Whatever follows a telling name, up to the end: it may hold spaces. A mapping is looked
    // into instead, for it says where the secret is, not what.
    for (colon, _) in line.iter().enumerate().filter(|(_, c)| matches!(c, ':' | '=')) {
        let name: String = line[..colon]
            .iter()
            .rev()
            .skip_while(|c| c.is_whitespace() || is_quote(**c))
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let value = line[colon + 1..].iter().position(|c| !c.is_whitespace());
        if let Some(value) = value.map(|offset| colon + 1 + offset)
            && asks_for_key(&name)
            && line[value] != '{'
        {
            hidden[value..].fill(true);
            break;
        }
    }
    hidden
}

/// The line with hidden characters replaced, and the new index of each old one, one past the end
/// included.
pub(super) fn render(line: &[char], hidden: &[bool]) -> (String, Vec<usize>) {
    let mut shown = Vec::with_capacity(line.len());
    let mut moved = Vec::with_capacity(line.len() + 1);
    for (index, c) in line.iter().enumerate() {
        if !hidden[index] {
            moved.push(shown.len());
            shown.push(if is_printable(*c) { *c } else { ' ' });
        } else if index == 0 || !hidden[index - 1] {
            moved.push(shown.len());
            shown.extend(HIDDEN.chars());
        } else {
            moved.push(shown.len() - HIDDEN.len());
        }
    }
    moved.push(shown.len());
    (shown.into_iter().collect(), moved)
}

/// Nothing that moves a terminal's cursor or turns the direction of writing.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

fn words(line: &[char]) -> Vec<Range<usize>> {
    let ends = |c: char| {
        c.is_whitespace()
            || is_quote(c)
            || matches!(c, ',' | '[' | ']' | '{' | '}' | '(' | ')' | '<' | '>')
    };
    let mut words = Vec::new();
    let mut start = 0;
    for index in 0..=line.len() {
        if line.get(index).is_none_or(|c| ends(*c)) {
            if start < index {
                words.push(start..index);
            }
            start = index + 1;
        }
    }
    words
}

fn find(line: &[char], within: Range<usize>, what: &[char]) -> Option<usize> {
    line[within.clone()]
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| within.start + at)
}

/// A key with something before it, as in `x=sk-…`. A digit tells it from `risk-assessment-model`.
fn holds_key(word: &str) -> bool {
    KEY_PREFIXES.iter().any(|prefix| {
        word.match_indices(prefix).any(|(at, _)| {
            let rest =
                word[at + prefix.len()..].split(|c: char| !is_opaque(c)).next().unwrap_or_default();
            prefix.len() + rest.len() >= SHORTEST_KEY && rest.bytes().any(|b| b.is_ascii_digit())
        })
    })
}

fn is_opaque(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=' | '~')
}

fn has_opaque_run(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        run.len() >= LONGEST_WORD
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_vendors_are_known() {
        for key in [
            "sk-proj-AbCdEf0123456789AbCdEf",
            "sk-ant-api03-0123456789abcdef",
            "AIzaSyA0123456789abcdefghij",
            "gsk_0123456789abcdefghij",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "Bearer 0123456789abcdef",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            assert!(is_key(key), "{key}");
        }
    }

    #[test]
    fn models_paths_and_hosts_are_no_keys() {
        for text in [
            "gpt-5-mini",
            "ft:gpt-4o-mini-2024-07-18:acme::AbC123",
            "claude-3-5-sonnet-20241022",
            "@cf/meta/llama-3.1-8b-instruct-fp8-fast",
            "https://api.openai.com/v1",
            "/run/secrets/openai",
            "OPENAI_API_KEY",
            "skyline-model-of-the-year",
        ] {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn names_that_ask_for_a_key_are_known() {
        for name in
            ["api_key", "apiKey", "API-KEY", "openai_api_key", "password", "client_secret", "Token"]
        {
            assert!(asks_for_key(name), "{name}");
        }
        for name in ["max_tokens", "keep_alive", "num_ctx", "organization", "monkey", "tokens"] {
            assert!(!asks_for_key(name), "{name}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        for (line, shown) in [
            (
                "endpoint: https://me:pa@ss@host/v1?key=x#y",
                "endpoint: https://[hidden]@host/v1?[hidden]",
            ),
            ("  api_key: correct horse battery", "  api_key: [hidden]"),
            ("  {enabled: true, password: 'a, b'}", "  {enabled: true, password: [hidden]"),
            ("  key: {env: OPENAI_API_KEY}", "  key: {env: OPENAI_API_KEY}"),
            ("  - sk-0123456789abcdef0123", "  - [hidden]"),
            ("  x: a0b1c2d3e4f5a0b1c2d3e4f5a0b1, y", "  x: [hidden], y"),
            ("\"token\" : \"abc", "\"token\" : [hidden]"),
            ("x=sk-0123456789abcdef:y risk-assessment-model", "[hidden] risk-assessment-model"),
            ("a\u{1b}[31mb\u{202e}c", "a [31mb c"),
        ] {
            assert_eq!(redact(line), shown);
        }
    }
}
