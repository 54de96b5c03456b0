//! What stands where a secret would: `YOUR_API_KEY`, `${PASSWORD}`, `********`.
//!
//! Documentation and programs are full of these. Each test is a look at a short text.

/// Parts that real secrets don't have, in lower case. None is shorter than four letters: random
/// secrets would have it by chance.
const PARTS: &[&str] = &[
    "your",
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "xxxx",
    "....",
    "****",
    "••••",
    "redacted",
    "dummy",
    "insert",
    "replace",
    "masked",
    "<",
    "${",
    "{{",
    "env.",
    "environ",
    "getenv",
    "config.",
    "settings.",
    "vault:",
    "1234567890abcdef",
    "abcdefghij",
    "deadbeef",
    "sample",
];
/// As [`PARTS`], of values that are letters alone: `Passw0rd!` is somebody's, `db_password` isn't.
const NAMES: &[&str] = &["passw", "secret", "token", "credential", "hidden"];
/// Whole words, in lower case.
const WORDS: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "guest",
    "test",
    "none",
    "null",
    "nil",
    "true",
    "false",
    "undefined",
    "root",
    "admin",
    "user",
    "string",
    "token",
    "key",
    "default",
    "empty",
    "required",
    "optional",
];

/// True if `value` only shows where a secret goes.
pub(super) fn is_one(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let Some(first) = lower.chars().next() else { return true };
    matches!(first, '$' | '%' | '{' | '<' | '[' | '(' | '&' | '@' if lower.len() > 1 && is_variable(&lower))
        || lower.chars().all(|c| c == first)
        || WORDS.contains(&lower.as_str())
        || PARTS.iter().any(|part| lower.contains(part))
        || (lower.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.'))
            && NAMES.iter().any(|name| lower.contains(name)))
}

/// `$NAME`, `%NAME%`, `{name}`, `<name>`, `[name]`, `(name)`, `&name`, `@name@`.
fn is_variable(lower: &str) -> bool {
    lower[1..].chars().all(|c| c.is_ascii_alphabetic() || "_-. %}>])@{:(\"'".contains(c))
}

/// Shannon's entropy of the bytes, in bits for each.
pub(super) fn entropy(value: &[u8]) -> f32 {
    let mut counts = [0_u32; 256];
    value.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let length = value.len() as f32;
    let used = counts.iter().filter(|count| **count > 0);
    used.map(|count| *count as f32 / length).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_where_a_secret_goes_is_none() {
        for value in [
            "",
            "YOUR_API_KEY",
            "<password>",
            "${DB_PASSWORD}",
            "$PASSWORD",
            "%PASS%",
            "{{ secret }}",
            "********",
            "xxxxxxxxxxxx",
            "changeme123",
            "db_password",
            "my-secret",
            "None",
            "[REDACTED]",
            "os.environ",
        ] {
            assert!(is_one(value), "{value}");
        }
        for value in ["Passw0rd!", "$ecret99", "hunter2", "Secret2024", "%7aK9", "{x9K}w2"] {
            assert!(!is_one(value), "{value}");
        }
    }
}
